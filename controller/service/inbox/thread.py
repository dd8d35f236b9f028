"""Looks into all inboxes and delivers ends, in one thread.

Touches: the stores, a thread, the clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from chunk_job.errors import JobError
from chunk_job.store.base import StoreUnavailable
from controller.errors import StenofleetError
from controller.service.context import Service
from controller.service.inbox.budget import Pause
from controller.service.inbox.places import Place
from controller.service.inbox.watching import TenantInbox
from controller.service.metrics import Metrics

_SOON_S = 5.0
"""Until objects of events are looked at again, for which the queue had no place."""
_ENDS_EVERY_S = 60.0
"""How often the store is asked for ends that no process has delivered."""
_SHARE = 10
"""A look at a folder takes at most one part of so many of the time."""

_LOG = logging.getLogger(__name__)


class InboxThread:
    """The inboxes of all tenants, as one replica sees them."""

    def __init__(
        self,
        service: Service,
        *,
        is_mine: Callable[[str], bool],
        metrics: Metrics,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """*is_mine*: whether this replica is the one that looks into an inbox."""
        self._service, self._noted = service, service.noted
        self._settings = service.noted.settings
        self._is_mine, self._metrics, self._now_s = is_mine, metrics, now_s
        self._inboxes: dict[str, TenantInbox] = {}
        """By the prefix of the tenant, as the other fields."""
        self._due_s: dict[str, float] = {}
        self._ends_due_s: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="inbox", daemon=True)

    def start(self) -> None:
        """Look into the inboxes in a thread, until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop after what is being done. Another process continues from there."""
        self._closed.set()
        self._noted.woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _keep(self) -> None:
        while not self._closed.is_set():
            wait_s = self.tick()
            self._noted.woken.wait(wait_s)
            self._noted.woken.clear()

    def tick(self) -> float:
        """Do what is due. Returns the seconds until something is due again."""
        found = self._noted.places()
        for prefix in self._inboxes.keys() - found.keys():
            del self._inboxes[prefix]
        for prefix, place in found.items():
            if not self._closed.is_set():
                self._try(prefix, partial(self._turn, prefix, place))
        soonest_s = min((self._due_s[prefix] for prefix in found if prefix in self._due_s), default=None)
        wait_s = self._settings.poll_s if soonest_s is None else max(0.0, soonest_s - self._now_s())
        return min(wait_s, _SOON_S) if self._noted.has_paths() else wait_s

    def _try(self, prefix: str, do: Callable[[], None]) -> None:
        """Do it. What one inbox lacks is no concern of the others; each problem is logged once."""
        try:
            do()
        except (JobError, StenofleetError) as error:
            self._due_s[prefix] = self._now_s() + self._settings.poll_s
            if self._problems.get(prefix) != error.summary:
                _LOG.warning("inbox of %s: %s; %s", prefix, error.summary, error.advice)
            self._problems[prefix] = error.summary
        except Exception:  # noqa: BLE001 (without this thread no inbox is looked into)
            self._due_s[prefix] = self._now_s() + self._settings.poll_s
            _LOG.exception("inbox of %s", prefix)

    def _turn(self, prefix: str, place: Place) -> None:
        inbox = self._inboxes.get(prefix)
        if inbox is None or inbox.place != place:
            inbox = self._inboxes[prefix] = TenantInbox(
                place,
                self._service,
                self._settings,
                now_s=self._now_s,
                submitted=self._metrics.inbox_of(prefix).submit,
                is_closed=self._closed.is_set,
            )
        is_mine = self._is_mine(f"inbox/{prefix}")
        self._deliver(inbox, prefix, is_mine=is_mine)
        spent, now_s = inbox.budget.spent, self._now_s()
        try:
            self._look_at_noted(inbox, prefix)
            if now_s >= self._due_s.get(prefix, now_s):
                self._due_s[prefix] = now_s + (self._look(inbox) if is_mine else self._settings.poll_s)
        finally:
            passed = inbox.passed
            self._metrics.inbox_of(prefix).looked(
                inbox.budget.spent - spent, passed.objects if passed else None, passed.seconds if passed else 0.0
            )
        self._problems.pop(prefix, None)

    def _look_at_noted(self, inbox: TenantInbox, prefix: str) -> None:
        """Look at the objects of events, on whichever replica they have come."""
        paths, looked = self._noted.take_paths(prefix), 0
        try:
            for path in paths:
                try:
                    inbox.look_at(path)
                except StoreUnavailable:
                    raise
                except JobError as error:
                    _LOG.warning("inbox of %s: an object of an event: %s", prefix, error.summary)
                looked += 1
        except Pause:
            _LOG.info("inbox of %s: %d objects of events wait", prefix, len(paths) - looked)
        finally:
            for path in paths[looked:]:
                self._noted.note(prefix, path, wake=False)

    def _look(self, inbox: TenantInbox) -> float:
        """Continue the look at everything. Returns the seconds until the next turn."""
        began_s = self._now_s()
        if inbox.turn():
            return 0.0
        took_s = self._now_s() - began_s
        return took_s + max(self._settings.poll_s, _SHARE * took_s)

    def _deliver(self, inbox: TenantInbox, prefix: str, *, is_mine: bool) -> None:
        """Deliver the ends that this process has recorded, and now and then those of others."""
        waiting = dict.fromkeys(self._noted.take_ends(prefix))
        now_s = self._now_s()
        if is_mine and now_s >= self._ends_due_s.get(prefix, now_s):
            self._ends_due_s[prefix] = now_s + _ENDS_EVERY_S
            waiting |= dict.fromkeys(inbox.delivery.waiting())
        for ended in waiting:
            try:
                inbox.delivery.deliver(ended)
            except (JobError, StenofleetError) as error:
                # It is in the store, and is found there again.
                _LOG.warning("inbox of %s: request %s is delivered later: %s", prefix, ended.request, error.summary)
