"""The loop over one or many runs: read, observe, decide, act, merge, write.

Touches: the store and the runner, through their interfaces; a thread for shutdown steps that may take too long.
Retries, times and budgets are decided in ``decide``, not here. Every run is led by one process. Another process that
wants the same run follows it and reports the same verdict, or takes over if the leader ends early. If only one run
cannot reach something, only that run is delayed.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreUnavailable
from controller.domain.interfaces import Clock, Leadership, Reporter, Runner, RunOutcome, RunRequests, Stopped
from controller.domain.jobs import FreeSlots, JobView
from controller.domain.policy import RetryPolicy
from controller.errors import ClusterUnavailable, EnvironmentProblem, Interrupted
from controller.leadership.all_of import AllOf
from controller.leadership.store_lease import StoreLeases
from controller.orchestrator.command_runs import CommandRuns
from controller.orchestrator.outages import Outage, Unavailable
from controller.orchestrator.reconciler import RunReconciler

_SPARE_RUNS = 2
"""Open runs without a job yet: kept ready so that the next intake does not wait until its run is opened."""

_MOST_KNOWN = 64
"""Untouched runs that are known at most."""

_IDENTIFY_S = 1.0
"""How long to wait for the next identified recording before progress is shown again, when there is no open run."""

_STATUS_S = 2.0
"""How long an interrupted command may take to write the status of its runs."""
_CLOSE_S = 3.0
"""How long an interrupted command may take to close: a pod has a minute, people wait less."""


def run_loop(
    requests: RunRequests,
    *,
    store: Store,
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    reporter: Reporter,
    clock: Clock,
    on_end: Callable[[RunOutcome], None] = lambda _: None,
) -> list[RunOutcome]:
    """Work on all runs until they have ended, with at most *max_parallel* chunk jobs at a time over all of them.

    *on_end* is called with each outcome as soon as it is known.

    Raises :class:`Interrupted` on a signal, and :class:`EnvironmentProblem` if the store fails for longer than the
    policy's patience before any run has ended. In both cases the same command resumes the runs.
    """
    leadership = _leadership(runner, store)
    runs = CommandRuns(
        requests,
        partial(RunReconciler, store=store, runner=runner, reporter=reporter, clock=clock, leadership=leadership),
        on_end,
    )
    outage = Outage(policy, reporter, clock)
    time_limited = True
    try:
        _loop(runs, runner, store, policy, max_parallel, reporter, clock, outage)
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
    max_parallel: int,
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
                _tick(runs, runner, policy, max_parallel, clock.now_ms(), opening, store)
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

    worked: int = 0
    failed: list[tuple[RunReconciler, Unavailable]] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, run: RunReconciler) -> Iterator[None]:
        """Run the tick of one run; keep its error if the store or the cluster was unavailable."""
        try:
            yield
        except (StoreUnavailable, ClusterUnavailable) as error:
            self.failed.append((run, error))

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

    def plan(self, *, startable: int, spare: int, opened: int, ended_at_once: int) -> None:
        """Set the number for the next tick: at most as many as are open already, so that the first runs come first.

        *startable*: intakes that could be started now. *spare*: open runs without an intake yet. *opened*: open runs.
        *ended_at_once*: runs of this tick that had ended before.
        """
        self.wanted = min(max(1, opened), max(0, startable + _SPARE_RUNS - spare))
        self.known = max(self.wanted, min(2 * ended_at_once, _MOST_KNOWN))


def _tick(
    runs: CommandRuns,
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    now_ms: int,
    opening: _Opening,
    store: Store,
) -> None:
    """Tick every run that is due, in the order of the requests; the first runs get the free slots first."""
    ticked = _TickResult()
    due = [run for run in runs if run.ended is None and run.outage.is_due(now_ms)]
    fresh = [run for run in due if run.fresh]
    # Ten thousand files must not need ten thousand locks: the next run is opened when one of these has ended.
    unopened = max_parallel + 1 - sum(1 for run in due if run.open)
    startable, spare = _tick_runs(due, runner, policy, max_parallel, ticked, unopened=min(opening.wanted, unopened))
    # If no run worked, try another one: it shows whether the whole store is unavailable or only parts of it.
    for run in itertools.chain(due, runs.more()):
        if ticked.worked or not ticked.failed or unopened <= len(ticked.failed):
            break
        if not run.open and run not in [failed for failed, _ in ticked.failed]:
            _tick_runs([run], runner, policy, max_parallel, ticked, unopened=1)
    opening.plan(
        startable=startable,
        spare=spare,
        opened=sum(1 for run in due if run.open),
        ended_at_once=sum(1 for run in fresh if run.ended is not None),
    )
    ticked.postpone_failed(policy, now_ms, store)


def _tick_runs(
    runs: Sequence[RunReconciler],
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    ticked: _TickResult,
    *,
    unopened: int,
) -> tuple[int, int]:
    """Open up to *unopened* more of *runs*, and tick the open ones.

    Returns how many intakes could still be started, and how many open runs have no intake yet.
    """
    prepared = _prepare(runs, ticked, unopened=unopened)
    # After leadership is clear: a run that is opened now may have jobs that an earlier controller started.
    jobs = runner.observe()
    free_slots = min(runner.burst, max_parallel - sum(1 for view in jobs if view.span is not None and _uses_slot(view)))
    free_intake_slots = max(1, max_parallel // 8) - sum(1 for view in jobs if view.span is None and _uses_slot(view))
    chunks_waiting = spare = 0
    for run in prepared:
        if not run.ready:
            ticked.worked += 1
            continue
        mine = [view for view in jobs if view.run == run.id]
        submitted: list[bool] = []
        with ticked.of(run):
            # Cut the next file only when workers would soon be idle, so that few chunks are stored at the same time.
            intakes = free_intake_slots if chunks_waiting < max_parallel else 0
            run.tick(mine, policy, submitted, FreeSlots(free_slots, intakes))
            ticked.worked += 1
        free_slots -= submitted.count(False)
        free_intake_slots -= submitted.count(True)
        chunks_waiting += run.waiting()
        spare += run.not_started and not submitted
    return max(0, free_intake_slots) if chunks_waiting < max_parallel else 0, spare


def _uses_slot(view: JobView) -> bool:
    """Whether a job counts towards the limits. A job on a lost node does not: its retry need not wait."""
    return view.phase != "ended" and not view.lost


def _prepare(runs: Sequence[RunReconciler], ticked: _TickResult, *, unopened: int) -> list[RunReconciler]:
    """Lead or follow these runs, and open the next *unopened* ones. Returns the runs for which this succeeded."""
    prepared = []
    for run in runs:
        if run.open or unopened > 0:
            was_open = run.open
            with ticked.of(run):
                run.prepare()
                prepared.append(run)
            unopened -= run.open and not was_open
        if run.is_standby and not any(other.open for other in runs):
            # Its leader runs the same command and works on the other runs too: both would start twice as many jobs.
            break
    return prepared
