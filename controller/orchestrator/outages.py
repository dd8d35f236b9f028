"""What is away: a store or a cluster that answered before, for all runs of a command or for one of them.

Touches: nothing but the clock that it is given.
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
    """A store or a cluster that stops answering every run: waited for as the policy says. Jobs continue meanwhile."""

    def __init__(self, policy: RetryPolicy, reporter: Reporter, clock: Clock) -> None:
        self._policy = policy
        self._reporter = reporter
        self._clock = clock
        self._reached = False
        self._since_ms: int | None = None
        self._what = ""
        self.rest_s = 0.0
        """How long a server that is too busy has asked to be left alone, within reason."""

    @property
    def lasts(self) -> bool:
        """Whether anything is away now."""
        return self._since_ms is not None

    @property
    def of_store(self) -> bool:
        """Whether the store is away now."""
        return self._since_ms is not None and self._what == "store"

    @property
    def of_cluster(self) -> bool:
        """Whether the cluster is away now."""
        return self._since_ms is not None and self._what == "cluster"

    @contextlib.contextmanager
    def bridged(self) -> Iterator[None]:
        """One tick of all runs. One that fails half-way is safe to repeat: every action is.

        Raises what the tick raised once the policy's patience is over, or where nothing was ever reached.
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
            # What never answered is a wrong address rather than an outage.
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
    """Something that one run needs and that is away, while other runs of the command have what they need."""

    def __init__(self) -> None:
        self._since_ms: int | None = None
        self._due_ms = 0
        self._pause_ms = _PAUSE_MS

    @property
    def lasts(self) -> bool:
        """Whether it is away now."""
        return self._since_ms is not None

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time to try again; also where the clock was set back."""
        return self._since_ms is None or not 0 < self._due_ms - now_ms <= self._pause_ms

    def failed(self, error: Unavailable, policy: RetryPolicy, *, now_ms: int) -> Iterator[str]:
        """One more failure: the pause before the next try doubles. What to report of it."""
        if self._since_ms is None:
            self._since_ms, self._pause_ms = now_ms, _PAUSE_MS
            yield f"{error.summary}: tried again for up to {policy.store_patience_ms // 1000} s, others continue"
        else:
            self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        self._due_ms = now_ms + self._pause_ms

    def is_too_long(self, policy: RetryPolicy, *, now_ms: int) -> bool:
        """Whether it is not waited for any longer."""
        return self._since_ms is not None and not rules.patient(policy, since_ms=self._since_ms, now_ms=now_ms)

    def over(self, now_ms: int) -> Iterator[str]:
        """It answers again. What to report of it."""
        if self._since_ms is not None:
            yield f"back after {(now_ms - self._since_ms) // 1000} s"
        self._since_ms = None
