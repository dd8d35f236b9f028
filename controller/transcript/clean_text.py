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
    """*text* without bidi isolates that are not closed or not opened, and how many these were. It never grows."""
    opened: list[int] = []
    odd: set[int] = set()
    for found in _ISOLATES.finditer(text):
        if found[0] != _POP_ISOLATE:
            opened.append(found.start())
        elif opened:
            opened.pop()
        else:
            odd.add(found.start())
    odd.update(opened)
    if not odd:
        return text, 0
    return "".join(character for place, character in enumerate(text) if place not in odd), len(odd)
