"""Requests in the store: accepted, found, listed, ended, tried again, deleted.

Touches: the store. Every method can be repeated safely after an error or a crash. A request is accepted when its entry
is in the queue. It has ended when the end of its round is stored; its entry is deleted after that.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import Outcome
from controller.domain.interfaces import RunOutcome
from controller.domain.keys import RunKeys
from controller.domain.service_documents import (
    ENDED_STATUSES,
    RequestEnd,
    RequestRound,
    RequestState,
    RequestStatus,
    ServiceRequest,
)
from controller.domain.service_keys import (
    RequestKey,
    RequestKeys,
    index_of,
    parse_indexed,
    upload_home,
)
from controller.runs.lookup import of_each, remove_run
from controller.service.event_log import EventLog
from controller.service.kept import Kept

_LONGEST_LINE = 8_000

_LOCKS = tuple(threading.Lock() for _ in range(64))


def _lock_of(request_id: str) -> threading.Lock:
    """Return the lock of a request: clients repeat a call that seems to hang while it is still carried out."""
    return _LOCKS[int.from_bytes(request_id[:8].encode(), "big") % len(_LOCKS)]


class AnotherBody(Exception):
    """The idempotency key was used for another request."""


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


class RequestStore:
    """The requests of all tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = Kept(store)
        self.events = EventLog(store)

    def accept(self, request: ServiceRequest) -> ServiceRequest:
        """Keep the request, and put it into the queue. Returns the stored one, if it was accepted before.

        Raises :class:`AnotherBody` if the stored one has another body.
        """
        with _lock_of(request.id):
            return self._accept(request)

    def _accept(self, request: ServiceRequest) -> ServiceRequest:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        known = self.request(keys.of)
        if known is None:
            self._store.delete(keys.cancel)
            self._store.put(keys.request, request.encode())
            self._begin(request)
            return request
        if known.body_sha256 != request.body_sha256:
            raise AnotherBody
        if self.retries(keys.of) == 0 and self.ended(keys.of, 0) is None:
            if self.events.has(keys.of, "accepted"):
                self._enqueue(known)
            else:
                self._begin(known)
        return known

    def _begin(self, request: ServiceRequest) -> None:
        """Do what follows the first write of a request."""
        key, now_ms = RequestKey(request.tenant, request.id), request.created_ms
        self.put_state(request, "queued", retries=0, run=None, now_ms=now_ms)
        self.events.add(key, "accepted", "accepted", retries=0, now_ms=now_ms, status="queued")
        self._enqueue(request)

    def _enqueue(self, request: ServiceRequest) -> None:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        self._store.put(keys.entry(priority=request.priority, created_ms=request.created_ms), b"")

    def request(self, key: RequestKey) -> ServiceRequest | None:
        """Return what was requested; None if there is no such request of this tenant."""
        return _of(key, stored_documents.find(self._store, ServiceRequest, RequestKeys(key).request))

    def find(self, key: RequestKey) -> FoundRequest | None:
        """Return the request with its state; None if there is no such request of this tenant.

        What is never changed is kept in memory, so that this costs one read of the store if the request has ended, and
        two if it has not. The state is read each time: a request that was deleted has none.
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
        state = state or _state(request, "queued", retries=self.retries(key), run=None, now_ms=request.created_ms)
        return FoundRequest(key=key, request=request, retries=state.retries, end=self._end(keys, state), state=state)

    def _state_of(self, request: ServiceRequest) -> RequestState | None:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        return stored_documents.valid(self._store, RequestState, keys.indexed(request.created_ms))

    def _end(self, keys: RequestKeys, state: RequestState) -> RequestEnd | None:
        """Return the end of the round that *state* is of; the kept one, if it is the one that *state* shows."""
        at = keys.end(state.retries)
        if state.status in ENDED_STATUSES:
            with contextlib.suppress(DocumentInvalid):
                end = self._kept.find(RequestEnd, at)
                if end and (end.status, end.ended_ms) == (state.status, state.updated_ms):
                    return end
            self._kept.forget(at)
        # The state may be older than the end.
        return self.ended(keys.of, state.retries)

    def retries(self, key: RequestKey) -> int:
        """Return how often the request was tried again."""
        found = stored_documents.valid(self._store, RequestRound, RequestKeys(key).round)
        return found.retries if found else 0

    def ended(self, key: RequestKey, retries: int) -> RequestEnd | None:
        """Return how the round with this number of retries ended; None if it has not ended."""
        return stored_documents.valid(self._store, RequestEnd, RequestKeys(key).end(retries))

    def ends(self, found: FoundRequest) -> Sequence[RequestEnd]:
        """Return how all rounds of a request ended."""
        ends = (self.ended(found.key, retries) for retries in range(found.retries + 1))
        return [end for end in ends if end]

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

    def _state_at(self, key: str) -> RequestState | None:
        return stored_documents.valid(self._store, RequestState, key) if parse_indexed(key) else None

    def put_state(
        self, request: ServiceRequest, status: RequestStatus, *, retries: int, run: str | None, now_ms: int
    ) -> None:
        """Replace the state that lists show. *retries*: the number of the round that it is of."""
        key = RequestKeys(RequestKey(request.tenant, request.id)).indexed(request.created_ms)
        self._store.put(key, _state(request, status, retries=retries, run=run, now_ms=now_ms).encode())

    def end(self, request: ServiceRequest, retries: int, outcome: RunOutcome, *, now_ms: int) -> RequestEnd:
        """Record how the request ended. Returns the end that counts: the first one that was stored.

        Its entry in the queue is left: :meth:`leave_queue` deletes it when everything else is done.
        """
        key = RequestKey(request.tenant, request.id)
        end = self.ended(key, retries)
        if end is None:
            end = self._end_of(request, retries, outcome, now_ms=now_ms)
            self._store.put(RequestKeys(key).end(retries), end.encode())
        return end

    def announce(self, request: ServiceRequest, end: RequestEnd) -> None:
        """Make the end visible in lists and events, unless the request was tried again meanwhile."""
        key = RequestKey(request.tenant, request.id)
        if self.retries(key) != end.retries:
            return
        self.put_state(request, end.status, retries=end.retries, run=end.run_id, now_ms=end.ended_ms)
        self.events.add(
            key,
            "ended",
            end.summary or end.status,
            retries=end.retries,
            now_ms=end.ended_ms,
            status=end.status,
            run=end.run_id,
        )

    def leave_queue(self, request: ServiceRequest, end: RequestEnd) -> None:
        """Delete the entry of a request that has ended, and its cancel, unless it was tried again meanwhile."""
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        if self.retries(keys.of) != end.retries:
            return
        self._store.delete(keys.cancel)
        self._store.delete(keys.entry(priority=request.priority, created_ms=request.created_ms))

    def is_settled(self, found: FoundRequest) -> bool:
        """Whether everything that follows the end of a request is done."""
        keys, request = RequestKeys(found.key), found.request
        entry = keys.entry(priority=request.priority, created_ms=request.created_ms)
        return found.end is not None and self._store.stat(entry) is None

    def remove_duplicate(self, key: RequestKey, *, priority: int, created_ms: int) -> None:
        """Delete what is left of another try to accept the same request at the same moment."""
        keys = RequestKeys(key)
        self._store.delete(keys.indexed(created_ms))
        self._store.delete(keys.entry(priority=priority, created_ms=created_ms))

    def cancel(self, key: RequestKey) -> None:
        """Ask for the end of the request."""
        self._store.put(RequestKeys(key).cancel, b"")
        if self.ended(key, self.retries(key)):
            # It has ended meanwhile, and nobody else would delete it.
            self._store.delete(RequestKeys(key).cancel)

    def retry(self, found: FoundRequest, *, now_ms: int) -> None:
        """Put a request that has ended into the queue again, with a new round.

        It must be settled: whoever records its end would delete the new entry of the queue.
        """
        with _lock_of(found.key.id):
            self._retry(found, now_ms=now_ms)

    def _retry(self, found: FoundRequest, *, now_ms: int) -> None:
        keys = RequestKeys(found.key)
        if self.request(found.key) is None:
            # It was deleted meanwhile.
            return
        if found.end:
            # Of a client that cancelled while the end was recorded. It must not cancel the new round.
            self._store.delete(keys.cancel)
            retries = found.retries + 1
            if self.events.has(found.key, "ended"):
                self.events.add(found.key, "retried", "tried again", retries=retries, now_ms=now_ms, status="queued")
            self._store.put(keys.round, RequestRound(retries=retries).encode())
            self.put_state(found.request, "queued", retries=retries, run=found.end.run_id, now_ms=now_ms)
        self._enqueue(found.request)

    def remove(self, found: FoundRequest) -> None:
        """Delete a request that has ended, with its run and its upload. The request itself is deleted last."""
        with _lock_of(found.key.id):
            self._remove(found)

    def _remove(self, found: FoundRequest) -> None:
        keys = RequestKeys(found.key)
        for run in {found.state.run_id, found.end.run_id if found.end else None} - {None}:
            remove_run(self._store, str(run))
        self.remove_upload(found.request)
        self._store.delete(keys.cancel)
        self._store.delete(keys.indexed(found.request.created_ms))
        for entry in sorted(self._store.list(keys.home), key=lambda entry: entry.key == keys.request):
            self._store.delete(entry.key)
            self._kept.forget(entry.key)

    def remove_upload(self, request: ServiceRequest) -> None:
        """Delete the recording, if it was uploaded."""
        if request.upload:
            for entry in self._store.list(upload_home(request.tenant, request.upload)):
                self._store.delete(entry.key)

    def _known_run(self, request: ServiceRequest) -> str | None:
        key = RequestKeys(RequestKey(request.tenant, request.id)).indexed(request.created_ms)
        state = stored_documents.valid(self._store, RequestState, key)
        return state.run_id if state else None

    def _end_of(self, request: ServiceRequest, retries: int, outcome: RunOutcome, *, now_ms: int) -> RequestEnd:
        # A round that was cancelled before it began still has the run of the round before.
        run = outcome.run or self._known_run(request)
        marker = stored_documents.valid(self._store, Outcome, RunKeys(run).marker("failed")) if run else None
        return RequestEnd(
            id=request.id,
            retries=retries,
            run_id=run,
            status=outcome.verdict,
            summary=outcome.summary[:_LONGEST_LINE],
            advice=outcome.advice[:_LONGEST_LINE],
            failure=marker.failure if marker and outcome.verdict == "failed" else "",
            environment=outcome.environment,
            warnings=tuple(warning[:_LONGEST_LINE] for warning in outcome.warnings[:1_000]),
            files=outcome.files[:1_000],
            ended_ms=now_ms,
        )


def _of(key: RequestKey, found: ServiceRequest | None) -> ServiceRequest | None:
    """Return the request if it is the one with this key: somebody may have copied the object."""
    return found if found and (found.tenant, found.id) == key else None


def _state(
    request: ServiceRequest, status: RequestStatus, *, retries: int, run: str | None, now_ms: int
) -> RequestState:
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
