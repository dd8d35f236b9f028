"""One run in the loop: lead or follow it, observe, decide, act, and write its outputs when it has ended.

Touches: the store, the runner and the output files, through their interfaces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pydantic import ValidationError

from chunk_job.errors import DocumentInvalid, JobError
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from controller.domain.actions import Delete, Finish, PinLanguage, Submit
from controller.domain.documents import Outcome
from controller.domain.failures import FailureClass
from controller.domain.interfaces import Clock, Leadership, Runner, RunOutcome, RunRequest, RunVerdict
from controller.domain.jobs import FreeSlots, JobView
from controller.domain.output import Output
from controller.domain.policy import RetryPolicy
from controller.domain.progress import Progress
from controller.domain.state import RunState
from controller.errors import RunProblem, StenofleetError
from controller.intake.source import shown
from controller.orchestrator.attempt_log import AttemptLog
from controller.orchestrator.decide import decide
from controller.orchestrator.delivery import Delivery, ReportWriter
from controller.orchestrator.outages import RunOutage, Unavailable
from controller.orchestrator.run_events import RunEvents, subject
from controller.orchestrator.run_status import RunStatus
from controller.orchestrator.slots import Ready
from controller.runs.repository import RunRepository
from controller.runs.result_index import ResultGone

_AFTER_CANCEL = "finished chunks are kept: the same command resumes the run"
_AFTER_FIX = "the same command resumes it once that is fixed"
_FOLLOW_EVERY_MS = 1_000


class RunReconciler:
    """Works on one run, one tick at a time."""

    def __init__(
        self,
        run_request: RunRequest,
        *,
        store: Store,
        runner: Runner,
        events: Callable[[str, str], RunEvents],
        clock: Clock,
        leadership: Leadership,
        reports: ReportWriter | None = None,
    ) -> None:
        self.id, self.name = run_request.record.run, run_request.record.name
        self.source = shown(run_request.request.source)
        self.ended: RunOutcome | None = None
        self.share = run_request.share
        self._repository = RunRepository(store, run_request.record, run_request.request, round_id=run_request.round)
        self._runner = runner
        self._events = events(self.id, self.name)
        self._clock = clock
        self._began_ms = clock.now_ms()
        self._state: RunState | None = None
        self._follow_due_ms, self._follows = 0, False
        self._replica = bool(run_request.round)
        self._leading = self._undecided = False
        self._before: tuple[Outcome | None, bool] = (None, False)
        """Its outcome, and whether it was cancelled, when this process began to follow: both of an earlier round."""
        self._leadership = leadership
        self.outage = RunOutage()
        """An outage of this run alone."""
        self._status = RunStatus(self._repository, self.name, AttemptLog(store, self.id))
        self._delivery = Delivery(self._repository, run_request, reports)

    @property
    def open(self) -> bool:
        """Whether this process leads the run, or is about to, and there is work to do."""
        return self.ended is None and (self._state is not None or (self._undecided and not self._follows))

    @property
    def ready(self) -> bool:
        """Whether there is something to decide now, or a transcript to write."""
        return self.ended is None and (self._state is not None or self._delivery.is_due)

    @property
    def fresh(self) -> bool:
        """Whether no work was done in the run yet."""
        begun = self._state or self._undecided or self._follows or self.outage.lasts or self._delivery.is_due
        return self.ended is None and not begun

    @property
    def is_standby(self) -> bool:
        """Whether it follows as a replica: the same command runs several times, so that one can take over."""
        return self.ended is None and self._follows and self._replica

    def postpone(self, error: Unavailable, policy: RetryPolicy, *, now_ms: int) -> None:
        """Do nothing for a while, because the run could not reach something; give it up if that lasts too long."""
        self._events.report(*self.outage.failed(error, policy, now_ms=now_ms))
        if self.outage.is_too_long(policy, now_ms=now_ms):
            self.give_up(error)

    def give_up(self, error: JobError | StenofleetError, *, release: bool = True) -> None:
        """End the run for this command with *error*. Its objects stay for the next command.

        *release*: other runs of this command continue, so that its slots and its lock are released now.
        """
        if self.ended is not None:
            return
        self.ended = self._delivery.given_up(error) or self._delivery.outcome(
            "failed",
            error.summary,
            advice=f"{error.advice}; then the same command resumes it" if error.advice else _AFTER_FIX,
            environment=True,
        )
        if release:
            with contextlib.suppress(JobError, StenofleetError):
                self._runner.abandon(self.id)
            with contextlib.suppress(JobError, StenofleetError):
                self._leadership.release(self.id, ended=False)

    def add_outputs(self, outputs: tuple[Output, ...]) -> None:
        """Write the transcript to *outputs* too."""
        self._delivery.add(outputs)

    def write_again(self, ended: RunOutcome) -> None:
        """Write the transcript in the store to the outputs of the request: the run has *ended* before."""
        self._delivery.repeat(ended)

    def prepare(self) -> None:
        """Lead or follow the run, and open it if this process leads."""
        if self._delivery.is_repeated:
            return
        with self._contain_errors():
            if self._leads(self._clock.now_ms()) and self._state is None and not self._delivery.is_due:
                self._begin()

    def tick(self, jobs: Sequence[JobView], policy: RetryPolicy, submitted: list[bool], slots: FreeSlots) -> None:
        """Observe once and act. Appends to *submitted*, for each started job, whether it is an intake job."""
        with self._contain_errors():
            if self._delivery.is_repeated:
                self.ended = self._delivery.write_more()
            elif self._delivery.has_transcript:
                self._write()
            else:
                self._tick(jobs, policy, submitted, slots)
        self._events.report(*self.outage.over(self._clock.now_ms()))

    def keep_status_fresh(self) -> None:
        """Renew the status in the store while the cluster is unavailable and nothing else can be done."""
        if self.ready:
            with contextlib.suppress(JobError):
                self._status.put_if_due(self.progress(), self._clock.now_ms())

    @contextlib.contextmanager
    def _contain_errors(self) -> Iterator[None]:
        """End only this run if its objects were changed, have expired or cannot be accessed; other runs continue."""
        try:
            yield
        except StoreUnavailable:
            raise
        except ValidationError as error:
            # The documents are valid, but contradict each other: another program has changed them.
            self.give_up(DocumentInvalid(f"the documents of run {self.id} do not fit together: {error.title}"))
        except (DocumentInvalid, ObjectMissing) as error:
            for view in self._runner.observe():
                if view.run == self.id:
                    self._runner.delete(view)
            self._end(
                "failed",
                f"the store's objects of run {self.id} are damaged: {error.summary}",
                advice="check who else writes to the store, or start a new run with --force",
                environment=True,
                ended=False,
            )
        except (JobError, RunProblem) as error:
            # For example a missing permission for its objects: other runs may be able to continue.
            self.give_up(error)

    def _tick(self, jobs: Sequence[JobView], policy: RetryPolicy, submitted: list[bool], slots: FreeSlots) -> None:
        # Check leadership before each change: a merge or a slow server may have kept the loop busy for a long time.
        self._check()
        now_ms = self._clock.now_ms()
        before, self._status.started = len(submitted), 0
        if self._leadership.cancelled(self.id):
            outcome = self._repository.ended()
            if outcome:
                # This machine slept or was cut off, and another process finished the run.
                self._finish_with(outcome)
                return
            self._repository.cancel()
        self._state = state = self._repository.refresh(jobs, now_ms=now_ms)
        self._events.observed(jobs, self._repository.news(), now_ms)
        self._status.observed(state, jobs, now_ms)
        actions = decide(state, now_ms=now_ms, policy=policy, free_slots=slots.chunks, free_intake_slots=slots.intakes)
        for action in actions:
            match action:
                case Submit():
                    self._runner.submit(self._repository.job(action))
                    self._status.attempts.submitted(action, now_ms, here=not self._runner.jobs_stay)
                    submitted.append(action.span is None)
                    if action.attempt > 1:
                        self._events.report(f"{subject(action.span)}: attempt {action.attempt} begins")
                case Delete():
                    self._delete(action, now_ms)
                case PinLanguage():
                    self._repository.freeze_language(action.language)
                case Finish():
                    self._finish(action, now_ms)
        self._status.started = len(submitted) - before
        if self.ended is None:
            self._status.put_if_due(self.progress(), now_ms)

    def wants(self) -> Ready:
        """Return what decides how many jobs it may start."""
        return Ready.of(self.id, self.share, self._state)

    def progress(self, *, held: bool = False) -> Progress:
        """Return how far the run is. *held*: the store or the cluster is unavailable for all runs."""
        held = held or self.outage.lasts
        return self._status.progress(self._state, self.ended, follows=self._follows, held=held)

    def interrupt(self) -> None:
        """Record in the status object that no process works on the run any more; it is for people."""
        if self.open and self._state is not None:
            self._status.put(self.progress(), self._clock.now_ms(), interrupted=True)

    def _leads(self, now_ms: int) -> bool:
        """Whether this process may work on the run now; otherwise it follows the process that does."""
        if self._follows and now_ms < self._follow_due_ms:
            return False
        state = self._leadership.try_acquire_or_renew(self.id, now_ms)
        self._leading, self._undecided = state == "leading", state == "undecided"
        if state == "following":
            if not self._follows:
                self._events.report(f"run {self.id} is worked on by another process: following it")
                self._before = self._repository.outcome(), self._repository.cancelled()
            # It may have taken over while this machine slept: only its jobs count now.
            if self._state is not None:
                self._runner.abandon(self.id)
            self._state, self._follows = None, True
            self._delivery.drop()
            self._status.read_leader()
            self._follow_due_ms = now_ms + _FOLLOW_EVERY_MS
        return self._leading

    def _begin(self) -> None:
        """Open the run, now that this process leads it; it may have ended already."""
        if self._follows and self._ended_elsewhere():
            return
        self._follows = False
        done = self._repository.open()
        self._events.report(*self._repository.news())
        if done:
            self._events.report(f"run {self.id} is already {done.verdict}")
            self._finish_with(done)
            return
        self._state = self._repository.state(())
        self._status.begin(self._state, self._clock.now_ms())
        if self._state.answered:
            self._events.report(f"resuming run {self.id}, chunks done so far: {len(self._state.answered)}")

    def _ended_elsewhere(self) -> bool:
        """Whether the process that was followed has ended the run: its verdict is taken over. Else this one leads.

        If that process ended early, the store still has the verdict of the round before. That one counts only if the
        Lease was deleted.
        """
        outcome = self._repository.ended()
        ended_before, cancelled_before = (None, False) if self._leadership.cancelled(self.id) else self._before
        if outcome and outcome != ended_before:
            self._finish_with(outcome)
        elif self._repository.cancelled() and not cancelled_before:
            self._end("cancelled", "cancelled", advice=_AFTER_CANCEL)
        return self.ended is not None

    def take_over_verdict(self) -> None:
        """Take over the verdict of the leader if there is one. Called once on a signal, for a run that is followed.

        The pods of one Job are stopped when the first of them has succeeded, and all their logs should report that.
        """
        if self._follows and self.ended is None:
            with contextlib.suppress(JobError, StenofleetError):
                self._ended_elsewhere()

    def _delete(self, delete: Delete, now_ms: int) -> None:
        self._repository.keep_evidence(delete, now_ms=now_ms)
        self._runner.delete(delete.view)
        self._status.deleted(delete, now_ms)
        self._events.failed(delete)

    def _finish(self, finish: Finish, now_ms: int) -> None:
        if finish.verdict == "cancelled":
            self._end("cancelled", finish.summary, advice=_AFTER_CANCEL)
            return
        self._status.attempts.put(now_ms)
        conclude = partial(self._repository.conclude, elapsed_s=(now_ms - self._began_ms) / 1000, check=self._check)
        try:
            outcome = conclude(finish)
        except ResultGone as error:
            # The next tick finds the missing result and starts another attempt, within the chunk's budget.
            self._repository.keep_lost_result(error, now_ms=now_ms)
            self._status.attempts.refused(error.key.span, error.key.attempt, FailureClass.RESULT_INVALID)
            self._events.report(f"{subject(error.key.span)}: its result is not valid any more: {error}")
            return
        except StenofleetError as error:
            outcome = conclude(Finish(verdict="failed", summary=error.summary, advice=error.advice))
        self._events.report(*self._repository.usage)
        self._finish_with(outcome, mark=True)

    def _finish_with(self, outcome: Outcome, *, mark: bool = False) -> None:
        """Write the outputs, then the run's last object: its presence means that everything before it is complete."""
        self._delivery.begin(outcome, mark=mark)
        self._write()

    def _write(self) -> None:
        outcome, ended = self._delivery.write(self._check)
        self._end_as(outcome, ended=ended)

    def _check(self) -> None:
        """Raise if another process may lead the run by now. A follower that takes over an outcome leads nothing."""
        if self._leading:
            self._leadership.check(self.id)

    def _end(
        self, verdict: RunVerdict, summary: str, *, advice: str, environment: bool = False, ended: bool = True
    ) -> None:
        self._end_as(self._delivery.outcome(verdict, summary, advice=advice, environment=environment), ended=ended)

    def _end_as(self, outcome: RunOutcome, *, ended: bool) -> None:
        """End the run for this command: write its status, then release its lock.

        Not *ended*: the store has no outcome. A process that follows can continue the run after this one has released
        its lock; the Lease stays, because its deletion would mean a cancel.
        """
        self.ended = outcome
        self._delivery.done()
        if self._state is not None:
            # Before the lock is released: a `clean` between both would leave a run with a single object.
            with contextlib.suppress(JobError):
                self._status.put(self.progress(), self._clock.now_ms())
        if self._leading and ended:
            self._runner.release(self.id)
        if self._leading or self._undecided:
            self._leadership.release(self.id, ended=ended)
