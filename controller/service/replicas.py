"""Which requests the living replicas of the service work on, and how many jobs each of them may have.

Touches: the store, threads, the clock. Each replica renews an object with its requests. If the others do not see a
renewal for a while, they take these requests. That a replica seems dead while it is alive is no danger: the leases of
the runs decide who works on them. The same object says how many of the slots the replica holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.service_documents import ReplicaRecord, ReplicaSlots, RunClaim
from controller.domain.service_keys import REPLICAS, replica_key
from controller.domain.shares import Claim, Share
from controller.domain.slot_parts import Holder
from controller.errors import StenofleetError
from controller.orchestrator.held_slots import HeldSlots

RENEW_S = 2.0
PAUSE_S = 0.5
"""The shortest pause between two renewals, when the others should know something soon."""
SILENT_S = 7.0
"""A replica that was not renewed for this time counts as dead. Its leases expire after 15 s."""
_FORGOTTEN_S = 60.0
"""So long after its last renewal, the object of a replica is deleted, and its jobs do not count any more."""

_LOG = logging.getLogger(__name__)


@dataclass
class _Other:
    """Another replica, as last seen."""

    renew_count: int
    since_s: float
    """When the count was first seen, by the clock of this process."""
    requests: frozenset[str]
    ended: bool
    jobs_stay: bool
    slots: Holder


class Replicas:
    """This replica among all others that share the store."""

    def __init__(
        self,
        store: Store,
        slots: HeldSlots,
        *,
        observe: Callable[[Collection[str]], None] = lambda _: None,
        jobs_stay: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """*slots*: those of this replica. *jobs_stay*: whether jobs continue when the process that started them ends.

        *observe*: called regularly with the runs that others work on, to note their leases.
        """
        self.name = slots.name
        self._slots = slots
        self._jobs_stay = jobs_stay
        self._store = store
        self._now_s = now_s
        self._observe = observe
        self._mine: frozenset[str] = frozenset()
        self._my_runs: frozenset[str] = frozenset()
        self._led_by_others: frozenset[str] = frozenset()
        self._renew_count = 0
        self._others: dict[str, _Other] = {}
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        """Protects the others and the requests of this replica."""

    def start(self) -> None:
        """Renew this replica's object in a thread, until :meth:`close`."""
        # In a thread of its own: the renewal must not wait for a cluster that does not answer.
        for name, do in (("replica", self._renew_in_time), ("other-leases", self._observe_in_time)):
            self._threads.append(threading.Thread(target=self._keep, args=(do,), name=name, daemon=True))
            self._threads[-1].start()

    def claim(self, requests: Iterable[str], runs: Iterable[str] = ()) -> None:
        """Set on which requests, and which runs of them, this replica works. The others know it after a renewal."""
        with self._lock:
            self._mine, self._my_runs = frozenset(requests), frozenset(runs)

    def renew(self) -> None:
        """Renew this replica's object, and read those of the others. Raises what the store raises."""
        while self._exchange():
            # It held all slots, and has just seen the first other one: that one waits for its part.
            pass

    def _exchange(self) -> bool:
        began_s = self._now_s()
        with self._lock:
            mine, runs = self._mine, self._my_runs
        self._put(mine, runs, self._slots.offer())
        found = [
            stored_documents.valid(self._store, ReplicaRecord, entry.key)
            for entry in self._store.list(REPLICAS)
            if entry.key != replica_key(self.name)
        ]
        now_s = self._now_s()
        with self._lock:
            before, self._others = self._others, {}
            for record in filter(None, found):
                self._others[record.replica] = _seen(record, before.get(record.replica), now_s)
            self._led_by_others = frozenset(run for record in filter(None, found) for run in record.runs)
            living = self._living()
            # As they are now: if this process was suspended, what it knew of them before is old.
            forgotten = [name for name, one in self._others.items() if now_s - one.since_s > _FORGOTTEN_S]
            gone = [one.slots for name, one in self._others.items() if name not in living and one.jobs_stay]
        again = self._slots.saw([one.slots for one in living.values()], gone, began_s=began_s)
        for name in forgotten:
            self._store.delete(replica_key(name))
        return again

    def _put(self, requests: Iterable[str], runs: Iterable[str], slots: Holder, *, ended: bool = False) -> None:
        self._renew_count += 1
        record = ReplicaRecord(
            replica=self.name,
            renew_count=self._renew_count,
            requests=tuple(sorted(requests)),
            runs=tuple(sorted(runs)),
            slots=_stored(slots, jobs_stay=self._jobs_stay),
            ended=ended,
        )
        self._store.put(replica_key(self.name), record.encode())

    def elsewhere(self) -> frozenset[str]:
        """Return the requests that living replicas other than this one work on."""
        with self._lock:
            return frozenset[str]().union(*(other.requests for other in self._living().values()))

    def is_mine(self, item: str) -> bool:
        """Whether this replica is the one of all living ones that should do *item*. All come to the same result."""
        with self._lock:
            names = [self.name, *self._living()]
        return max(names, key=lambda name: hashlib.sha256(f"{name}\0{item}".encode()).digest()) == self.name

    def close(self) -> None:
        """Stop renewing: others take its requests at once. Its jobs that continue still count for them."""
        self._closed.set()
        self._slots.changed.set()
        for thread in self._threads:
            thread.join(timeout=RENEW_S)
        left = self._slots.left_behind() if self._jobs_stay else ()
        with contextlib.suppress(JobError):
            if left:
                self._put((), (), Holder(name=self.name, claims=left), ended=True)
            else:
                self._store.delete(replica_key(self.name))

    def _living(self) -> dict[str, _Other]:
        now_s = self._now_s()
        return {
            name: other for name, other in self._others.items() if not other.ended and now_s - other.since_s < SILENT_S
        }

    def observe(self) -> None:
        """Note the leases of the runs that others work on. Raises what the observer raises."""
        with self._lock:
            runs = self._led_by_others
        self._observe(runs)

    def _renew_in_time(self) -> None:
        if self._closed.wait(PAUSE_S):
            return
        self._slots.changed.wait(RENEW_S - PAUSE_S)
        self._slots.changed.clear()
        if not self._closed.is_set():
            self.renew()

    def _observe_in_time(self) -> None:
        if not self._closed.wait(RENEW_S):
            self.observe()

    def _keep(self, do: Callable[[], None]) -> None:
        while not self._closed.is_set():
            try:
                do()
            except (JobError, StenofleetError) as error:
                _LOG.warning("replicas: %s", error.summary)
            except Exception:  # noqa: BLE001 (without this thread the others take all requests)
                _LOG.exception("replicas")


