"""Mono sound from several channels: their mix, and one side of it alone where the sides cancel each other.

Touches: nothing. A microphone with reversed polarity, or a balanced line that is recorded as stereo, gives two channels
that are heard well, but are silent as a mix. More than two channels have sides too: those of
their mix to stereo.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chunk_job.contract import SAMPLE_RATE
from controller.intake.flac import Sound

_LEFT, _RIGHT, _MIX = range(3)
_STEP_SAMPLES = SAMPLE_RATE
_CANCELLED = 10.0
"""The power of a channel above that of the mix. Beside a silent channel it is 4; lossy codecs leave some of it."""
_SILENT = 10**-8.5
"""Power of full scale below which nothing is decided."""
_LOUDER = 1.25
"""The power of the right channel above that of the left one, from which on it is the louder one."""
_OTHER_CHANNEL = 10.0
"""The power of the other channel above that of the one in use, from which on it is used."""
_FADE_SAMPLES = SAMPLE_RATE // 100


class Downmix:
    """Gets frames of left, right and mix in order, and returns mono samples. It decides once a second."""

    def __init__(self) -> None:
        self._source = _MIX
        self._begin_s: int | None = None
        self._seconds = 0
        self._parts: list[tuple[int, int]] = []
        self.used: set[int] = set()
        """The sides that were used alone: 1 is left, 2 is right."""

    def mono(self, frames: Sound) -> Sound:
        """The samples of *frames*, an array of (samples, 3). All but the last array have whole seconds."""
        found = frames[:, _MIX].copy()
        for at in range(0, len(frames), _STEP_SAMPLES):
            part = frames[at : at + _STEP_SAMPLES]
            before, self._source = self._source, self._choose(part)
            if before != self._source:
                found[at : at + len(part)] = _faded(part[:, before], part[:, self._source])
            elif self._source != _MIX:
                found[at : at + len(part)] = part[:, self._source]
            self._note(self._source)
        return found

    def parts_ms(self) -> Iterator[tuple[int, int]]:
        """Where a channel was used alone: start and end in ms."""
        ends = [*self._parts, *([] if self._begin_s is None else [(self._begin_s, self._seconds)])]
        yield from ((1000 * start, 1000 * end) for start, end in ends)

    def _choose(self, part: Sound) -> int:
        """Which column to use."""
        power = [float(value) for value in np.mean(np.square(part / 32768.0), axis=0)]
        best = _RIGHT if power[_RIGHT] > _LOUDER * power[_LEFT] else _LEFT
        if power[best] < _SILENT:
            return self._source
        if power[best] < _CANCELLED * power[_MIX]:
            return _MIX
        if self._source != _MIX and power[best] < _OTHER_CHANNEL * power[self._source]:
            return self._source
        return best

    def _note(self, source: int) -> None:
        if source != _MIX:
            self.used.add(source + 1)
            if self._begin_s is None:
                self._begin_s = self._seconds
        elif self._begin_s is not None:
            self._parts.append((self._begin_s, self._seconds))
            self._begin_s = None
        self._seconds += 1


def _faded(before: Sound, after: Sound) -> Sound:
    """*after*, which begins as *before*: a hard change would click."""
    count = min(_FADE_SAMPLES, len(after))
    share = np.linspace(0, 1, count, dtype=np.float32)
    found = after.copy()
    found[:count] = before[:count] * (1 - share) + after[:count] * share
    return found
