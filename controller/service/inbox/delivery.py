"""Brings the ends of requests of an inbox to the outbox, and records them.

Touches: the store, the outbox. The transcript itself is written by the run. Everything can be repeated: the object that
asks for a delivery is deleted last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from chunk_job.store.base import Store
from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.domain.service_keys import RequestKey
from controller.service.inbox import outcome
from controller.service.inbox.names import NOBODY, Ended, Record, StateKeys, decoded, parse_ended
from controller.service.inbox.scanning import Listings
from controller.service.requests import RequestStore

_LOG = logging.getLogger(__name__)


def note_end(store: Store, request: ServiceRequest, end: RequestEnd) -> None:
    """Record that the end of a request of an inbox is to be delivered."""
    store.put(StateKeys(request.tenant).end(request.id, end.retries), b"")


class Delivery:
    """The ends of the requests of one inbox."""

    def __init__(self, store: Store, keys: StateKeys, listings: Listings, wake: Callable[[], None]) -> None:
        """*wake* is called when requests are to be cancelled."""
        self._store, self._keys, self._listings, self._wake = store, keys, listings, wake
        self._requests = RequestStore(store)

    def waiting(self) -> Iterator[Ended]:
        """Yield the ends that are to be delivered."""
        for entry in self._store.list(self._keys.ended):
            if ended := parse_ended(entry.key):
                yield ended

    def deliver(self, ended: Ended) -> None:
        """Deliver the end of a request.

        Raises the errors of the stores, and :class:`~controller.errors.EnvironmentProblem` if the outbox does not take
        it.
        """
        found = self._requests.find(RequestKey(self._keys.prefix, ended.request))
        path = decoded(found.request.inbox) if found else None
        if found and found.end and path:
            self.settle(path, found.request, found.end)
        # Without an end it is being tried again: another one comes.
        self._store.delete(self._keys.end(*ended))

    def settle(self, path: str, request: ServiceRequest, end: RequestEnd) -> None:
        """Show and record how the request for an object ended, unless another version has taken its place."""
        before = next((each for each in self._listings.records_of(path) if each.request == request.id), None)
        if before is None or request.output is None:
            return
        if end.status in ("complete", "partial"):
            outcome.remove_error(request.output.base)
            after = replace(before, state="done")
        else:
            outcome.put_error(request.output.base, outcome.of_end(path, end))
            after = replace(before, state="failed")
        self.replace((before,), after)
        _LOG.info("inbox of %s: request %s: %s", self._keys.prefix, request.id, end.status)

    def replace(self, before: tuple[Record, ...], after: Record | None) -> None:
        """Write the record *after*, then delete those *before*."""
        if after and after not in before:
            self._store.put(self._keys.record(after), b"")
        for record in before:
            if record != after:
                self._store.delete(self._keys.record(record))

    def supersede(self, before: tuple[Record, ...], after: Record) -> None:
        """Record a new version of an object, and cancel the requests for those before."""
        self._store.put(self._keys.record(after), b"")
        for record in before:
            if record.state == "submitted" and record.request not in (after.request, NOBODY):
                self._requests.cancel(RequestKey(self._keys.prefix, record.request))
                self._wake()
        self.replace(before, after)
