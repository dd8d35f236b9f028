"""Requests whose clients wait for the transcript and do not know the id: nothing of them is kept.

Touches: the store. An entry is stored before such a request, and deleted after it. If the process is killed or ends, or
if the client goes away, the entry remains: then the request is cancelled, and deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

from chunk_job.store.base import Store
from controller.domain.service_keys import ANSWERS, AnswerEntry, RequestKey, RequestKeys, parse_answer
from controller.service.request_reader import FoundRequest
from controller.service.requests import RequestStore

_SPARE_MS = 600_000
"""Before anything is deleted: clocks differ, and a large recording is stored for a while."""


class Answers:
    """The requests of all tenants whose clients wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._requests = RequestStore(store)

    def begin(self, key: RequestKey, until_ms: int) -> AnswerEntry:
        """Note that the client of a request, which is stored after this, waits until then."""
        entry = AnswerEntry(key, until_ms, RequestKeys(key).answer(until_ms))
        self._store.put(entry.key, b"")
        return entry

    def release(self, entry: AnswerEntry) -> None:
        """Note that there is no such request any more, or that its client knows its id."""
        self._store.delete(entry.key)

    def hand_over(self, entry: AnswerEntry) -> bool:
        """Keep a request, because its client will know its id. Returns False if it was deleted already."""
        self.release(entry)
        return self._requests.request(entry.request) is not None

    def remove(self, entry: AnswerEntry, found: FoundRequest) -> None:
        """Delete a request that has ended."""
        self._requests.remove(found)
        self.release(entry)

    def over(self, *, now_ms: int) -> Sequence[AnswerEntry]:
        """Return the requests for which nobody waits any more."""
        entries = (parse_answer(item.key) for item in self._store.list(ANSWERS))
        return [entry for entry in entries if entry and entry.until_ms + _SPARE_MS < now_ms]

    def clean(self, entry: AnswerEntry) -> None:
        """Cancel a request for which nobody waits; delete it if it has ended."""
        found = self._requests.find(entry.request)
        if found is None:
            self.release(entry)
        elif self._requests.is_settled(found):
            self.remove(entry, found)
        else:
            self._requests.cancel(entry.request)
