"""Log-mel features of windows, computed in threads ahead of the decoder and before the model is loaded.

Touches: the model folder, the CPU.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.timings import Timings
from chunk_job.engine.windows import Window

FRAMES = 3_000
"""Frames of 10 ms of the encoder's input: 30 s."""

_SETTINGS = "preprocessor_config.json"


class Features:
    """The features of one chunk's windows."""

    def __init__(
        self, folder: Path, audio: Any, windows: Sequence[Window], *, ahead: int, threads: int, timings: Timings
    ) -> None:
        """Start to compute the first *ahead* windows with *threads* threads. *folder*: the model's.

        While these are decoded, the next ones are computed: no more are held in memory, a megabyte or two for each.
        """
        self._extract = _extractor(folder)
        self._audio, self._timings, self._ahead = audio, timings, ahead
        self._pool = ThreadPoolExecutor(threads)
        self._waiting = deque(windows)
        self._computed: dict[Window, Future[Any]] = {}
        self._compute_ahead()

    def batch(self, windows: Sequence[Window]) -> Any:
        """The features of *windows*: float32, shape (windows, mel bands, 3000)."""
        import numpy as np

        wanted = set(windows)
        while self._waiting and self._waiting[0] in wanted:
            self._compute(self._waiting.popleft())
        # The rest are not in the queue: parts of windows, and windows that are decoded once more.
        for window in wanted - self._computed.keys():
            self._compute(window)
        batch = np.stack([self._computed.pop(window).result() for window in windows])
        self._compute_ahead()
        return batch

    def _compute_ahead(self) -> None:
        while self._waiting and len(self._computed) < self._ahead:
            self._compute(self._waiting.popleft())

    def _compute(self, window: Window) -> None:
        self._computed[window] = self._pool.submit(self._of, window)

    def _of(self, window: Window) -> Any:
        import numpy as np

        with self._timings.measure("features"):
            found = self._extract(self._audio[window.start : window.end])[..., :FRAMES]
            return np.pad(found, ((0, 0), (0, FRAMES - found.shape[-1])))


def _extractor(folder: Path) -> Any:
    """faster-whisper's feature extractor with the settings of the model in *folder*."""
    from faster_whisper.feature_extractor import FeatureExtractor

    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        size = int(settings.get("feature_size", 80))
    except (OSError, ValueError, AttributeError, TypeError):
        # As faster-whisper does for a model without settings.
        size = 80
    return FeatureExtractor(feature_size=size, sampling_rate=SAMPLE_RATE)
