"""The transcript as a document: a superset of Whisper's JSON, in media time.

Touches: nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.contract import UNHASHED, Segment, TranscribeOptions
from chunk_job.document import MAX_SPANS, Document, LanguageCode, Line, Score, Seconds, Sha256
from chunk_job.errors import DocumentInvalid
from controller.domain.documents import FileName, RunRecord
from controller.domain.plan import Cut
from controller.transcript.clean_text import cleaned, is_suspect

MOST_WARNINGS = 90
"""Of those that came with a document; a few are added."""


class SourceInfo(Document):
    """What was transcribed."""

    name: FileName
    identity: Sha256
    audio_track: int | None = Field(default=None, ge=0, le=100_000)
    """As it was asked for; None: the default one."""


class ModelInfo(Document):
    """What transcribed it; ``digest`` None where no chunk needed the model's answer."""

    name: str = Field(max_length=4_096)
    digest: Sha256 | None


class Chunk(Document):
    """One span of the transcript, and how its end was cut."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    cut: Cut
    quality: Literal["ok", "empty", "silent", "lost"]


class Gap(Document):
    """A stretch without a transcript, because its chunk failed for good."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")


class TranscriptSummary(Document):
    """All of a transcript but its words: small, whatever the length of the recording."""

    max_bytes: ClassVar[int] = 64 << 20
    language: LanguageCode | None
    """None: nobody speaks."""
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
    """What may be wrong with it, in sentences."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        lost = [(chunk.start_ms, chunk.end_ms) for chunk in self.chunks if chunk.quality == "lost"]
        if lost != [(gap.start_ms, gap.end_ms) for gap in self.gaps]:
            raise ValueError("the gaps are not the chunks that are lost")
        if (self.status == "complete", self.success) != (not lost, not lost):
            raise ValueError(f"{self.status}, with {len(lost)} of {len(self.chunks)} chunks lost")
        at = self.chunks[0].start_ms
        for chunk in self.chunks:
            if chunk.start_ms != at or chunk.end_ms <= at:
                raise ValueError("the chunks do not follow each other")
            at = chunk.end_ms
        if at != self.duration_ms:
            raise ValueError("the chunks do not end where the recording does")
        return self

    @property
    def gaps_ms(self) -> int:
        """How much of the recording has no transcript."""
        return sum(gap.end_ms - gap.start_ms for gap in self.gaps)

    def is_of(self, record: RunRecord) -> bool:
        """Whether it transcribes the content of *record* with its options."""
        source = (self.source.identity, self.source.audio_track)
        return source == (record.identity, record.audio_track) and _same_words(self.options, record.options)

    def same_run(self, other: TranscriptSummary) -> bool:
        """Whether both transcribe the same content with the same options."""
        source, theirs = ((one.source.identity, one.source.audio_track) for one in (self, other))
        return source == theirs and _same_words(self.options, other.options)


class _Words(Document):
    """What was said."""

    text: str
    """All segments, joined, without white space at either end."""
    segments: tuple[Segment, ...] = Field(max_length=100_000_000)


# A document's fields are in the order of its bases from the last to the first: the words stand first, as in Whisper's.
class Transcript(TranscriptSummary, _Words):
    """A superset of Whisper's JSON. Times are absolute, ordered, inside the media."""

    max_bytes: ClassVar[int] = 1 << 30

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The transcript in *data*, its segments cleaned like those of a new one, its text that of the segments.

        Raises :class:`DocumentInvalid`, also where its times run backwards or leave the recording.
        """
        found = super().decode(data)
        check_order(found.segments, found.duration_ms)
        segments, removed = cleaned_segments(found.segments)
        text = "".join(segment.text for segment in segments).strip()
        if segments == found.segments and text == found.text:
            return found
        notes = [control_characters_removed(removed)] if removed else []
        return found.model_copy(
            update={
                "segments": segments,
                "text": text,
                "warnings": (*found.warnings[:MOST_WARNINGS], *notes) if notes else found.warnings,
            }
        )

    def summary(self) -> TranscriptSummary:
        """The same without its words."""
        return TranscriptSummary.model_validate({name: getattr(self, name) for name in TranscriptSummary.model_fields})


def _same_words(one: TranscribeOptions, other: TranscribeOptions) -> bool:
    """Whether options differ in speed at most."""
    nothing = dict.fromkeys(UNHASHED)
    return one.model_copy(update=nothing) == other.model_copy(update=nothing)


def longest_transcript_bytes(duration_ms: int) -> int:
    """How long the JSON of a recording of *duration_ms* can be; an hour of dense speech is 3 MB."""
    return min(Transcript.max_bytes, (4 << 20) + (8 << 10) * duration_ms // 1000)


def check_order(segments: Iterable[Segment], end_ms: int, *, after_ms: int = 0) -> int:
    """Where the last of *segments* begins; they follow one that begins at *after_ms*.

    Raises :class:`DocumentInvalid` where times run backwards or go beyond *end_ms*.
    """
    at = after_ms
    for segment in segments:
        if segment.start_ms < at or not segment.inside(end_ms):
            raise DocumentInvalid(f"Transcript: segment {segment.id} is not behind the one before it")
        at = segment.start_ms
    return at


def cleaned_segments(segments: Sequence[Segment]) -> tuple[tuple[Segment, ...], int]:
    """The segments without what could steer a terminal or turn other text around, and how much of that there was."""
    # All at once first: what is wrong with one word in a million must not cost a look at each.
    words = map(itemgetter("word"), itertools.chain.from_iterable(map(attrgetter("words"), segments)))
    if not is_suspect("".join(itertools.chain(map(attrgetter("text"), segments), words))):
        return tuple(segments), 0
    clean, total = [], 0
    for segment in segments:
        text, removed = cleaned(segment.text)
        pairs = [cleaned(word["word"]) for word in segment.words]
        changed = tuple({**word, "word": pair[0]} for word, pair in zip(segment.words, pairs, strict=True))
        clean.append(segment.model_copy(update={"text": text, "words": changed}))
        # Each is in the text and in a word.
        total += max(removed, sum(pair[1] for pair in pairs))
    return tuple(clean), total


def control_characters_removed(count: int) -> str:
    return f"{count} control character{'s' if count > 1 else ''} removed from the text"
