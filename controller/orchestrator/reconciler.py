"""One run in the loop: lead it or follow it, look, act, write, settle.

Touches: through its edges, the store, the runner and the output files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from chunk_job.errors import DocumentInvalid, JobError
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from controller.domain import progress as figures
from controller.domain.actions import Delete, Finish, PinLanguage, Submit
from controller.domain.budgets import ENVIRONMENT, WAITED_FOR
from controller.domain.documents import Outcome, Output, Status
from controller.domain.failures import Diagnosis
from controller.domain.interfaces import Clock, Reporter, Runner, Settled, Ticket
from controller.domain.jobs import JobView
from controller.domain.policy import RetryPolicy, patient
from controller.domain.progress import Progress, State
from controller.domain.state import RunState
from controller.errors import EnvironmentProblem, RunProblem, StenofleetError
from controller.leadership.store_lease import LeadKeeper, Standing, StoreLead
from controller.orchestrator.decide import decide
from controller.orchestrator.outages import Trouble, Unavailable
from controller.orchestrator.waits import Waits, subject
from controller.runs.outputs import write_outputs
from controller.runs.repository import RunRepository
from controller.runs.result_index import ResultGone
from controller.runs.transcript_files import TranscriptFiles

_STATUS_EVERY_MS = 2_000
_AFTER_CANCEL = "finished chunks are kept: the same command goes on"
_FOLLOW_EVERY_MS = 1_000


_Verdict = Literal["complete", "partial", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class _Unwritten:
    """How a run has ended, while its outputs are not written yet."""

    outcome: Outcome
    transcript: TranscriptFiles | None
    warnings: tuple[str, ...]
    mark: bool
    """Whether the run's last object is to be put behind them."""


