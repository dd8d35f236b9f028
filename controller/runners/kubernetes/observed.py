"""Data that no list of the API server contains: how long a Job has been known, and which Jobs were deleted.

Touches: nothing. The time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.domain.jobs import Phase

DELETED_S = 600.0
"""How long a deleted Job is remembered. No API server's cache is older than this."""


class Age(NamedTuple):
    """How long a Job has been known, and how long it has been in its phase."""

    known_s: float
    in_phase_s: float


class _Seen(NamedTuple):
    since_s: float
    phase: Phase
    phase_since_s: float


@dataclass
class Ages:
    """Ages of Jobs by uid, measured only by the controller's clock.

    The API server's clock dates the creation of a Job, and the node's clock dates its start. These clocks can differ,
    so their difference is not an age. Therefore the age of a Job is the time since this controller first saw it. For a
    controller that takes over, all ages start at 0. Then the deadline of the pod, measured by its node, still ends it.
    """

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def know(self, uid: str, now_s: float) -> None:
        """Record that a Job with this uid exists, in any phase."""
        self._seen.setdefault(uid, _Seen(now_s, "queued", now_s))

    def saw(self, uid: str, phase: Phase, now_s: float) -> Age:
        """Record the current *phase* of a Job, and return its age."""
        seen = self._seen.get(uid) or _Seen(now_s, phase, now_s)
        if seen.phase != phase:
            seen = _Seen(seen.since_s, phase, now_s)
        self._seen[uid] = seen
        return Age(now_s - seen.since_s, now_s - seen.phase_since_s)

    def drop(self, known: Collection[str]) -> None:
        """Drop all except those of the uids *known*."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in known}


@dataclass
class Deleted:
    """Jobs that were deleted, by uid: a list from the server's cache may still contain them."""

    _jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By uid: the run, and when the Job was deleted or last listed."""

    def __contains__(self, uid: str) -> bool:
        """Whether the Job of that uid was deleted."""
        return uid in self._jobs

    def __len__(self) -> int:
        """How many deleted Jobs are remembered."""
        return len(self._jobs)

    def add(self, uid: str, run: str, now_s: float) -> None:
        """Record that the Job of *run* was deleted now."""
        self._jobs[uid] = (run, now_s)

    def listed(self, uids: Collection[str], now_s: float) -> None:
        """Record that a list contains these *uids*, and drop Jobs that were in no list for a long time."""
        for uid in uids:
            if uid in self._jobs:
                self._jobs[uid] = (self._jobs[uid][0], now_s)
        self._jobs = {uid: it for uid, it in self._jobs.items() if now_s - it[1] < DELETED_S}

    def drop(self, run: str) -> None:
        """Drop those of *run*."""
        self._jobs = {uid: it for uid, it in self._jobs.items() if it[0] != run}
