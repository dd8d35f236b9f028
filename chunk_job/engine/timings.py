"""Where the time of a job goes.

Touches: the clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Part = Literal["startup", "fetch", "load", "kernels", "speech", "features", "decode", "align", "commit"]


class Timings:
    """Adds up the time of each part of a job. Parts of several threads may overlap."""

    def __init__(self) -> None:
        self._seconds: dict[Part, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Add the time of a block to *part*."""
        begin_s = time.monotonic()
        try:
            yield
        finally:
            self.add(part, time.monotonic() - begin_s)

    def add(self, part: Part, seconds: float) -> None:
        with self._lock:
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds

    def ms(self, part: Part) -> int:
        return round(self._seconds.get(part, 0.0) * 1000)


def since_process_start_s() -> float:
    """Seconds since the system started this process; 0 if it does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 (pathlib would be imported for this alone)
            started = int(file.read().rpartition(b")")[2].split()[19])
        import os

        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
