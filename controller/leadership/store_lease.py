"""Leases in a store that machines share: an object that its holder renews.

Touches: the store, a thread, the clock. The runner's own lock excludes other commands of the same lock domain (a
machine, a cluster). Different domains share only the store, and neither conditional puts nor clocks can be relied on.
So a claim is put, and read back after a pause. A lease is free after a number of polls in which its holder did not
renew it. With a slow store there can be two leaders for a few seconds. Then some work is done twice, but the transcript
is the same: results are kept by attempt, and the lowest valid one wins. A thread renews the leases, because opening a
large run, a merge or a slow server may keep the loop busy for longer than a follower waits.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Collection
from typing import Literal

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreUnavailable
from controller.domain import stored_documents
from controller.domain.documents import LeaseRecord
from controller.domain.interfaces import LeaseState
from controller.domain.keys import RunKeys
from controller.leadership import clock

POLL_MS = 1_000
RENEW_MS = 3_000
MISSED_POLLS = 20
"""About seven missed renewals: such a holder has ended, sleeps, or is cut off from the store."""
LAPSED_S = 15.0
"""A lease that was not renewed for this time may soon be taken by another process: no changes are made after it."""


class StoreLease:
    """The lease of one run in the store."""

    def __init__(self, store: Store, run: str, lock_domain: str) -> None:
        """*lock_domain*: the domain of the runner's own lock, which must be held at every call."""
        self._store = store
        self._run = run
        self._key = RunKeys(run).lease
        self._mine = LeaseRecord(run=run, owner=secrets.token_hex(8), lock_domain=lock_domain, renew_count=0)
        self._state: LeaseState = "undecided"
        self._renewed_s = clock.now_s()
        self._seen: LeaseRecord | None = None
        self._missed = 0
        """Consecutive polls in which the other process's lease was not renewed."""
        self._due_ms = 0
        self._lock = threading.Lock()
        """Protects all fields above: the loop and the renewing thread share them."""

    def try_acquire_or_renew(self, now_ms: int) -> LeaseState:
        """Claim, renew or poll the lease if it is due. A leader that finds another holder stops leading."""
        with self._lock:
            # A leader must renew even if the clock was set back.
            if not 0 < self._due_ms - now_ms <= RENEW_MS:
                self._state, pause_ms = self._poll()
                self._due_ms = now_ms + pause_ms
            return self._state

    def renew(self) -> None:
        """Renew the lease if it is held; may run while the loop is busy. Raises what the store raises."""
        with self._lock:
            if self._state == "leading":
                self._state, _ = self._poll()

    def check(self) -> None:
        """Raises :class:`StoreUnavailable` if the lease was not renewed in time and may be lost."""
        if self._state != "leading" or clock.now_s() - self._renewed_s > LAPSED_S:
            raise StoreUnavailable(
                f"the lease of run {self._run} could not be renewed in time",
                "another machine may work on it by now: check whether the store is slow or unavailable",
            )

    def release(self) -> None:
        """Delete the lease if it is held, so that another process can lead at once."""
        with self._lock:
            self._state, self._due_ms = "undecided", 0
            found = self._read()
            if found and found.owner == self._mine.owner:
                self._store.delete(self._key)

    def held_elsewhere(self, wait: Callable[[float], None]) -> bool:
        """Whether another process renews the lease. Makes no claim; returns when this is certain (up to 20 s)."""
        while (found := self._read()) and (seen := self._watch(found)) != "free":
            if seen == "renewed":
                return True
            wait(POLL_MS / 1000)
        return False

    def _poll(self) -> tuple[LeaseState, int]:
        """Return the state of this process, and after how many milliseconds to poll again."""
        found = self._read()
        if found.owner == self._mine.owner if found else self._state == "leading":
            self._put()
            return "leading", RENEW_MS
        seen = self._watch(found) if found else "free"
        if seen == "free":
            self._put()
            return "undecided", POLL_MS
        other = seen == "renewed" or self._state == "leading"
        return "following" if other else self._state, POLL_MS

    def _watch(self, found: LeaseRecord) -> Literal["free", "renewed", "silent"]:
        """Compare the lease with the last poll. *free*: its holder has ended or is in the same lock domain.

        This process holds the lock of that domain, so a holder there has lost it.
        """
        before, self._seen = self._seen, found
        self._missed = self._missed + 1 if found == before else 0
        if found.lock_domain == self._mine.lock_domain or self._missed >= MISSED_POLLS:
            return "free"
        return "silent" if before is None or self._missed else "renewed"

    def _put(self) -> None:
        begun_s = clock.now_s()
        self._mine = self._mine.model_copy(update={"renew_count": self._mine.renew_count + 1})
        self._store.put(self._key, self._mine.encode())
        # The time before the put: its response may take long.
        self._renewed_s = begun_s

    def _read(self) -> LeaseRecord | None:
        return stored_documents.valid(self._store, LeaseRecord, self._key)


class StoreLeases:
    """The store leases of one process, renewed by a thread until they are released."""

    def __init__(self, store: Store, domain: Callable[[str], str]) -> None:
        """*domain*: returns the lock domain of the runner's own lock, for a run."""
        self._store = store
        self._domain = domain
        self._leases: dict[str, StoreLease] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Claim, renew or poll the lease of *run*. The runner's own lock must be held."""
        if run not in self._leases:
            self._leases[run] = StoreLease(self._store, run, self._domain(run))
            self._start()
        return self._leases[run].try_acquire_or_renew(now_ms)

    def check(self, run: str) -> None:
        """Raises :class:`StoreUnavailable` if the lease was not renewed in time."""
        self._leases[run].check()

    def domain(self, run: str) -> str:
        """Return the runner's lock domain: a store has no wider one."""
        return self._domain(run)

    def cancelled(self, run: str) -> bool:
        """Return False: in a store, a separate object cancels a run."""
        del run
        return False

    def observe(self, runs: Collection[str]) -> None:
        """Do nothing: in the same lock domain a lease is free at once, and in another one it is polled anyway."""
        del runs

    def release(self, run: str, *, ended: bool) -> None:
        """Release the lease, so that another machine can lead at once; without the store, after it has expired."""
        del ended
        lease = self._leases.pop(run, None)
        if lease is not None:
            with contextlib.suppress(JobError):
                lease.release()

    def close(self) -> None:
        """Stop renewing and release all leases. Does not wait for a renewal in progress."""
        self._closed.set()
        for run in list(self._leases):
            self.release(run, ended=False)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew_all, name="store-leases", daemon=True)
            self._thread.start()

    def _renew_all(self) -> None:
        while not self._closed.wait(RENEW_MS / 1000):
            for lease in list(self._leases.values()):
                # The loop waits for an unavailable store, and checks the lease before each change.
                with contextlib.suppress(JobError):
                    lease.renew()
