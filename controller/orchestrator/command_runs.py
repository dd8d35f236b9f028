"""The runs of one command: the known ones, and the ones whose recordings are not identified yet.

Touches: nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from chunk_job.errors import JobError
from controller.domain.interfaces import RunOutcome, RunRequest, RunRequests
from controller.domain.progress import Progress, progress
from controller.errors import StenofleetError
from controller.orchestrator.reconciler import RunReconciler


class KnownRequests:
    """Runs that are known from the start."""

    def __init__(self, run_requests: Sequence[RunRequest]) -> None:
        self._left = deque(run_requests)
        self.taken: dict[str, RunRequest] = {}
        """The requests already taken, by run id."""

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return the next requests, at most *most*."""
        taken = [self._left.popleft() for _ in range(min(most, len(self._left)))]
        self.taken |= {run_request.record.run: run_request for run_request in taken}
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

    @property
    def exhausted(self) -> bool:
        """Whether all requests were taken."""
        return not self._left


class CommandRuns:
    """The runs of a command, in the order in which they were requested."""

    def __init__(self, requests: RunRequests, start: Callable[[RunRequest], RunReconciler]) -> None:
        self._requests = requests
        self._start = start
        self._runs: dict[str, RunReconciler] = {}
        self._given_up: list[RunOutcome] = []

    def __iter__(self) -> Iterator[RunReconciler]:
        return iter(self._runs.values())

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
        return [*(run.ended for run in self if run.ended is not None), *self._given_up]

    def admit(self, wanted: int) -> None:
        """Take more requests until there are *wanted* known runs in which no work was done yet."""
        fresh = sum(1 for run in self if run.fresh)
        for run_request in self._requests.take(max(0, wanted - fresh)):
            self._add(run_request)

    def more(self) -> Iterator[RunReconciler]:
        """Take further runs one by one, each when the iterator is advanced."""
        while run_requests := self._requests.take(1):
            yield self._add(run_requests[0])

    def _add(self, run_request: RunRequest) -> RunReconciler:
        known = self._runs.get(run_request.record.run)
        if known is None:
            known = self._runs[run_request.record.run] = self._start(run_request)
        else:
            # Files with equal content and equal options are one run, even if their names differ.
            known.add_outputs(run_request.request.outputs)
        return known

    def wait(self, seconds: float) -> None:
        """Wait until another run becomes known, at most *seconds*."""
        self._requests.wait(seconds)

    def progress(self, *, held: bool) -> list[Progress]:
        """Return the progress of every run. *held*: the store or the cluster is unavailable, so no run can continue."""
        return [*(run.progress(held=held) for run in self), *self._requests.unknown()]

    def give_up(self, error: JobError | StenofleetError) -> None:
        """End all remaining runs for this command with *error*: the store or the cluster cannot be reached."""
        for run in self:
            run.give_up(error, release=False)
        self._given_up = [
            RunOutcome(
                run="",
                name=unknown.name,
                verdict="failed",
                summary=error.summary,
                advice=error.advice,
                environment=True,
            )
            for unknown in self._requests.unknown()
        ]