class LoopRun:
    """One run in the loop."""

    def __init__(
        self,
        ticket: Ticket,
        *,
        store: Store,
        runner: Runner,
        reporter: Reporter,
        clock: Clock,
        keeper: LeadKeeper,
    ) -> None:
        """*keeper* renews the run's lead, where machines share the store."""
        self.id = ticket.record.run
        self.settled: Settled | None = None
        self._name = ticket.record.name
        self._request = ticket.request
        self._repository = RunRepository(store, ticket.record, ticket.request, round_id=ticket.round)
        self._runner = runner
        self._reporter = reporter
        self._clock = clock
        self._began_ms = clock.now_ms()
        self._state: RunState | None = None
        self._percent = 0.0
        self._due_ms = 0
        self._follows = False
        self._replica = bool(ticket.round)
        self._leading = False
        self._before: tuple[Outcome | None, bool] = (None, False)
        """Its end and its cancel as they were when we began to follow: left from an earlier round."""
        self._told: set[str] = set()
        self._waits = Waits()
        self._started = 0
        """Jobs that were started at the last tick: no picture shows them yet."""
        self._heard: Status | None = None
        self._store = store
        self._lead: StoreLead | None = None
        self._keeper = keeper
        self._unwritten: _Unwritten | None = None
        self._trouble: Trouble | None = None
        self._more: tuple[Output, ...] = ()
        """Outputs that were asked for when the run had ended already."""
        self._ended_before: Settled | None = None
        """How it had ended then."""

    @property
    def open(self) -> bool:
        """Whether this process leads it, or is about to, and has work to do in it."""
        return self.settled is None and (self._state is not None or (self._lead is not None and not self._follows))

    @property
    def ready(self) -> bool:
        """Whether there is work to decide on now, or a transcript to write."""
        at_work = self._state is not None or self._unwritten is not None or self._ended_before is not None
        return self.settled is None and at_work

    @property
    def fresh(self) -> bool:
        """Whether nothing was done in it yet."""
        begun = self._state or self._lead or self._follows or self._trouble or self._unwritten or self._ended_before
        return self.settled is None and not begun

    @property
    def stands_by(self) -> bool:
        """Whether it follows, for a command that is started more than once so that one takes over from the other."""
        return self.settled is None and self._follows and self._replica

    @property
    def unbegun(self) -> bool:
        """Whether it is open and nothing was ever started in it that could be seen by now."""
        seen = self._state
        return self.ready and seen is not None and not (seen.tasks or seen.planned or seen.jobs or seen.evidence)

    @property
    def in_trouble(self) -> bool:
        """Whether it alone waits for something that is away."""
        return self._trouble is not None

    def is_due(self, now_ms: int) -> bool:
        """Whether it is to be worked on now."""
        return self._trouble is None or self._trouble.is_due(now_ms)

    def postpone(self, error: Unavailable, policy: RetryPolicy, *, now_ms: int) -> None:
        """Leave it alone for a while, because of what it could not reach; in the end give it up."""
        if self._trouble is None:
            self._trouble = Trouble.begun(now_ms)
            patience_s = policy.store_patience_ms // 1000
            self._reporter.event(self._name, f"{error.summary}: tried again for up to {patience_s} s, others continue")
        else:
            self._trouble.again(now_ms)
        if not patient(policy, since_ms=self._trouble.since_ms, now_ms=now_ms):
            self.give_up(error)

    def give_up(self, error: JobError | StenofleetError) -> None:
        """End it for this command, because of what it cannot reach. Its jobs and objects stay for the next one."""
        if self.settled is None:
            advice = error.advice or "the same command resumes it once that is mended"
            if self._unwritten is not None:
                advice = (
                    "the transcript is kept: the same command writes it there, and"
                    f" stenofleet render {self.id} -o FOLDER elsewhere"
                )
            self.settled = self._verdict("failed", error.summary, advice=advice, environment=True)

    def add_outputs(self, outputs: tuple[Output, ...]) -> None:
        """Write its transcript to these places too; where it has ended, from the transcript in the store."""
        both = self._request.outputs + outputs
        self._request = self._repository.request = self._request.model_copy(update={"outputs": both})
        if self.settled and self.settled.verdict in ("complete", "partial"):
            self._more += outputs
            self._ended_before, self.settled = self.settled, None
            self._state = None

    def prepare(self) -> None:
        """Lead or follow it, and open it where we lead."""
        if self._ended_before is not None:
            return
        with self._damage():
            if self._leads(self._clock.now_ms()) and self._state is None and self._unwritten is None:
                self._begin()

    def tick(
        self, jobs: Sequence[JobView], policy: RetryPolicy, submitted: list[bool], *, room: int, intake_room: int
    ) -> None:
        """Look once and act. *submitted* gets, for each job that was started, whether it was an intake."""
        with self._damage():
            if self._ended_before is not None:
                self._write_more(self._ended_before)
            elif self._unwritten is not None:
                self._write(self._unwritten)
            else:
                self._tick(jobs, policy, submitted, room=room, intake_room=intake_room)
        if self._trouble is not None:
            away_s = (self._clock.now_ms() - self._trouble.since_ms) // 1000
            self._reporter.event(self._name, f"back after {away_s} s")
            self._trouble = None

    def linger(self) -> None:
        """Say in the store that it is still worked on, while the cluster is away and nothing else can be done."""
        if self.ready:
            with contextlib.suppress(JobError):
                self._put_status(self._clock.now_ms())

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """One run's objects were tampered with or expired: that run is lost, the others of the command are not."""
        try:
            yield
        except StoreUnavailable:
            raise
        except ValidationError as error:
            # What was put together from valid documents is none: somebody made them so.
            self.give_up(DocumentInvalid(f"the documents of run {self.id} do not fit together: {error.title}"))
        except (DocumentInvalid, ObjectMissing) as error:
            for view in self._runner.observe():
                if view.run == self.id:
                    self._runner.delete(view)
            self._settled(
                "failed",
                f"the store's objects of run {self.id} are damaged: {error.summary}",
                advice="check who else writes to the store, or begin a new run with --force",
                environment=True,
                ended=False,
            )
        except (JobError, RunProblem) as error:
            # No right to its objects, something else in their place: other runs may have what they need.
            self.give_up(error)

    def _tick(
        self, jobs: Sequence[JobView], policy: RetryPolicy, submitted: list[bool], *, room: int, intake_room: int
    ) -> None:
        now_ms = self._clock.now_ms()
        before, self._started = len(submitted), 0
        if self._runner.cancelled(self.id):
            outcome = self._repository.ended()
            if outcome:
                # We slept, or were cut off, and somebody brought it to its end.
                self._settle(outcome)
                return
            self._repository.cancel()
        self._state = state = self._repository.refresh(jobs, now_ms=now_ms)
        self._tell((*self._waits.news(jobs, now_ms), *self._repository.refused()))
        for action in decide(state, now_ms=now_ms, policy=policy, room=room, intake_room=intake_room):
            match action:
                case Submit():
                    self._runner.submit(self._repository.job(action))
                    submitted.append(action.span is None)
                    if action.attempt > 1:
                        self._reporter.event(self._name, f"{subject(action.span)}: attempt {action.attempt} begins")
                case Delete():
                    self._delete(action, now_ms)
                case PinLanguage():
                    self._repository.freeze_language(action.language)
                case Finish():
                    self._finish(action, now_ms)
        self._started = len(submitted) - before
        if self.settled is None:
            self._put_status(now_ms)

    def _tell(self, news: Iterable[str]) -> None:
        for text in news:
            self._reporter.event(self._name, text)

    def waiting(self) -> int:
        """Chunks that are cut and wait for a worker."""
        return figures.waiting(self._state) if self._state else 0

    def progress(self, *, held: bool = False) -> Progress:
        """How far it is; the percentage never goes back. *held*: what all runs need is away."""
        seen: State = (
            self.settled.verdict
            if self.settled
            else "running"
            if self._state
            else "following"
            if self._follows
            else "waiting"
        )
        whose: dict[str, Any] = {
            "name": self._name,
            "run": self.id,
            "size_bytes": self._repository.record.size_bytes,
            "seen": seen,
            "floor": self._percent,
        }
        if self._follows and self._state is None:
            progress = figures.heard(self._heard, **whose)
        else:
            held = held or self.in_trouble
            progress = figures.progress(self._state, started=self._started, held=held, **whose)
        self._percent = progress.percent
        return progress

    def interrupt(self) -> None:
        """Say in the store that nobody works on it any more, for people who look."""
        if self.open and self._state is not None:
            self._put_status(self._clock.now_ms(), interrupted=True)
        self._release()

    def _leads(self, now_ms: int) -> bool:
        """Whether this process may work on it now; otherwise it follows who does."""
        if self._follows and now_ms < self._due_ms:
            return False
        standing = self._standing(now_ms)
        self._leading = standing == "leading"
        if standing == "following":
            if not self._follows:
                self._reporter.event(self._name, f"run {self.id} is worked on by another process: following it")
                self._before = self._repository.outcome(), self._repository.cancelled()
            # It may have taken over while this machine slept: its jobs are the ones that count now.
            if self._state is not None:
                self._runner.forget(self.id)
            self._state, self._unwritten, self._follows = None, None, True
            self._heard = self._repository.status()
            self._due_ms = now_ms + _FOLLOW_EVERY_MS
        return self._leading

    def _standing(self, now_ms: int) -> Standing:
        if not self._runner.lead(self.id):
            return "following"
        if not self._store.remote:
            return "leading"
        if self._lead is None:
            self._lead = StoreLead(self._store, self.id, self._runner.place(self.id))
            self._keeper.keep(self._lead)
        return self._lead.ask(now_ms)

    def _begin(self) -> None:
        """Open the run, now that we lead it; it may have ended already."""
        if self._follows and self._ended_elsewhere():
            return
        self._follows = False
        done = self._repository.open()
        self._tell(self._repository.refused())
        if done:
            self._reporter.event(self._name, f"run {self.id} is already {done.verdict}")
            self._settle(done)
            return
        self._state = self._repository.state(())
        if self._state.answered:
            self._reporter.event(self._name, f"resuming run {self.id}, chunks done so far: {len(self._state.answered)}")

    def _ended_elsewhere(self) -> bool:
        """Whether the process we followed has given its verdict, which is ours too. Else it died and we take over.

        One that died early leaves the verdict of the round before: that counts only where there is no lock any more.
        """
        outcome = self._repository.ended()
        ended_before, cancelled_before = (None, False) if self._runner.cancelled(self.id) else self._before
        if outcome and outcome != ended_before:
            self._settle(outcome)
        elif self._repository.cancelled() and not cancelled_before:
            self._settled("cancelled", "cancelled", advice=_AFTER_CANCEL)
        return self.settled is not None

    def last_look(self) -> None:
        """Called once on a signal: who follows takes over a verdict that is there, which may be the signal's reason.

        The pods of one Job are stopped when the first of them has succeeded, and the logs of all should say so.
        """
        if self._follows and self.settled is None:
            with contextlib.suppress(JobError, StenofleetError):
                self._ended_elsewhere()

    def _delete(self, delete: Delete, now_ms: int) -> None:
        self._repository.keep_evidence(delete, now_ms=now_ms)
        self._runner.delete(delete.view)
        if delete.failure:
            what = f"{subject(delete.view.span)}, attempt {delete.view.attempt}"
            self._reporter.event(self._name, f"{what} failed ({delete.failure.failure}): {delete.failure.summary}")
            self._name_cure(delete.failure)

    def _name_cure(self, failure: Diagnosis) -> None:
        """Report once what would help, where attempts wait longer and longer for it to be done."""
        if failure.failure in WAITED_FOR and failure.advice and failure.failure not in self._told:
            self._told.add(failure.failure)
            reason = f"waits for the cause of {failure.failure} to go, and is tried again for a while"
            self._reporter.event(self._name, f"{reason}: {failure.advice}")

    def _finish(self, finish: Finish, now_ms: int) -> None:
        if finish.verdict == "cancelled":
            self._settled("cancelled", finish.summary, advice=_AFTER_CANCEL)
            return
        try:
            outcome = self._repository.conclude(finish, elapsed_s=(now_ms - self._began_ms) / 1000)
        except ResultGone as error:
            # The next tick sees that there is work left, as often as a chunk may fail.
            self._repository.keep_lost_result(error, now_ms=now_ms)
            self._reporter.event(self._name, f"{subject(error.key.span)}: its result is not valid any more: {error}")
            return
        except StenofleetError as error:
            outcome = self._repository.conclude(
                Finish(verdict="failed", summary=error.summary, advice=error.advice),
                elapsed_s=(now_ms - self._began_ms) / 1000,
            )
        self._settle(outcome, mark=True)

    def _settle(self, outcome: Outcome, *, mark: bool = False) -> None:
        """Write the outputs, then the run's last object: it promises that everything before it is there."""
        transcript = self._repository.transcript() if outcome.verdict != "failed" else None
        warnings = dict.fromkeys([*self._repository.warnings(), *(transcript.summary.warnings if transcript else ())])
        # Kept until it is written: what cannot be written now is not merged again for that.
        self._unwritten = _Unwritten(outcome=outcome, transcript=transcript, warnings=tuple(warnings), mark=mark)
        self._write(self._unwritten)

    def _write(self, unwritten: _Unwritten) -> None:
        outcome = unwritten.outcome
        files: tuple[str, ...] = ()
        warnings = unwritten.warnings
        if unwritten.transcript is not None:
            try:
                files, kept = write_outputs(self._request, unwritten.transcript)
                warnings += kept
            except EnvironmentProblem as error:
                self._settled("failed", error.summary, advice=error.advice, environment=True, ended=False)
                return
        if unwritten.mark:
            self._repository.mark(outcome)
        self._settled(
            outcome.verdict,
            outcome.summary,
            advice=outcome.advice,
            files=files,
            warnings=warnings,
            environment=outcome.failure in ENVIRONMENT,
        )

    def _write_more(self, before: Settled) -> None:
        """Write the transcript of a run that has ended to places that were asked for since."""
        if self._repository.ended() is None:
            # It was removed: the run is to be done again.
            self._ended_before = None
            return
        wanted = self._request.model_copy(update={"outputs": self._more})
        try:
            files, kept = write_outputs(wanted, self._repository.transcript())
        except EnvironmentProblem as error:
            self.settled = replace(
                before, verdict="failed", summary=error.summary, advice=error.advice, environment=True
            )
        else:
            self.settled = replace(before, files=before.files + files, warnings=before.warnings + kept)
        self._ended_before, self._more = None, ()

    def _settled(self, verdict: _Verdict, summary: str, *, ended: bool = True, **more: Any) -> None:
        """End it for this command: its status, then its lock.

        Not *ended*: nothing in the store says how it has ended. Who follows may go on with it once this command has
        given up its lock; without a Lease it would take that for a cancel.
        """
        self.settled = self._verdict(verdict, summary, **more)
        self._unwritten = None
        if self._state is not None:
            # Before the lock is released: a `clean` that comes between would leave a run of one object.
            with contextlib.suppress(JobError):
                self._put_status(self._clock.now_ms())
        if self._leading and ended:
            self._runner.release(self.id)
        self._release()

    def _verdict(
        self,
        verdict: _Verdict,
        summary: str,
        *,
        advice: str = "",
        files: tuple[str, ...] = (),
        warnings: tuple[str, ...] = (),
        environment: bool = False,
    ) -> Settled:
        return Settled(
            run=self.id,
            name=self._name,
            verdict=verdict,
            summary=summary,
            advice=advice,
            files=files,
            warnings=warnings,
            environment=environment,
        )

    def _release(self) -> None:
        """Let another machine lead at once; where the store does not hear it, after a while."""
        if self._lead is not None:
            self._keeper.drop(self._lead)
            with contextlib.suppress(JobError):
                self._lead.release()
            self._lead = None

    def _put_status(self, now_ms: int, *, interrupted: bool = False) -> None:
        if now_ms < self._due_ms and self.settled is None and not interrupted:
            return
        self._due_ms = now_ms + _STATUS_EVERY_MS
        progress = self.progress()
        assert progress.state != "identifying"
        self._repository.put_status(
            Status(
                run=self.id,
                name=self._name,
                state="interrupted" if interrupted else progress.state,
                percent=round(progress.percent, 1),
                spans_done=progress.spans_done,
                spans_known=progress.spans_known,
                planned=progress.planned,
                running=progress.running,
                done_ms=progress.done_ms,
                total_ms=progress.total_ms,
                failures=progress.failures,
                updated_ms=now_ms,
            )
        )
