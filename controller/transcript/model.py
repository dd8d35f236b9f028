"""The transcript as a document: a superset of Whisper's JSON, in media time.

Touches: nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.contract import TranscribeOptions
from chunk_job.document import MAX_SPANS, Count, Document, LanguageCode, Line, Score, Seconds, Sha256
from chunk_job.errors import DocumentInvalid
from chunk_job.names import model_name
from chunk_job.segment import Segment
from controller.domain.documents import FileName, RunRecord
from controller.domain.plan import MOST_CLIPS, ChannelChoice, Clip, Cut, is_inside
from controller.transcript.clean_text import cleaned, is_suspect

MOST_WARNINGS = 90
"""Most warnings that are taken from a plan or a stored document. A few more may be added."""


UNKNOWN_IDENTITY = "0" * 64


class SourceInfo(Document):
    """The recording that was transcribed."""

    name: FileName
    identity: Sha256
    audio_track: int | None = Field(default=None, ge=0, le=100_000)
    """As requested; None: the default track."""
    channels: ChannelChoice = Field(default="mix", exclude_if=lambda channels: channels == "mix")
    """As requested. Left out if all channels were mixed."""

    @property
    def known_identity(self) -> str | None:
        """The identity, unless the transcript is another program's."""
        return None if self.identity == UNKNOWN_IDENTITY else self.identity


class ModelInfo(Document):
    """The model that was used. ``digest`` is None if no chunk needed the model."""

    name: str = Field(max_length=4_096)
    digest: Sha256 | None


class Chunk(Document):
    """One span of the transcript, and how its end was cut."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    cut: Cut
    quality: Literal["ok", "empty", "silent", "lost"]


class Gap(Document):
    """A part without a transcript, because its chunk failed finally."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")


class Part(Document):
    """A part of the recording that was asked for. ``end`` is None for the end of the recording."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds | None = Field(alias="end")


class Corrected(Document):
    """Which corrections by people a transcript has."""

    version: Count
    """The number of the last one."""
    segments: Count
    """How many segments have another text than the model wrote."""
    conflicts: Count
    """How many segments have several corrections of which none replaces the others: the last one is used."""


class TranscriptSummary(Document):
    """A transcript without its text and segments. It is small for any length of the recording."""

    max_bytes: ClassVar[int] = 64 << 20
    language: LanguageCode | None
    """None: there is no speech."""
    schema_: Literal["stenofleet.transcript/1"] = Field(default="stenofleet.transcript/1", alias="schema")
    duration_ms: Seconds = Field(alias="duration")
    language_probability: Score
    success: bool
    status: Literal["complete", "partial"]
    source: SourceInfo
    model: ModelInfo
    options: TranscribeOptions
    chunks: Annotated[tuple[Chunk, ...], Field(min_length=1, max_length=MAX_SPANS)]
    gaps: Annotated[tuple[Gap, ...], Field(max_length=MAX_SPANS)]
    warnings: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    """Possible problems of the transcript, as sentences."""
    clips: Annotated[tuple[Part, ...], Field(max_length=MOST_CLIPS)] = ()
    """The parts that were asked for. Empty: the whole recording."""
    corrected: Corrected | None = Field(default=None, exclude_if=lambda corrected: corrected is None)
    """None: it is as the model wrote it, and then the field is left out."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        lost = [(chunk.start_ms, chunk.end_ms) for chunk in self.chunks if chunk.quality == "lost"]
        if lost != [(gap.start_ms, gap.end_ms) for gap in self.gaps]:
            raise ValueError("the gaps are not equal to the lost chunks")
        if (self.status == "complete", self.success) != (not lost, not lost):
            raise ValueError(f"{self.status}, with {len(lost)} of {len(self.chunks)} chunks lost")
        at = self.chunks[0].start_ms
        for chunk in self.chunks:
            if not self._follows(chunk, at) or chunk.end_ms <= chunk.start_ms:
                raise ValueError("the chunks do not follow each other")
            at = chunk.end_ms
        if at != self.duration_ms:
            raise ValueError("the chunks do not end at the end of the recording")
        return self

    def _follows(self, chunk: Chunk, previous_end_ms: int) -> bool:
        if not self.clips:
            return chunk.start_ms == previous_end_ms
        clips = [Clip(start_ms=part.start_ms, end_ms=part.end_ms) for part in self.clips]
        return chunk.start_ms >= previous_end_ms and is_inside(clips, chunk.start_ms, chunk.end_ms)

    @property
    def gaps_ms(self) -> int:
        """The total length of the gaps, in ms."""
        return sum(gap.end_ms - gap.start_ms for gap in self.gaps)

    def is_of(self, record: RunRecord) -> bool:
        """Whether it is a transcript of the recording of *record* with its options."""
        source = (self.source.identity, self.source.audio_track, self.source.channels, self.clips)
        wanted = (record.identity, record.audio_track, record.plan.channels, parts_of(record.plan.clips))
        return source == wanted and _identity(self.options) == _identity(record.options)

    def same_run(self, other: TranscriptSummary) -> bool:
        """Whether both are transcripts of the same recording with the same options."""
        source, theirs = (
            (one.source.identity, one.source.audio_track, one.source.channels, one.clips) for one in (self, other)
        )
        # Models in different folders may have the same name.
        models = {self.model.digest, other.model.digest} - {None}
        return source == theirs and len(models) < 2 and _identity(self.options) == _identity(other.options)


