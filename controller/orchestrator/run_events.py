"""Reports the events of one run: waits and their end, failures, retries.

Touches: only the reporter that is passed in.
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
"""After a wait of at least this time, the same reasons are reported again."""


class Waits:
    """Remembers what was already reported about one run's waiting jobs."""

    def __init__(self, reported: set[str]) -> None:
        """*reported*: the reasons that this run, or any run that shares this set, has reported."""
        self._reported = reported
        self._tells = False
        """Whether this run has reported the reason of the wait that lasts, and so reports its end."""
        self._jobs: set[str] = set()
        """Names of jobs that waited and have not started yet."""
        self._since_ms: int | None = None

    def news(self, jobs: Sequence[JobView], now_ms: int) -> Iterator[str]:
        """Yield what to report now: each reason once for all runs that share them, not once for each job.

        The run that has reported a reason reports the end, when none of its jobs waits any more and one of them has
        started.
        """
        for view in jobs:
            # The same reason with another number of nodes or GPUs counts as the same reason.
            reason = re.sub(r"\d+", "#", view.waits_for)
            if reason and reason not in self._reported:
                self._reported.add(reason)
                self._tells = True
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
            if self._tells:
                yield f"no job waits any more: {subject(started[0].span)} starts after {waited_ms // 1000} s"
                if waited_ms >= _LONG_MS:
                    self._reported.clear()
            self._tells, self._jobs, self._since_ms = False, set(), None
        elif not self._jobs.intersection(view.name for view in jobs):
            # They have failed or were deleted, which is reported separately.
            self._jobs, self._since_ms = set(), None


class RunEvents:
    """Reports the events of one run under its name."""

    def __init__(self, reporter: Reporter, waits: set[str] | None, run: str, name: str) -> None:
        """*waits*: reasons for waits that the runs of a command have reported; None: this run reports its own."""
        self._reporter = reporter
        self._run = run
        self._name = name
        self._waits = Waits(set() if waits is None else waits)
        self._remedies: set[str] = set()

    def report(self, *texts: str) -> None:
        """Report each of *texts*."""
        for text in texts:
            self._reporter.event(self._name, text, run=self._run)

    def observed(self, jobs: Sequence[JobView], news: Iterable[str], now_ms: int) -> None:
        """Report which jobs wait and why, and the *news* of the repository."""
        self.report(*self._waits.news(jobs, now_ms), *news)

    def failed(self, delete: Delete) -> None:
        """Report that an attempt failed, and once for each failure class what to do."""
        if delete.failure:
            what = f"{subject(delete.view.span)}, attempt {delete.view.attempt}"
            self.report(f"{what} failed ({delete.failure.failure}): {delete.failure.summary}")
            self._report_remedy(delete.failure)

    def _report_remedy(self, failure: Diagnosis) -> None:
        """Report what a person may have to do; attempts are repeated with growing pauses until then."""
        if failure.failure in WAITED_FOR and failure.advice and failure.failure not in self._remedies:
            self._remedies.add(failure.failure)
            self.report(
                f"it is tried again for a while, until the cause of {failure.failure} is fixed: {failure.advice}"
            )


def subject(span: int | None) -> str:
    """Return what a job works on, for messages."""
    return "cutting" if span is None else f"chunk {span}"
