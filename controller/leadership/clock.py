"""The clock that leases are measured by.

Touches: the clock.
"""

from __future__ import annotations

import time


def now_s() -> float:
    """Goes on while the machine sleeps, where the system has such a clock: others may have taken over meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
