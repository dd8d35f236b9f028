"""One run's objects: opens rounds, reads the run's state, keeps evidence, writes what came out.

Touches: the store. What it remembers between two looks is only what it has read there and can read again. ``decide``
gets its picture from here; tasks and results are read in ``answers``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from chunk_job.contract import ChunkResult, Language, sha256_hex
from chunk_job.crashpoint import reach
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import failures, stored_documents
from controller.domain.actions import Delete, Finish, Submit
from controller.domain.degradation import rungs
from controller.domain.documents import (
    Evidence,
    Final,
    Outcome,
    Report,
    Request,
    Round,
    RunRecord,
    SpanReport,
    Status,
    Verdict,
    Winner,
)
from controller.domain.failures import Diagnosis, FailureClass
from controller.domain.jobs import Job, JobView
from controller.domain.keys import MARKERS, RunKeys, is_failure, parse_note
from controller.domain.plan import Plan
from controller.domain.state import RunState
from controller.errors import PlanMismatch
from controller.runs import stored_transcript
from controller.runs.result_index import Answers, ResultGone
from controller.runs.transcript_files import TranscriptFiles, TranscriptWriter
from controller.transcript.formats import FORMATS
from controller.transcript.merge import Merge
from controller.transcript.model import TranscriptSummary

_ALL_EVERY_MS = 60_000
_NEW_TASKS_EVERY_MS = 1_000
_LONGEST_LINE = 8_000


class Ledger:
    """The store's view of one run, kept by the process that leads it."""

    def __init__(self, store: Store, record: RunRecord, request: Request, *, round_id: str = "") -> None:
        """*round_id* names the round that this command belongs to; empty: what has ended is tried anew."""
        self._store = store
        self._command = sha256_hex(round_id.encode())[:8] if round_id else ""
        self.record = record
        self.request = request
        self.keys = RunKeys(record.run)
        self._keep_audio = request.keep_chunks
        self._answers = Answers(store, record, keep_audio=self._keep_audio)
        self._evidence: dict[tuple[str, int | None, int], Evidence] = {}
        """By round, span and attempt: one that is kept again, because a tick failed half-way, counts once."""
        self._used: dict[int | None, int] = {}
        self._language: Language | None = None
        self._language_open = record.options.language is None
        self._notes: dict[int, Language] = {}
        self._round = ""
        self._all_read_ms: int | None = None
        self._tasks_read_ms = 0
        self._transcript: TranscriptFiles | None = None
        self._record_raw = b""

    def open(self) -> Outcome | None:
        """Begin or go on; the outcome, where the run is already complete. Safe to call again where it failed half-way.

        After a failure, a gap or a cancel this opens a new round, whose budgets are fresh; but a command that was
        started again in the same round gets that round's verdict. A verdict whose transcript is not there any more, or
        is not what it says, is none: the run is finished once more.
        """
        outcome = self.outcome()
        current = stored_documents.valid(self._store, Round, self.keys.round)
        ours = current is not None and bool(self._command) and current.command == self._command
        if outcome and (outcome.verdict == "complete" or (ours and current and outcome.round == current.id)):
            if self._is_kept(outcome):
                return outcome
            outcome = None if outcome.verdict == "complete" else outcome
        self._put_record()
        self._store.put(self.keys.request, self.request.encode())
        if current is None or not ours:
            goes_on = current is not None and not outcome and not self.cancelled()
            # First this: beside our name it would have been asked of us.
            self._store.delete(self.keys.cancel)
            fresh = secrets.token_hex(4)
            current = Round(id=current.id if current and goes_on else fresh, command=self._command)
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
        self._answers = Answers(self._store, self.record, keep_audio=self._keep_audio)

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
        """Look again at what can have changed, and answer with the run's state."""
        self._read_new_tasks([view for view in jobs if view.span is None], now_ms)
        for view in jobs:
            over = view.phase in ("ending", "ended") or view.lost
            if over and view.span is not None and view.span not in self._answers:
                self._answers.read_results(view.span)
        if self._all_read_ms is None:
            self._all_read_ms = now_ms
        elif now_ms - self._all_read_ms >= _ALL_EVERY_MS:
            # What was given up for lost may have gone on where nobody sees it, and answer yet.
            self._answers.read_results()
            self._all_read_ms = now_ms
        if self._language_open and any(view.span is not None for view in jobs):
            self._read_language()
        return self.state(jobs)

    def _read_new_tasks(self, intakes: Sequence[JobView], now_ms: int) -> None:
        """Read what an intake has put. A server is asked once a second, and when the intake has ended."""
        if self._answers.planned or not intakes:
            return
        pause_ms = _NEW_TASKS_EVERY_MS if self._store.remote else 0
        if any(view.phase == "ended" for view in intakes) or not 0 <= now_ms - self._tasks_read_ms < pause_ms:
            self._answers.read_new_tasks()
            self._tasks_read_ms = now_ms

    def state(self, jobs: Sequence[JobView]) -> RunState:
        """The run as last seen."""
        used = dict(self._used)
        for span, attempt in self._answers.attempts.items():
            used[span] = max(used.get(span, 0), attempt)
        return RunState(
            run=self.record.run,
            tasks=self._answers.tasks,
            planned=self._answers.planned,
            answered=self._answers.answered,
            evidence=tuple(item for item in self._evidence.values() if item.round == self._round),
            used_attempts=used,
            jobs=tuple(self._answers.judged(view) for view in jobs),
            language_open=self._language_open,
            notes=self._notes,
            rungs=rungs(self.record.options),
            removed=self._answers.removed,
            gaps_allowed=self.request.on_chunk_failure == "gap",
            cancelled=self.cancelled(),
        )

    def job(self, submit: Submit) -> Job:
        """The job behind a submit; its task is in the store when this returns."""
        intake = submit.span is None
        if submit.span is None:
            key, digest = self._put_intake_task()
            # It sees what is missing now.
            self._answers.removed = frozenset()
        else:
            self._restore_language()
            key = self._answers.degraded(submit.span, submit.rung) if submit.rung else self.keys.task(submit.span)
            # As it was validated: what lies there now may be another one.
            digest = self._answers.digest(submit.span, submit.rung)
        return Job(
            run=self.record.run,
            span=submit.span,
            attempt=submit.attempt,
            task_key=key,
            task_sha256=digest,
            audio_ms=0 if submit.span is None else self._answers.audio_ms(submit.span),
            media_uri=self.request.source.uri if intake else "",
            media_bytes=self.request.source.size_bytes if intake else 0,
            memory_factor=submit.memory_factor,
            avoid_nodes=submit.avoid_nodes,
            only_elsewhere=submit.only_elsewhere,
        )

    def _put_intake_task(self) -> tuple[str, str]:
        """Key and digest of what an intake is told: the request without what changes from command to command."""
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
        if span is not None and why is not None and span not in self._answers:
            # Stopped in the middle, it may have answered all the same.
            self._answers.read_results(span)
        if why is None or span in self._answers:
            return
        self._keep(why, span, delete.view.attempt, now_ms=now_ms)
        if span is not None and why.failure is FailureClass.CHUNK_DAMAGED:
            self._answers.cut_again(span)

    def keep_lost_result(self, lost: ResultGone, *, now_ms: int) -> None:
        """Put that a result which counted is not valid any more: else it could be computed again without an end."""
        span, attempt = lost.key.span, lost.key.attempt
        if (self._round, span, attempt) in self._evidence:
            # Lost before under this number: each loss counts.
            attempt = self._used[span] + 1
        self._keep(failures.invalid_result(str(lost)), span, attempt, now_ms=now_ms)
        if self._store.stat(self.keys.audio(span)) is None:
            self._answers.cut_again(span)

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

    def pin_language(self, language: Language) -> None:
        """Freeze the run's language."""
        self._store.put(self.keys.language, language.encode())
        self._language, self._language_open = language, False

    def conclude(self, finish: Finish, *, elapsed_s: float) -> Outcome:
        """Merge if there is something to merge, write everything, and the run's last object last.

        The verdict is the transcript's own. Raises :class:`ResultGone` where a result is not there any more, and
        :class:`PlanMismatch` where the results do not belong together, or are fewer than when the run was decided.
        """
        verdict: Verdict = "failed"
        summary = finish.summary
        if finish.verdict in ("complete", "partial"):
            self._transcript = written = self._write_transcript(finish.lost)
            verdict, summary = written.summary.status, _summary(written.summary)
        self._store.put(self.keys.report, self._report(verdict, elapsed_s).encode())
        outcome = Outcome(
            run=self.record.run,
            verdict=verdict,
            round=self._round,
            summary=(summary or "failed")[:_LONGEST_LINE],
            advice=finish.advice[:_LONGEST_LINE],
            failure=finish.failure,
        )
        reach("run.concluded")
        return outcome

    def mark(self, outcome: Outcome) -> None:
        """Put the run's last object, once nothing is left of writers that were killed."""
        for prefix in (self.keys.work, self.keys.home):
            self._store.sweep(prefix)
        self._store.put(self.keys.marker(outcome.verdict), outcome.encode())

    def transcript(self) -> TranscriptFiles:
        """The transcript of the outcome that was given last. Its files are kept here no longer."""
        found, self._transcript = self._transcript, None
        if found is None:
            raise DocumentInvalid(f"run {self.record.run} has no transcript")
        return found

    def warnings(self) -> tuple[str, ...]:
        """What the intake found wrong with the recording, once the plan is known."""
        return self._answers.warnings()

    def refused(self) -> list[str]:
        """What was found in the store and not believed since this was last asked, in sentences."""
        found, self._answers.refused = self._answers.refused, []
        return found

    def status(self) -> Status | None:
        """What whoever leads the run says of it."""
        return stored_documents.valid(self._store, Status, self.keys.status)

    def put_status(self, status: Status) -> None:
        """Say how far the run is."""
        self._store.put(self.keys.status, status.encode())

    def _load(self) -> None:
        self._answers.read()
        self._read_language()
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

    def _read_language(self) -> None:
        if not self._language_open:
            return
        try:
            self._language = stored_documents.find(self._store, Language, self.keys.language)
        except DocumentInvalid:
            # Left there, every job would stumble over it.
            self._store.delete(self.keys.language)
        self._language_open = self._language is None
        if self._language_open and (heard := self._answers.language()):
            # It was frozen once: the chunks that are done were transcribed in it.
            self.pin_language(heard)
        for entry in self._store.list(self.keys.language_notes):
            span = parse_note(entry.key)
            if span is not None and span not in self._notes:
                note = stored_documents.valid(self._store, Language, entry.key)
                if note and note.span == span:
                    self._notes[span] = note

    def _restore_language(self) -> None:
        """Put the run's language again where its object is gone or another: the next job would decide it once more."""
        if self._language and stored_documents.valid(self._store, Language, self.keys.language) != self._language:
            self._store.put(self.keys.language, self._language.encode())

    def _write_transcript(self, lost: Sequence[int]) -> TranscriptFiles:
        """Merge and store the transcript; the one that counts, where the store holds a better one of this run."""
        # Once more: an attempt that was given up for lost may have answered meanwhile.
        self._answers.read_results()
        plan = self._answers.plan
        if plan is None:
            raise PlanMismatch(f"run {self.record.run} has no plan to merge by")
        winners: list[Winner] = []
        transcript = self._merge(plan, winners)
        missing = sorted({span.index for span in plan.spans} - {winner.span for winner in winners})
        if gone := sorted(set(missing) - set(lost)):
            raise PlanMismatch(
                f"run {self.record.run} has no results of chunks {', '.join(map(str, gone[:10]))} any more",
                "see who else writes to the store; the same command again transcribes them again",
            )
        before = stored_transcript.stored(self._store, self.record) if missing else None
        if before and before.summary.gaps_ms < transcript.summary.gaps_ms:
            return before
        for extension in FORMATS:
            self._store.put_file(self.keys.transcript(extension), transcript.path(extension))
            reach(f"run.transcript.{extension}")
        final = Final(
            run=self.record.run,
            verdict=transcript.summary.status,
            winners=tuple(winners),
            lost=tuple(missing),
            outputs=dict(transcript.sha256),
        )
        self._store.put(self.keys.final, final.encode())
        return transcript

    def _merge(self, plan: Plan, winners: list[Winner]) -> TranscriptFiles:
        """Write the transcript of all results that count to temporary files; *winners* gets what they are."""
        merge = Merge(plan, self.record, self._answers.answered)
        with TranscriptWriter(merge.gaps, merge.duration_ms) as writer:
            for segments in merge.segments(self._winning(winners)):
                writer.add(segments)
            return writer.finish(merge.summary())

    def _winning(self, winners: list[Winner]) -> Iterator[ChunkResult]:
        for winner, result in self._answers.winning():
            winners.append(winner)
            yield result

    def _report(self, verdict: Verdict, elapsed_s: float) -> Report:
        failed: dict[int | None, list[Evidence]] = {}
        for item in self._evidence.values():
            failed.setdefault(item.span, []).append(item)
        spans = tuple(self._span_report(span, failed.get(span, ())) for span in sorted(self._answers.tasks))
        compute_s = sum(span.fetch_s + span.load_s + span.transcribe_s for span in spans)
        audio_s = sum(span.audio_s for span in spans)
        return Report(
            run=self.record.run,
            verdict=verdict,
            elapsed_s=round(elapsed_s, 3),
            audio_s=round(audio_s, 3),
            speech_s=round(sum(span.speech_s for span in spans), 3),
            compute_s=round(compute_s, 3),
            realtime_factor=round(audio_s / compute_s, 2) if compute_s else 0.0,
            spans=spans,
        )

    def _span_report(self, span: int, failures: Sequence[Evidence]) -> SpanReport:
        winner, spent = self._answers.answer(span) or (None, None)
        return SpanReport(
            span=span,
            attempts=max([winner.attempt if winner else 0, *(item.attempt for item in failures)]),
            failures=tuple(item.failure for item in failures),
            audio_s=self._answers.audio_ms(span) / 1000,
            speech_s=spent.speech_ms / 1000 if spent else 0.0,
            fetch_s=spent.usage.fetch_ms / 1000 if spent else 0.0,
            load_s=spent.usage.load_ms / 1000 if spent else 0.0,
            transcribe_s=spent.usage.transcribe_ms / 1000 if spent else 0.0,
        )


def _summary(written: TranscriptSummary) -> str:
    if written.status == "complete":
        return "transcribed"
    count = sum(1 for chunk in written.chunks if chunk.quality == "lost")
    return f"{count} chunk{'s' if count > 1 else ''} without a result: marked as gaps"
