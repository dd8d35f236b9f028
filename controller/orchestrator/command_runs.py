"""The runs of one command: those that are known, and those whose recordings are still to be identified.

Touches: nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from chunk_job.errors import JobError
from controller.domain.interfaces import RunRequests, Settled, Ticket
from controller.domain.progress import Progress, progress
from controller.errors import StenofleetError
from controller.orchestrator.reconciler import LoopRun


class KnownRequests:
    """Runs that are known from the start."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._left = deque(tickets)
        self.taken: dict[str, Ticket] = {}
        """Those that were taken, by run."""

    def take(self, most: int) -> Sequence[Ticket]:
        """The next ones."""
        taken = [self._left.popleft() for _ in range(min(most, len(self._left)))]
        self.taken |= {ticket.record.run: ticket for ticket in taken}
        return taken

    def wait(self, seconds: float) -> None:
        """Return at once: there is nothing to wait for."""
        del seconds

    def unknown(self) -> Sequence[Progress]:
        """Those that were not taken yet."""
        return [
            progress(
                None,
                name=ticket.record.name,
                run=ticket.record.run,
                size_bytes=ticket.record.size_bytes,
                seen="waiting",
                floor=0.0,
            )
            for ticket in self._left
        ]

    @property
    def exhausted(self) -> bool:
        """Whether all were taken."""
        return not self._left


class CommandRuns:
    """The runs of a command in the order they were asked for."""

    def __init__(self, requests: RunRequests, start: Callable[[Ticket], LoopRun]) -> None:
        self._requests = requests
        self._start = start
        self._runs: dict[str, LoopRun] = {}
        self._given_up: list[Settled] = []

    def __iter__(self) -> Iterator[LoopRun]:
        return iter(self._runs.values())

    @property
    def open(self) -> list[LoopRun]:
        """Those that are known and have not ended."""
        return [run for run in self if run.settled is None]

    def all_ended(self) -> bool:
        """Whether all of them have ended."""
        return self._requests.exhausted and not self.open

    @property
    def settled(self) -> list[Settled]:
        """How they ended."""
        return [*(run.settled for run in self if run.settled is not None), *self._given_up]

    def admit(self, wanted: int) -> None:
        """Take more requests, until *wanted* runs are known in which nothing was done yet."""
        fresh = sum(1 for run in self if run.fresh)
        for ticket in self._requests.take(max(0, wanted - fresh)):
            self._add(ticket)

    def more(self) -> Iterator[LoopRun]:
        """Further runs, taken one by one as they are asked for."""
        while tickets := self._requests.take(1):
            yield self._add(tickets[0])

    def _add(self, ticket: Ticket) -> LoopRun:
        known = self._runs.get(ticket.record.run)
        if known is None:
            known = self._runs[ticket.record.run] = self._start(ticket)
        else:
            # Equal content with equal options is one run, whatever the files are called.
            known.add_outputs(ticket.request.outputs)
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
            Settled(
                run="",
                name=unknown.name,
                verdict="failed",
                summary=error.summary,
                advice=error.advice,
                environment=True,
            )
            for unknown in self._requests.unknown()
        ]
