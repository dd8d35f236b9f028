"""The events of a request: a list to which any process appends, and of which nothing is ever lost or reordered.

Touches: the store. The key of an event is its number, and the store accepts a number only once. So a process that was
suspended cannot add an event before one that a client has read already. Each event says what has happened since the
last try began: so whether another one may follow is known from the last event alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from chunk_job.store.base import Store, StoreUnavailable
from controller.domain import stored_documents
from controller.domain.service_documents import EventType, RequestEvent, RequestStatus
from controller.domain.service_keys import RequestKey, RequestKeys, parse_event

MOST_MESSAGES = 10_000
_LONGEST_LINE = 8_000
_TRIES = 50
"""So many other processes do not append to the same list at the same moment."""


class EventLog:
    """The events of all requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        key: RequestKey,
        kind: EventType,
        text: str,
        *,
        retries: int,
        now_ms: int,
        status: RequestStatus | None = None,
        run: str | None = None,
    ) -> None:
        """Append an event, unless it is there already, or is one of an earlier try than the last event.

        *retries*: how often the request had been tried again. In each try it is started once and ended once, and
        nothing follows its end but another try. May be repeated after an error.
        """
        for _ in range(_TRIES):
            last = self._last(key)
            before = stored_documents.valid(self._store, RequestEvent, RequestKeys(key).event(last)) if last else None
            if not _may_follow(before, kind, retries, last):
                return
            happened = before.happened if before and kind != "retried" else ()
            event = RequestEvent(
                type=kind,
                time_ms=now_ms,
                text=text[:_LONGEST_LINE],
                status=status,
                run_id=run,
                retries=retries,
                happened=tuple(dict.fromkeys((*happened, kind))),
            )
            place, data = RequestKeys(key).event(last + 1), event.encode()
            # If the reply was lost, it is there although it seems not to be new.
            if self._store.put_new(place, data) or self._store.get(place) == data:
                return
        raise StoreUnavailable(f"no event can be added below {RequestKeys(key).events}", "try again")

    def after(self, key: RequestKey, event_id: str) -> Iterator[tuple[str, RequestEvent]]:
        """Yield the events after the one with the id *event_id* (empty: all), with their ids."""
        keys = RequestKeys(key)
        for entry in self._store.list(keys.events, after=keys.event(int(event_id)) if event_id else ""):
            found = parse_event(entry.key)
            event = stored_documents.valid(self._store, RequestEvent, entry.key) if found else None
            if found and event:
                yield found, event

    def is_empty(self, key: RequestKey) -> bool:
        """Whether there is no event: the request is being accepted, or being deleted."""
        return next(iter(self._store.list(RequestKeys(key).events)), None) is None

    def _last(self, key: RequestKey) -> int:
        """Return the number of the last event; 0 if there is none."""
        names = (parse_event(entry.key) for entry in self._store.list(RequestKeys(key).events))
        return max((int(name) for name in names if name), default=0)


def _may_follow(before: RequestEvent | None, kind: EventType, retries: int, last: int) -> bool:
    """Whether an event of this type and try comes after *before*, which has the number *last*."""
    if kind == "accepted":
        return not last
    if before is None:
        # There is none, or another program has damaged it.
        return True
    if kind == "retried":
        return retries > before.retries
    if retries != before.retries or "ended" in before.happened:
        return False
    return last < MOST_MESSAGES if kind == "message" else kind not in before.happened
