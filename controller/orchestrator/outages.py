"""Outages: a store or a cluster that was available before is unavailable, for all runs of a command or for one.

Touches: only the clock that is passed in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chunk_job.store.base import StoreUnavailable
from controller.domain import policy as rules
from controller.domain.interfaces import Clock, Reporter
from controller.domain.policy import RetryPolicy
from controller.errors import ClusterUnavailable

_LONGEST_REST_S = 30.0
_PAUSE_MS, _LONGEST_PAUSE_MS = 1_000, 30_000

Unavailable = StoreUnavailable | ClusterUnavailable


class Outage:
    """A store or a cluster that is unavailable for every run. Waits as long as the policy allows; jobs continue."""

    def __init__(self, policy: RetryPolicy, reporter: Reporter, clock: Clock) -> None:
        self._policy = policy
        self._reporter = reporter
        self._clock = clock
        self._reached = False
        self._since_ms: int | None = None
        self._what = ""
        self.rest_s = 0.0
        """How long an overloaded server has asked clients to wait, in seconds, with an upper limit."""

    @property
    def lasts(self) -> bool:
        """Whether there is an outage now."""
        return self._since_ms is not None

    @property
    def of_store(self) -> bool:
        """Whether the store is unavailable now."""
        return self._since_ms is not None and self._what == "store"

    @property
    def of_cluster(self) -> bool:
        """Whether the cluster is unavailable now."""
        return self._since_ms is not None and self._what == "cluster"

    @contextlib.contextmanager
    def tolerated(self) -> Iterator[None]:
        """Run one tick of all runs and tolerate an outage. A failed tick can be repeated: every action is repeatable.

        Raises the error of the tick if the policy's patience is over, or if the server was never reached before.
        """
        self.rest_s = 0.0
        try:
            yield
        except (StoreUnavailable, ClusterUnavailable) as error:
            if isinstance(error, ClusterUnavailable):
                self.rest_s = min(error.retry_after_s, _LONGEST_REST_S)
                self._reached = self._reached or error.answered
            now_ms = self._clock.now_ms()
            begins = self._since_ms is None
            self._since_ms = now_ms if self._since_ms is None else self._since_ms
            self._what = "store" if isinstance(error, StoreUnavailable) else "cluster"
            # A server that never answered is more likely a wrong address than an outage.
            if not self._reached or not rules.patient(self._policy, since_ms=self._since_ms, now_ms=now_ms):
                raise
            if begins:
                patience_s = self._policy.store_patience_ms // 1000
                self._reporter.event(self._what, f"{error.summary}: waiting up to {patience_s} s for it to come back")
            return
        if self._since_ms is not None:
            away_s = (self._clock.now_ms() - self._since_ms) // 1000
            self._reporter.event(self._what, f"back after {away_s} s")
        self._reached, self._since_ms = True, None


class RunOutage:
    """An outage of one run alone, while other runs of the command can continue."""

    def __init__(self) -> None:
        self._since_ms: int | None = None
        self._due_ms = 0
        self._pause_ms = _PAUSE_MS

    @property
    def lasts(self) -> bool:
        """Whether the outage continues."""
        return self._since_ms is not None

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time to try again; also true if the clock was set back."""
        return self._since_ms is None or not 0 < self._due_ms - now_ms <= self._pause_ms

    def failed(self, error: Unavailable, policy: RetryPolicy, *, now_ms: int) -> Iterator[str]:
        """Record one more failure: the pause before the next try doubles. Yields what to report."""
        if self._since_ms is None:
            self._since_ms, self._pause_ms = now_ms, _PAUSE_MS
            yield f"{error.summary}: tried again for up to {policy.store_patience_ms // 1000} s, others continue"
        else:
            self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        self._due_ms = now_ms + self._pause_ms

    def is_too_long(self, policy: RetryPolicy, *, now_ms: int) -> bool:
        """Whether the outage has lasted longer than the policy allows."""
        return self._since_ms is not None and not rules.patient(policy, since_ms=self._since_ms, now_ms=now_ms)

    def over(self, now_ms: int) -> Iterator[str]:
        """Record that the outage is over. Yields what to report."""
        if self._since_ms is not None:
            yield f"back after {(now_ms - self._since_ms) // 1000} s"
        self._since_ms = None
