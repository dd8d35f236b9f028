"""The loop over one or many runs: read, observe, decide, act, merge, write.

Touches: through its edges, the store and the runner; a thread, for a farewell that may take too long. It keeps no
opinion about retries, times or budgets: those are ``decide``'s. Every run is led by one process; another one that asks
for the same run follows it and gives the same verdict, or takes over when the leader dies. What one run alone cannot
reach costs that run time, and the others none.
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
from controller.domain.jobs import JobView
from controller.domain.policy import RetryPolicy
from controller.errors import ClusterUnavailable, EnvironmentProblem, Interrupted
from controller.leadership.all_of import AllOf
from controller.leadership.store_lease import StoreLeases
from controller.orchestrator.command_runs import CommandRuns
from controller.orchestrator.outages import Outage, Unavailable
from controller.orchestrator.reconciler import RunReconciler

_SPARE_RUNS = 2
"""Open runs in which nothing was started yet: so that the next intake need not wait for its run to be opened."""

_IDENTIFY_S = 1.0
"""How long nothing but a recording to be identified is waited for before progress is shown."""

_STATUS_S = 2.0
_CLOSE_S = 3.0
"""How long an interrupted command may take to say that it is, and to close: a pod has a minute, people less."""


def run_loop(
    requests: RunRequests,
    *,
    store: Store,
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    reporter: Reporter,
    clock: Clock,
) -> list[RunOutcome]:
    """Bring all runs to their ends, at most *max_parallel* chunk jobs at a time over all of them.

    Raises :class:`Interrupted` on a signal and :class:`EnvironmentProblem` when the store fails for longer than the
    policy's patience before any run has ended; both leave runs that the same command resumes.
    """
    leadership = _leadership(runner, store)
    runs = CommandRuns(
        requests,
        partial(RunReconciler, store=store, runner=runner, reporter=reporter, clock=clock, leadership=leadership),
    )
    outage = Outage(policy, reporter, clock)
    hurried = True
    try:
        _loop(runs, runner, policy, max_parallel, reporter, clock, outage)
        hurried = False
    except Stopped as stopped:
        raise Interrupted(stopped.number) from None
    except (JobError, ClusterUnavailable) as error:
        if not runs.ended:
            raise EnvironmentProblem(error.summary, error.advice) from error
        runs.give_up(error)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or 'this machine'}: {error.strerror or error}") from error
    finally:
        _close(runs, runner, leadership, hurried=hurried, store_away=outage.of_store)
    return runs.ended


def _loop(
    runs: CommandRuns,
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    reporter: Reporter,
    clock: Clock,
    outage: Outage,
) -> None:
    """Tick until every run has ended. Raises :class:`Interrupted` on a signal, and what an outage ends with."""
    opening = _Opening()
    while not runs.all_ended():
        number = clock.signal()
        if number is not None:
            within(_CLOSE_S, partial(_take_over_verdicts, runs))
            if runs.all_ended():
                return
            raise Interrupted(number)
        runs.admit(opening.wanted)
        if runs.open:
            # A tick without a run would reach nothing, and say that all can be reached.
            with outage.bridged():
                _tick(runs, runner, policy, max_parallel, clock.now_ms(), opening)
        if outage.of_cluster:
            for run in runs:
                run.keep_status_fresh()
        reporter.show(runs.progress(held=outage.lasts))
        if runs.open:
            clock.rest(partial(runner.wait, max(runner.tick_s, outage.rest_s)))
        elif not runs.all_ended():
            clock.rest(partial(runs.wait, _IDENTIFY_S))


def _take_over_verdicts(runs: CommandRuns) -> None:
    for run in runs:
        run.take_over_verdict()


def _close(runs: CommandRuns, runner: Runner, leadership: Leadership, *, hurried: bool, store_away: bool) -> None:
    """Say in the store that nobody works on these runs any more, and give up their leads.

    *hurried*: after a signal or an outage neither takes long, whatever is away.
    """

    def interrupt() -> None:
        for run in runs:
            with contextlib.suppress(JobError):
                run.interrupt()

    def close(*, leave: bool) -> None:
        runner.close(leave=leave)
        leadership.close()

    if not hurried:
        interrupt()
        close(leave=False)
        return
    if not store_away:
        within(_STATUS_S, interrupt)
    within(_CLOSE_S, lambda: close(leave=True))


def _leadership(runner: Runner, store: Store) -> Leadership:
    """The runner's own, and the store's where machines share it."""
    if not store.remote:
        return runner.leadership
    return AllOf(runner.leadership, StoreLeases(store, runner.leadership.domain))


def within(seconds: float, do: Callable[[], None]) -> None:
    """Do it, and wait no longer than so for it: a server that is away must not hold a process that ends."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)


