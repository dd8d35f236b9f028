"""The plan of a run: its spans, and the options that determine them.

Touches: nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.document import MAX_AUDIO_MS, MAX_SPANS, Count, Document, Line, Milliseconds, RunId, SpanIndex
from chunk_job.segment import Channel

PLANNER = 1
"""Version of the cutting rules. Part of a run's identity: other cuts are another run."""

HOP_MS = 20
"""Length of one level measurement: 320 samples at 16 kHz. Cuts are at multiples of it."""

FLOOR_DB = -90.0
SOUND_STEP_MS = 10_000
"""Level of digital silence."""

LONGEST_PAD_MS = 2_000
"""The most audio that a chunk contains beyond a forced cut."""

LONGEST_AUTO_MS = 2_400_000
"""The longest chunk that is chosen automatically. Processes that stayed alive for 50 to 84 minutes of audio crashed."""

MOST_CLIPS = 1_000

_LENGTH_FLOOR_MS, _LENGTH_CEILING_MS = 3_600_000, 1000 * 3_600_000
_BYTES_PER_SECOND = 16

Cut = Literal["pause", "tight", "forced", "end"]


class Clip(Document):
    """A part of the recording, in media time: half-open."""

    start_ms: Milliseconds
    end_ms: Milliseconds | None
    """None: to the end of the recording."""

    def contains(self, start_ms: int, end_ms: int) -> bool:
        """Whether this interval is inside the clip."""
        return self.start_ms <= start_ms and (self.end_ms is None or end_ms <= self.end_ms)


Clips = Annotated[tuple[Clip, ...], Field(max_length=MOST_CLIPS)]
"""Parts of a recording, in order. Empty: all of it."""


def check_clips(clips: Sequence[Clip]) -> None:
    """Raise :class:`ValueError` if clips are empty, overlap, or are not in order."""
    previous_end_ms: int | None = 0
    for clip in clips:
        if previous_end_ms is None or clip.start_ms < previous_end_ms:
            raise ValueError("the clips overlap, or are not in order")
        if clip.end_ms is not None and clip.end_ms <= clip.start_ms:
            raise ValueError("a clip does not end after its start")
        previous_end_ms = clip.end_ms


ChannelChoice = Literal["mix", "split"] | Annotated[int, Field(ge=1, le=1_000)]
"""Which channels of a recording are transcribed: their mix, each by itself, or one, counted from 1."""


class AutoLength(Document):
    """From what the intake chooses the length of spans. Not part of a run's identity: the stored plan counts."""

    parallel_jobs: int = Field(ge=1, le=10_000)
    """Jobs at once for this recording."""
    speed: float = Field(gt=0, le=1e6)
    """Seconds of audio that a job transcribes in a second."""
    overhead_ms: int = Field(ge=0, le=3_600_000)
    """What a job takes beside that."""


class PlanOptions(Document):
    """When to cut, and into how long spans."""

    threshold_ms: Count = 2_400_000
    """Shorter media, if below ``threshold_bytes`` too, are one span. 0: always cut."""
    threshold_bytes: Count = 500_000_000
    """Larger media are cut even if they are short."""
    chunk_ms: Milliseconds = Field(default=720_000, ge=10_000)
    """Wanted length of a span. With twelve minutes, job start-up costs little, and so does a lost chunk."""
    window_ms: Milliseconds = Field(default=30_000, ge=HOP_MS)
    """How far from the wanted position to search for a pause; never more than a quarter of a span."""
    pause_ms: Milliseconds = Field(default=300, ge=HOP_MS)
    """Minimum length of a pause; a shorter quiet part may be a stop consonant or a breath."""
    dip_ms: Milliseconds = Field(default=150, ge=HOP_MS)
    """Minimum length of a quiet part in which a cut needs no padding, because it contains no speech."""
    pad_ms: int = Field(default=2_000, ge=0, le=LONGEST_PAD_MS)
    """Audio beyond a forced cut that both neighbouring chunks contain. 0: none; words at the cut are lost."""
    auto: AutoLength | None = None
    """The intake chooses the length of a span; ``chunk_ms`` counts if the length of the recording is unknown."""
    clips: Clips = ()
    """Only these parts are transcribed."""
    channels: ChannelChoice = "mix"

    @model_validator(mode="after")
    def _valid_clips(self) -> Self:
        check_clips(self.clips)
        return self

    def identity(self) -> str:
        """Return the options as text: part of a run's id.

        Fields that versions before 0.3 did not have are left out at their default. Of an automatic length only the
        fact counts: the same command with another number of jobs is the same run.
        """
        fields = self.model_dump(mode="json", exclude={"auto", "clips", "channels"})
        if self.auto:
            fields["auto"] = True
        if self.clips:
            fields["clips"] = [[clip.start_ms, clip.end_ms] for clip in self.clips]
        if self.channels != "mix":
            fields["channels"] = self.channels
        return json.dumps(fields, separators=(",", ":"))


