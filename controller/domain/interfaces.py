"""The interfaces of the run loop: leadership, runner, clock, reporter; its requests and its outcomes.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from controller.domain.documents import Request, RunRecord
from controller.domain.jobs import Job, JobView
from controller.domain.progress import NO_TOTALS, Progress, Totals
from controller.domain.shares import NO_SHARE, Share
from controller.domain.written_output import WrittenRecord

LeaseState = Literal["leading", "following", "undecided"]
"""*undecided*: it will be known in a few seconds whether this process leads."""


class Leadership(Protocol):
    """Decides which process works on a run: at most one in a lock domain (a machine, a cluster, a store).

    Each method may raise :class:`StoreUnavailable` or :class:`ClusterUnavailable` while the place of the lock cannot
    be reached; each can be repeated safely.
    """

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Take or renew leadership of *run* if no other process has it. Returns whether this process leads."""

    def check(self, run: str) -> None:
        """Check before each change: raises one of these errors if another process may lead *run* by now."""

    def domain(self, run: str) -> str:
        """Return a name for the lock domain: a process of this domain that led *run* before has lost leadership."""

    def cancelled(self, run: str) -> bool:
        """Whether *run* was cancelled by deleting its lock object."""

    def observe(self, runs: Collection[str]) -> None:
        """Note the leases of *runs*, which other processes lead: one that expires can be taken at once then.

        Called regularly with all runs that this process may take over; may run while the loop is busy.
        """

    def release(self, run: str, *, ended: bool) -> None:
        """Stop leading *run*. *ended*: the run has ended, so no process needs to continue it."""

    def close(self) -> None:
        """Release all remaining runs; their jobs are not changed."""


class Runner(Protocol):
    """Where jobs run. Only ``wait`` blocks.

    Each method may raise :class:`ClusterUnavailable` while the runner cannot be reached; each can be repeated safely.
    """

    kind: str
    """The value of ``--runner`` for it."""
    jobs_stay: bool
    """Whether its jobs continue when the process that started them ends."""
    tick_s: float
    """Pause between two ticks, in seconds."""
    burst: int
    """The most jobs to start in one tick."""

    @property
    def leadership(self) -> Leadership:
        """The leadership among all processes that can start jobs in the same place; held before a run's jobs change."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def observe(self) -> list[JobView]:
        """Return every job that was not deleted."""

    def wait(self, seconds: float) -> None:
        """Wait *seconds*; may return early if the state of a job changes."""

    def delete(self, view: JobView) -> None:
        """Stop a job and remove it; its results stay in the store."""

    def abandon(self, run: str) -> None:
        """Stop the jobs of *run* that only this process controls: another process leads the run now."""

    def release(self, run: str) -> None:
        """Remove what is left of *run* on this runner: the run has ended."""

    def close(self, *, leave: bool) -> None:
        """Close the runner. *leave*: jobs that can run without this process continue; otherwise all stop."""


class Stopped(BaseException):
    """Raised when the loop has not reacted to a signal in time: it interrupts the current step.

    Not an :class:`Exception`, so that no handler of exceptions catches it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Clock(Protocol):
    """The source of time and signals. It may raise :class:`Stopped` at any point of the loop's work."""

    def now_ms(self) -> int:
        """Return the time since the epoch."""

    def signal(self) -> int | None:
        """Return the signal that asks this process to stop, if one was received."""

    def rest(self, wait: Callable[[], None]) -> None:
        """Call *wait*; a signal may end it early."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run to work on, and what the command requested for it."""

    record: RunRecord
    request: Request
    round: str = ""
    """Identifies the command, if it is restarted after a crash: the round continues. Empty: a new round if needed."""
    overwrite: bool = False
    """Whether outputs that were changed by a person are replaced."""
    written: WrittenRecord | None = None
    """What was written to outputs before; None: not known."""
    share: Share = NO_SHARE
    """To whom it belongs, where tenants share the jobs."""


RunVerdict = Literal["complete", "partial", "failed", "cancelled"]


class RunRequests(Protocol):
    """The runs that a command requests. They become known while it works: to know one, a recording may be read."""

    @property
    def taken(self) -> Mapping[str, object]:
        """The ids of the runs whose requests were taken."""

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return up to *most* of the next known requests. The same run may come again, with other outputs."""

    def wait(self, seconds: float) -> None:
        """Wait until another request becomes known, at most *seconds*."""

    def unknown(self) -> Sequence[Progress]:
        """Return the progress of every recording whose request was not taken yet."""

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        """Return the progress of those that are being read now, and the totals of the others. Called every tick."""

    @property
    def exhausted(self) -> bool:
        """Whether all requests were taken."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended. *files* were written; *environment*: the cause of a failure is not the media."""

    run: str
    name: str
    verdict: RunVerdict
    summary: str
    advice: str = ""
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    environment: bool = False
    source: str = ""
    """Path or URL of the recording; empty if it did not become a run."""
    kept: tuple[str, ...] = ()
    """Outputs that were left unchanged, because a person may have changed them or they are better."""


class Reporter(Protocol):
    """Receives what the loop reports."""

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Report an event for people: of the recording called *name*, or with the id *run* empty of what it names."""

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        """Show the progress of the runs that are worked on or have just ended, and of all *others*.

        Called every tick.
        """
