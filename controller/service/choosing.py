"""Which requests of the queue a replica begins: fairly between tenants, and those that it should take.

Touches: nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from controller.domain.service_keys import QueueEntry

LEFT_FOR_S = 4.0
"""How long a request may wait for the replica that should take it, before any other one takes it."""
AGAIN_S = 15.0
"""Pause before a request is identified again, if its recording could not be reached."""
PATIENCE_S = 3_600.0
"""How long a recording may be out of reach before its request fails; it can be tried again then."""

_SPARE_RUNS = 2
"""Requests of a tenant that are ready for the next intakes."""


class Chooser:
    """Remembers since when requests wait, as long as they do."""

    def __init__(self, is_mine: Callable[[str], bool], *, max_parallel: int) -> None:
        """*is_mine*: whether this replica should take a request. *max_parallel*: the most chunk jobs at a time."""
        self._is_mine = is_mine
        # Of recordings with one chunk, as many are cut as are transcribed.
        self._most_of_tenant = 2 * max_parallel + _SPARE_RUNS
        self._seen_s: dict[str, float] = {}
        """By id: when a request without a worker was first seen."""
        self._postponed: dict[str, tuple[float, float]] = {}
        """By id: since when its recording cannot be reached, and when that is tried again."""
        self._lock = threading.Lock()
        """Protects what is postponed: the threads that identify recordings share it."""

    def postpone(self, request_id: str, *, now_s: float) -> bool:
        """Leave a request out for a while. Returns False if that lasts too long already."""
        with self._lock:
            since_s = self._postponed.get(request_id, (now_s, 0.0))[0]
            self._postponed[request_id] = (since_s, now_s + AGAIN_S)
            return now_s - since_s < PATIENCE_S

    def chosen(
        self, free: Sequence[QueueEntry], claimed: Mapping[str, int], room: int, *, now_s: float
    ) -> list[QueueEntry]:
        """Return up to *room* of the *free* requests, in the order of the queue for each tenant.

        *claimed*: how many requests of each tenant this replica works on.
        """
        of_tenant = self._due(free, now_s)
        numbers = dict(claimed)
        chosen: list[QueueEntry] = []
        while room > len(chosen):
            prefixes = [
                name for name, left in of_tenant.items() if left and numbers.get(name, 0) < self._most_of_tenant
            ]
            if not prefixes:
                break
            prefix = min(prefixes, key=lambda name: numbers.get(name, 0))
            chosen.append(of_tenant[prefix].popleft())
            numbers[prefix] = numbers.get(prefix, 0) + 1
        return chosen

    def _due(self, free: Sequence[QueueEntry], now_s: float) -> dict[str, deque[QueueEntry]]:
        """Return by tenant what this replica may begin now."""
        ids = {entry.request.id for entry in free}
        self._seen_s = {name: self._seen_s.get(name, now_s) for name in ids}
        with self._lock:
            # One that is identified just now is not free, and must not be forgotten.
            old_s = now_s - PATIENCE_S
            self._postponed = {
                name: times for name, times in self._postponed.items() if name in ids or times[1] > old_s
            }
            waiting = {name for name, (_, due_s) in self._postponed.items() if due_s > now_s}
        found: dict[str, deque[QueueEntry]] = {}
        for entry in free:
            name = entry.request.id
            mine = self._is_mine(name) or now_s - self._seen_s[name] >= LEFT_FOR_S
            if mine and name not in waiting:
                found.setdefault(entry.request.prefix, deque()).append(entry)
        return found
