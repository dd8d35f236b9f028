"""What no list of the API server holds: since when a Job has been known, and which Jobs were deleted.

Touches: nothing; the time is an argument, in seconds of a clock that only runs forward.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.domain.jobs import Phase

DELETED_S = 600.0
"""So much older than a deletion no server's list is: one that lags behind by minutes serves nobody."""


class Age(NamedTuple):
    """How long a Job has been known, and how long in its phase."""

    known_s: float
    in_phase_s: float


class _Seen(NamedTuple):
    since_s: float
    phase: Phase
    phase_since_s: float


@dataclass
class Ages:
    """Ages of Jobs, by uid, by the controller's clock alone.

    A Job's creation is dated by the API server's clock and its start by its node's, and no two machines need agree: the
    difference between two clocks is no age. So a Job is as old as it has been known. For a controller that takes over,
    all Jobs are young again; then the pod's own deadline, which its node measures by one clock, ends it in time.
    """

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def know(self, uid: str, now_s: float) -> None:
        """A Job of that uid exists, in whatever phase."""
        self._seen.setdefault(uid, _Seen(now_s, "queued", now_s))

    def saw(self, uid: str, phase: Phase, now_s: float) -> Age:
        """The age of a Job that is in that *phase* now."""
        seen = self._seen.get(uid) or _Seen(now_s, phase, now_s)
        if seen.phase != phase:
            seen = _Seen(seen.since_s, phase, now_s)
        self._seen[uid] = seen
        return Age(now_s - seen.since_s, now_s - seen.phase_since_s)

    def drop(self, known: Collection[str]) -> None:
        """Drop all but those of the uids *known*."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in known}


@dataclass
class Deleted:
    """Jobs that were deleted, by uid: a list that the server answers from memory may still show them."""

    _jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Run, and when it was deleted or last listed."""

    def __contains__(self, uid: str) -> bool:
        """Whether the Job of that uid was deleted."""
        return uid in self._jobs

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._jobs)

    def add(self, uid: str, run: str, now_s: float) -> None:
        """The Job of *run* was deleted now."""
        self._jobs[uid] = (run, now_s)

    def listed(self, uids: Collection[str], now_s: float) -> None:
        """A list shows these *uids*: what no list has shown for long is forgotten."""
        for uid in uids:
            if uid in self._jobs:
                self._jobs[uid] = (self._jobs[uid][0], now_s)
        self._jobs = {uid: it for uid, it in self._jobs.items() if now_s - it[1] < DELETED_S}

    def drop(self, run: str) -> None:
        """Drop those of *run*."""
        self._jobs = {uid: it for uid, it in self._jobs.items() if it[0] != run}
