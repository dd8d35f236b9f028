"""Keeps documents of the store that are never changed, in bounded memory.

Touches: the store, the clock. All methods may be called in any thread.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chunk_job.document import Document
from chunk_job.store.base import ObjectMissing, Store
from controller.domain import stored_documents

MOST_BYTES = 2 << 20
"""Of all kept documents together, as the store has them: one to two thousand requests with their ends."""
_SHARE = 8
"""One that takes more than this part is not kept: it would take the place of hundreds of others."""
LIVES_S = 30.0
"""After this time, a document is read again. Whoever uses it knows from another object whether it still exists."""

_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True)
class _Entry:
    document: Document
    size_bytes: int
    until_s: float


class Kept:
    """The documents that were read last, by key. Keys contain the prefix of their tenant: nothing is shared."""

    def __init__(
        self, store: Store, *, most_bytes: int = MOST_BYTES, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """*most_bytes*: of all documents together, as the store has them."""
        self._store, self._most_bytes, self._now_s = store, most_bytes, now_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        """The one that was used longest ago comes first."""
        self._lock = threading.Lock()
        self.size_bytes = 0

    def find(self, kind: type[_D], key: str) -> _D | None:
        """Return the document under *key*, as it was at most LIVES_S ago; None if there is none.

        Raises :class:`~chunk_job.errors.DocumentInvalid`.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry and entry.until_s > self._now_s() and isinstance(entry.document, kind):
                self._entries.move_to_end(key)
                return entry.document
        try:
            data = self._store.get(key, max_bytes=kind.max_bytes)
        except ObjectMissing:
            self.forget(key)
            return None
        document = stored_documents.parse(kind, key, data)
        self._keep(key, _Entry(document, len(data), self._now_s() + LIVES_S))
        return document

    def forget(self, key: str) -> None:
        """Read the document under *key* again when it is asked for."""
        with self._lock:
            self._drop(key)

    def _keep(self, key: str, entry: _Entry) -> None:
        with self._lock:
            self._drop(key)
            if entry.size_bytes > self._most_bytes // _SHARE:
                return
            self._entries[key] = entry
            self.size_bytes += entry.size_bytes
            # What nobody has asked for since it expired goes too: it would only take memory.
            while self.size_bytes > self._most_bytes or self._first.until_s <= self._now_s():
                self._drop(next(iter(self._entries)))

    @property
    def _first(self) -> _Entry:
        return next(iter(self._entries.values()))

    def _drop(self, key: str) -> None:
        if entry := self._entries.pop(key, None):
            self.size_bytes -= entry.size_bytes
