"""The loop over one or many runs: read, observe, decide, act, merge, write.

Touches: the store and the runner, through their interfaces; a thread for shutdown steps that may take too long.
Retries, times and budgets are decided in ``decide``, not here. Every run is led by one process. Another process that
wants the same run follows it and reports the same verdict, or takes over if the leader ends early. If only one run
cannot reach something, only that run is delayed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreUnavailable
from controller.domain.interfaces import Clock, Leadership, Reporter, Runner, RunOutcome, RunRequests, Stopped
from controller.domain.jobs import JobView
from controller.domain.policy import RetryPolicy
from controller.errors import ClusterUnavailable, EnvironmentProblem, Interrupted, StenofleetError
from controller.leadership.all_of import AllOf
from controller.leadership.store_lease import StoreLeases
from controller.orchestrator.command_runs import CommandRuns
from controller.orchestrator.delivery import ReportWriter
from controller.orchestrator.outages import Outage, Unavailable
from controller.orchestrator.reconciler import RunReconciler
from controller.orchestrator.run_events import RunEvents
from controller.orchestrator.slots import Slots

_LOG = logging.getLogger(__name__)

_MOST_KNOWN = 64
"""Untouched runs that are known at most."""

_IDENTIFY_S = 1.0
"""How long to wait for the next identified recording before progress is shown again, when there is no open run."""

_STATUS_S = 2.0
"""How long an interrupted command may take to write the status of its runs."""
_CLOSE_S = 3.0
"""How long an interrupted command may take to close: a pod has a minute, people wait less."""


def run_loop(  # noqa: PLR0913 (its interfaces, each by its name)
    requests: RunRequests,
    *,
    store: Store,
    runner: Runner,
    policy: RetryPolicy,
    slots: Slots,
    reporter: Reporter,
    clock: Clock,
    on_end: Callable[[RunOutcome], None] = lambda _: None,
    reports: ReportWriter | None = None,
    keep_outcomes: bool = True,
) -> list[RunOutcome]:
    """Work on all runs until they have ended. *slots*: how many jobs there may be, and how the runs share them.

    *reports* writes the page of each run before the run's last object; None: no pages.
    *on_end* is called with each outcome as soon as it is known. Without *keep_outcomes*, or if the runs are endless,
    nothing is returned.

    Raises :class:`Interrupted` on a signal, and :class:`EnvironmentProblem` if the store fails for longer than the
    policy's patience before any run has ended. In both cases the same command resumes the runs.
    """
    leadership = _leadership(runner, store)
    runs = CommandRuns(
        requests,
        partial(
            RunReconciler,
            store=store,
            runner=runner,
            # Hundreds of runs of a command wait for the same GPUs; the runs of a service belong to different people.
            events=partial(RunEvents, reporter, None if slots.endless else set[str]()),
            clock=clock,
            leadership=leadership,
            reports=reports,
        ),
        on_end,
        keeps_outcomes=keep_outcomes and not slots.endless,
    )
    outage = Outage(policy, reporter, clock)
    time_limited = True
    try:
        _loop(runs, runner, store, policy, slots, reporter, clock, outage)
        time_limited = False
    except Stopped as stopped:
        raise Interrupted(stopped.number) from None
    except (JobError, ClusterUnavailable) as error:
        if not runs.ended:
            raise EnvironmentProblem(error.summary, error.advice) from error
        runs.give_up(error)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or 'this machine'}: {error.strerror or error}") from error
    finally:
        _close(runs, runner, leadership, time_limited=time_limited, store_away=outage.of_store)
    return runs.ended


def _loop(
    runs: CommandRuns,
    runner: Runner,
    store: Store,
    policy: RetryPolicy,
    slots: Slots,
    reporter: Reporter,
    clock: Clock,
    outage: Outage,
) -> None:
    """Tick until every run has ended. Raises :class:`Interrupted` on a signal, and the error of a too long outage."""
    opening = _Opening()
    while not runs.all_ended():
        number = clock.signal()
        if number is not None:
            within(_CLOSE_S, partial(_take_over_verdicts, runs))
            runs.settle()
            if runs.all_ended():
                return
            raise Interrupted(number)
        runs.admit(opening.known)
        if runs.open:
            # A tick without runs sends no request, and must not count as proof that everything can be reached.
            with outage.tolerated():
                _tick(runs, runner, policy, slots, clock.now_ms(), opening, store)
        else:
            slots.idle()
        if outage.of_cluster:
            for run in runs:
                run.keep_status_fresh()
        runs.settle()
        reporter.show(*runs.progress(held=outage.lasts))
        if runs.open:
            clock.rest(partial(runner.wait, max(runner.tick_s, outage.rest_s)))
        elif not runs.all_ended():
            clock.rest(partial(runs.wait, _IDENTIFY_S))


def _take_over_verdicts(runs: CommandRuns) -> None:
    for run in runs:
        run.take_over_verdict()


def _close(runs: CommandRuns, runner: Runner, leadership: Leadership, *, time_limited: bool, store_away: bool) -> None:
    """Record in the store that no process works on these runs any more, and release their leases.

    *time_limited*: after a signal or an outage each step has a time limit, even if the store or cluster is unavailable.
    """

    def interrupt() -> None:
        for run in runs:
            with contextlib.suppress(JobError):
                run.interrupt()

    def close(*, leave: bool) -> None:
        runner.close(leave=leave)
        leadership.close()

    if not time_limited:
        interrupt()
        close(leave=False)
        return
    if not store_away:
        within(_STATUS_S, interrupt)
    within(_CLOSE_S, lambda: close(leave=True))


def _leadership(runner: Runner, store: Store) -> Leadership:
    """Return the runner's own leadership, combined with the store's leases if several machines can share the store."""
    if not store.remote:
        return runner.leadership
    return AllOf(runner.leadership, StoreLeases(store, runner.leadership.domain))


def within(seconds: float, do: Callable[[], None]) -> None:
    """Call *do* in a thread and wait at most *seconds*: an unavailable server must not block a process that ends."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)


