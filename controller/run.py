"""The loop over one or many runs: read, observe, decide, act, merge, write.

Touches: through its edges, the store and the runner. It keeps no opinion about retries, times or budgets: those are
``decide``'s. Every run is led by one process; another one that asks for the same run follows it
and gives the same verdict, or takes over when the leader dies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from chunk_job.contract import JobError
from chunk_job.store import Store, StoreUnavailable
from controller import decide as rules
from controller.decide import RetryPolicy
from controller.edges import Clock, Reporter, Runner, Settled, Ticket
from controller.errors import ClusterUnavailable, EnvironmentProblem, Interrupted
from controller.one_run import LoopRun

_LONGEST_REST_S = 30.0


def drive(
    tickets: Sequence[Ticket],
    *,
    store: Store,
    runner: Runner,
    policy: RetryPolicy,
    window: int,
    reporter: Reporter,
    clock: Clock,
) -> list[Settled]:
    """Bring all runs to their ends, at most *window* chunk jobs at a time over all of them.

    Raises :class:`Interrupted` on a signal and :class:`EnvironmentProblem` when the store fails for longer than the
    policy's patience; both leave runs that the same command goes on with.
    """
    runs = [LoopRun(ticket, store=store, runner=runner, reporter=reporter, clock=clock) for ticket in tickets]
    outage = _Outage(policy, reporter, clock)
    leave = True
    try:
        while any(run.settled is None for run in runs):
            number = clock.signal()
            if number is not None:
                raise Interrupted(number)
            with outage.bridged():
                _tick(runs, runner, policy, window)
            if outage.lasts:
                for run in runs:
                    run.linger()
            reporter.show([run.progress() for run in runs])
            if any(run.settled is None for run in runs):
                runner.wait(max(runner.tick_s, outage.rest_s))
        leave = False
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or 'this machine'}: {error.strerror or error}") from error
    finally:
        for run in runs:
            with contextlib.suppress(JobError):
                run.interrupt()
        runner.close(leave=leave)
    return [run.settled for run in runs if run.settled is not None]


class _Outage:
    """A store or a cluster that stops answering in the middle: waited for as the policy says. Jobs go on meanwhile."""

    def __init__(self, policy: RetryPolicy, reporter: Reporter, clock: Clock) -> None:
        self._policy = policy
        self._reporter = reporter
        self._clock = clock
        self._reached = False
        self._since_ms: int | None = None
        self._what = ""
        self.rest_s = 0.0
        """How long a server that is too busy has asked to be left alone, within reason."""

    @property
    def lasts(self) -> bool:
        """Whether something is away now."""
        return self._since_ms is not None

    @contextlib.contextmanager
    def bridged(self) -> Iterator[None]:
        """One look at the store. A look that fails half-way is safe to repeat: every action is."""
        self.rest_s = 0.0
        try:
            yield
        except (StoreUnavailable, ClusterUnavailable) as error:
            if isinstance(error, ClusterUnavailable):
                self.rest_s = min(error.retry_after_s, _LONGEST_REST_S)
                self._reached = self._reached or error.answered
            now_ms = self._clock.now_ms()
            begins = self._since_ms is None
            self._since_ms = now_ms if self._since_ms is None else self._since_ms
            # What never answered is a wrong address rather than an outage.
            if not self._reached or not rules.patient(self._policy, since_ms=self._since_ms, now_ms=now_ms):
                raise
            if begins:
                patience_s = self._policy.store_patience_ms // 1000
                self._what = "store" if isinstance(error, StoreUnavailable) else "cluster"
                self._reporter.event(self._what, f"{error.summary}: waiting up to {patience_s} s for it to come back")
            return
        if self._since_ms is not None:
            away_s = (self._clock.now_ms() - self._since_ms) // 1000
            self._reporter.event(self._what, f"back after {away_s} s")
        self._reached, self._since_ms = True, None


def _tick(runs: Sequence[LoopRun], runner: Runner, policy: RetryPolicy, window: int) -> None:
    """One look at every run, in the order they were asked for; the first ones fill the window."""
    # A list of ten thousand files is not ten thousand locks: the next run begins when one of these has ended.
    unopened = window + 1 - sum(1 for run in runs if run.open)
    for run in runs:
        if run.settled is None and (run.open or unopened > 0):
            was_open = run.open
            run.prepare()
            unopened -= run.open and not was_open
    # After the leads are clear: a run that begins may have jobs of a controller before us.
    jobs = runner.observe()
    room = min(runner.burst, window - sum(1 for view in jobs if view.span is not None))
    intake_room = max(1, window // 8) - sum(1 for view in jobs if view.span is None)
    ahead = 0
    for run in runs:
        if run.ready:
            mine = [view for view in jobs if view.run == run.id]
            # Cut the next file only when workers would soon be idle: chunks of a hundred files need not lie around.
            submitted = run.tick(mine, policy, room=room, intake_room=intake_room if ahead < window else 0)
            room -= submitted.count(False)
            intake_room -= submitted.count(True)
            ahead += run.waiting()
