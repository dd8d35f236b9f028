"""Where a recording has sound, in steps of ten seconds: a part with sound and without words may be a mistake.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.domain.plan import HOP_MS, SOUND_STEP_MS, Stretch

_SOUND_DB = -55.0
"""Above the noise of a quiet room in a recording of usual level."""
_LEAST_MS = 1_000
"""Least time above this level in a step with sound."""
_STEP_HOPS = SOUND_STEP_MS // HOP_MS


class SoundFinder:
    """Gets levels in order, and returns where there is sound."""

    def __init__(self) -> None:
        self._found: list[Stretch] = []
        self._start_ms = 0
        self._hops = 0
        self._loud = 0

    def begin(self, start_ms: int) -> None:
        """The next levels are from *start_ms* on."""
        self._close()
        self._start_ms, self._hops, self._loud = start_ms, 0, 0

    def feed(self, levels: Sequence[float]) -> None:
        """Add the next levels (in dB, one per hop)."""
        for level in levels:
            self._hops += 1
            self._loud += level >= _SOUND_DB
            if self._hops == _STEP_HOPS:
                self.begin(self._start_ms + SOUND_STEP_MS)

    def finish(self) -> tuple[Stretch, ...]:
        """All stretches of sound, in order; neighbours are joined."""
        self.begin(self._start_ms)
        return tuple(self._found)

    def _close(self) -> None:
        # The last step is shorter: the same share of it counts.
        if not self._hops or self._loud * SOUND_STEP_MS < _LEAST_MS * self._hops:
            return
        start_ms, end_ms = self._start_ms, self._start_ms + self._hops * HOP_MS
        if self._found and self._found[-1].end_ms == start_ms:
            start_ms = self._found.pop().start_ms
        self._found.append(Stretch(start_ms=start_ms, end_ms=end_ms))
