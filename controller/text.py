"""Cleans text that goes into transcripts: no control characters, and nothing that turns the text around it.

Touches: nothing.
"""

from __future__ import annotations

import re

# Controls but tab and line breaks (the formats make spaces of these), bidi embeddings and overrides, bidi isolates, and
# format characters that Unicode has given up. Joiners and direction marks stay: languages are written with them.
_SUSPECT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f]")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u206a-\u206f]")
_ISOLATES = re.compile("[\u2066-\u2069]")
_SPACES = str.maketrans(dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x1f\x85", " "))
"""Controls that part words: line breaks and separators that only old devices knew."""

_POP_ISOLATE = "\u2069"


def is_suspect(text: str) -> bool:
    """Whether :func:`cleaned` may change *text*, or parts that it is made of."""
    return not text.isprintable() and _SUSPECT.search(text) is not None


def cleaned(text: str) -> tuple[str, int]:
    """*text* without what could steer a player or turn its lines around, and how many characters were removed."""
    # This runs for every word of a transcript, and nearly every word ends here.
    if not is_suspect(text):
        return text, 0
    kept, removed = _FORBIDDEN.subn("", text.translate(_SPACES))
    balanced, unmatched = _balanced(kept)
    return balanced, removed + unmatched


def _balanced(text: str) -> tuple[str, int]:
    """*text* in which every bidi isolate is closed, and how many closing characters closed nothing."""
    depth = unmatched = 0

    def keep(found: re.Match[str]) -> str:
        nonlocal depth, unmatched
        if found[0] != _POP_ISOLATE:
            depth += 1
        elif depth:
            depth -= 1
        else:
            unmatched += 1
            return ""
        return found[0]

    return _ISOLATES.sub(keep, text) + _POP_ISOLATE * depth, unmatched