@dataclass
class _TickResult:
    """The result of one tick: how many runs could do their work, and which runs could not reach something."""

    isolates: bool
    """Whether a bug that one run meets ends only that run."""
    worked: int = 0
    failed: list[tuple[RunReconciler, Unavailable]] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, run: RunReconciler) -> Iterator[None]:
        """Run the tick of one run; keep its error if the store or the cluster was unavailable."""
        try:
            yield
        except (StoreUnavailable, ClusterUnavailable) as error:
            self.failed.append((run, error))
        except OSError as error:
            if not self.isolates:
                raise
            # The disk of this machine is full, for example: other runs may be able to continue.
            why = f"{error.filename or 'this machine'}: {error.strerror or error}"
            self.failed.append((run, StoreUnavailable(why, "free space there")))
        except EnvironmentProblem as error:
            if not self.isolates:
                raise
            # What is refused to one run may be allowed to others, or again in a minute.
            self.failed.append((run, ClusterUnavailable(error.summary, error.advice, answered=True)))
        except Exception as error:
            if not self.isolates:
                raise
            _LOG.exception("run %s", run.id)
            run.give_up(StenofleetError(f"a bug: {type(error).__name__}", "please report it with the service's log"))

    def postpone_failed(self, policy: RetryPolicy, now_ms: int, store: Store) -> None:
        """Postpone failed runs if other runs worked, or if the store answers: then only these runs lack something.

        Raises the first error otherwise.
        """
        for run, error in self.failed:
            if (
                not self.worked
                and not run.outage.lasts
                and not (isinstance(error, StoreUnavailable) and _answers(store))
            ):
                raise error
            run.postpone(error, policy, now_ms=now_ms)


def _answers(store: Store) -> bool:
    """Whether the store itself can be read: an object that no run has is asked for."""
    try:
        store.stat("runs/none")
    except JobError:
        return False
    return True


