"""What an evaluation found, as a document.

Touches: nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from chunk_job.document import MAX_SPANS, Count, Document, LanguageCode, Line, Seconds, SpanIndex
from chunk_job.segment import Speaker
from chunk_job.text import printable
from controller.domain.plan import Cut
from controller.evaluation.align import Kind
from controller.evaluation.normalize import Normalizer
from controller.evaluation.words import Unit

Rate = Annotated[float, Field(ge=0, le=1e15)]
"""Errors for each word or character of the reference: 0.1 is ten in a hundred. It can be more than 1."""
SpeakersOf = Literal["reference", "transcript"]
"""Which of the two texts names the speakers."""
MOST_RECORDINGS = 1_000_000
MOST_PASSAGES = 100
_LONGEST_LINE = 8_000


def line(text: str) -> str:
    """A name or a message as a value of a document: printable, and not too long."""
    return printable(text)[:_LONGEST_LINE]


class Errors(Document):
    """Words or characters of a reference, and how many of them are wrong."""

    reference: Count
    """How many the reference has: right ones, substitutions and deletions."""
    right: Count
    substitutions: Count
    deletions: Count
    """Of the reference, and missing in the transcript."""
    insertions: Count
    """Only in the transcript."""
    rate: Rate | None
    """None: the reference has none here."""

    @classmethod
    def of(cls, kinds: Iterable[Kind]) -> Self:
        """Count the steps of an alignment."""
        counts = Counter(kinds)
        return cls._counted(*(counts[kind] for kind in ("equal", "substitute", "delete", "insert")))

    @classmethod
    def together(cls, every: Iterable[Errors]) -> Self:
        """The errors of several texts."""
        counts = [(one.right, one.substitutions, one.deletions, one.insertions) for one in every]
        return cls._counted(*map(sum, zip(*counts, strict=True)))

    @classmethod
    def _counted(cls, right: int, substitutions: int, deletions: int, insertions: int) -> Self:
        reference = right + substitutions + deletions
        wrong = substitutions + deletions + insertions
        return cls(
            reference=reference,
            right=right,
            substitutions=substitutions,
            deletions=deletions,
            insertions=insertions,
            rate=round(wrong / reference, 6) if reference else None,
        )

    @property
    def wrong(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions


class Interval(Document):
    """Where the rate would be in 95 of 100 samples of the same kind."""

    low: Rate
    high: Rate


class Measured(Document):
    """How a transcript differs from its reference, in words and in characters."""

    words: Errors
    words_interval: Interval | None
    """None: the reference is too short."""
    characters: Count
    """Of the reference, with one space between two words."""
    character_errors: Count
    character_rate: Rate
    character_interval: Interval | None


class ChunkErrors(Document):
    """The errors in a chunk of the transcript."""

    index: SpanIndex
    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    cut: Cut
    quality: Literal["ok", "empty", "silent", "lost"]
    words: Errors


class SeamErrors(Document):
    """The errors at the seams of chunks, and elsewhere."""

    seams: Count
    near_ms: Seconds = Field(alias="near")
    """A word that is not farther from a seam is at it."""
    at_seams: Errors
    elsewhere: Errors
    cuts: dict[Cut, Errors]
    """Those at seams, by how the chunk was cut there."""


class SpeakerErrors(Document):
    """The errors in what one speaker says."""

    speaker: Speaker | None
    """None: words without a speaker."""
    words: Errors


class Piece(Document):
    """Words that are right, or wrong in the same way."""

    kind: Kind
    reference: str = Field(max_length=1 << 20)
    transcript: str = Field(max_length=1 << 20)


class Passage(Document):
    """A part of the recording with many errors."""

    line: Count
    """Line of the reference, counted from 1."""
    start_ms: Seconds | None = Field(alias="start")
    """None: neither text has times."""
    chunk: SpanIndex | None
    words: Errors
    pieces: Annotated[tuple[Piece, ...], Field(max_length=100_000)]


class RecordingErrors(Measured):
    """A recording whose transcript was compared."""

    name: Line
    transcript_file: Line
    reference_file: Line
    language: LanguageCode | None
    unit: Unit
    """What ``words`` counts: characters in scripts without spaces."""
    normalizer: Normalizer
    chunks: Annotated[tuple[ChunkErrors, ...], Field(max_length=MAX_SPANS)]
    """Empty: the transcript does not say how it was cut, or words have no times."""
    seams: SeamErrors | None
    """None: there are no seams, or it is not known."""
    speakers_of: SpeakersOf | None
    """Which text names the speakers; None: neither does."""
    speakers: Annotated[tuple[SpeakerErrors, ...], Field(max_length=100_000)]
    worst: Annotated[tuple[Passage, ...], Field(max_length=MOST_PASSAGES)]
    """The passages with most errors."""


class NotMeasured(Document):
    """A file that could not be compared, and why."""

    name: Line
    why: Line


class Evaluation(Document):
    """How transcripts differ from their references."""

    max_bytes: ClassVar[int] = 1 << 30
    schema_: Literal["stenofleet.evaluation/1"] = Field(default="stenofleet.evaluation/1", alias="schema")
    total: Measured | None
    """All recordings together. None: none was compared."""
    recordings: Annotated[tuple[RecordingErrors, ...], Field(max_length=MOST_RECORDINGS)]
    not_measured: Annotated[tuple[NotMeasured, ...], Field(max_length=MOST_RECORDINGS)]


class Headline(NamedTuple):
    """The one figure of an evaluation."""

    name: str
    rate: float
    interval: Interval | None


def headline(found: Evaluation) -> Headline | None:
    """The word error rate; where all recordings are in scripts without spaces, the character error rate."""
    if found.total is None or found.total.words.rate is None:
        return None
    characters = all(one.unit == "characters" for one in found.recordings)
    name = "character error rate" if characters else "word error rate"
    return Headline(name, found.total.words.rate, found.total.words_interval)
