"""How many requests wait in the queue, and since when, as this replica knows it.

Touches: nothing. All methods may be called in any thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from controller.domain.service_keys import QueueEntry


class QueueCounts:
    """What the last listing of the queue has shown, and what this replica has accepted since."""

    def __init__(self) -> None:
        self._listed: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        """Requests of each tenant that this replica accepted since the last listing began."""
        self._oldest_ms: int | None = None
        self._lock = threading.Lock()

    def accepted(self, prefix: str) -> None:
        """Count a request that this replica has just put into the queue."""
        with self._lock:
            self._accepted[prefix] += 1

    def begin(self) -> None:
        """A listing begins: what is accepted while it lasts may be missing in it."""
        with self._lock:
            before, self._accepted = self._accepted, Counter()
            self._listed += before

    def listed(self, entries: Sequence[QueueEntry], claimed: Collection[str]) -> None:
        """Count what was listed. *claimed*: the ids of the requests that this replica works on."""
        waiting = [entry.created_ms for entry in entries if entry.request.id not in claimed]
        with self._lock:
            self._listed = Counter(entry.request.prefix for entry in entries)
            self._oldest_ms = min(waiting, default=None)

    def of(self, prefix: str) -> int:
        """Return how many requests of a tenant had not ended at the last listing, and were accepted here since."""
        with self._lock:
            return self._listed[prefix] + self._accepted[prefix]

    @property
    def by_tenant(self) -> Mapping[str, int]:
        """How many requests of each tenant had not ended at the last listing."""
        with self._lock:
            return dict(self._listed)

    def oldest_wait_s(self, now_ms: int) -> float:
        """Return for how long the oldest request without a worker has waited."""
        with self._lock:
            oldest_ms = self._oldest_ms
        return max(0.0, (now_ms - oldest_ms) / 1000) if oldest_ms is not None else 0.0
