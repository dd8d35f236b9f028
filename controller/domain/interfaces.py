"""What the loop meets at its edges: where jobs run, who is told, what the time is; what comes in and what goes out.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from controller.domain.documents import Request, RunRecord
from controller.domain.jobs import Job, JobView
from controller.domain.progress import Progress

LeaseState = Literal["leading", "following", "undecided"]
"""*undecided*: whether this process leads will be known in a moment."""


class Leadership(Protocol):
    """Which process works on a run: of all that share a lock domain (a machine, a cluster, a store), at most one does.

    Where what it is kept in cannot be reached for a while, each may raise :class:`StoreUnavailable` or
    :class:`ClusterUnavailable`; all are safe to repeat.
    """

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Whether this process works on *run*, which it takes where nobody does."""

    def check(self, run: str) -> None:
        """Raises the same where another process may lead *run* by now. Asked before anything is changed."""

    def domain(self, run: str) -> str:
        """A name for the lock domain: who led *run* from this domain before us, and leads no more, has ended."""

    def cancelled(self, run: str) -> bool:
        """Whether somebody has ended *run* by deleting what is held for it."""

    def release(self, run: str, *, ended: bool) -> None:
        """Lead *run* no more. *ended*: nothing will be done for it any more, by anybody."""

    def close(self) -> None:
        """Release every run that was not; their jobs are left as they are."""


class Runner(Protocol):
    """Where jobs run. None of these blocks but ``wait``.

    Where a runner cannot be reached for a while, each may raise :class:`ClusterUnavailable`; all are safe to repeat.
    """

    kind: str
    """As ``--runner`` names it."""
    tick_s: float
    """How long to rest between two looks."""
    burst: int
    """Jobs it may be asked to start at one look."""

    @property
    def leadership(self) -> Leadership:
        """Of all that can start jobs where this runner does; held for a run before anything is asked of it."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def observe(self) -> list[JobView]:
        """Every job not deleted yet."""

    def wait(self, seconds: float) -> None:
        """Rest; may return early when something happens."""

    def delete(self, view: JobView) -> None:
        """Stop and forget a job; results stay."""

    def abandon(self, run: str) -> None:
        """Somebody else leads *run* now: stop what only this process looks after."""

    def release(self, run: str) -> None:
        """Remove what is left of *run* here: it has ended."""

    def close(self, *, leave: bool) -> None:
        """Jobs go on (*leave*) where they can without this process, else stop."""


class Stopped(BaseException):
    """A signal has come, and the loop has not met it in time: whatever it is doing is left where it is.

    No :class:`Exception`, so that nothing on the way takes it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Clock(Protocol):
    """Time and signals, from outside. While the loop works, it may raise :class:`Stopped`."""

    def now_ms(self) -> int:
        """Since the epoch."""

    def signal(self) -> int | None:
        """The signal that asks this process to stop, if one has come."""

    def rest(self, wait: Callable[[], None]) -> None:
        """Call *wait*, which a signal may end early."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run to bring to its end, and whom it is for."""

    record: RunRecord
    request: Request
    round: str = ""
    """Whose attempts these are, where whoever starts this command starts it again after a crash; empty: a new one's."""


RunVerdict = Literal["complete", "partial", "failed", "cancelled"]


class RunRequests(Protocol):
    """The runs that a command asks for. They become known while it works: to know one, a recording may be read."""

    taken: dict[str, RunRequest]
    """Those that were taken, by run."""

    def take(self, most: int) -> Sequence[RunRequest]:
        """Up to *most* of the next ones, as far as they are known by now. One run may come again, for other outputs."""

    def wait(self, seconds: float) -> None:
        """Wait for another one to become known, for so long at most."""

    def unknown(self) -> Sequence[Progress]:
        """Recordings whose run is not known yet."""

    @property
    def exhausted(self) -> bool:
        """Whether all of them were taken."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended. *files* were written; *environment* says that the media are not to blame."""

    run: str
    name: str
    verdict: RunVerdict
    summary: str
    advice: str = ""
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    environment: bool = False


class Reporter(Protocol):
    """Where the loop talks."""

    def event(self, name: str, text: str) -> None:
        """Something a person wants to know, of the run called *name*."""

    def show(self, runs: Sequence[Progress]) -> None:
        """How far everything is; called every tick."""
