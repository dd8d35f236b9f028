"""The runs of one command: the known ones, and the ones whose recordings are not identified yet.

Touches: nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from chunk_job.errors import JobError
from controller.domain.interfaces import RunOutcome, RunRequest, RunRequests
from controller.domain.progress import NO_TOTALS, Progress, Totals, progress, totals, totals_of_waiting
from controller.errors import StenofleetError
from controller.intake.source import shown
from controller.orchestrator.reconciler import RunReconciler


class KnownRequests:
    """Runs that are known from the start."""

    def __init__(self, run_requests: Sequence[RunRequest]) -> None:
        self._left = deque(run_requests)
        self._waiting = sum((totals_of_waiting(one.record.size_bytes) for one in run_requests), NO_TOTALS)
        self.taken: dict[str, RunRequest] = {}
        """The requests already taken, by run id."""

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return the next requests, at most *most*."""
        taken = [self._left.popleft() for _ in range(min(most, len(self._left)))]
        self.taken |= {run_request.record.run: run_request for run_request in taken}
        for one in taken:
            self._waiting -= totals_of_waiting(one.record.size_bytes)
        return taken

    def wait(self, seconds: float) -> None:
        """Return at once: there is nothing to wait for."""
        del seconds

    def unknown(self) -> Sequence[Progress]:
        """Return the progress of the requests that were not taken yet."""
        return [
            progress(
                None,
                name=run_request.record.name,
                run=run_request.record.run,
                size_bytes=run_request.record.size_bytes,
                seen="waiting",
                floor=0.0,
            )
            for run_request in self._left
        ]

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        """Return the totals of the requests that were not taken yet; none is being read."""
        return (), self._waiting

    @property
    def exhausted(self) -> bool:
        """Whether all requests were taken."""
        return not self._left


