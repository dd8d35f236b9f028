"""Locks of this machine: one file per run, locked by ``flock``, which the system releases when the process ends.

Touches: lock files, through the runner's home folder.
"""

from __future__ import annotations

from collections.abc import Collection

from controller.domain.interfaces import LeaseState
from controller.domain.keys import is_run
from controller.runners.folders import Home


class FileLocks:
    """Leadership among the processes of this machine that share a home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._locks: dict[str, int] = {}

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Take the lock if no other process has it; *leading* until this process ends or releases it.

        Also removes leftovers of a killed process. Raises :class:`EnvironmentProblem` if the folder of the locks cannot
        be used.
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
        """Do nothing: a lock is held until its process releases it."""
        _check(run)

    def domain(self, run: str) -> str:
        """Return the name of the lock folder: drawn once at random, because host names are not unique.

        Raises :class:`EnvironmentProblem` if it cannot be read.
        """
        _check(run)
        return self._home.lock_domain()

    def cancelled(self, run: str) -> bool:
        """Return False: without a cluster, only an object in the store cancels a run."""
        _check(run)
        return False

    def observe(self, runs: Collection[str]) -> None:
        """Do nothing: a lock of a process that has ended is free at once."""
        del runs

    def release(self, run: str, *, ended: bool) -> None:
        """Release the run's lock: a following process can then read how the run ended."""
        del ended
        _check(run)
        lock = self._locks.pop(run, None)
        if lock is not None:
            self._home.unlock(run, lock)

    def close(self) -> None:
        """Release all locks."""
        for run in list(self._locks):
            self.release(run, ended=False)


def _check(run: str) -> None:
    """Raises :class:`ValueError` if *run* is not a run id: it becomes a part of paths."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")
