"""Speech → windows: parts of a chunk of at most 30 s, cut in pauses, that are decoded independently.

Touches: nothing. Windows keep the time of the chunk, pauses included, so that no time has to be mapped back. Pauses
from ``--vad-min-silence-duration-ms`` on are outside all windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.speech import PAD_MS, Span, Speech

_MOST = 28 * SAMPLE_RATE
"""Most samples from the first to the last speech of a window. With its padding it fits into the encoder's 30 s."""

_PAD = PAD_MS * SAMPLE_RATE // 1000

# A window costs the same for any length, so their number counts most. Where to cut is decided by the length of the
# pause: one of 0.8 s is as good as any longer one.
_LONG_PAUSE_S = 0.8
_COST_OF_SHORT_PAUSE = 0.3

_SILENCE_AFTER_WORD = SAMPLE_RATE * 3 // 10
"""The end of a word is known to this accuracy."""

SPOKEN_AFTER_TEXT = SAMPLE_RATE * 3 // 2
"""As much speech has words: if it is after the last word of a window, the text is not complete."""

SPOKEN_IN_TEXT = SAMPLE_RATE * 3
"""The same between two words, whose times are less exact."""

_SHORTEST_REST = 3 * SAMPLE_RATE

_HOP = SAMPLE_RATE // 50
_QUIET_HOPS = 5


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of the audio, in samples."""

    start: int
    end: int


def plan_windows(audio: Any, speech: Speech, *, skip_silence: bool) -> tuple[Window, ...]:
    """The windows of *audio* (float32 mono, 16 kHz). Without *skip_silence* they cover all of it."""
    if skip_silence:
        spans, skipped_from, pad = speech.spans, speech.skipped_from, _PAD
    else:
        spans, skipped_from, pad = _tiles(speech), speech.samples + 1, 0
    chosen = [window for group in _groups(_short(audio, spans), skipped_from) for window in _cut(group)]
    return tuple(_padded(chosen, speech.samples, pad=pad))


def halves(audio: Any, window: Window, speech: Speech) -> tuple[Window, Window]:
    """Cut *window* in two, in the longest pause of its middle half, or at its quietest point."""
    quarter = (window.end - window.start) // 4
    begin, end = window.start + quarter, window.end - quarter
    pauses = [
        (next_start - previous_end, (previous_end + next_start) // 2)
        for (_, previous_end), (next_start, _) in zip(speech.spans, speech.spans[1:], strict=False)
        if begin <= (previous_end + next_start) // 2 < end
    ]
    at = max(pauses)[1] if pauses else _quietest(audio, begin, end)
    return Window(start=window.start, end=at), Window(start=at, end=window.end)


def rest_of(window: Window, after: int, speech: Speech, *, until: int, least: int) -> Window | None:
    """The part of *window* from the speech after sample *after* on; None if there is less than *least* before *until*.

    All in samples.
    """
    begin = after + _SILENCE_AFTER_WORD
    spans = [(max(start, begin), min(end, until)) for start, end in speech.spans if end > begin and start < until]
    left = [(start, end) for start, end in spans if start < end]
    if sum(end - start for start, end in left) < least:
        return None
    return Window(start=max(after, left[0][0] - _PAD), end=window.end)


def _tiles(speech: Speech) -> tuple[Span, ...]:
    """The audio without gaps, cut in the middle of each pause."""
    pauses = zip(speech.spans, speech.spans[1:], strict=False)
    cuts = [0, *((previous[1] + following[0]) // 2 for previous, following in pauses), speech.samples]
    return tuple((start, end) for start, end in itertools.pairwise(cuts) if start < end)


def _short(audio: Any, spans: Iterable[Span]) -> Iterator[Span]:
    """Cut spans that are too long for a window at the quietest point of the last two fifths of it."""
    for start, end in spans:
        at = start
        while end - at > _MOST:
            # A rest of less than three seconds would be a window with next to no context.
            cut = _quietest(audio, at + _MOST * 3 // 5, min(at + _MOST, end - _SHORTEST_REST))
            yield at, cut
            at = cut
        yield at, end


def _quietest(audio: Any, begin: int, end: int) -> int:
    """The middle of the quietest tenth of a second of *audio* between two samples."""
    import numpy as np

    hops = (end - begin) // _HOP
    if hops < _QUIET_HOPS:
        return (begin + end) // 2
    power = np.square(audio[begin : begin + hops * _HOP].reshape(hops, _HOP)).mean(axis=1)
    smooth = np.convolve(power, np.ones(_QUIET_HOPS), mode="valid")
    return begin + (int(smooth.argmin()) * 2 + _QUIET_HOPS) * _HOP // 2


def _groups(spans: Iterable[Span], skipped_from: int) -> Iterator[list[Span]]:
    """Spans without a pause of *skipped_from* samples between them."""
    group: list[Span] = []
    for span in spans:
        if group and span[0] - group[-1][1] >= skipped_from:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _cut(group: Sequence[Span]) -> list[Span]:
    """Cut a group into the fewest windows, and of all such cuts choose the one with the longest pauses.

    The cheapest cut before each span follows from those before earlier spans, so every cut is considered.
    """
    costs = [0.0]
    begins = [0]
    for last in range(len(group)):
        candidates = []
        for first in range(last, -1, -1):
            if group[last][1] - group[first][0] > _MOST:
                break
            candidates.append((costs[first] + _cost(group, last), first))
        cost, begin = min(candidates)
        costs.append(cost)
        begins.append(begin)
    chosen: list[Span] = []
    at = len(group)
    while at:
        chosen.append((group[begins[at]][0], group[at - 1][1]))
        at = begins[at]
    return chosen[::-1]


def _cost(group: Sequence[Span], last: int) -> float:
    """Cost of a window that ends with the span *last*."""
    if last + 1 == len(group):
        return 1.0
    pause_s = (group[last + 1][0] - group[last][1]) / SAMPLE_RATE
    return 1.0 + _COST_OF_SHORT_PAUSE * (1 - min(pause_s / _LONG_PAUSE_S, 1.0))


def _padded(spans: Sequence[Span], samples: int, *, pad: int) -> Iterator[Window]:
    """Add up to *pad* samples on both sides of each span, but at most half of a pause."""
    for index, (start, end) in enumerate(spans):
        before = (spans[index - 1][1] + start) // 2 if index else 0
        after = (end + spans[index + 1][0]) // 2 if index + 1 < len(spans) else samples
        yield Window(start=max(before, start - pad), end=min(after, end + pad))