class CommandRuns:
    """The runs of a command, in the order in which they were requested.

    Of a run that has ended only its outcome is kept: there may be ten thousand.
    """

    def __init__(
        self,
        requests: RunRequests,
        start: Callable[[RunRequest], RunReconciler],
        on_end: Callable[[RunOutcome], None] = lambda _: None,
        *,
        keeps_outcomes: bool = True,
    ) -> None:
        """*on_end*: called with each outcome, once its run has ended.

        It is called again for a recording of equal content that comes later, with the files of that one alone. Without
        *keeps_outcomes*, a run that comes again after its end is worked on again.
        """
        self._keeps_outcomes = keeps_outcomes
        self._requests = requests
        self._start = start
        self._on_end = on_end
        self._runs: dict[str, RunReconciler] = {}
        """The runs that have not ended, and those that have just ended."""
        self._outcomes: dict[str, RunOutcome | None] = {}
        """By run, in the order of the requests; None if it has not ended."""
        self._same: dict[str, list[RunRequest]] = {}
        """By run that has not ended: later requests of it, for recordings of equal content."""
        self._without: list[RunOutcome] = []
        """Of recordings whose run failed for another one of equal content, or was not begun."""
        self._just_ended: list[Progress] = []
        self._ended = NO_TOTALS

    def __iter__(self) -> Iterator[RunReconciler]:
        return iter(list(self._runs.values()))

    @property
    def open(self) -> list[RunReconciler]:
        """The known runs that have not ended."""
        return [run for run in self if run.ended is None]

    def all_ended(self) -> bool:
        """Whether every run of the command has ended."""
        return self._requests.exhausted and not self.open

    @property
    def ended(self) -> list[RunOutcome]:
        """The outcomes of the runs that have ended."""
        return [*filter(None, self._outcomes.values()), *self._without]

    def admit(self, wanted: int) -> None:
        """Take more requests until there are *wanted* known runs in which no work was done yet."""
        fresh = sum(1 for run in self if run.fresh)
        for run_request in self._requests.take(max(0, wanted - fresh)):
            self._add(run_request)

    def more(self) -> Iterator[RunReconciler]:
        """Take further runs one by one, each when the iterator is advanced."""
        while run_requests := self._requests.take(1):
            if added := self._add(run_requests[0]):
                yield added

    def _add(self, run_request: RunRequest) -> RunReconciler | None:
        """Return the run; None if it has failed before."""
        run = run_request.record.run
        self.settle()
        known = self._runs.get(run)
        if known is not None:
            # Files with equal content and equal options are one run, even if their names differ.
            known.add_outputs(run_request.request.outputs)
            self._same.setdefault(run, []).append(run_request)
            return known
        before = self._outcomes.setdefault(run, None)
        if before is not None and before.verdict not in ("complete", "partial"):
            self._end_alike(before, [run_request])
            return None
        self._runs[run] = added = self._start(run_request)
        if before is not None:
            added.write_again(before)
        return added

    def settle(self) -> None:
        """Let go of the runs that have ended since the last call."""
        for run in self:
            if run.ended is not None:
                self._settle(run, run.ended)

    def _settle(self, run: RunReconciler, outcome: RunOutcome) -> None:
        before = self._outcomes[run.id]
        self._outcomes[run.id] = outcome
        if not self._keeps_outcomes:
            del self._outcomes[run.id]
        del self._runs[run.id]
        same = self._same.pop(run.id, [])
        if before is None:
            self._just_ended.append(run.progress())
            self._on_end(outcome)
            if outcome.verdict not in ("complete", "partial"):
                self._end_alike(outcome, same)
            return
        count = len(before.files)
        if outcome.files[:count] != before.files:
            # Its transcript was missing from the store, so that the run was done again.
            self._outcomes[run.id] = replace(outcome, files=before.files + outcome.files)
            count = 0
        # Only what came since: the rest was reported when the run ended.
        self._on_end(
            replace(
                outcome,
                name=run.name,
                source=run.source,
                files=outcome.files[count:],
                warnings=outcome.warnings[len(before.warnings) :],
                kept=outcome.kept[len(before.kept) :],
            )
        )

    def _end_alike(self, outcome: RunOutcome, same: Sequence[RunRequest]) -> None:
        """Report recordings that have the content of one that failed: nobody else names them."""
        for run_request in same:
            source = shown(run_request.request.source)
            summary = outcome.summary.replace(outcome.source, source) if outcome.source else outcome.summary
            alike = replace(outcome, name=run_request.record.name, source=source, summary=summary, warnings=())
            if alike.source != outcome.source:
                if self._keeps_outcomes:
                    self._without.append(alike)
                self._on_end(alike)

    def wait(self, seconds: float) -> None:
        """Wait until another run becomes known, at most *seconds*."""
        self._requests.wait(seconds)

    def progress(self, *, held: bool) -> tuple[list[Progress], Totals]:
        """Return the progress of the runs that are worked on or have ended since the last call, and of all others.

        *held*: the store or the cluster is unavailable, so no run can continue.
        """
        reading, waiting = self._requests.progress()
        before, ended = self._ended, self._just_ended
        self._ended, self._just_ended = sum(map(totals, ended), before), []
        # A run that writes more outputs has ended and is counted already.
        at_work = [run.progress(held=held) for run in self if self._outcomes[run.id] is None]
        return [*ended, *at_work, *reading], before + waiting

    def give_up(self, error: JobError | StenofleetError) -> None:
        """End all remaining runs for this command with *error*: the store or the cluster cannot be reached."""
        for run in self:
            run.give_up(error, release=False)
        self.settle()
        for unknown in self._requests.unknown():
            self._without.append(_not_begun(unknown.name, error))
            self._on_end(self._without[-1])


def _not_begun(name: str, error: JobError | StenofleetError) -> RunOutcome:
    return RunOutcome(run="", name=name, verdict="failed", summary=error.summary, advice=error.advice, environment=True)
