"""What is reported of one run while it is worked on: waits and their end, failures, retries.

Touches: nothing but the reporter that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from controller.domain.actions import Delete
from controller.domain.budgets import WAITED_FOR
from controller.domain.failures import Diagnosis
from controller.domain.interfaces import Reporter
from controller.domain.jobs import JobView

_LONG_MS = 30_000
"""A wait as long as this is news again when it comes back."""


class Waits:
    """Remembers what was reported of one run's waiting jobs."""

    def __init__(self) -> None:
        self._reported: set[str] = set()
        self._jobs: set[str] = set()
        """Names of jobs that waited, and were not seen to start yet."""
        self._since_ms: int | None = None

    def news(self, jobs: Sequence[JobView], now_ms: int) -> Iterator[str]:
        """What to report now: each reason once for the whole run, whichever of its jobs waits and however often.

        The end is reported when nothing waits any more and one of those that did has started.
        """
        for view in jobs:
            # How many nodes or GPUs lack just now makes no other reason of it.
            reason = re.sub(r"\d+", "#", view.waits_for)
            if reason and reason not in self._reported:
                self._reported.add(reason)
                yield f"{subject(view.span)} waits: {view.waits_for}"
        waiting = {view.name for view in jobs if view.waits_for}
        if waiting:
            self._jobs |= waiting
            self._since_ms = now_ms if self._since_ms is None else self._since_ms
        else:
            yield from self._ended(jobs, now_ms)

    def _ended(self, jobs: Sequence[JobView], now_ms: int) -> Iterator[str]:
        started = [view for view in jobs if view.name in self._jobs and view.phase in ("starting", "running")]
        waited_ms = 0 if self._since_ms is None else max(0, now_ms - self._since_ms)
        if started:
            yield f"nothing waits any more: {subject(started[0].span)} starts after {waited_ms // 1000} s"
            if waited_ms >= _LONG_MS:
                self._reported.clear()
            self._jobs, self._since_ms = set(), None
        elif not self._jobs.intersection(view.name for view in jobs):
            # They have failed or are gone, which is reported by itself.
            self._jobs, self._since_ms = set(), None


class RunEvents:
    """Reports the events of one run under its name."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self._reporter = reporter
        self._name = name
        self._waits = Waits()
        self._remedies: set[str] = set()

    def report(self, *texts: str) -> None:
        """Report each of *texts*."""
        for text in texts:
            self._reporter.event(self._name, text)

    def observed(self, jobs: Sequence[JobView], refused: Iterable[str], now_ms: int) -> None:
        """Report which jobs wait and for what, and which objects were *refused*."""
        self.report(*self._waits.news(jobs, now_ms), *refused)

    def failed(self, delete: Delete) -> None:
        """Report that an attempt failed, and once what would help."""
        if delete.failure:
            what = f"{subject(delete.view.span)}, attempt {delete.view.attempt}"
            self.report(f"{what} failed ({delete.failure.failure}): {delete.failure.summary}")
            self._report_remedy(delete.failure)

    def _report_remedy(self, failure: Diagnosis) -> None:
        """Attempts wait longer and longer for this to be done."""
        if failure.failure in WAITED_FOR and failure.advice and failure.failure not in self._remedies:
            self._remedies.add(failure.failure)
            self.report(
                f"waits for the cause of {failure.failure} to go, and is tried again for a while: {failure.advice}"
            )


def subject(span: int | None) -> str:
    """What a job works on, for messages."""
    return "cutting" if span is None else f"chunk {span}"
