"""The plan of a run: its spans, and the options that they follow from.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.document import MAX_AUDIO_MS, MAX_SPANS, Count, Document, Line, Milliseconds, RunId, SpanIndex

PLANNER = 1
"""Version of the cutting rules. Part of a run's identity: other cuts, other run."""

HOP_MS = 20
"""One level: 320 samples at 16 kHz. Cuts lie on these."""

FLOOR_DB = -90.0
"""Digital silence reads as this."""

LONGEST_PAD_MS = 2_000
"""What a neighbour hears beyond a forced cut, at most."""

_LENGTH_FLOOR_MS, _LENGTH_CEILING_MS = 3_600_000, 1000 * 3_600_000
_BYTES_A_SECOND = 16

Cut = Literal["pause", "tight", "forced", "end"]


class PlanOptions(Document):
    """When and how finely to cut."""

    threshold_ms: Count = 2_400_000
    """Shorter media are one span (with ``threshold_bytes``). 0: always cut."""
    threshold_bytes: Count = 500_000_000
    """Larger media are cut even if they are short."""
    chunk_ms: Milliseconds = Field(default=720_000, ge=10_000)
    """Wanted length of a span. Twelve minutes: start-up costs little, a lost chunk too."""
    window_ms: Milliseconds = Field(default=30_000, ge=HOP_MS)
    """How far from the grid a pause is looked for; never more than a quarter of a span."""
    pause_ms: Milliseconds = Field(default=300, ge=HOP_MS)
    """Shorter quiet is no pause but a stop consonant or a breath."""
    dip_ms: Milliseconds = Field(default=150, ge=HOP_MS)
    """Quiet of this length holds no speech either, and needs no padding."""
    pad_ms: int = Field(default=2_000, ge=0, le=LONGEST_PAD_MS)
    """What both neighbours hear beyond a forced cut. 0: no padding, words at the cut are lost."""


class Span(Document):
    """A planned interval of the decoded audio, half-open; its chunk's audio may reach beyond it on both sides."""

    index: SpanIndex
    start_ms: Milliseconds
    end_ms: Milliseconds = Field(gt=0)
    audio_start_ms: Milliseconds
    audio_end_ms: Milliseconds = Field(gt=0)
    cut: Cut
    """What ends it."""

    @property
    def audio_ms(self) -> int:
        """Length of its chunk's audio."""
        return self.audio_end_ms - self.audio_start_ms


class Plan(Document):
    """All spans of a run, contiguous from 0 to the end of what was decoded."""

    max_bytes: ClassVar[int] = 64 << 20
    schema_: Literal["stenofleet.plan/1"] = Field(default="stenofleet.plan/1", alias="schema")
    run: RunId
    spans: tuple[Span, ...] = Field(min_length=1, max_length=MAX_SPANS)
    duration_ms: Milliseconds = Field(gt=0)
    """Decoded length: the truth, whatever the header says."""
    offset_ms: Milliseconds
    """Added to every time at the merge: an audio track that begins after the video, as a player shows it."""
    direct: bool
    warnings: Annotated[tuple[Line, ...], Field(max_length=100)]

    @model_validator(mode="after")
    def _contiguous(self) -> Self:
        at = 0
        for index, span in enumerate(self.spans):
            if span.index != index or span.start_ms != at or span.end_ms <= at:
                raise ValueError(f"span {index} does not follow the one before it")
            # The last level of the audio may be shorter than a hop.
            if not (
                span.start_ms - LONGEST_PAD_MS <= span.audio_start_ms <= span.start_ms
                and span.end_ms <= span.audio_end_ms <= span.end_ms + LONGEST_PAD_MS
                and span.audio_end_ms < self.duration_ms + HOP_MS
            ):
                raise ValueError(f"span {index}: its audio is not around it")
            at = span.end_ms
        if at != self.duration_ms:
            raise ValueError(f"the spans end at {at} ms, the audio at {self.duration_ms} ms")
        if self.duration_ms + self.offset_ms > MAX_AUDIO_MS:
            raise ValueError("longer than any recording")
        return self


def longest_recording_ms(size_bytes: int) -> int:
    """How long the sound in a file of that size can be: beyond, its clock or its rate is made up.

    Half of what FLAC takes for digital silence; a tenth of the thriftiest speech codec. An hour in any case.
    """
    return min(_LENGTH_CEILING_MS, _LENGTH_FLOOR_MS + 1000 * (size_bytes // _BYTES_A_SECOND))


def longest_chunk_ms(options: PlanOptions) -> int:
    """The longest chunk audio that these options can give, by far."""
    window_ms = max(options.window_ms, HOP_MS)
    return min(2 * max(options.chunk_ms, options.threshold_ms) + 2 * (window_ms + options.pad_ms), MAX_AUDIO_MS)


def is_direct(options: PlanOptions, *, duration_ms: int | None, size_bytes: int) -> bool:
    """Whether media are short and small enough to be one span. Unknown length is never short."""
    return duration_ms is not None and duration_ms < options.threshold_ms and size_bytes < options.threshold_bytes
