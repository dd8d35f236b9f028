"""Ends a job whose native code does not come back.

Touches: the clock, exit.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import time
from typing import NoReturn

from chunk_job import process
from chunk_job.errors import ExitCode

log = logging.getLogger("stenofleet.chunk_job")

STALL_S = 600
"""No segment for so long: the process is stuck in native code. It leaves its stacks in the log and exits."""

_PROGRESS_EVERY_S = 1.0


class Watchdog:
    """Knows when the decoder last made progress; also writes progress lines, at most one a second."""

    def __init__(self, audio_ms: int) -> None:
        self.audio_ms = audio_ms
        self.last_s = time.monotonic()
        self._logged_s = 0.0

    def progress(self, position_ms: int) -> None:
        self.last_s = time.monotonic()
        if self.last_s - self._logged_s >= _PROGRESS_EVERY_S:
            self._logged_s = self.last_s
            log.info("progress %d of %d ms", position_ms, self.audio_ms)

    def stop(self) -> None:
        """Native code has returned: there is nothing to watch any more."""
        self.last_s = math.inf

    def watch(self) -> NoReturn:
        while True:
            time.sleep(5)
            if time.monotonic() - self.last_s > STALL_S:
                log.error("no segment for %d s: giving up", STALL_S)
                faulthandler.dump_traceback(all_threads=True)
                process.leave(ExitCode.TEMPORARY)
