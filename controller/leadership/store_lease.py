"""Leases in a store that machines share: an object that its holder renews.

Touches: the store, a thread, the clock. A runner's own lock keeps apart the commands of one lock domain (a machine, a
cluster). Between domains only the store is shared, and neither conditional puts nor clocks can be relied on: so a claim
is put, left alone for a moment and read back, and a holder is given up for dead after so many polls of ours in which it
renewed nothing. A store that answers late can make two leaders for a few seconds. That costs work done twice and no
word of a transcript: results are kept by attempt, and the lowest valid one wins. A lease is renewed by a thread:
opening a large run, a merge or a slow server may keep the loop busy for longer than a follower waits.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
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
"""Seven renewals missed: a holder so long silent is dead, asleep, or cut off from the store."""
LAPSED_S = 15.0
"""A lease that could not be renewed for so long may be another's soon: nothing is done under it any more."""


class StoreLease:
    """The lease of one run, as this process sees it."""

    def __init__(self, store: Store, run: str, lock_domain: str) -> None:
        """*lock_domain* is what the runner's lock keeps apart; that lock must be held whenever this is asked."""
        self._store = store
        self._run = run
        self._key = RunKeys(run).lease
        self._mine = LeaseRecord(run=run, owner=secrets.token_hex(8), lock_domain=lock_domain, renew_count=0)
        self._state: LeaseState = "undecided"
        self._renewed_s = clock.now_s()
        self._seen: LeaseRecord | None = None
        self._missed = 0
        """Polls in which somebody else's lease was not renewed."""
        self._due_ms = 0
        self._lock = threading.Lock()
        """Of everything above: the loop and the thread that renews share it."""

    def try_acquire_or_renew(self, now_ms: int) -> LeaseState:
        """Claim, renew or poll, as it is due. A leader that finds another one in its place leads no more."""
        with self._lock:
            # A clock that was set back must not make a leader silent.
            if not 0 < self._due_ms - now_ms <= RENEW_MS:
                self._state, pause_ms = self._poll()
                self._due_ms = now_ms + pause_ms
            return self._state

    def renew(self) -> None:
        """Renew it where it is held, whatever the loop does meanwhile. Raises what the store raises."""
        with self._lock:
            if self._state == "leading":
                self._state, _ = self._poll()

    def check(self) -> None:
        """Raises :class:`StoreUnavailable` where it could not be renewed for so long that it may be lost."""
        if clock.now_s() - self._renewed_s > LAPSED_S:
            raise StoreUnavailable(
                f"the lease of run {self._run} could not be renewed in time",
                "another machine may work on it by now: see whether the store is slow or away",
            )

    def release(self) -> None:
        """Let the next one lead at once."""
        with self._lock:
            self._state, self._due_ms = "undecided", 0
            found = self._read()
            if found and found.owner == self._mine.owner:
                self._store.delete(self._key)

    def held_elsewhere(self, wait: Callable[[float], None]) -> bool:
        """Whether somebody else renews it, without a claim of our own; takes as long as it takes to be sure."""
        while (found := self._read()) and (seen := self._watch(found)) != "free":
            if seen == "renewed":
                return True
            wait(POLL_MS / 1000)
        return False

    def _poll(self) -> tuple[LeaseState, int]:
        """What we are now, and after how many ms to poll again."""
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
        """Free: its holder was of our lock domain, whose lock we hold, or has not renewed it for long."""
        before, self._seen = self._seen, found
        self._missed = self._missed + 1 if found == before else 0
        if found.lock_domain == self._mine.lock_domain or self._missed >= MISSED_POLLS:
            return "free"
        return "silent" if before is None or self._missed else "renewed"

    def _put(self) -> None:
        begun_s = clock.now_s()
        self._mine = self._mine.model_copy(update={"renew_count": self._mine.renew_count + 1})
        self._store.put(self._key, self._mine.encode())
        # From before the put: it may have waited long for its answer.
        self._renewed_s = begun_s

    def _read(self) -> LeaseRecord | None:
        return stored_documents.valid(self._store, LeaseRecord, self._key)


class StoreLeases:
    """The leases of the runs of one process, renewed by a thread until they are released."""

    def __init__(self, store: Store, domain: Callable[[str], str]) -> None:
        """*domain* names the lock domain that the runner's own lock keeps apart, for a run."""
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
        """Raises :class:`StoreUnavailable` where the lease could not be renewed in time."""
        self._leases[run].check()

    def domain(self, run: str) -> str:
        """The runner's: a store has no wider one."""
        return self._domain(run)

    def cancelled(self, run: str) -> bool:
        """Never: a run is cancelled by an object of its own."""
        del run
        return False

    def release(self, run: str, *, ended: bool) -> None:
        """Let another machine lead at once; where the store does not hear it, after a while."""
        del ended
        lease = self._leases.pop(run, None)
        if lease is not None:
            with contextlib.suppress(JobError):
                lease.release()

    def close(self) -> None:
        """Renew none any more, and let others lead. A renewal that is under way is not waited for."""
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
                # A store that is away is the loop's to wait for; whoever acts checks the lease.
                with contextlib.suppress(JobError):
                    lease.renew()
