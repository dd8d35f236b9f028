"""Ends a job whose native code does not return.

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
"""Longest time without a new segment. After it the process writes its stacks to the log and exits."""

_PROGRESS_EVERY_S = 1.0


class Watchdog:
    """Records the last progress of the decoder, and logs it at most once per second."""

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
        """Stop watching, because the native code has returned."""
        self.last_s = math.inf

    def watch(self) -> NoReturn:
        while True:
            time.sleep(5)
            if time.monotonic() - self.last_s > STALL_S:
                log.error("no segment for %d s: exiting", STALL_S)
                faulthandler.dump_traceback(all_threads=True)
                process.leave(ExitCode.TEMPORARY)
