"""Which webhook is sent next: limits for each tenant and receiver, so that none of them waits for another.

Touches: nothing. All methods may be called in any thread.
"""

from __future__ import annotations

import threading
from collections import Counter, deque

from controller.service.outbox import Pending, Receiver

AT_ONCE = 8
"""Attempts that run at the same time."""
AT_ONCE_OF_TENANT = 4
AT_ONCE_TO_RECEIVER = 2
MOST_OF_TENANT = 1_000
"""Deliveries that are taken from the store, waiting or running."""
MOST_TO_RECEIVER = 50


class AttemptQueue:
    """The deliveries that were taken from the store."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        """Protects the fields below."""
        self._closed = False
        self._waiting: dict[Receiver, deque[Pending]] = {}
        """The receiver that was served last is the last one."""
        self._running: set[Pending] = set()
        self._receivers: Counter[Receiver] = Counter()
        self._tenants: Counter[str] = Counter()
        """Both count what is running."""
        self._taken: dict[str, set[Pending]] = {}
        """What is waiting or running, by tenant."""

    def offer(self, pending: Pending) -> bool:
        """Add *pending*, unless it is here already or its receiver has enough.

        Returns False if its tenant has enough.
        """
        with self._changed:
            taken = self._taken.setdefault(pending.prefix, set())
            if self._closed or len(taken) >= MOST_OF_TENANT:
                return False
            waiting = self._waiting.get(pending.receiver, ())
            if pending not in taken and len(waiting) < MOST_TO_RECEIVER:
                self._waiting.setdefault(pending.receiver, deque()).append(pending)
                taken.add(pending)
            return True

    def take(self) -> Pending | None:
        """Return the next delivery that may be sent now; None if there is none or the limits are reached.

        It is one of the tenant with the fewest running attempts, for the receiver that was served least recently.
        """
        with self._changed:
            free = [] if self._closed or len(self._running) >= AT_ONCE else self._free()
            if not free:
                return None
            receiver = min(free, key=lambda each: self._tenants[each[0]])
            waiting = self._waiting.pop(receiver)
            pending = waiting.popleft()
            if waiting:
                self._waiting[receiver] = waiting
            self._count(pending, 1)
            self._running.add(pending)
            return pending

    def done(self, pending: Pending) -> None:
        """End the attempt of a delivery that :meth:`take` returned."""
        with self._changed:
            self._running.discard(pending)
            self._count(pending, -1)
            taken = self._taken[pending.prefix]
            taken.discard(pending)
            if not taken:
                del self._taken[pending.prefix]
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is waiting or running. Returns False if *timeout_s* is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running and not self._waiting, timeout_s)

    def close(self) -> None:
        """Drop what is waiting, and add nothing any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _free(self) -> list[Receiver]:
        return [
            each
            for each in self._waiting
            if self._tenants[each[0]] < AT_ONCE_OF_TENANT and self._receivers[each] < AT_ONCE_TO_RECEIVER
        ]

    def _count(self, pending: Pending, change: int) -> None:
        self._receivers[pending.receiver] += change
        self._tenants[pending.prefix] += change
        # Without the zeros: there may be any number of receivers in time.
        self._receivers += Counter()
        self._tenants += Counter()
