"""How many processors this process may use: its affinity, and the CPU quota of its control groups.

Touches: ``/proc`` and ``/sys/fs/cgroup``. A container of two CPUs on a machine of 64 sees all of them, and 64 threads
that share the time of two take longer than two do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = "sys/fs/cgroup"
# Where the two versions are mounted; on a machine that has both, either may hold the quota.
_V2 = ("", "unified")
_V1 = ("cpu", "cpu,cpuacct")


def usable(root: Path = Path("/")) -> int:
    """Processors that this process may use, at least 1; a part of one counts as one. *root* is for tests."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([found, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in processors, of this process' group and of those above it: the least of them counts."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            places, one = _V2, _v2_quota
        elif "cpu" in controllers.split(","):
            places, one = _V1, _v1_quota
        else:
            continue
        for place in places:
            for folder in _upwards(root / _GROUPS / place, path):
                quota = one(folder)
                if quota:
                    yield quota


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it, up to *mount*.

    Inside a container the path may be the host's, of which only the last part is mounted, as *mount* itself: folders
    that are not there are no error. A path that leads out of the namespace begins with "..".
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _v2_quota(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _v1_quota(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """Processors; None where there is no limit: ``max`` or -1, or nothing that could be read."""
    if not (quota.isascii() and quota.isdecimal() and period.isascii() and period.isdecimal()):
        return None
    return int(quota) / int(period) if int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
