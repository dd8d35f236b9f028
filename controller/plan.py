"""Where to cut: levels of the decoded audio → spans.

Touches: nothing. Plain Python on a few thousand numbers a cut, so the controller can read plans without numpy. The
planner sees each 20 ms level once, in order, and keeps only the window around the next point of the grid: memory does
not grow with the recording.

A cut is looked for around each grid point, in this order: the best pause (``pause``); the quietest 100 ms inside a dip
that is long enough to hold no speech (``tight``); the quietest 100 ms of ongoing speech (``forced``), where both
neighbours hear two seconds beyond the cut and the merge decides word by word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.contract import MAX_AUDIO_MS, MAX_SPANS, Count, Document, Line, Milliseconds, RunId, SpanIndex

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


@dataclass(frozen=True, kw_only=True)
class _Choice:
    hop: int
    cut: Cut


class Planner:
    """Feed it levels; it answers with spans as soon as their end is known."""

    def __init__(self, options: PlanOptions, *, duration_ms: int | None, direct: bool) -> None:
        self._options = options
        # The grid lies at first + i·length/parts. A header that lies about the length is found out when the audio
        # goes on.
        self._first_ms = max(options.threshold_ms, options.chunk_ms) if direct else 0
        self._parts, self._length_ms = 1, options.chunk_ms
        # A header shorter than a chunk says nothing about how to share out the audio: most likely it is wrong.
        if duration_ms and duration_ms >= options.chunk_ms and not direct:
            self._parts, self._length_ms = max(1, round(duration_ms / options.chunk_ms)), duration_ms
        self._half = max(1, min(options.window_ms, self._length_ms // self._parts // 4) // HOP_MS)
        self._grid = 0 if direct else 1
        self._hops = 0
        self._kept: list[float] = []
        self._kept_from = 0
        self._start = 0
        self._audio_start = 0
        self._count = 0

    @property
    def settled_ms(self) -> int:
        """No cut will come before this: audio up to here belongs to the open chunk."""
        return max(self._window_start(), self._start) * HOP_MS

    @property
    def needed_from_ms(self) -> int:
        """Audio before this will not be asked for again."""
        return max(0, self.settled_ms - self._options.pad_ms)

    def feed(self, levels: Sequence[float]) -> list[Span]:
        """Take the next levels (dB, one a hop) and return the spans that are now closed."""
        skip = max(0, min(len(levels), self._window_start() - self._hops))
        if not self._kept:
            self._kept_from = self._hops + skip
        self._kept.extend(levels[skip:])
        self._hops += len(levels)
        closed = []
        while self._hops >= self._grid_hop() + self._half + self._pad():
            closed.append(self._close(self._choose()))
        return closed

    def finish(self, decoded_ms: int) -> Span:
        """The last span, which ends where the audio ends, to the millisecond."""
        return Span(
            index=self._count,
            start_ms=self._start * HOP_MS,
            end_ms=decoded_ms,
            audio_start_ms=self._audio_start * HOP_MS,
            audio_end_ms=decoded_ms,
            cut="end",
        )

    def _grid_hop(self) -> int:
        """The next grid point. The grid is absolute: a cut that moved does not move the cuts after it."""
        return (self._first_ms + self._grid * self._length_ms // self._parts) // HOP_MS

    def _window_start(self) -> int:
        return max(0, self._grid_hop() - self._half)

    def _pad(self) -> int:
        return self._options.pad_ms // HOP_MS

    def _choose(self) -> _Choice:
        first = self._window_start()
        window = _smooth(self._kept[first - self._kept_from : self._grid_hop() + self._half - self._kept_from])
        threshold = _threshold(window)
        best = self._best_pause(window, threshold)
        if best is not None:
            return _Choice(hop=first + best, cut="pause")
        quietest = _quietest(window, self._half)
        dip = next((b - a for a, b in _runs(window, threshold) if a <= quietest < b), 0)
        return _Choice(hop=first + quietest, cut="tight" if dip * HOP_MS >= self._options.dip_ms else "forced")

    def _best_pause(self, window: Sequence[float], threshold: float) -> int | None:
        """The middle of the best pause: up to 0.8 s longer is better, and near the grid is a little better."""
        best, best_score = None, 0.0
        for begin, end in _runs(window, threshold):
            if (end - begin) * HOP_MS < self._options.pause_ms:
                continue
            middle = (begin + end) // 2
            distance = abs(middle - self._half) * HOP_MS / 30_000
            score = min((end - begin) * HOP_MS, 800) / 800 - 0.25 * distance
            if best is None or score > best_score:
                best, best_score = middle, score
        return best

    def _close(self, choice: _Choice) -> Span:
        pad = self._pad() if choice.cut == "forced" else 0
        span = Span(
            index=self._count,
            start_ms=self._start * HOP_MS,
            end_ms=choice.hop * HOP_MS,
            audio_start_ms=self._audio_start * HOP_MS,
            audio_end_ms=(choice.hop + pad) * HOP_MS,
            cut=choice.cut,
        )
        self._start, self._audio_start = choice.hop, choice.hop - pad
        self._count += 1
        self._grid += 1
        drop = max(0, self._window_start() - self._kept_from)
        del self._kept[:drop]
        self._kept_from += drop
        return span


def _smooth(levels: Sequence[float]) -> list[float]:
    """Mean of three neighbours: one quiet hop inside a vowel is no pause."""
    last = len(levels) - 1
    return [(levels[max(0, i - 1)] + levels[i] + levels[min(last, i + 1)]) / 3 for i in range(len(levels))]


def _threshold(window: Sequence[float]) -> float:
    """Between the window's own floor and its own speech, so that no noise level has to be known."""
    ordered = sorted(window)
    floor, speech = ordered[len(ordered) * 5 // 100], ordered[len(ordered) * 95 // 100]
    return floor + min(max(0.3 * (speech - floor), 3.0), 12.0)


def _runs(window: Sequence[float], threshold: float) -> list[tuple[int, int]]:
    """Half-open runs of hops below the threshold."""
    runs: list[tuple[int, int]] = []
    begin = None
    for index, level in enumerate([*window, float("inf")]):
        if level < threshold:
            begin = index if begin is None else begin
        elif begin is not None:
            runs.append((begin, index))
            begin = None
    return runs


def _quietest(window: Sequence[float], half: int) -> int:
    """The middle hop of the quietest 100 ms; the edge of the window costs 1 dB."""
    power = [10 ** (level / 10) for level in window]
    width = min(5, len(window))

    def cost(begin: int) -> float:
        return sum(power[begin : begin + width]) * 10 ** (0.1 * abs(begin + width // 2 - half) / half)

    return min(range(len(window) - width + 1), key=cost) + width // 2
