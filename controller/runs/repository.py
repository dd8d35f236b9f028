"""The objects of one run: opens rounds, reads the run's state, stores evidence of failures, reports its status.

Touches: the store. Between two ticks it keeps in memory only what it can read from the store again. ``decide`` gets the
state of the run from here. ``result_index`` reads tasks and results, and ``finalize`` ends the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from chunk_job.contract import Language, sha256_hex
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import failures, stored_documents
from controller.domain.actions import Delete, Finish, Submit
from controller.domain.budgets import ENVIRONMENT
from controller.domain.degradation import degradation_levels
from controller.domain.documents import Evidence, Outcome, Request, Round, RunRecord, Status
from controller.domain.failures import Diagnosis, FailureClass
from controller.domain.jobs import Job, JobView
from controller.domain.keys import MARKERS, RunKeys, is_failure
from controller.domain.state import RunState
from controller.domain.tasks import intake_task, intake_task_key, job_of
from controller.runs import stored_transcript
from controller.runs.finalize import Finalizer, put_marker
from controller.runs.result_index import ResultGone, ResultIndex
from controller.runs.run_language import RunLanguage
from controller.runs.transcript_files import TranscriptFiles

_ALL_EVERY_MS = 60_000
_LATE_EVERY_MS = 3_000
_NEW_TASKS_EVERY_MS = 1_000
_LONGEST_LINE = 8_000


class RunRepository:
    """The stored state of one run, as read and written by the process that leads it."""

    def __init__(self, store: Store, record: RunRecord, request: Request, *, round_id: str = "") -> None:
        """*round_id* names the round of this command. Empty: a run that has ended without success is tried again."""
        self._store = store
        self._command = sha256_hex(round_id.encode())[:8] if round_id else ""
        self.record = record
        self.request = request
        self.keys = RunKeys(record.run)
        self._keep_audio = request.keep_chunks
        self._index = ResultIndex(store, record, keep_audio=self._keep_audio)
        self._evidence: dict[tuple[str, int | None, int], Evidence] = {}
        """By round, span and attempt: evidence that is stored twice, because a tick was interrupted, counts once."""
        self._used: dict[int | None, int] = {}
        self._language = RunLanguage(store, self.keys, is_given=record.options.language is not None)
        self._round = ""
        self._all_read_ms: int | None = None
        self._tasks_read_ms = 0
        self._transcript: TranscriptFiles | None = None
        self._record_raw = b""
        self.usage: tuple[str, ...] = ()
        """Where the time of the run's jobs went, as lines for people. Set when this process has concluded the run."""
        self._says_length = True

    def open(self) -> Outcome | None:
        """Start or resume the run. Returns the outcome if it has already ended. Can be repeated after an error.

        After a failure, a gap or a cancel this opens a new round with new budgets. A command that is started again in
        the same round gets the verdict of that round. Exception: a failure of the environment, which may be fixed by
        now, is tried again. A verdict whose transcript is missing or does not match it does not count: the run is
        finished again.
        """
        outcome = self.outcome()
        current = stored_documents.valid(self._store, Round, self.keys.round)
        ours = current is not None and bool(self._command) and current.command == self._command
        again = outcome is not None and outcome.verdict == "failed" and outcome.failure in ENVIRONMENT
        if outcome and (
            outcome.verdict == "complete" or (ours and not again and current and outcome.round == current.id)
        ):
            if self._is_kept(outcome):
                return outcome
            outcome = None if outcome.verdict == "complete" else outcome
        self._put_record()
        self._store.put(self.keys.request, self.request.encode())
        if current is None or not ours or again:
            resumes = current is not None and not outcome and not self.cancelled()
            if not ours:
                # Before the new round is written: else the old cancel request would apply to it.
                self._store.delete(self.keys.cancel)
            fresh = secrets.token_hex(4)
            current = Round(id=current.id if current and resumes else fresh, command=self._command)
            self._store.put(self.keys.round, current.encode())
        for verdict in MARKERS:
            self._store.delete(self.keys.marker(verdict))
        self._round = current.id
        self._load()
        return None

    def _put_record(self) -> None:
        """Use the stored record; write ours if none of this run is stored."""
        stored = stored_documents.valid(self._store, RunRecord, self.keys.record)
        if stored is None or not self.record.same_run(stored):
            stored = self.record
            self._store.put(self.keys.record, stored.encode())
        raw = self._store.get(self.keys.record, max_bytes=RunRecord.max_bytes)
        self.record = stored_documents.parse(RunRecord, self.keys.record, raw)
        if not self.record.same_run(stored):
            raise DocumentInvalid(f"the record of run {self.record.run} was changed while it was read")
        self._record_raw = raw
        self.request = self.request.model_copy(update={"record_sha256": sha256_hex(raw)})
        self._index = ResultIndex(self._store, self.record, keep_audio=self._keep_audio)

    def ended(self) -> Outcome | None:
        """The outcome of the run; None if it has not ended, or if its transcript does not match the outcome."""
        outcome = self.outcome()
        return outcome if outcome and self._is_kept(outcome) else None

    def _is_kept(self, outcome: Outcome) -> bool:
        """Whether the transcript of a run that has ended is stored, complete, and of this run."""
        if outcome.verdict == "failed":
            return True
        self._transcript = stored_transcript.stored(self._store, self.record)
        found = self._transcript
        return found is not None and (found.summary.status == "complete" or outcome.verdict == "partial")

    def outcome(self) -> Outcome | None:
        """The content of the run's marker; None if its round has not ended."""
        for verdict in MARKERS:
            found = stored_documents.valid(self._store, Outcome, self.keys.marker(verdict))
            if found and found.verdict == verdict:
                return found
        return None

    def cancelled(self) -> bool:
        """Whether a cancel was requested."""
        return self._store.stat(self.keys.cancel) is not None

    def cancel(self) -> None:
        """Request the end of the run."""
        self._store.put(self.keys.cancel, b"")

    def refresh(self, jobs: Sequence[JobView], *, now_ms: int) -> RunState:
        """Read everything that can have changed, and return the run's state."""
        self._read_new_tasks([view for view in jobs if view.span is None], now_ms)
        for view in jobs:
            over = view.phase in ("ending", "ended") or view.lost
            if over and view.span is not None and view.span not in self._index:
                self._index.read_results(view.span)
        if self._all_read_ms is None:
            self._all_read_ms = now_ms
        elif now_ms - self._all_read_ms >= (_LATE_EVERY_MS if self._waits_to_retry(jobs) else _ALL_EVERY_MS):
            # A job that counts as lost may still run on an unreachable node, and write a result.
            self._index.read_results()
            self._all_read_ms = now_ms
        if self._language.is_open and any(view.span is not None for view in jobs):
            self._language.read(self._index.language())
        return self.state(jobs)

    def _waits_to_retry(self, jobs: Sequence[JobView]) -> bool:
        """Whether a span has failed and its next attempt has not started: a late result would make it unnecessary."""
        begun = {view.span for view in jobs if view.phase != "queued"}
        return any(span is not None and span not in self._index and span not in begun for span in self._used)

    def _read_new_tasks(self, intakes: Sequence[JobView], now_ms: int) -> None:
        """Read the tasks that an intake has written. A remote store is read once a second, and when the intake ends."""
        if self._index.planned or not intakes:
            return
        pause_ms = _NEW_TASKS_EVERY_MS if self._store.remote else 0
        if any(view.phase == "ended" for view in intakes) or not 0 <= now_ms - self._tasks_read_ms < pause_ms:
            self._index.read_new_tasks()
            self._tasks_read_ms = now_ms

    def state(self, jobs: Sequence[JobView]) -> RunState:
        """The state of the run, as last read."""
        used = dict(self._used)
        for span, attempt in self._index.attempts.items():
            used[span] = max(used.get(span, 0), attempt)
        return RunState(
            run=self.record.run,
            tasks=self._index.tasks,
            planned=self._index.planned,
            answered=self._index.answered,
            answered_by=self._index.answered_by,
            evidence=tuple(item for item in self._evidence.values() if item.round == self._round),
            used_attempts=used,
            jobs=tuple(self._index.with_result(view) for view in jobs),
            language_open=self._language.is_open,
            language_candidates=self._language.candidates,
            degradation_levels=degradation_levels(self.record.options),
            removed=self._index.removed,
            gaps_allowed=self.request.on_chunk_failure == "gap",
            cancelled=self.cancelled(),
        )

    def job(self, submit: Submit) -> Job:
        """The job for a submit action. Its task is in the store when this returns."""
        if submit.span is None:
            key, digest = self._put_intake_task()
            # The new intake finds by itself which tasks are missing.
            self._index.removed = frozenset()
            return job_of(submit, self.request, task_key=key, task_sha256=digest)
        self._language.restore()
        level = submit.degradation_level
        key = self._index.degraded_task(submit.span, level) if level else self.keys.task(submit.span)
        # The digest of the validated task: the stored object may have been changed since.
        digest = self._index.digest(submit.span, level)
        return job_of(submit, self.request, task_key=key, task_sha256=digest, audio_ms=self._index.tasks[submit.span])

    def _put_intake_task(self) -> tuple[str, str]:
        """Key and digest of the task of an intake."""
        raw = intake_task(self.request)
        digest = sha256_hex(raw)
        key = intake_task_key(self.request, digest)
        self._store.put(key, raw)
        if self._store.stat(self.keys.record) is None:
            # It was deleted while the run was active. The intake compares it with the digest in its task.
            self._store.put(self.keys.record, self._record_raw)
        return key, digest

    def keep_evidence(self, delete: Delete, *, now_ms: int) -> None:
        """Store why a job failed, before the job is deleted. Its attempt number counts as used in any case."""
        span = delete.view.span
        self._used[span] = max(self._used.get(span, 0), delete.view.attempt)
        why = delete.failure
        if span is not None and why is not None and span not in self._index:
            # The job may have written its result before it was stopped.
            self._index.read_results(span)
        if why is None or (span in self._index and not self._is_disruption(why, span, delete.view.attempt)):
            return
        self._keep(why, span, delete.view.attempt, now_ms=now_ms)
        if span is not None and why.failure is FailureClass.CHUNK_DAMAGED:
            self._index.cut_again(span)

    def _is_disruption(self, why: Diagnosis, span: int | None, attempt: int) -> bool:
        """Whether this attempt was disrupted from outside, and another attempt has a valid result."""
        winner = self._index.winner(span) if span is not None else None
        return winner is not None and winner[0].attempt != attempt and failures.is_disruption(why.failure)

    def keep_lost_result(self, lost: ResultGone, *, now_ms: int) -> None:
        """Store evidence that a winning result is no longer valid: without it, retries would be unlimited."""
        span, attempt = lost.key.span, lost.key.attempt
        if (self._round, span, attempt) in self._evidence:
            # A result of this attempt was lost before. Each loss counts, so it gets a new number.
            attempt = self._used[span] + 1
        self._keep(failures.invalid_result(str(lost)), span, attempt, now_ms=now_ms)
        if self._store.stat(self.keys.audio(span)) is None:
            self._index.cut_again(span)

    def _keep(self, why: Diagnosis, span: int | None, attempt: int, *, now_ms: int) -> None:
        evidence = Evidence(
            run=self.record.run,
            round=self._round,
            span=span,
            attempt=attempt,
            failure=why.failure,
            summary=why.summary[:_LONGEST_LINE],
            advice=why.advice[:_LONGEST_LINE],
            details=tuple(line[:1_000] for line in why.details[:100]),
            ended_ms=max(now_ms, 0),
            node=why.node,
        )
        self._store.put(self.keys.failure(span, attempt, self._round), evidence.encode())
        self._remember(evidence)

    def freeze_language(self, language: Language) -> None:
        """Set the language of all chunks of the run."""
        self._language.freeze(language)

    def conclude(self, finish: Finish, *, elapsed_s: float, check: Callable[[], None]) -> Outcome:
        """Merge the results unless the run has failed, and write everything except the run's marker.

        *check* is called after the merge, which may take long, and before anything is written.

        Raises the errors of :meth:`Finalizer.finalize`.
        """
        finalizer = Finalizer(self._store, self.record, self._index, round_id=self._round)
        finalized = finalizer.finalize(finish, self._evidence.values(), elapsed_s=elapsed_s, check=check)
        self._transcript, self.usage = finalized.transcript, finalized.usage
        return finalized.outcome

    def mark(self, outcome: Outcome) -> None:
        """Write the run's marker."""
        put_marker(self._store, outcome)

    def transcript(self) -> TranscriptFiles:
        """The transcript of the last outcome. The caller takes over its files; this object drops them."""
        found, self._transcript = self._transcript, None
        if found is None:
            raise DocumentInvalid(f"run {self.record.run} has no transcript")
        return found

    def warnings(self) -> tuple[str, ...]:
        """Problems of the recording that the intake found. Empty until the plan is known."""
        return self._index.warnings()

    @property
    def useful_share(self) -> float | None:
        """Decoding and word times, as a part of the time of the jobs with a result; None if it is not known."""
        return self._index.useful_share

    def news(self) -> list[str]:
        """What was found in the store since the last call, as sentences: invalid objects, and the chosen length."""
        found, self._index.refused = self._index.refused, []
        if self._says_length and self._index.plan:
            self._says_length = False
            found += [self._index.plan.chosen.reason] if self._index.plan.chosen else []
        return found

    def status(self) -> Status | None:
        """The last status that the leading process has reported; None if there is no valid one."""
        return stored_documents.valid(self._store, Status, self.keys.status)

    def put_status(self, status: Status) -> None:
        """Write the progress of the run."""
        self._store.put(self.keys.status, status.encode())

    def _load(self) -> None:
        self._index.read()
        self._language.read(self._index.language())
        self._evidence.clear()
        found = []
        for entry in self._store.list(self.keys.failures):
            evidence = stored_documents.valid(self._store, Evidence, entry.key) if is_failure(entry.key) else None
            if evidence and entry.key == self.keys.failure(evidence.span, evidence.attempt, evidence.round):
                found.append(evidence)
        for evidence in sorted(found, key=lambda item: (item.ended_ms, item.attempt)):
            self._remember(evidence)

    def _remember(self, evidence: Evidence) -> None:
        self._evidence[evidence.round, evidence.span, evidence.attempt] = evidence
        self._used[evidence.span] = max(self._used.get(evidence.span, 0), evidence.attempt)
