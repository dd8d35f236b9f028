"""Which requests the living replicas of the service work on.

Touches: the store, a thread, the clock. Each replica renews an object with its requests. If the others do not see a
renewal for a while, they take these requests. That a replica seems dead while it is alive is no danger: the leases of
the runs decide who works on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.service_documents import ReplicaRecord
from controller.domain.service_keys import REPLICAS, replica_key
from controller.errors import StenofleetError

RENEW_S = 2.0
SILENT_S = 7.0
"""A replica that was not renewed for this time counts as dead. Its leases expire after 15 s."""
_FORGOTTEN_S = 60.0

_LOG = logging.getLogger(__name__)


@dataclass
class _Other:
    """Another replica, as last seen."""

    renew_count: int
    since_s: float
    """When the count was first seen, by the clock of this process."""
    requests: frozenset[str] = field(default_factory=frozenset)


class Replicas:
    """This replica among all others that share the store."""

    def __init__(
        self,
        store: Store,
        *,
        observe: Callable[[Collection[str]], None] = lambda _: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """*observe*: called regularly with the runs that others work on, to note their leases."""
        self.name = secrets.token_hex(8)
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
        for name, do in (("replica", self.renew), ("other-leases", self.observe)):
            self._threads.append(threading.Thread(target=self._keep, args=(do,), name=name, daemon=True))
            self._threads[-1].start()

    def claim(self, requests: Iterable[str], runs: Iterable[str] = ()) -> None:
        """Set on which requests, and which runs of them, this replica works. The others know it after a renewal."""
        with self._lock:
            self._mine, self._my_runs = frozenset(requests), frozenset(runs)

    def renew(self) -> None:
        """Renew this replica's object, and read those of the others. Raises what the store raises."""
        with self._lock:
            mine, runs = self._mine, self._my_runs
        self._renew_count += 1
        record = ReplicaRecord(
            replica=self.name,
            renew_count=self._renew_count,
            requests=tuple(sorted(mine)),
            runs=tuple(sorted(runs)),
        )
        self._store.put(replica_key(self.name), record.encode())
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
        for name, other in before.items():
            if now_s - other.since_s > _FORGOTTEN_S:
                self._store.delete(replica_key(name))

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
        """Stop renewing, and delete this replica's object: the others take its requests at once."""
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=RENEW_S)
        with contextlib.suppress(JobError):
            self._store.delete(replica_key(self.name))

    def _living(self) -> dict[str, _Other]:
        now_s = self._now_s()
        return {name: other for name, other in self._others.items() if now_s - other.since_s < SILENT_S}

    def observe(self) -> None:
        """Note the leases of the runs that others work on. Raises what the observer raises."""
        with self._lock:
            runs = self._led_by_others
        self._observe(runs)

    def _keep(self, do: Callable[[], None]) -> None:
        while not self._closed.wait(RENEW_S):
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
    )