def _seen(record: ReplicaRecord, before: _Other | None, now_s: float) -> _Other:
    unchanged = before is not None and before.renew_count == record.renew_count
    return _Other(
        renew_count=record.renew_count,
        since_s=before.since_s if before and unchanged else now_s,
        requests=frozenset(record.requests),
        ended=record.ended,
        jobs_stay=record.slots is not None and record.slots.jobs_stay,
        slots=_holder(record),
    )


def _stored(holder: Holder, *, jobs_stay: bool) -> ReplicaSlots:
    claims = tuple(
        RunClaim(
            run=claim.run,
            group=claim.share.group,
            weight=claim.share.weight,
            most_live=claim.share.most_live,
            priority=claim.share.priority,
            live=claim.live,
            waiting=claim.waiting,
            cutting=claim.cutting,
        )
        for claim in holder.claims
    )
    return ReplicaSlots(everything=holder.everything, held=dict(holder.held), claims=claims, jobs_stay=jobs_stay)


def _holder(record: ReplicaRecord) -> Holder:
    if record.slots is None:
        return Holder(name=record.replica)
    claims = tuple(
        Claim(
            run=one.run,
            share=Share(group=one.group, weight=one.weight, most_live=one.most_live, priority=one.priority),
            live=one.live,
            waiting=one.waiting,
            cutting=one.cutting,
        )
        for one in record.slots.claims
    )
    return Holder(name=record.replica, claims=claims, held=record.slots.held, everything=record.slots.everything)
