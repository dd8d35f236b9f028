"""Where to cut: levels of the decoded audio → spans.

Touches: nothing. Plain Python on a few thousand numbers per cut. The planner reads each 20 ms level once, in order, and
keeps only the window around the next grid point: memory does not grow with the recording.

Around each grid point, the planner searches a cut in this order: the best pause (``pause``); the quietest 100 ms inside
a dip that is long enough to contain no speech (``tight``); the quietest 100 ms of continuous speech (``forced``). At a
forced cut both chunks overlap the cut by two seconds, and the merge decides word by word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.domain.dry_run import CutQuality
from controller.domain.plan import HOP_MS, Cut, PlanOptions, Span


@dataclass(frozen=True, kw_only=True)
class _Choice:
    hop: int
    cut: Cut
    quality: CutQuality


class Planner:
    """Gets levels, and returns spans as soon as their end is known."""

    def __init__(self, options: PlanOptions, *, duration_ms: int | None, direct: bool) -> None:
        self._options = options
        # The grid points are first + i·length/parts. If the length in the header is wrong, the grid just continues.
        self._first_ms = max(options.threshold_ms, options.chunk_ms) if direct else 0
        self._parts, self._length_ms = 1, options.chunk_ms
        # A header with less than a chunk is most likely wrong: it is not used to divide the audio.
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
        self._qualities: dict[int, CutQuality] = {}

    @property
    def decided_ms(self) -> int:
        """No later cut is before this time: audio up to here belongs to the open chunk."""
        return max(self._window_start(), self._start) * HOP_MS

    @property
    def needed_from_ms(self) -> int:
        """Audio before this time is not needed again."""
        return max(0, self.decided_ms - self._options.pad_ms)

    def feed(self, levels: Sequence[float]) -> list[Span]:
        """Add the next levels (in dB, one per hop), and return the spans that are finished now."""
        self._qualities.clear()
        skip = max(0, min(len(levels), self._window_start() - self._hops))
        if not self._kept:
            self._kept_from = self._hops + skip
        self._kept.extend(levels[skip:])
        self._hops += len(levels)
        closed = []
        while self._hops >= self._grid_hop() + self._half + self._pad():
            closed.append(self._close(self._choose()))
        return closed

    def quality(self, index: int) -> CutQuality:
        """How quiet it is at the end of one of the spans that the last :meth:`feed` returned."""
        return self._qualities[index]

    def finish(self, decoded_ms: int) -> Span:
        """The last span, which ends exactly at the end of the audio."""
        return Span(
            index=self._count,
            start_ms=self._start * HOP_MS,
            end_ms=decoded_ms,
            audio_start_ms=self._audio_start * HOP_MS,
            audio_end_ms=decoded_ms,
            cut="end",
        )

    def _grid_hop(self) -> int:
        """The next grid point. The grid is absolute: a moved cut does not move later cuts."""
        return (self._first_ms + self._grid * self._length_ms // self._parts) // HOP_MS

    def _window_start(self) -> int:
        return max(0, self._grid_hop() - self._half)

    def _pad(self) -> int:
        return self._options.pad_ms // HOP_MS

    def _choose(self) -> _Choice:
        first = self._window_start()
        window = _smooth(self._kept[first - self._kept_from : self._grid_hop() + self._half - self._kept_from])
        floor, speech = _floor_and_speech(window)
        threshold = _threshold(floor, speech)
        cut: Cut = "pause"
        hop = self._best_pause(window, threshold)
        if hop is None:
            hop, cut = _quietest(window, self._half), "tight"
        pause_ms = HOP_MS * next((end - begin for begin, end in _runs(window, threshold) if begin <= hop < end), 0)
        if cut == "tight" and pause_ms < self._options.dip_ms:
            cut = "forced"
        around = window[max(0, hop - 2) : hop + 3]
        quality = CutQuality(pause_ms=pause_ms, below_speech_db=round(speech - sum(around) / len(around), 1))
        return _Choice(hop=first + hop, cut=cut, quality=quality)

    def _best_pause(self, window: Sequence[float], threshold: float) -> int | None:
        """The middle of the best pause: longer is better, up to 0.8 s, and nearer to the grid point a little better."""
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
        self._qualities[self._count] = choice.quality
        self._start, self._audio_start = choice.hop, choice.hop - pad
        self._count += 1
        self._grid += 1
        drop = max(0, self._window_start() - self._kept_from)
        del self._kept[:drop]
        self._kept_from += drop
        return span


def _smooth(levels: Sequence[float]) -> list[float]:
    """Mean of three neighbours: one quiet hop inside a vowel is not a pause."""
    last = len(levels) - 1
    return [(levels[max(0, i - 1)] + levels[i] + levels[min(last, i + 1)]) / 3 for i in range(len(levels))]


def _floor_and_speech(window: Sequence[float]) -> tuple[float, float]:
    """The levels of the noise and of the speech of the window, so that no fixed noise level is needed."""
    ordered = sorted(window)
    return ordered[len(ordered) * 5 // 100], ordered[len(ordered) * 95 // 100]


def _threshold(floor: float, speech: float) -> float:
    """A level between the noise floor and the speech."""
    return floor + min(max(0.3 * (speech - floor), 3.0), 12.0)


def _runs(window: Sequence[float], threshold: float) -> list[tuple[int, int]]:
    """Half-open intervals of hops below the threshold."""
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
