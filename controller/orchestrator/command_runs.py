"""The runs of one command: those that are known, and those whose recordings are still to be identified.

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
        """Those that were taken, by run."""

    def take(self, most: int) -> Sequence[RunRequest]:
        """The next ones."""
        taken = [self._left.popleft() for _ in range(min(most, len(self._left)))]
        self.taken |= {run_request.record.run: run_request for run_request in taken}
        return taken

    def wait(self, seconds: float) -> None:
        """Return at once: there is nothing to wait for."""
        del seconds

    def unknown(self) -> Sequence[Progress]:
        """Those that were not taken yet."""
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
        """Whether all were taken."""
        return not self._left


class CommandRuns:
    """The runs of a command in the order they were asked for."""

    def __init__(self, requests: RunRequests, start: Callable[[RunRequest], RunReconciler]) -> None:
        self._requests = requests
        self._start = start
        self._runs: dict[str, RunReconciler] = {}
        self._given_up: list[RunOutcome] = []

    def __iter__(self) -> Iterator[RunReconciler]:
        return iter(self._runs.values())

    @property
    def open(self) -> list[RunReconciler]:
        """Those that are known and have not ended."""
        return [run for run in self if run.ended is None]

    def all_ended(self) -> bool:
        """Whether all of them have ended."""
        return self._requests.exhausted and not self.open

    @property
    def ended(self) -> list[RunOutcome]:
        """How they ended."""
        return [*(run.ended for run in self if run.ended is not None), *self._given_up]

    def admit(self, wanted: int) -> None:
        """Take more requests, until *wanted* runs are known in which nothing was done yet."""
        fresh = sum(1 for run in self if run.fresh)
        for run_request in self._requests.take(max(0, wanted - fresh)):
            self._add(run_request)

    def more(self) -> Iterator[RunReconciler]:
        """Further runs, taken one by one as they are asked for."""
        while run_requests := self._requests.take(1):
            yield self._add(run_requests[0])

    def _add(self, run_request: RunRequest) -> RunReconciler:
        known = self._runs.get(run_request.record.run)
        if known is None:
            known = self._runs[run_request.record.run] = self._start(run_request)
        else:
            # Equal content with equal options is one run, whatever the files are called.
            known.add_outputs(run_request.request.outputs)
        return known

    def wait(self, seconds: float) -> None:
        """Wait for another run to become known, for so long at most."""
        self._requests.wait(seconds)

    def progress(self, *, held: bool) -> list[Progress]:
        """How far each of them is. *held*: something is away, and none of them can go on."""
        return [*(run.progress(held=held) for run in self), *self._requests.unknown()]

    def give_up(self, error: JobError | StenofleetError) -> None:
        """End all that are left for this command, because of what cannot be reached."""
        for run in self:
            run.give_up(error)
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
