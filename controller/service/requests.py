"""Requests in the store: accepted, found, listed, ended, tried again, deleted.

Touches: the store. Every method can be repeated safely after an error or a crash. A request is accepted when its entry
is in the queue. It has ended when the end of its round is stored; its entry is deleted after that. What decides
something (the request, a round, an end) is written only if it is not there yet. What a round has is deleted under
names with its number. So a process that was suspended, and continues after others did its work, changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from chunk_job.store.base import Store, StoreUnavailable
from controller.domain import stored_documents
from controller.domain.documents import Outcome
from controller.domain.interfaces import RunOutcome
from controller.domain.keys import RunKeys
from controller.domain.service_documents import (
    MOST_RETRIES,
    RequestEnd,
    RequestState,
    RequestStatus,
    ServiceRequest,
)
from controller.domain.service_keys import (
    QueueEntry,
    RequestKey,
    RequestKeys,
    upload_home,
)
from controller.errors import StenofleetError
from controller.reports.removal import remove_run
from controller.service.event_log import EventLog
from controller.service.request_reader import FoundRequest, RequestReader, entry_of, state_of
from controller.service.turns import Turns

_LONGEST_LINE = 8_000
_TRUSTED_S = 1.0
"""How long what was read is still true, for a process that may have been suspended."""
_MOST_DELETED = 8
"""Requests of one tenant at the same time: a large run has thousands of objects, and other tenants need threads too."""
_TURNS = Turns()
"""Of all stores of requests in this process."""


class AnotherBody(Exception):
    """The idempotency key was used for another request."""


class TriedAgain(Exception):
    """The request is tried again at this moment: it cannot be deleted."""


class RequestStore(RequestReader):
    """The requests of all tenants: accepts, changes and deletes them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.events = EventLog(store)

    def accept(self, request: ServiceRequest) -> ServiceRequest:
        """Keep the request, and put it into the queue. Returns the stored one, if it was accepted before.

        Raises :class:`AnotherBody` if the stored one has another body, and :class:`LimitExceeded` as all that change
        a request if another call for it takes long.
        """
        with _TURNS.of(RequestKey(request.tenant, request.id)):
            return self._accept(request)

    def _accept(self, request: ServiceRequest) -> ServiceRequest:
        keys = RequestKeys(RequestKey(request.tenant, request.id))
        known = self.request(keys.of)
        if known is None:
            self._clear(keys)
            # Another process may accept one with the same id at this moment.
            known = request if self._store.put_new(keys.request, request.encode()) else self.request(keys.of)
            if known is None:
                raise StoreUnavailable("a request with this id is being deleted", "try again")
        if known.body_sha256 != request.body_sha256:
            raise AnotherBody
        if self.retries(keys.of) == 0 and self.ended(keys.of, 0) is None:
            if self.events.is_empty(keys.of):
                self.put_state(known, "queued", retries=0, run=None, now_ms=known.created_ms)
                self.events.add(keys.of, "accepted", "accepted", retries=0, now_ms=known.created_ms, status="queued")
            self._enqueue(known, 0)
        return known

    def _clear(self, keys: RequestKeys) -> None:
        """Delete what a suspended process has written for a request with this id after that one was deleted."""
        left = [entry.key for entry in self._store.list(keys.home)]
        if keys.request not in left:
            for key in (*left, keys.cancel(0)):
                self._store.delete(key)

    def _enqueue(self, request: ServiceRequest, retries: int) -> None:
        self._store.put(entry_of(request, retries), b"")

    def put_state(
        self, request: ServiceRequest, status: RequestStatus, *, retries: int, run: str | None, now_ms: int
    ) -> None:
        """Replace the state that lists show. If this process was suspended, what others wrote meanwhile is restored.

        *retries*: the number of the round that it is of.
        """
        key = RequestKey(request.tenant, request.id)
        place = RequestKeys(key).indexed(request.created_ms)

        def put(status: RequestStatus, retries: int, run: str | None, now_ms: int) -> None:
            self._store.put(place, state_of(request, status, retries=retries, run=run, now_ms=now_ms).encode())

        put(status, retries, run, now_ms)
        stored = self.request(key)
        if stored is None or stored.created_ms != request.created_ms:
            self._store.delete(place)
        elif (end := self.ended(key, self.retries(key, least=retries))) and (end.status, end.run_id) != (status, run):
            put(end.status, end.retries, end.run_id, end.ended_ms)

    def end(self, request: ServiceRequest, retries: int, outcome: RunOutcome, *, now_ms: int) -> RequestEnd:
        """Record how the request ended. Returns the end that counts: the first one that was stored.

        Its entry in the queue is left: :meth:`leave_queue` deletes it when everything else is done.
        """
        key = RequestKey(request.tenant, request.id)
        end = self.ended(key, retries)
        if end is None:
            end = self._end_of(request, retries, outcome, now_ms=now_ms)
            place, data = RequestKeys(key).end(retries), end.encode()
            if not self._store.put_new(place, data):
                if first := self.ended(key, retries):
                    return first
                # What is there is not valid, or was deleted with the request.
                self._store.put(place, data)
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
        """Delete the entry of a request that has ended, and its cancel."""
        if self.request(RequestKey(request.tenant, request.id)) is None:
            # It was deleted while this process was suspended: nothing of it must remain.
            self._clear(RequestKeys(RequestKey(request.tenant, request.id)))
            if end.run_id:
                remove_run(self._store, end.run_id)
        self._store.delete(RequestKeys(RequestKey(request.tenant, request.id)).cancel(end.retries))
        self._store.delete(entry_of(request, end.retries))

    def remove_left(self, entry: QueueEntry) -> None:
        """Delete what is left of a request that was deleted, or tried again at that moment."""
        self._clear(RequestKeys(entry.request))
        self.remove_duplicate(entry)

    def remove_duplicate(self, entry: QueueEntry) -> None:
        """Delete what a process has written that was suspended: for a request of the same id that was deleted."""
        self._store.delete(RequestKeys(entry.request).indexed(entry.created_ms))
        self._store.delete(entry.key)

    def cancel(self, key: RequestKey) -> None:
        """Ask for the end of the request."""
        retries = self.retries(key)
        self._store.put(RequestKeys(key).cancel(retries), b"")
        request = self.request(key)
        # The entry first: it is deleted after the end is stored.
        if request and self._store.stat(entry_of(request, retries)) is None and self.ended(key, retries) is None:
            # A process was killed before the request was in the queue: it could never end.
            self._enqueue(request, retries)
        self.drop_old_cancel(key, retries)

    def drop_old_cancel(self, key: RequestKey, retries: int) -> None:
        """Delete a cancel whose round has ended, or whose request was deleted."""
        if self.ended(key, retries) or self.request(key) is None:
            self._store.delete(RequestKeys(key).cancel(retries))

    def retry(self, found: FoundRequest, *, now_ms: int) -> None:
        """Put a request that has ended into the queue again, with a new round.

        It must be settled: whoever records its end would delete the new entry of the queue.
        """
        with _TURNS.of(found.key):
            self._retry(found, now_ms=now_ms)

    def _retry(self, found: FoundRequest, *, now_ms: int) -> None:
        keys, retries = RequestKeys(found.key), found.retries
        if found.end:
            retries += 1
            if retries > MOST_RETRIES:
                raise StenofleetError(f"it was tried again {MOST_RETRIES} times", "submit the recording again")
            if self._store.put_new(keys.round(retries), b""):
                self.put_state(found.request, "queued", retries=retries, run=found.end.run_id, now_ms=now_ms)
        if self.request(found.key) is None:
            # It was deleted meanwhile.
            self._clear(keys)
        elif retries == self.retries(found.key):
            if retries:
                text = "tried again"
                self.events.add(found.key, "retried", text, retries=retries, now_ms=now_ms, status="queued")
            self._enqueue(found.request, retries)

    def remove(self, found: FoundRequest) -> None:
        """Delete a request that has ended, with its runs and its upload. Of these, the request is deleted last.

        Raises :class:`TriedAgain`.
        """
        with _TURNS.of(found.key, most=_MOST_DELETED):
            self._remove(found)

    def _remove(self, found: FoundRequest) -> None:
        keys = RequestKeys(found.key)
        if self.retries(found.key, least=found.retries) != found.retries:
            raise TriedAgain

        def order(key: str) -> tuple[bool, bool, bool]:
            # Its end, and the request itself, are needed by whoever repeats this after a crash.
            return (key == keys.request, key == keys.end(0), key.startswith(f"{keys.home}end-"))

        home = sorted((entry.key for entry in self._store.list(keys.home)), key=order)
        # Not only the last one: the recording may have been another one when it was tried first.
        runs = {found.state.run_id, *(end.run_id for end in self.ends(found))} - {None}
        steps: list[Callable[[], None]] = [
            *(partial(remove_run, self._store, str(run)) for run in runs),
            partial(self.remove_upload, found.request),
            partial(self._store.delete, keys.cancel(found.retries)),
            partial(self._store.delete, keys.indexed(found.request.created_ms)),
            *(partial(self._delete, key) for key in home),
            # Who writes a correction looks for the request after that: what was written before it was gone is here.
            *(partial(self._delete_corrections, str(run)) for run in runs),
        ]
        read_s = time.monotonic()
        for step in steps:
            if time.monotonic() - read_s > _TRUSTED_S:
                # This process may have been suspended, and another request may have the same id now.
                stored, read_s = self.request(found.key), time.monotonic()
                if stored is None or stored.created_ms != found.request.created_ms:
                    return
            step()

    def _delete_corrections(self, run: str) -> None:
        for entry in self._store.list(RunKeys(run).corrections):
            self._store.delete(entry.key)

    def _delete(self, key: str) -> None:
        self._store.delete(key)
        self._kept.forget(key)

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
