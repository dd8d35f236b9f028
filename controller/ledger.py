"""One run's objects: opens rounds, reads the run's state, keeps evidence, writes what came out.

Touches: the store. What it remembers between two looks is only what it has read there and can read again. ``decide``
gets its picture from here; tasks and results are read in ``answers``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TypeVar

from chunk_job.contract import (
    ChunkResult,
    Document,
    Language,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.store import ObjectMissing, Store
from controller.answers import Answers
from controller.decide import Delete, Finish, Submit, rungs
from controller.errors import PlanMismatch
from controller.formats import every_format
from controller.keys import MARKERS, RunKeys, is_failure, parse_note
from controller.plan import Plan
from controller.records import (
    MAX_DOCUMENT_BYTES,
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
from controller.state import Job, JobView, RunState
from controller.transcript import merge

_ALL_EVERY_MS = 60_000

_D = TypeVar("_D", bound=Document)


class Ledger:
    """The store's view of one run, kept by the process that leads it."""

    def __init__(self, store: Store, record: RunRecord, request: Request, *, round_id: str = "") -> None:
        """*round_id* names the round that this command belongs to; empty: what has ended is tried anew."""
        self._store = store
        self._command = sha256_hex(round_id.encode())[:8] if round_id else ""
        self.record = record
        self.request = request
        self.keys = RunKeys(record.run)
        self._answers = Answers(store, self.keys, keep_audio=request.keep_chunks)
        self._evidence: list[Evidence] = []
        self._used: dict[int | None, int] = {}
        self._language_open = record.options.language is None
        self._notes: dict[int, Language] = {}
        self._round = ""
        self._all_read_ms: int | None = None

    def open(self) -> Outcome | None:
        """Begin or go on; the outcome, where the run is already complete. Safe to call again where it failed half-way.

        After a failure, a gap or a cancel this opens a new round, whose budgets are fresh; but a command that was
        started again in the same round gets that round's verdict.
        """
        outcome = self.outcome()
        current = self._document(Round, self.keys.round)
        ours = current is not None and bool(self._command) and current.command == self._command
        if outcome and (outcome.verdict == "complete" or (ours and current and outcome.round == current.id)):
            return outcome
        if self._store.stat(self.keys.record) is None:
            self._store.put(self.keys.record, self.record.encode())
        raw = self._store.get(self.keys.record)
        self.record = RunRecord.decode(raw)
        self.request = self.request.model_copy(update={"record_sha256": sha256_hex(raw)})
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

    def outcome(self) -> Outcome | None:
        """The body of the run's last object, if its round has ended."""
        for verdict in MARKERS:
            found = self._document(Outcome, self.keys.marker(verdict))
            if found:
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
        if not self._answers.planned and any(view.span is None for view in jobs):
            self._answers.read_tasks()
        for view in jobs:
            if (view.phase == "ended" or view.lost) and view.span is not None and view.span not in self._answers:
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
            evidence=tuple(item for item in self._evidence if item.round == self._round),
            used_attempts=used,
            jobs=tuple(self._answers.judged(view) for view in jobs),
            language_open=self._language_open,
            notes=self._notes,
            rungs=rungs(self.record.options),
            gaps_allowed=self.request.on_chunk_failure == "gap",
            cancelled=self.cancelled(),
        )

    def job(self, submit: Submit) -> Job:
        """The job behind a submit; its task is in the store when this returns."""
        if submit.span is None:
            key = self._put_intake_task()
        elif submit.rung:
            key = self._answers.degraded(submit.span, submit.rung)
        else:
            key = self.keys.task(submit.span)
        raw = self._store.get(key)
        intake = submit.span is None
        return Job(
            run=self.record.run,
            span=submit.span,
            attempt=submit.attempt,
            task_key=key,
            task_sha256=sha256_hex(raw),
            audio_ms=0 if submit.span is None else self._answers.audio_ms(submit.span),
            media_uri=self.request.source.uri if intake else "",
            media_bytes=self.request.source.size_bytes if intake else 0,
            memory_factor=submit.memory_factor,
            avoid_nodes=submit.avoid_nodes,
            only_elsewhere=submit.only_elsewhere,
        )

    def _put_intake_task(self) -> str:
        """What an intake is told: the request without what it has nothing to do with, so that it stays the same."""
        told = self.request.model_copy(update={"outputs": (), "on_chunk_failure": "fail", "keep_chunks": False})
        raw = told.encode()
        key = self.keys.intake_task(sha256_hex(raw)[:16])
        if self._store.stat(key) is None:
            self._store.put(key, raw)
        return key

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
        evidence = Evidence(
            round=self._round,
            span=span,
            attempt=delete.view.attempt,
            failure=why.failure,
            summary=why.summary,
            advice=why.advice,
            details=why.details,
            ended_ms=now_ms,
            node=why.node,
        )
        self._store.put(self.keys.failure(evidence.span, evidence.attempt, self._round), evidence.encode())
        self._remember(evidence)

    def pin_language(self, language: Language) -> None:
        """Freeze the run's language."""
        self._store.put(self.keys.language, language.encode())
        self._language_open = False

    def conclude(self, finish: Finish, *, elapsed_s: float) -> Outcome:
        """Merge if there is something to merge, write everything, and the run's last object last.

        Raises :class:`PlanMismatch` where the results do not belong together.
        """
        if finish.verdict in ("complete", "partial"):
            verdict: Verdict = "complete" if finish.verdict == "complete" else "partial"
            self._write_transcript(verdict, finish.lost)
        else:
            verdict = "failed"
        self._store.put(self.keys.report, self._report(verdict, elapsed_s).encode())
        outcome = Outcome(
            run=self.record.run,
            verdict=verdict,
            round=self._round,
            summary=finish.summary or _summary(verdict, finish.lost),
            advice=finish.advice,
            failure=finish.failure,
        )
        reach("run.concluded")
        return outcome

    def mark(self, outcome: Outcome) -> None:
        """Put the run's last object, once nothing is left of writers that were killed."""
        for prefix in (self.keys.work, self.keys.home):
            self._store.sweep(prefix)
        self._store.put(self.keys.marker(outcome.verdict), outcome.encode())

    def transcript(self, extension: str) -> bytes:
        """The stored transcript in one format."""
        return self._store.get(self.keys.transcript(extension))

    def plan(self) -> Plan | None:
        """The run's plan, once it is known."""
        return self._document(Plan, self.keys.plan)

    def status(self) -> Status | None:
        """What whoever leads the run says of it."""
        return self._document(Status, self.keys.status)

    def put_status(self, status: Status) -> None:
        """Say how far the run is."""
        self._store.put(self.keys.status, status.encode())

    def _load(self) -> None:
        self._answers.read()
        self._read_language()
        self._evidence.clear()
        for entry in self._store.list(self.keys.failures):
            if is_failure(entry.key) and (evidence := self._document(Evidence, entry.key)):
                self._remember(evidence)
        self._evidence.sort(key=lambda item: (item.ended_ms, item.attempt))

    def _remember(self, evidence: Evidence) -> None:
        # Once: a look that fails half-way is repeated, and keeps its evidence again.
        same = (evidence.round, evidence.span, evidence.attempt)
        self._evidence = [item for item in self._evidence if (item.round, item.span, item.attempt) != same]
        self._evidence.append(evidence)
        self._used[evidence.span] = max(self._used.get(evidence.span, 0), evidence.attempt)

    def _read_language(self) -> None:
        if not self._language_open:
            return
        self._language_open = self._store.stat(self.keys.language) is None
        for entry in self._store.list(self.keys.language_notes):
            span = parse_note(entry.key)
            if span is not None and span not in self._notes and (note := self._document(Language, entry.key)):
                self._notes[span] = note

    def _write_transcript(self, verdict: Verdict, lost: Sequence[int]) -> None:
        # Once more: an attempt that was given up for lost may have answered meanwhile.
        self._answers.read_results()
        plan = self.plan()
        if plan is None:
            raise PlanMismatch(f"run {self.record.run} has no plan to merge by")
        winners: list[Winner] = []
        transcript = merge(plan, self.record, self._winning(winners))
        outputs = {}
        for extension, text in every_format(transcript):
            data = text.encode()
            self._store.put(self.keys.transcript(extension), data)
            outputs[extension] = sha256_hex(data)
            reach(f"run.transcript.{extension}")
        final = Final(
            run=self.record.run,
            verdict="complete" if verdict == "complete" else "partial",
            winners=tuple(winners),
            lost=tuple(lost),
            outputs=outputs,
        )
        self._store.put(self.keys.final, final.encode())

    def _winning(self, winners: list[Winner]) -> Iterator[ChunkResult]:
        for winner, result in self._answers.winning():
            winners.append(winner)
            yield result

    def _report(self, verdict: Verdict, elapsed_s: float) -> Report:
        spans = tuple(self._span_report(span) for span in sorted(self._answers.tasks))
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

    def _span_report(self, span: int) -> SpanReport:
        failures = [item for item in self._evidence if item.span == span]
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

    def _document(self, kind: type[_D], key: str) -> _D | None:
        try:
            return kind.decode(self._store.get(key, max_bytes=MAX_DOCUMENT_BYTES))
        except ObjectMissing:
            return None


def _summary(verdict: Verdict, lost: Sequence[int]) -> str:
    if verdict == "partial":
        return f"{len(lost)} chunk{'s' if len(lost) > 1 else ''} without a result: marked as gaps"
    return "transcribed" if verdict == "complete" else "failed"