@dataclass
class _Ticked:
    """What came of one tick: how many runs could do what was due, and which could not reach something."""

    worked: int = 0
    failed: list[tuple[RunReconciler, Unavailable]] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, run: RunReconciler) -> Iterator[None]:
        """One run's part of the tick; what it could not reach is kept."""
        try:
            yield
        except (StoreUnavailable, ClusterUnavailable) as error:
            self.failed.append((run, error))

    def settle(self, policy: RetryPolicy, now_ms: int) -> None:
        """Let failed runs wait where others worked; raise the first error where none could work at all."""
        for run, error in self.failed:
            if not self.worked and not run.outage.lasts:
                raise error
            run.postpone(error, policy, now_ms=now_ms)


@dataclass
class _Opening:
    """How many runs the next tick may open: one before the first job, then as many as there is work for.

    Opening a run costs several requests to its store: where many may run, hundreds of them would delay the first job.
    """

    wanted: int = 1

    def plan(self, *, startable: int, spare: int, opened: int) -> None:
        """*startable* intakes could be started now, *spare* runs wait for theirs, of *opened* in all.

        Not more at once than are open already: what the first ones turn out to need comes before the next ones.
        """
        self.wanted = min(max(1, opened), max(0, startable + _SPARE_RUNS - spare))


def _tick(
    runs: CommandRuns, runner: Runner, policy: RetryPolicy, max_parallel: int, now_ms: int, opening: _Opening
) -> None:
    """One look at every run, in the order they were asked for; the first ones fill the max_parallel."""
    ticked = _Ticked()
    due = [run for run in runs if run.ended is None and run.outage.is_due(now_ms)]
    # A list of ten thousand files is not ten thousand locks: the next run begins when one of these has ended.
    unopened = max_parallel + 1 - sum(1 for run in due if run.open)
    startable, spare = _look(due, runner, policy, max_parallel, ticked, unopened=min(opening.wanted, unopened))
    # Whether the store is away, or only what these runs need, another run shows.
    for run in itertools.chain(due, runs.more()):
        if ticked.worked or not ticked.failed or unopened <= len(ticked.failed):
            break
        if not run.open and run not in [failed for failed, _ in ticked.failed]:
            _look([run], runner, policy, max_parallel, ticked, unopened=1)
    opening.plan(startable=startable, spare=spare, opened=sum(1 for run in due if run.open))
    ticked.settle(policy, now_ms)


def _look(
    runs: Sequence[RunReconciler],
    runner: Runner,
    policy: RetryPolicy,
    max_parallel: int,
    ticked: _Ticked,
    *,
    unopened: int,
) -> tuple[int, int]:
    """Open up to *unopened* more of *runs*, and do what is due in those that are open.

    How many intakes could still be started, and how many open runs have none yet.
    """
    prepared = _prepare(runs, ticked, unopened=unopened)
    # After the leads are clear: a run that begins may have jobs of a controller before us.
    jobs = runner.observe()
    free_slots = min(
        runner.burst, max_parallel - sum(1 for view in jobs if view.span is not None and _holds_place(view))
    )
    free_intake_slots = max(1, max_parallel // 8) - sum(1 for view in jobs if view.span is None)
    ahead = spare = 0
    for run in prepared:
        if not run.ready:
            ticked.worked += 1
            continue
        mine = [view for view in jobs if view.run == run.id]
        submitted: list[bool] = []
        with ticked.of(run):
            # Cut the next file only when workers would soon be idle: chunks of a hundred files need not lie around.
            run.tick(
                mine,
                policy,
                submitted,
                free_slots=free_slots,
                free_intake_slots=free_intake_slots if ahead < max_parallel else 0,
            )
            ticked.worked += 1
        free_slots -= submitted.count(False)
        free_intake_slots -= submitted.count(True)
        ahead += run.waiting()
        spare += run.unbegun and not submitted
    return max(0, free_intake_slots) if ahead < max_parallel else 0, spare


def _holds_place(view: JobView) -> bool:
    """Whether a chunk job counts among those at once. For one whose node is silent its second attempt need not wait."""
    return view.phase != "ended" and not view.lost


def _prepare(runs: Sequence[RunReconciler], ticked: _Ticked, *, unopened: int) -> list[RunReconciler]:
    """Lead or follow these runs, and open the next *unopened* ones; those that it came to its end for."""
    prepared = []
    for run in runs:
        if run.open or unopened > 0:
            was_open = run.open
            with ticked.of(run):
                run.prepare()
                prepared.append(run)
            unopened -= run.open and not was_open
        if run.stands_by and not any(other.open for other in runs):
            # Its leader has this very command, and works on the others too: two would have twice as many jobs at once.
            break
    return prepared