class Span(Document):
    """A planned half-open interval of the decoded audio; its chunk's audio may be longer on both sides."""

    index: SpanIndex
    start_ms: Milliseconds
    end_ms: Milliseconds = Field(gt=0)
    audio_start_ms: Milliseconds
    audio_end_ms: Milliseconds = Field(gt=0)
    cut: Cut
    """The kind of cut at its end."""

    @property
    def audio_ms(self) -> int:
        """Return the length of its chunk's audio."""
        return self.audio_end_ms - self.audio_start_ms


class Stretch(Document):
    """A part of the decoded audio."""

    start_ms: Milliseconds
    end_ms: Milliseconds


class ChosenLength(Document):
    """The length of spans that the intake has chosen, and why."""

    chunk_ms: Milliseconds = Field(gt=0)
    reason: Line


class Plan(Document):
    """All spans of a run, contiguous from 0 to the end of the decoded audio, or in the clips."""

    max_bytes: ClassVar[int] = 64 << 20
    schema_: Literal["stenofleet.plan/1"] = Field(default="stenofleet.plan/1", alias="schema")
    run: RunId
    spans: tuple[Span, ...] = Field(min_length=1, max_length=MAX_SPANS)
    duration_ms: Milliseconds = Field(gt=0)
    """Length of the decoded audio; the file header may contain another one. With clips: the end of the last one."""
    offset_ms: Milliseconds
    """Added to every time at the merge: how long after the video the audio track begins, as in a player."""
    direct: bool
    warnings: Annotated[tuple[Line, ...], Field(max_length=100)]
    clips: Clips = ()
    """The parts of the recording that were asked for, in media time."""
    chosen: ChosenLength | None = None
    """None: the length of spans was given."""
    sound: Annotated[tuple[Stretch, ...], Field(max_length=MAX_AUDIO_MS // SOUND_STEP_MS)] | None = None
    """Where the decoded audio has sound, to :data:`SOUND_STEP_MS`. None: not measured, by versions before 0.4."""
    channels: Channel = 1
    """Channels of the chunks, each transcribed by itself."""

    @model_validator(mode="after")
    def _contiguous(self) -> Self:
        previous_end_ms = 0
        for index, span in enumerate(self.spans):
            if span.index != index or span.end_ms <= span.start_ms or not self._follows(span, previous_end_ms):
                raise ValueError(f"span {index} does not follow the one before it")
            # The last level of the audio may be shorter than a hop.
            if not (
                span.start_ms - LONGEST_PAD_MS <= span.audio_start_ms <= span.start_ms
                and span.end_ms <= span.audio_end_ms <= span.end_ms + LONGEST_PAD_MS
                and span.audio_end_ms < self.duration_ms + HOP_MS
            ):
                raise ValueError(f"span {index}: its audio is not around it")
            previous_end_ms = span.end_ms
        if previous_end_ms != self.duration_ms:
            raise ValueError(f"the spans end at {previous_end_ms} ms, the audio at {self.duration_ms} ms")
        if self.duration_ms + self.offset_ms > MAX_AUDIO_MS:
            raise ValueError("longer than any recording")
        return self

    def _follows(self, span: Span, previous_end_ms: int) -> bool:
        if not self.clips:
            return span.start_ms == previous_end_ms
        return span.start_ms >= previous_end_ms and is_inside(
            self.clips, span.start_ms + self.offset_ms, span.end_ms + self.offset_ms
        )


def is_inside(clips: Sequence[Clip], start_ms: int, end_ms: int) -> bool:
    """Whether an interval in media time is inside one of *clips*."""
    return any(clip.contains(start_ms, end_ms) for clip in clips)


def longest_recording_ms(size_bytes: int) -> int:
    """Return the longest possible duration of a file of this size; a longer one means wrong timestamps or a wrong rate.

    At least an hour. The assumed bytes per second are half of what FLAC needs for digital silence, and a tenth of what
    the speech codec with the lowest bit rate needs.
    """
    return min(_LENGTH_CEILING_MS, _LENGTH_FLOOR_MS + 1000 * (size_bytes // _BYTES_PER_SECOND))


def longest_chunk_ms(options: PlanOptions) -> int:
    """Return an upper limit of the chunk audio that these options can give."""
    window_ms = max(options.window_ms, HOP_MS)
    wanted_ms = max(options.chunk_ms, options.threshold_ms, LONGEST_AUTO_MS if options.auto else 0)
    return min(2 * wanted_ms + 2 * (window_ms + options.pad_ms), MAX_AUDIO_MS)


def is_direct(options: PlanOptions, *, duration_ms: int | None, size_bytes: int) -> bool:
    """Whether media are short and small enough to be one span. An unknown length (None) is never short."""
    return duration_ms is not None and duration_ms < options.threshold_ms and size_bytes < options.threshold_bytes