def _identity(options: TranscribeOptions) -> str:
    """Return the identity of options with the name of the model: a transcript does not say in which folder it was."""
    return options.model_copy(update={"model": model_name(options.model)}).identity()


class _Words(Document):
    """The text and the segments."""

    text: str
    """The texts of all segments, joined, without white space at both ends."""
    segments: tuple[Segment, ...] = Field(max_length=100_000_000)


# Fields are in the order of the base classes, from the last to the first: the text is first, as in Whisper's JSON.
class Transcript(TranscriptSummary, _Words):
    """A superset of Whisper's JSON. Times are absolute, in order, and inside the media."""

    max_bytes: ClassVar[int] = 1 << 30

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The transcript in *data*, with cleaned segments, and with the text of these segments.

        Raises :class:`DocumentInvalid`, also if times are out of order or outside the recording.
        """
        found = super().decode(data)
        check_order(found.segments, found.duration_ms)
        segments, removed = cleaned_segments(found.segments)
        text = "".join(segment.text for segment in segments).strip()
        if segments == found.segments and text == found.text:
            return found
        added = [control_characters_removed(removed)] if removed else []
        return found.model_copy(
            update={
                "segments": segments,
                "text": text,
                "warnings": (*found.warnings[:MOST_WARNINGS], *added) if added else found.warnings,
            }
        )

    def summary(self) -> TranscriptSummary:
        """The transcript without its text and segments."""
        return TranscriptSummary.model_validate({name: getattr(self, name) for name in TranscriptSummary.model_fields})


def parts_of(clips: Iterable[Clip]) -> tuple[Part, ...]:
    """The clips of a plan, as they are written in a transcript."""
    return tuple(Part(start_ms=clip.start_ms, end_ms=clip.end_ms) for clip in clips)


def longest_transcript_bytes(duration_ms: int) -> int:
    """Largest size in bytes of the JSON for a recording of *duration_ms*. An hour of dense speech is 3 MB."""
    return min(Transcript.max_bytes, (4 << 20) + (8 << 10) * duration_ms // 1000)


def check_order(segments: Iterable[Segment], end_ms: int, *, after_ms: int = 0) -> int:
    """Check the order of *segments*, and return the start of the last one. The first must not start before *after_ms*.

    Raises :class:`DocumentInvalid` if times are out of order or after *end_ms*.
    """
    at = after_ms
    for segment in segments:
        if segment.start_ms < at or not segment.inside(end_ms):
            raise DocumentInvalid(f"Transcript: segment {segment.id} is out of order or outside the recording")
        at = segment.start_ms
    return at


def cleaned_segments(segments: Sequence[Segment]) -> tuple[tuple[Segment, ...], int]:
    """The segments without characters that could control a terminal or reverse text, and how many were removed."""
    # First all texts at once, because it is much faster and nearly always finds nothing.
    words = map(itemgetter("word"), itertools.chain.from_iterable(map(attrgetter("words"), segments)))
    if not is_suspect("".join(itertools.chain(map(attrgetter("text"), segments), words))):
        return tuple(segments), 0
    clean, total = [], 0
    for segment in segments:
        text, removed = cleaned(segment.text)
        pairs = [cleaned(word["word"]) for word in segment.words]
        changed = tuple({**word, "word": pair[0]} for word, pair in zip(segment.words, pairs, strict=True))
        clean.append(segment.model_copy(update={"text": text, "words": changed}))
        # Each character is in the text and in a word.
        total += max(removed, sum(pair[1] for pair in pairs))
    return tuple(clean), total


def control_characters_removed(count: int) -> str:
    return f"{count} control character{'s' if count > 1 else ''} removed from the text"
