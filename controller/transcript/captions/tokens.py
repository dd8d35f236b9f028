"""The words of segments as tokens: parts of text that no line break divides.

Touches: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from chunk_job.segment import Segment, Word
from controller.transcript.captions.width import clusters, columns, divisible, pieces, without_spaces

_LONGEST_WORD = 8
"""Columns of a word in a script without spaces. A longer one is a phrase that the model did not divide."""


class Token(NamedTuple):
    """A word with its punctuation, or a part of it in a script without spaces. A line may end after it."""

    text: str
    start_ms: int
    end_ms: int
    spaced: bool
    """A space is before it, if it is not the first of a line."""
    speaker: str | None = None


class _Part(NamedTuple):
    """A word as the model wrote it: it may be a part of a token."""

    text: str
    start_ms: int
    end_ms: int
    speaker: str | None = None


def tokens_of(segment: Segment, width: int) -> list[Token]:
    """The tokens of a segment, none of them wider than *width* columns.

    The text of a segment without word times is distributed over its time.
    """
    if segment.words and _squeezed(_joined(segment.words)) == _squeezed(segment.text):
        parts: Iterable[_Part] = _timed(segment.words)
    else:
        parts = _spread(segment.text, segment.start_ms, segment.end_ms)
    named = (part._replace(speaker=part.speaker or segment.speaker) for part in parts)
    return _tokens(named, width)


def tokens_of_text(text: str, start_ms: int, end_ms: int, width: int) -> list[Token]:
    """The tokens of a text, with times in proportion to their width."""
    return _tokens(_spread(text, start_ms, end_ms), width)


def _tokens(parts: Iterable[_Part], width: int) -> list[Token]:
    found: list[Token] = []
    spaced = True
    for part in parts:
        text = part.text.strip()
        spaced = spaced or part.text[:1].isspace()
        if not text:
            continue
        same = found and found[-1].speaker == part.speaker
        if same and not spaced and not divisible(found[-1].text, text):
            found[-1] = _appended(found[-1], part, text)
        else:
            found.append(Token(text, part.start_ms, part.end_ms, spaced, part.speaker))
        spaced = part.text[-1:].isspace()
    return [piece for token in found for piece in _narrow(token, width)]


def _joined(words: Sequence[Word]) -> str:
    return "".join(word["word"] for word in words)


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _timed(words: Sequence[Word]) -> list[_Part]:
    """The words, with times that never go back. A word with spaces inside it becomes several."""
    found: list[_Part] = []
    after_ms = 0
    for word in words:
        start_ms = max(after_ms, word["start_ms"])
        end_ms = max(start_ms, word["end_ms"])
        after_ms = start_ms
        long = columns(word["word"]) > _LONGEST_WORD and any(map(without_spaces, word["word"]))
        if long or len(word["word"].split()) > 1:
            spread = _spread(word["word"], start_ms, end_ms)
            found.extend(part._replace(speaker=word.get("speaker")) for part in spread)
        else:
            found.append(_Part(word["word"], start_ms, end_ms, word.get("speaker")))
    return found


def _spread(text: str, start_ms: int, end_ms: int) -> Iterator[_Part]:
    """The words of a text, with times in proportion to their width."""
    words = [part for word in re.findall(r"\s*\S+\s*", text) for part in _characters(word)]
    sizes = [max(1, columns(word)) for word in words]
    total, done = sum(sizes), 0
    for word, size in zip(words, sizes, strict=True):
        first, done = done, done + size
        span = end_ms - start_ms
        yield _Part(word, start_ms + span * first // total, start_ms + span * done // total)


def _characters(word: str) -> list[str]:
    """Each character, if the word is in a script without spaces; else the word."""
    return list(clusters(word)) if any(map(without_spaces, word)) else [word]


def _appended(token: Token, part: _Part, text: str) -> Token:
    return token._replace(text=token.text + text, end_ms=max(token.end_ms, part.end_ms))


def _narrow(token: Token, width: int) -> Iterator[Token]:
    """A token in pieces of at most *width* columns, with its time divided."""
    if columns(token.text) <= width:
        yield token
        return
    found = pieces(token.text, width)
    span = token.end_ms - token.start_ms
    for number, text in enumerate(found):
        yield token._replace(
            text=text,
            start_ms=token.start_ms + span * number // len(found),
            end_ms=token.start_ms + span * (number + 1) // len(found),
            spaced=token.spaced and not number,
        )
