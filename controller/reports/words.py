"""The words of a transcript as a page shows them: blocks of lines, and how sure the model was.

Touches: nothing. Segments come a few at a time, and memory does not depend on their number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from chunk_job.segment import Segment, Word
from chunk_job.text import printable
from controller.transcript.model import Chunk

UNSURE, VERY_UNSURE = 0.5, 0.25
"""Probabilities of a word below which it is marked."""

MOST_LINES = 40
"""Most lines of a block: a browser lays out a block only when it is near the view."""
_MOST_BANDS = 600
"""Most parts with speech; pauses that are shorter than this part of the recording are not shown."""


Level = Literal[0, 1, 2]


class Piece(NamedTuple):
    """A part of a line's text, and how sure the model was of it."""

    text: str
    level: Level
    """1: unsure, 2: very unsure."""
    percent: int = 100
    """The lowest probability of its words."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One segment."""

    number: int
    start_ms: int
    end_ms: int
    speaker: str
    """Only where another one speaks than in the line before; else empty."""
    pieces: tuple[Piece, ...]
    words: tuple[Word, ...] = ()
    """The words that *pieces* are made of; empty if they do not spell the text."""

    @property
    def places(self) -> str:
        """Where each word is: ``AFTER+LENGTH``, with a space between words; empty if that is not known.

        *AFTER*: how long after the word before it begins, in 1/100 s; the first one: after the line. *LENGTH*: with
        its space, in the units of a script: 16 bits.
        """
        parts, at = [], self.start_ms // 10
        for word in self.words:
            text, begins = word["word"], max(at, word["start_ms"] // 10)
            parts.append(f"{begins - at}+{len(text) if text.isascii() else len(text.encode('utf-16-le')) // 2}")
            at = begins
        return " ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some lines of one chunk."""

    chunk: int
    start_ms: int
    end_ms: int
    """Of the chunk."""
    begins: bool
    """Whether it is the first block of its chunk."""
    quality: Literal["ok", "empty", "silent", "lost"]
    cut: str
    """How the chunk before ended; empty for the first chunk."""
    lines: tuple[Line, ...]


@dataclass(kw_only=True)
class WordFigures:
    """How many words there are, how many the model was unsure of, and where there is speech."""

    chunks: Sequence[Chunk]
    words: list[int] = field(default_factory=list)
    """By chunk."""
    unsure: list[int] = field(default_factory=list)
    judged: int = 0
    """Words that have a probability."""
    probability: float = 0.0
    """The sum of these."""
    speech: list[tuple[int, int]] = field(default_factory=list)
    """Parts with words, in media time, without short pauses."""

    def add(self, segments: Iterable[Segment]) -> None:
        """Add segments in media time, in order."""
        starts = [chunk.start_ms for chunk in self.chunks]
        if not self.words:
            self.words, self.unsure = [0] * len(starts), [0] * len(starts)
        pause_ms = self.chunks[-1].end_ms // _MOST_BANDS
        for segment in segments:
            chunk = max(0, bisect_right(starts, segment.start_ms) - 1)
            self.words[chunk] += len(segment.words) or len(segment.text.split())
            self.unsure[chunk] += sum(word["probability"] < UNSURE for word in segment.words)
            self.judged += len(segment.words)
            self.probability += sum(word["probability"] for word in segment.words)
            if segment.text.strip():
                before = self.speech[-1] if self.speech else None
                if before and segment.start_ms - before[1] <= pause_ms:
                    self.speech[-1] = before[0], max(before[1], segment.end_ms)
                else:
                    self.speech.append((segment.start_ms, segment.end_ms))


def blocks(segments: Iterable[Sequence[Segment]], chunks: Sequence[Chunk]) -> Iterator[Block]:
    """The lines of a transcript in blocks. A chunk without lines has one block without lines."""
    at, begins, speaker = 0, True, ""
    lines: list[Line] = []
    for segment in (one for some in segments for one in some):
        while at + 1 < len(chunks) and segment.start_ms >= chunks[at + 1].start_ms:
            if lines or begins:
                yield _block(chunks, at, begins=begins, lines=lines)
            at, begins, lines = at + 1, True, []
        if len(lines) == MOST_LINES:
            yield _block(chunks, at, begins=begins, lines=lines)
            begins, lines = False, []
        if segment.text.strip():
            who = segment.speaker or ""
            lines.append(_line(segment, who if who != speaker or (begins and not lines) else ""))
            speaker = who
    for rest in range(at, len(chunks)):
        if lines or begins:
            yield _block(chunks, rest, begins=begins, lines=lines)
        begins, lines = True, []


def _block(chunks: Sequence[Chunk], at: int, *, begins: bool, lines: Sequence[Line]) -> Block:
    chunk = chunks[at]
    return Block(
        chunk=at,
        start_ms=chunk.start_ms,
        end_ms=chunk.end_ms,
        begins=begins,
        quality=chunk.quality,
        cut=chunks[at - 1].cut if at else "",
        lines=tuple(lines),
    )


def _line(segment: Segment, speaker: str) -> Line:
    return Line(
        number=segment.id,
        start_ms=segment.start_ms,
        end_ms=segment.end_ms,
        speaker=printable(speaker),
        pieces=tuple(pieces(segment)),
        words=segment.words if _spelled(segment) else (),
    )


def _spelled(segment: Segment) -> bool:
    """Whether the words spell the text."""
    return "".join(word["word"] for word in segment.words).strip() == segment.text.strip()


def pieces(segment: Segment) -> Iterator[Piece]:
    """The text of a segment, cut where the model becomes more or less sure."""
    if not _spelled(segment):
        # Words that do not spell the text, or none: then only the text is certain.
        yield Piece(segment.text.strip(), 0)
        return
    text, lowest = "", 1.0
    level: Level = 0
    for word in segment.words:
        sure = word["probability"]
        mine: Level = 2 if sure < VERY_UNSURE else 1 if sure < UNSURE else 0
        if text and mine != level:
            yield Piece(text, level, _percent(lowest))
            text, lowest = "", 1.0
        spoken = word["word"]
        if not text and mine and spoken.startswith(" "):
            # The mark begins at the word, not at the space before it.
            yield Piece(" ", 0)
            spoken = spoken[1:]
        text, level, lowest = text + spoken, mine, min(lowest, sure)
    if text:
        yield Piece(text, level, _percent(lowest))


def _percent(probability: float) -> int:
    return round(100 * min(1.0, max(0.0, probability)))
