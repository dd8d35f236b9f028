"""The terms of a glossary: how they are written, found in segments, and put in place of what they sound like.

Touches: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chunk_job.segment import Segment, Word

MOST_TERMS = 1_000
LONGEST_LINE = 200

_WORD = re.compile(r"\w(?:.*\w)?", re.DOTALL)
"""A word without the spaces and the punctuation around it."""


class Term(NamedTuple):
    """A term, and how it is heard; empty if that was not given."""

    term: str
    sounds: str


def parsed(line: str) -> Term:
    """The term of a line ``term`` or ``term = sounds like``."""
    term, _, sounds = line.partition("=")
    return Term(term.strip(), sounds.strip())


def checked(line: str) -> str:
    """Return a *line* that a person wrote in one form: any kind of space between words is one space.

    Raises :class:`ValueError`, in words for that person.
    """
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it has {len(line)} characters, and may have {LONGEST_LINE}")
    # Tabs, spaces that do not break a line, and Unicode's separators of lines too.
    text = " ".join(line.split())
    if not text.isprintable():
        raise ValueError("it has control characters")
    term, sounds = parsed(text)
    if "=" in sounds:
        raise ValueError("a term, and what it sounds like, cannot contain '='")
    if not term or ("=" in text and not sounds):
        raise ValueError("write a term, or: term = sounds like")
    return f"{term} = {sounds}" if sounds else term


def distinct(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the *lines* of a glossary without those whose term was there before."""
    terms: dict[str, str] = {}
    for line in lines:
        terms.setdefault(parsed(line).term, line)
    return tuple(terms.values())


def corrected(segments: Iterable[Segment], glossary: Sequence[str]) -> tuple[Segment, ...]:
    """*segments* with terms in place of exactly the words that they sound like, ignoring case.

    The words become one, from the start of the first to the end of the last. Text and words change together: a segment
    without words, or with other words than its text, stays as it is.
    """
    heard = [(term.sounds.casefold().split(), term.term) for term in map(parsed, glossary) if term.sounds]
    # The longest first: a term may sound like the beginning of another.
    heard.sort(key=lambda pair: -len(pair[0]))
    return tuple(_corrected(segment, heard) for segment in segments) if heard else tuple(segments)


def _corrected(segment: Segment, heard: Sequence[tuple[list[str], str]]) -> Segment:
    if "".join(word["word"] for word in segment.words) != segment.text:
        return segment
    keys = [_key(word["word"]) for word in segment.words]
    words, at = [], 0
    while at < len(keys):
        found = next((pair for pair in heard if keys[at : at + len(pair[0])] == pair[0]), None)
        count = len(found[0]) if found else 1
        these = segment.words[at : at + count]
        words.append(_merged(these, found[1]) if found else these[0])
        at += count
    if tuple(words) == segment.words:
        return segment
    return segment.model_copy(update={"words": tuple(words), "text": "".join(word["word"] for word in words)})


def _key(word: str) -> str:
    found = _WORD.search(word)
    return found[0].casefold() if found else ""


def _merged(words: Sequence[Word], term: str) -> Word:
    """One word for all of *words*, with the spaces and punctuation before the first and after the last."""
    first, last = _WORD.search(words[0]["word"]), _WORD.search(words[-1]["word"])
    before = words[0]["word"][: first.start()] if first else ""
    after = words[-1]["word"][last.end() :] if last else ""
    return Word(
        word=f"{before}{term}{after}",
        start_ms=words[0]["start_ms"],
        end_ms=words[-1]["end_ms"],
        probability=min(word["probability"] for word in words),
    )


class HitCounter:
    """Counts how often each term is in the text: as whole words, ignoring case."""

    def __init__(self, glossary: Sequence[str]) -> None:
        self.counts = {parsed(line).term: 0 for line in glossary}
        self._found = [(term, re.compile(rf"(?<!\w){re.escape(term)}(?!\w)", re.IGNORECASE)) for term in self.counts]

    def add(self, segments: Sequence[Segment]) -> None:
        """Count in the texts of the next *segments*."""
        if self._found:
            text = "\n".join(segment.text for segment in segments)
            for term, pattern in self._found:
                self.counts[term] += sum(1 for _ in pattern.finditer(text))