@dataclass
class _Opening:
    """How many runs the next tick may open: one before the first job, then as many as can be worked on.

    Opening a run costs several requests to its store. With many parallel jobs, hundreds of runs opened first would
    delay the first job.
    """

    wanted: int = 1
    known: int = 1
    """How many untouched runs the next tick should know: more than it may open, if runs turn out to have ended."""

    def plan(self, *, openable: int, opened: int, ended_at_once: int) -> None:
        """Set the number for the next tick: at most as many as are open already, so that the first runs come first.

        *openable*: runs that are useful for the next tick. *opened*: open runs. *ended_at_once*: runs of this tick
        that had ended before.
        """
        self.wanted = min(max(1, opened), openable)
        self.known = max(self.wanted, min(2 * ended_at_once, _MOST_KNOWN))


def _tick(
    runs: CommandRuns,
    runner: Runner,
    policy: RetryPolicy,
    slots: Slots,
    now_ms: int,
    opening: _Opening,
    store: Store,
) -> None:
    """Tick every run that is due, in the order of the requests; the first runs get the free slots first."""
    ticked = _TickResult(isolates=slots.endless)
    due = [run for run in runs if run.ended is None and run.outage.is_due(now_ms)]
    fresh = [run for run in due if run.fresh]
    unopened = slots.most_open - sum(1 for run in due if run.open)
    openable = _tick_runs(due, runner, policy, slots, ticked, unopened=min(opening.wanted, unopened))
    # If no run worked, try another one: it shows whether the whole store is unavailable or only parts of it.
    for run in itertools.chain(due, runs.more()):
        if ticked.worked or not ticked.failed or unopened <= len(ticked.failed):
            break
        if not run.open and run not in [failed for failed, _ in ticked.failed]:
            _tick_runs([run], runner, policy, slots, ticked, unopened=1)
    opening.plan(
        openable=openable,
        opened=sum(1 for run in due if run.open),
        ended_at_once=sum(1 for run in fresh if run.ended is not None),
    )
    ticked.postpone_failed(policy, now_ms, store)


def _tick_runs(
    runs: Sequence[RunReconciler],
    runner: Runner,
    policy: RetryPolicy,
    slots: Slots,
    ticked: _TickResult,
    *,
    unopened: int,
) -> int:
    """Open up to *unopened* more of *runs*, and tick the open ones. Returns how many more it is useful to open."""
    prepared = _prepare(runs, ticked, unopened=unopened, divided=slots.endless)
    # After leadership is clear: a run that is opened now may have jobs that an earlier controller started.
    jobs = runner.observe()
    jobs_of = defaultdict[str, list[JobView]](list)
    for view in jobs:
        jobs_of[view.run].append(view)
    these = slots.tick([run.wants() for run in prepared if run.ready], jobs, burst=runner.burst)
    for run in prepared:
        if not run.ready:
            ticked.worked += 1
            continue
        submitted: list[bool] = []
        with ticked.of(run):
            run.tick(jobs_of[run.id], policy, submitted, these.of(run.id))
            ticked.worked += 1
        after = run.wants()
        these.used(
            run.id,
            chunks=submitted.count(False),
            intakes=submitted.count(True),
            waiting=after.waiting,
            not_started=after.not_started and not submitted and run.ended is None,
        )
    return these.openable


def _prepare(
    runs: Sequence[RunReconciler], ticked: _TickResult, *, unopened: int, divided: bool
) -> list[RunReconciler]:
    """Lead or follow these runs, and open the next *unopened* ones. Returns the runs for which this succeeded.

    *divided*: other processes that lead some of the runs work on these alone.
    """
    prepared = []
    for run in runs:
        if run.open or unopened > 0:
            was_open = run.open
            with ticked.of(run):
                run.prepare()
                prepared.append(run)
            unopened -= run.open and not was_open
        if not divided and run.is_standby and not any(other.open for other in runs):
            # Its leader runs the same command and works on the other runs too: both would start twice as many jobs.
            break
    return prepared
