"""Requests in the store: accepted, found, listed, ended, tried again, deleted.

Touches: the store. Every method can be repeated safely after an error or a crash. A request is accepted when its entry
is in the queue. It has ended when the end of its round is stored; its entry is deleted after that.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import Outcome
from controller.domain.interfaces import RunOutcome
from controller.domain.keys import RunKeys
from controller.domain.service_documents import (
    ENDED_STATUSES,
    EventType,
    RequestEnd,
    RequestEvent,
    RequestRound,
    RequestState,
    RequestStatus,
    ServiceRequest,
)
from controller.domain.service_keys import (
    RequestKey,
    RequestKeys,
    index_of,
    parse_event,
    parse_indexed,
    upload_home,
)
from controller.runs.lookup import of_each, remove_run

_LONGEST_LINE = 8_000
_MOST_EVENTS = 10_000


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
            known = request
            self._store.delete(keys.cancel)
            self._store.put(keys.request, request.encode())
        elif known.body_sha256 != request.body_sha256:
            raise AnotherBody
        if self.retries(keys.of) == 0 and self.ended(keys.of, 0) is None:
            if next(iter(self._store.list(keys.events)), None) is None:
                self.put_state(known, "queued", run=None, now_ms=known.created_ms)
                self.add_event(keys.of, "accepted", "accepted", now_ms=known.created_ms, status="queued")
            self._enqueue(known)
        return known

    def _enqueue(self, request: ServiceRequest) -> None:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        self._store.put(keys.entry(priority=request.priority, created_ms=request.created_ms), b"")

    def request(self, key: RequestKey) -> ServiceRequest | None:
        """Return what was requested; None if there is no such request of this tenant."""
        found = stored_documents.find(self._store, ServiceRequest, RequestKeys(key).request)
        return found if found and (found.tenant, found.id) == key else None

    def find(self, key: RequestKey) -> FoundRequest | None:
        """Return the request with its state; None if there is no such request of this tenant."""
        request = self.request(key)
        if request is None:
            return None
        retries = self.retries(key)
        state = stored_documents.valid(self._store, RequestState, RequestKeys(key).indexed(request.created_ms))
        return FoundRequest(
            key=key,
            request=request,
            retries=retries,
            end=self.ended(key, retries),
            state=state or _state(request, "queued", run=None, now_ms=request.created_ms),
        )

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

    def put_state(self, request: ServiceRequest, status: RequestStatus, *, run: str | None, now_ms: int) -> None:
        """Replace the state that lists show."""
        key = RequestKeys(RequestKey(request.tenant, request.id)).indexed(request.created_ms)
        self._store.put(key, _state(request, status, run=run, now_ms=now_ms).encode())

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
        self.put_state(request, end.status, run=end.run_id, now_ms=end.ended_ms)
        if not self.has_event(key, "ended"):
            text = end.summary or end.status
            self.add_event(key, "ended", text, now_ms=end.ended_ms, status=end.status, run=end.run_id)

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
            if self.has_event(found.key, "ended"):
                self.add_event(found.key, "retried", "tried again", now_ms=now_ms, status="queued")
            self._store.put(keys.round, RequestRound(retries=found.retries + 1).encode())
            self.put_state(found.request, "queued", run=found.end.run_id, now_ms=now_ms)
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

    def remove_upload(self, request: ServiceRequest) -> None:
        """Delete the recording, if it was uploaded."""
        if request.upload:
            for entry in self._store.list(upload_home(request.tenant, request.upload)):
                self._store.delete(entry.key)

    def add_event(
        self,
        key: RequestKey,
        kind: EventType,
        text: str,
        *,
        now_ms: int,
        status: RequestStatus | None = None,
        run: str | None = None,
    ) -> None:
        """Append an event. The number alone would not do: a process that was suspended may write at the same time."""
        keys = RequestKeys(key)
        last = self._last_event(key)
        if last >= _MOST_EVENTS and kind == "message":
            return
        event = RequestEvent(type=kind, time_ms=now_ms, text=text[:_LONGEST_LINE], status=status, run_id=run)
        self._store.put(keys.event(f"{last + 1:06d}-{secrets.token_hex(2)}", kind), event.encode())

    def events(self, key: RequestKey, *, after: str = "") -> Iterator[tuple[str, RequestEvent]]:
        """Yield the events after the one with the id *after*, with their ids."""
        keys = RequestKeys(key)
        for entry in self._store.list(keys.events, after=keys.after_event(after) if after else ""):
            named = parse_event(entry.key)
            event = stored_documents.valid(self._store, RequestEvent, entry.key) if named else None
            if named and event and event.type == named[1]:
                yield named[0], event

    def _last_event(self, key: RequestKey) -> int:
        return max((int(event_id.partition("-")[0]) for event_id, _ in self._event_names(key)), default=0)

    def _event_names(self, key: RequestKey) -> Iterator[tuple[str, str]]:
        """Yield the id and the type of each event, without reading it."""
        for entry in self._store.list(RequestKeys(key).events):
            if named := parse_event(entry.key):
                yield named

    def has_event(self, key: RequestKey, kind: EventType) -> bool:
        """Whether there is an event of this type since the request was last tried again."""
        found = False
        for _, named in self._event_names(key):
            found = named != "retried" and (found or named == kind)
        return found

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


def _state(request: ServiceRequest, status: RequestStatus, *, run: str | None, now_ms: int) -> RequestState:
    return RequestState(
        id=request.id,
        name=request.name,
        labels=request.labels,
        priority=request.priority,
        created_ms=request.created_ms,
        updated_ms=now_ms,
        status=status,
        run_id=run,
    )
