"""Reads the requests of the service from the store. What is never changed is kept in memory.

Touches: the store, the clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.service_documents import (
    ENDED_STATUSES,
    MOST_RETRIES,
    RequestEnd,
    RequestState,
    RequestStatus,
    ServiceRequest,
)
from controller.domain.service_keys import RequestKey, RequestKeys, index_before, index_of, parse_indexed
from controller.runs.lookup import of_each
from controller.service.kept import Kept


@dataclass(frozen=True, kw_only=True)
class FoundRequest:
    """A request and its state."""

    key: RequestKey
    request: ServiceRequest
    retries: int
    end: RequestEnd | None
    """None: it has not ended."""
    state: RequestState

    @property
    def status(self) -> RequestStatus:
        """Its status. The end decides: the state may be older."""
        if self.end:
            return self.end.status
        return "queued" if self.state.status in ENDED_STATUSES else self.state.status


class RequestReader:
    """The requests of all tenants, as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = Kept(store)

    def request(self, key: RequestKey) -> ServiceRequest | None:
        """Return what was requested; None if there is no such request of this tenant."""
        return _of(key, stored_documents.find(self._store, ServiceRequest, RequestKeys(key).request))

    def find(self, key: RequestKey) -> FoundRequest | None:
        """Return the request with its state; None if there is no such request of this tenant.

        What is never changed is kept in memory, so that this costs two requests to the store if the request has ended,
        and three if it has not. The state is read each time: a request that was deleted has none.
        """
        keys = RequestKeys(key)
        request = _of(key, self._kept.find(ServiceRequest, keys.request))
        state = self._state_of(request) if request else None
        if request and state is None:
            # It was deleted, perhaps by another replica, or its acceptance was interrupted.
            self._kept.forget(keys.request)
            request = self.request(key)
            state = self._state_of(request) if request else None
        if request is None:
            return None
        retries = self.retries(key, least=state.retries if state else 0)
        state = state or state_of(request, "queued", retries=retries, run=None, now_ms=request.created_ms)
        return FoundRequest(key=key, request=request, retries=retries, end=self._end(keys, retries, state), state=state)

    def _state_of(self, request: ServiceRequest) -> RequestState | None:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        return stored_documents.valid(self._store, RequestState, keys.indexed(request.created_ms))

    def _end(self, keys: RequestKeys, retries: int, state: RequestState) -> RequestEnd | None:
        """Return the end of this round; the kept one, if it is the one that *state* shows."""
        at = keys.end(retries)
        if state.status in ENDED_STATUSES and state.retries == retries:
            with contextlib.suppress(DocumentInvalid):
                end = self._kept.find(RequestEnd, at)
                if end and (end.status, end.ended_ms) == (state.status, state.updated_ms):
                    return end
            self._kept.forget(at)
        # The state may be older than the end.
        return self.ended(keys.of, retries)

    def retries(self, key: RequestKey, *, least: int = 0) -> int:
        """Return how often the request was tried again. *least*: so often it was, as far as is known."""
        # Mostly that: one request to the store, and few if it was tried often since.
        keys, known, step = RequestKeys(key), least, 1
        while known + step <= MOST_RETRIES and self._store.stat(keys.round(known + step)):
            known, step = known + step, 2 * step
        none = min(known + step, MOST_RETRIES + 1)
        while none - known > 1:
            middle = (known + none) // 2
            known, none = (middle, none) if self._store.stat(keys.round(middle)) else (known, middle)
        return known

    def ended(self, key: RequestKey, retries: int) -> RequestEnd | None:
        """Return how the round with this number of retries ended; None if it has not ended."""
        return stored_documents.valid(self._store, RequestEnd, RequestKeys(key).end(retries))

    def ends(self, found: FoundRequest) -> Sequence[RequestEnd]:
        """Return how all rounds of a request ended."""
        ends = (self.ended(found.key, retries) for retries in range(found.retries + 1))
        return [end for end in ends if end]

    def runs(self, prefix: str, state: RequestState) -> set[str]:
        """Return the runs of all rounds of a request: the recording may have been another one when it was tried first.

        *state*: as a list shows it.
        """
        key = RequestKey(prefix, state.id)
        ends = (self.ended(key, retries) for retries in range(state.retries))
        return {run for run in (state.run_id, *(end.run_id for end in ends if end)) if run}

    def is_settled(self, found: FoundRequest) -> bool:
        """Whether everything that follows the end of a request is done."""
        return found.end is not None and self._store.stat(entry_of(found.request, found.retries)) is None

    def page(self, prefix: str, *, after: str, most: int) -> tuple[Sequence[RequestState], str]:
        """Return the states of the next requests of a tenant, the newest first, and a cursor for the rest.

        *after*: the cursor of the page before; empty at the start. The new cursor is empty at the end. The number of
        requests to the store depends on *most* alone.
        """
        begin = f"{index_of(prefix)}{after}" if after else ""
        keys = [entry.key for entry in islice(self._store.list(index_of(prefix), after=begin), most + 1)]
        states = of_each(self._store, self._state_at, keys[:most])
        cursor = keys[most - 1].removeprefix(index_of(prefix)) if len(keys) > most else ""
        return [state for state in states if state], cursor

    def submitted(self, prefix: str, *, from_ms: int, to_ms: int, most: int) -> Sequence[RequestState]:
        """Return the states of the requests of a tenant that were created in a period, at most the newest *most*."""
        keys: list[str] = []
        for entry in self._store.list(index_of(prefix), after=index_before(prefix, to_ms)):
            found = parse_indexed(entry.key)
            if len(keys) == most or (found and found[0] < from_ms):
                break
            keys += [entry.key] if found else []
        return [state for state in of_each(self._store, self._state_at, keys) if state]

    def _state_at(self, key: str) -> RequestState | None:
        return stored_documents.valid(self._store, RequestState, key) if parse_indexed(key) else None


def _of(key: RequestKey, found: ServiceRequest | None) -> ServiceRequest | None:
    """Return the request if it is the one with this key: somebody may have copied the object."""
    return found if found and (found.tenant, found.id) == key else None


def entry_of(request: ServiceRequest, retries: int) -> str:
    """Return the key of the entry in the queue."""
    keys = RequestKeys(RequestKey(request.tenant, request.id))
    return keys.entry(priority=request.priority, created_ms=request.created_ms, retries=retries)


def state_of(
    request: ServiceRequest, status: RequestStatus, *, retries: int, run: str | None, now_ms: int
) -> RequestState:
    """Return the state of a request in the round with this number of retries."""
    return RequestState(
        id=request.id,
        name=request.name,
        labels=request.labels,
        priority=request.priority,
        created_ms=request.created_ms,
        updated_ms=now_ms,
        status=status,
        retries=retries,
        run_id=run,
    )
