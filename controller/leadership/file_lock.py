"""Locks of this machine: one file a run, locked by ``flock``, which the system frees when its process ends.

Touches: lock files, through the runner's home folder.
"""

from __future__ import annotations

import os

from controller.domain.interfaces import LeaseState
from controller.domain.keys import is_run
from controller.runners.folders import Home


class FileLocks:
    """Which process of this machine works on a run, of all that share a home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._locks: dict[str, int] = {}

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """*leading* until this process ends or releases it, where no other process has the lock.

        Who takes it removes what a killed process has left. Raises :class:`EnvironmentProblem` where the folder of the
        locks cannot be used.
        """
        del now_ms
        _check(run)
        if run not in self._locks:
            lock = self._home.lock(run)
            if lock is None:
                return "following"
            self._locks[run] = lock
            self._home.remove_leftovers(run)
        return "leading"

    def check(self, run: str) -> None:
        """A lock is held until its process lets it go."""
        _check(run)

    def domain(self, run: str) -> str:
        """The folder of the locks: a name drawn once, because host names are not unique.

        Raises :class:`EnvironmentProblem` where it cannot be read.
        """
        _check(run)
        return self._home.lock_domain()

    def cancelled(self, run: str) -> bool:
        """Never: only the store says so here."""
        _check(run)
        return False

    def release(self, run: str, *, ended: bool) -> None:
        """Free the run's lock: whoever follows it may look at how it ended."""
        del ended
        _check(run)
        lock = self._locks.pop(run, None)
        if lock is not None:
            os.close(lock)

    def close(self) -> None:
        """Free all locks."""
        for run in list(self._locks):
            self.release(run, ended=False)


def _check(run: str) -> None:
    """Raises :class:`ValueError` for what is no run id: it becomes a part of paths."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")
