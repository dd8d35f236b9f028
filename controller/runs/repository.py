"""One run's objects: opens rounds, reads the run's state, keeps evidence of failures, reports its status.

Touches: the store. What it remembers between two ticks is only what it has read there and can read again. ``decide``
gets its picture of the run from here; tasks and results are read in ``result_index``, and ``finalize`` ends the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from chunk_job.contract import Language, sha256_hex
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import failures, stored_documents
from controller.domain.actions import Delete, Finish, Submit
from controller.domain.budgets import ENVIRONMENT
from controller.domain.degradation import degradation_levels
from controller.domain.documents import (
    Evidence,
    Outcome,
    Request,
    Round,
    RunRecord,
    Status,
)
from controller.domain.failures import Diagnosis, FailureClass
from controller.domain.jobs import Job, JobView
from controller.domain.keys import MARKERS, RunKeys, is_failure
from controller.domain.state import RunState
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
    """The store's view of one run, kept by the process that leads it."""

    def __init__(self, store: Store, record: RunRecord, request: Request, *, round_id: str = "") -> None:
        """*round_id* names the round that this command belongs to; empty: what has ended is tried again."""
        self._store = store
        self._command = sha256_hex(round_id.encode())[:8] if round_id else ""
        self.record = record
        self.request = request
        self.keys = RunKeys(record.run)
        self._keep_audio = request.keep_chunks
        self._index = ResultIndex(store, record, keep_audio=self._keep_audio)
        self._evidence: dict[tuple[str, int | None, int], Evidence] = {}
        """By round, span and attempt: one that is kept again, because a tick failed half-way, counts once."""
        self._used: dict[int | None, int] = {}
        self._language = RunLanguage(store, self.keys, is_given=record.options.language is not None)
        self._round = ""
        self._all_read_ms: int | None = None
        self._tasks_read_ms = 0
        self._transcript: TranscriptFiles | None = None
        self._record_raw = b""

    def open(self) -> Outcome | None:
        """Begin or resume; the outcome, where the run is already complete. Safe to call again where it failed half-way.

        After a failure, a gap or a cancel this opens a new round, whose budgets are fresh; but a command that was
        started again in the same round gets that round's verdict, unless the media are not to blame for it: what was
        in the way then may be mended by now. A verdict whose transcript is not there any more, or
        is not what it says, is none: the run is finished once more.
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
                # First this: beside our name it would have been asked of us.
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
        """Take the stored record, which counts; put ours where there is none of this run."""
        stored = stored_documents.valid(self._store, RunRecord, self.keys.record)
        if stored is None or not self.record.same_run(stored):
            stored = self.record
            self._store.put(self.keys.record, stored.encode())
        raw = self._store.get(self.keys.record, max_bytes=RunRecord.max_bytes)
        self.record = stored_documents.parse(RunRecord, self.keys.record, raw)
        if not self.record.same_run(stored):
            raise DocumentInvalid(f"the record of run {self.record.run} changes while it is read")
        self._record_raw = raw
        self.request = self.request.model_copy(update={"record_sha256": sha256_hex(raw)})
        self._index = ResultIndex(self._store, self.record, keep_audio=self._keep_audio)

    def ended(self) -> Outcome | None:
        """How the run has ended; None where it has not, or its transcript is not what that says."""
        outcome = self.outcome()
        return outcome if outcome and self._is_kept(outcome) else None

    def _is_kept(self, outcome: Outcome) -> bool:
        """Whether the transcript of a run that has ended is there, whole and of this run."""
        if outcome.verdict == "failed":
            return True
        self._transcript = stored_transcript.stored(self._store, self.record)
        found = self._transcript
        return found is not None and (found.summary.status == "complete" or outcome.verdict == "partial")

    def outcome(self) -> Outcome | None:
        """The body of the run's last object, if its round has ended."""
        for verdict in MARKERS:
            found = stored_documents.valid(self._store, Outcome, self.keys.marker(verdict))
            if found and found.verdict == verdict:
                return found
        return None

    def cancelled(self) -> bool:
        """Whether somebody has asked to end the run."""
        return self._store.stat(self.keys.cancel) is not None

    def cancel(self) -> None:
        """Ask to end the run."""
        self._store.put(self.keys.cancel, b"")

    def refresh(self, jobs: Sequence[JobView], *, now_ms: int) -> RunState:
        """Read again what can have changed; the run's state."""
        self._read_new_tasks([view for view in jobs if view.span is None], now_ms)
        for view in jobs:
            over = view.phase in ("ending", "ended") or view.lost
            if over and view.span is not None and view.span not in self._index:
                self._index.read_results(view.span)
        if self._all_read_ms is None:
            self._all_read_ms = now_ms
        elif now_ms - self._all_read_ms >= (_LATE_EVERY_MS if self._waits_to_retry(jobs) else _ALL_EVERY_MS):
            # What was given up for lost may have gone on where nobody sees it, and answer yet.
            self._index.read_results()
            self._all_read_ms = now_ms
        if self._language.is_open and any(view.span is not None for view in jobs):
            self._language.read(self._index.language())
        return self.state(jobs)

    def _waits_to_retry(self, jobs: Sequence[JobView]) -> bool:
        """Whether a span has failed and its next attempt has not begun: a late result would make that needless."""
        begun = {view.span for view in jobs if view.phase != "queued"}
        return any(span is not None and span not in self._index and span not in begun for span in self._used)

    def _read_new_tasks(self, intakes: Sequence[JobView], now_ms: int) -> None:
        """Read what an intake has put. A server is asked once a second, and when the intake has ended."""
        if self._index.planned or not intakes:
            return
        pause_ms = _NEW_TASKS_EVERY_MS if self._store.remote else 0
        if any(view.phase == "ended" for view in intakes) or not 0 <= now_ms - self._tasks_read_ms < pause_ms:
            self._index.read_new_tasks()
            self._tasks_read_ms = now_ms

    def state(self, jobs: Sequence[JobView]) -> RunState:
        """The run as last seen."""
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
        """The job behind a submit; its task is in the store when this returns."""
        intake = submit.span is None
        if submit.span is None:
            key, digest = self._put_intake_task()
            # It sees what is missing now.
            self._index.removed = frozenset()
        else:
            self._language.restore()
            level = submit.degradation_level
            key = self._index.degraded_task(submit.span, level) if level else self.keys.task(submit.span)
            # As it was validated: what lies there now may be another one.
            digest = self._index.digest(submit.span, level)
        return Job(
            run=self.record.run,
            span=submit.span,
            attempt=submit.attempt,
            task_key=key,
            task_sha256=digest,
            audio_ms=0 if submit.span is None else self._index.audio_ms(submit.span),
            media_uri=self.request.source.uri if intake else "",
            media_bytes=self.request.source.size_bytes if intake else 0,
            memory_factor=submit.memory_factor,
            avoid_nodes=submit.avoid_nodes,
            only_elsewhere=submit.only_elsewhere,
        )

    def _put_intake_task(self) -> tuple[str, str]:
        """Key and digest of the task of an intake: the request without what changes from command to command."""
        unlike = {"outputs": (), "on_chunk_failure": "fail", "keep_chunks": False}
        raw = self.request.model_copy(update=unlike).encode()
        digest = sha256_hex(raw)
        key = self.keys.intake_task(digest[:16])
        self._store.put(key, raw)
        if self._store.stat(self.keys.record) is None:
            # Removed while the run works: the intake compares it with what its task says.
            self._store.put(self.keys.record, self._record_raw)
        return key, digest

    def keep_evidence(self, delete: Delete, *, now_ms: int) -> None:
        """Put why a job failed, before anything of it goes; its number is used in any case."""
        span = delete.view.span
        self._used[span] = max(self._used.get(span, 0), delete.view.attempt)
        why = delete.failure
        if span is not None and why is not None and span not in self._index:
            # Stopped in the middle, it may have answered all the same.
            self._index.read_results(span)
        if why is None or (span in self._index and not self._is_disruption(why, span, delete.view.attempt)):
            return
        self._keep(why, span, delete.view.attempt, now_ms=now_ms)
        if span is not None and why.failure is FailureClass.CHUNK_DAMAGED:
            self._index.cut_again(span)

    def _is_disruption(self, why: Diagnosis, span: int | None, attempt: int) -> bool:
        """Whether this attempt was taken away, while another one has answered."""
        winner = self._index.winner(span) if span is not None else None
        return winner is not None and winner[0].attempt != attempt and failures.is_disruption(why.failure)

    def keep_lost_result(self, lost: ResultGone, *, now_ms: int) -> None:
        """Put that a result which counted is not valid any more: else it could be computed again without an end."""
        span, attempt = lost.key.span, lost.key.attempt
        if (self._round, span, attempt) in self._evidence:
            # Lost before under this number: each loss counts.
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
        """Decide the run's language for all its chunks."""
        self._language.freeze(language)

    def conclude(self, finish: Finish, *, elapsed_s: float) -> Outcome:
        """Merge if there is something to merge, and write everything but the run's last object.

        Raises as :meth:`Finalizer.finalize` does.
        """
        finalizer = Finalizer(self._store, self.record, self._index, round_id=self._round)
        finalized = finalizer.finalize(finish, self._evidence.values(), elapsed_s=elapsed_s)
        self._transcript = finalized.transcript
        return finalized.outcome

    def mark(self, outcome: Outcome) -> None:
        """Put the run's last object."""
        put_marker(self._store, outcome)

    def transcript(self) -> TranscriptFiles:
        """The transcript of the outcome that was given last. Its files are kept here no longer."""
        found, self._transcript = self._transcript, None
        if found is None:
            raise DocumentInvalid(f"run {self.record.run} has no transcript")
        return found

    def warnings(self) -> tuple[str, ...]:
        """What the intake found wrong with the recording, once the plan is known."""
        return self._index.warnings()

    def refused(self) -> list[str]:
        """What was found in the store and not believed since this was last asked, in sentences."""
        found, self._index.refused = self._index.refused, []
        return found

    def status(self) -> Status | None:
        """What the process that leads the run has reported last."""
        return stored_documents.valid(self._store, Status, self.keys.status)

    def put_status(self, status: Status) -> None:
        """Report how far the run is."""
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
