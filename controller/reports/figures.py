"""Times and counts as page, report and terminal show them.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from controller.evaluation.documents import Interval


def clock(ms: int) -> str:
    """Format a position as a player shows it: 2:05, or 1:02:05."""
    minutes, seconds = divmod(ms // 1000, 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def took(ms: int) -> str:
    """Format a length of time with two units at most: 0.4 s, 12 s, 3 min 05 s, 2 h 07 min, 3 d 4 h."""
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
    return f"{seconds // 86_400} d {seconds // 3600 % 24} h"


def lost_attempts(count: int) -> str:
    """Say that so many attempts were lost."""
    one = count == 1
    return f"{count:,} attempt{' was' if one else 's were'} lost with {'its' if one else 'their'} controller"


def percent(rate: float | None) -> str:
    """Format an error rate; a dash where there is none."""
    return "–" if rate is None else f"{100 * rate:.2f} %"


def between(interval: Interval | None) -> str:
    """Format the interval of an error rate; a dash where it is not known."""
    return f"{100 * interval.low:.2f} – {100 * interval.high:.2f} %" if interval else "–"


def moment(ms: int) -> str:
    """Format a time since the epoch; empty if no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, tz=UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return ""


def ticks(total_ms: int) -> Sequence[int]:
    """Round times for an axis: about five of them, without the beginning."""
    seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400]
    step_ms = next((1000 * one for one in seconds if total_ms / (1000 * one) <= 6), 0) or -(-total_ms // 6)
    return range(step_ms, total_ms - step_ms // 4, step_ms)
