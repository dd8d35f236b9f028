"""The clock with which leases are measured.

Touches: the clock.
"""

from __future__ import annotations

import time


def now_s() -> float:
    """Return seconds of a clock that includes the time in which the machine slept, if the system has one.

    Other processes may have taken over during that time.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
