"""The number of processors that this process may use, from its affinity and the CPU quota of its control groups.

Touches: ``/proc`` and ``/sys/fs/cgroup``. A container with a quota of two CPUs on a machine with 64 sees all 64, but 64
threads in the time of two CPUs are slower than two threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = "sys/fs/cgroup"
# Mount points of the two versions of control groups. On a machine with both, either one may have the quota.
_V2 = ("", "unified")
_V1 = ("cpu", "cpu,cpuacct")


def usable(root: Path = Path("/")) -> int:
    """Number of processors that this process may use, rounded up, at least 1. *root* is for tests."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([found, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in processors, of this process' group and its parents. The smallest one applies."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, read_quota = _V2, _v2_quota
        elif "cpu" in controllers.split(","):
            mounts, read_quota = _V1, _v1_quota
        else:
            continue
        for mount in mounts:
            for folder in _upwards(root / _GROUPS / mount, path):
                quota = read_quota(folder)
                if quota:
                    yield quota


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and its parents, up to *mount*.

    Inside a container the path may be that of the host, and only its last part is mounted, as *mount* itself. So
    missing folders are no error. A path outside the namespace begins with "..".
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
    """The quota in processors; None if there is no limit (``max`` or -1) or it could not be read."""
    if not (quota.isascii() and quota.isdecimal() and period.isascii() and period.isdecimal()):
        return None
    return int(quota) / int(period) if int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
