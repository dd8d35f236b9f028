"""Raises the level of quiet recordings before their samples are rounded to 16 bits.

Touches: nothing. Speech far below the usual level is not found by speech detection, and in 16 bits little of it is
left. The gain is chosen block by block, before a block is returned. After the first speech it only becomes lower:
quiet parts of a recording with speech at a usual level stay quiet.
"""

from __future__ import annotations

import numpy as np

from controller.intake.flac import HOP_SAMPLES, Pcm, Sound

_QUIET_DB = -46.0
"""Speech below this level is amplified."""
_WANTED_DB = -26.0
"""The level of amplified speech: that of usual recordings."""
_MOST_DB = 70.0
_SPEECH_DYNAMICS_DB = 6.0
"""Least difference between loud and quiet parts of a block with speech: steady noise has less."""
_HIGHEST_PEAK = 30_000.0
_PEAK_PERCENT = 99.9
_FADE_SAMPLES = 1_600


class Amplifier:
    """Gets blocks of a recording in order, as samples in the scale of 16 bits, and returns them in 16 bits."""

    def __init__(self) -> None:
        self._loudest_db: float | None = None
        self._peak = 1.0
        self._gain = 1.0

    def to_pcm(self, sound: Sound) -> Pcm:
        """The block *sound* with the gain that fits to it and all blocks before it."""
        before, self._gain = self._gain, self._choose(sound)
        if before == self._gain == 1.0:
            amplified = sound
        else:
            amplified = sound * np.float32(self._gain)
            count = min(_FADE_SAMPLES, len(sound))
            amplified[:count] = sound[:count] * np.linspace(before, self._gain, count, dtype=np.float32)
        found: Pcm = np.clip(np.rint(amplified), -32768, 32767).astype("<i2")
        return found

    def _choose(self, sound: Sound) -> float:
        whole = sound[: len(sound) - len(sound) % HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
        if not len(whole):
            return self._gain
        level = 10 * np.log10(np.maximum(np.einsum("ij,ij->i", whole, whole) / (HOP_SAMPLES * 32768.0**2), 1e-15))
        quiet_db, loud_db = (float(value) for value in np.percentile(level, [20, 95]))
        # Not the highest sample: a click would keep all speech after it quiet. It is clipped instead.
        self._peak = max(self._peak, float(np.percentile(np.abs(sound), _PEAK_PERCENT)))
        if loud_db - quiet_db >= _SPEECH_DYNAMICS_DB or loud_db >= _QUIET_DB:
            self._loudest_db = loud_db if self._loudest_db is None else max(self._loudest_db, loud_db)
        if self._loudest_db is None or self._loudest_db >= _QUIET_DB:
            return 1.0
        wanted = 10 ** (min(_WANTED_DB - self._loudest_db, _MOST_DB) / 20)
        return max(1.0, min(wanted, _HIGHEST_PEAK / self._peak))
