"""The events of requests in the store. They are never changed, and are read in the order of their ids.

Touches: the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.service_documents import EventType, RequestEvent, RequestStatus
from controller.domain.service_keys import RequestKey, RequestKeys, parse_event

_LONGEST_LINE = 8_000
_MOST_EVENTS = 10_000


class EventLog:
    """The events of all requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def message(self, key: RequestKey, text: str, *, now_ms: int) -> None:
        """Append an event for people; nothing if there are too many."""
        last = max((_number(event_id) for event_id, _ in self._names(key)), default=0)
        if last < _MOST_EVENTS:
            # The number alone would not do: a process that was suspended may write at the same time.
            self._put(
                key,
                f"{last + 1:06d}-{secrets.token_hex(2)}",
                RequestEvent(type="message", time_ms=now_ms, text=text[:_LONGEST_LINE]),
            )

    def add(
        self,
        key: RequestKey,
        kind: EventType,
        text: str,
        *,
        retries: int,
        now_ms: int,
        status: RequestStatus,
        run: str | None = None,
    ) -> None:
        """Append the event of this type of the round with this number of retries, unless it is there.

        Two replicas that do so at the same time write the same object.
        """
        last, found = 0, False
        for event_id, named in self._names(key):
            last, found = max(last, _number(event_id)), named != "retried" and (found or named == kind)
        if not found:
            event = RequestEvent(type=kind, time_ms=now_ms, text=text[:_LONGEST_LINE], status=status, run_id=run)
            self._put(key, f"{last + 1:06d}-{retries:04x}", event)

    def since(self, key: RequestKey, after: str = "") -> Iterator[tuple[str, RequestEvent]]:
        """Yield the events after the one with the id *after*, with their ids."""
        keys = RequestKeys(key)
        for entry in self._store.list(keys.events, after=keys.after_event(after) if after else ""):
            named = parse_event(entry.key)
            event = stored_documents.valid(self._store, RequestEvent, entry.key) if named else None
            if named and event and event.type == named[1]:
                yield named[0], event

    def has(self, key: RequestKey, kind: EventType) -> bool:
        """Whether there is an event of this type since the request was last tried again."""
        found = False
        for _, named in self._names(key):
            found = named != "retried" and (found or named == kind)
        return found

    def _names(self, key: RequestKey) -> Iterator[tuple[str, str]]:
        """Yield the id and the type of each event, without reading it."""
        for entry in self._store.list(RequestKeys(key).events):
            if named := parse_event(entry.key):
                yield named

    def _put(self, key: RequestKey, event_id: str, event: RequestEvent) -> None:
        self._store.put(RequestKeys(key).event(event_id, event.type), event.encode())


def _number(event_id: str) -> int:
    return int(event_id.partition("-")[0])
