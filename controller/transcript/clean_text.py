"""Cleans the text of transcripts: removes control characters, and characters that reverse the text around them.

Touches: nothing.
"""

from __future__ import annotations

import re

# Control characters except tab and line breaks (which the formats replace by spaces), bidi embeddings, overrides and
# isolates, and deprecated format characters of Unicode. Joiners and direction marks are kept: some languages need them.
_SUSPECT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f]")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u206a-\u206f]")
_ISOLATES = re.compile("[\u2066-\u2069]")
_SPACES = str.maketrans(dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x1f\x85", " "))
"""Control characters that separate words: old line breaks and separators."""

_POP_ISOLATE = "\u2069"


def is_suspect(text: str) -> bool:
    """Whether :func:`cleaned` may change *text*, or any part of it."""
    return not text.isprintable() and _SUSPECT.search(text) is not None


def cleaned(text: str) -> tuple[str, int]:
    """*text* without characters that could control a player or reverse lines, and how many were removed."""
    # Called for every word of a transcript: nearly every word returns here.
    if not is_suspect(text):
        return text, 0
    kept, removed = _FORBIDDEN.subn("", text.translate(_SPACES))
    balanced, unmatched = _balanced(kept)
    return balanced, removed + unmatched


def _balanced(text: str) -> tuple[str, int]:
    """*text* without bidi isolates that are not closed or not opened, and how many were removed."""
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
    return "".join(character for index, character in enumerate(text) if index not in odd), len(odd)
