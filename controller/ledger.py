"""One run's objects: opens rounds, reads the run's state, keeps evidence, writes what came out.

Touches: the store. What it remembers between two looks is only what it has read there and can read again: validated
results, tasks seen. ``decide`` gets its picture from here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from chunk_job.contract import (
    MAX_RESULT_BYTES,
    ChunkResult,
    ChunkTask,
    Document,
    DocumentInvalid,
    Language,
    TranscribeOptions,
    Usage,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.store import ObjectMissing, Store
from controller import diagnose
from controller.decide import Delete, Finish, Job, JobView, RunState, Submit, degrade
from controller.errors import PlanMismatch
from controller.formats import every_format
from controller.keys import MARKERS, ResultKey, RunKeys, is_failure, parse_note, parse_result, parse_task
from controller.plan import Plan
from controller.records import (
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
from controller.transcript import merge

_DOCUMENT_BYTES = 64 << 20

_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A task that was read: its audio's length, and the digests results may answer (one a rung)."""

    audio_ms: int
    digests: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Spent:
    """What the report needs of a winner, which may be megabytes and is not read again for it."""

    speech_ms: int
    usage: Usage


class Ledger:
    """The store's view of one run, kept by the process that leads it."""

    def __init__(self, store: Store, record: RunRecord, request: Request, *, round_id: str = "") -> None:
        """*round_id* names the round that this command belongs to; empty: what has ended is tried anew."""
        self._store = store
        self._wanted_round = sha256_hex(round_id.encode())[:8] if round_id else ""
        self.record = record
        self.request = request
        self.keys = RunKeys(record.run)
        self._tasks: dict[int, _Known] = {}
        self._winners: dict[int, ResultKey] = {}
        self._spent: dict[int, _Spent] = {}
        self._invalid: dict[str, str] = {}
        self._evidence: list[Evidence] = []
        self._used: dict[int | None, int] = {}
        self._planned = False
        self._language_open = record.options.language is None
        self._notes: dict[int, Language] = {}
        self._round = ""

    def open(self) -> Outcome | None:
        """Begin or go on; the outcome, where the run is already complete. Safe to call again where it failed half-way.

        After a failure, a gap or a cancel this opens a new round, whose budgets are fresh; but a command that was
        started again in the same round gets that round's verdict.
        """
        outcome = self.outcome()
        if outcome and (outcome.verdict == "complete" or outcome.round == self._wanted_round):
            return outcome
        if self._store.stat(self.keys.record) is None:
            self._store.put(self.keys.record, self.record.encode())
        raw = self._store.get(self.keys.record)
        self.record = RunRecord.decode(raw)
        self.request = self.request.model_copy(update={"record_sha256": sha256_hex(raw)})
        self._store.put(self.keys.request, self.request.encode())
        cancelled = self.cancelled()
        current = self._document(Round, self.keys.round)
        same = current is not None and current.id == self._wanted_round
        if current is None or ((outcome or cancelled) and not same):
            current = Round(id=self._wanted_round or secrets.token_hex(4))
            self._store.put(self.keys.round, current.encode())
        if not same:
            self._store.delete(self.keys.cancel)
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

    def refresh(self, jobs: Sequence[JobView]) -> RunState:
        """Look again at what can have changed, and answer with the run's state."""
        if not self._planned and any(view.span is None for view in jobs):
            self._read_tasks()
        for view in jobs:
            if (view.phase == "ended" or view.lost) and view.span is not None and view.span not in self._winners:
                self._read_results(self.keys.results_of(view.span))
        if self._language_open and any(view.span is not None for view in jobs):
            self._read_language()
        return self.state(jobs)

    def state(self, jobs: Sequence[JobView]) -> RunState:
        """The run as last seen."""
        return RunState(
            run=self.record.run,
            tasks={span: known.audio_ms for span, known in self._tasks.items()},
            planned=self._planned,
            answered=frozenset(self._winners),
            evidence=tuple(item for item in self._evidence if item.round == self._round),
            used_attempts=self._used,
            jobs=tuple(self._judged(view) for view in jobs),
            language_open=self._language_open,
            notes=self._notes,
            gaps_allowed=self.request.on_chunk_failure == "gap",
            cancelled=self.cancelled(),
        )

    def job(self, submit: Submit) -> Job:
        """The job behind a submit; its task is in the store when this returns."""
        if submit.span is None:
            key = self._put_intake_task()
        else:
            key = self.keys.task(submit.span, submit.rung)
            if submit.rung and self._store.stat(key) is None:
                self._put_degraded(submit.span, submit.rung)
        raw = self._store.get(key)
        intake = submit.span is None
        return Job(
            run=self.record.run,
            span=submit.span,
            attempt=submit.attempt,
            task_key=key,
            task_sha256=sha256_hex(raw),
            audio_ms=0 if submit.span is None else self._tasks[submit.span].audio_ms,
            media_uri=self.request.source.uri if intake else "",
            media_bytes=self.request.source.size_bytes if intake else 0,
            memory_factor=submit.memory_factor,
            avoid_nodes=submit.avoid_nodes,
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
        if span is not None and why is not None and span not in self._winners:
            # Stopped in the middle, it may have answered all the same.
            self._read_results(self.keys.results_of(span))
        if why is None or (span is not None and span in self._winners):
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
        """Put the run's last object."""
        self._store.put(self.keys.marker(outcome.verdict), outcome.encode())

    def transcript(self, extension: str) -> bytes:
        """The stored transcript in one format."""
        return self._store.get(self.keys.transcript(extension))

    def plan(self) -> Plan | None:
        """The run's plan, once it is known."""
        return self._document(Plan, self.keys.plan)

    def put_status(self, status: Status) -> None:
        """Say how far the run is."""
        self._store.put(self.keys.status, status.encode())

    def _load(self) -> None:
        self._read_tasks()
        self._read_results(self.keys.results)
        self._uncut()
        self._read_language()
        self._evidence.clear()
        for entry in self._store.list(self.keys.failures):
            if is_failure(entry.key) and (evidence := self._document(Evidence, entry.key)):
                self._remember(evidence)
        self._evidence.sort(key=lambda item: (item.ended_ms, item.attempt))

    def _uncut(self) -> None:
        """A task promises that its audio lies there. Where it does not any more, forget it: the intake cuts it anew."""
        gone = [
            span
            for span in self._tasks
            if span not in self._winners and self._store.stat(self.keys.audio(span)) is None
        ]
        if gone:
            self._store.delete(self.keys.plan)
            self._planned = False
        for span in gone:
            self._store.delete(self.keys.task(span))
            del self._tasks[span]

    def _remember(self, evidence: Evidence) -> None:
        # Once: a look that fails half-way is repeated, and keeps its evidence again.
        same = (evidence.round, evidence.span, evidence.attempt)
        self._evidence = [item for item in self._evidence if (item.round, item.span, item.attempt) != same]
        self._evidence.append(evidence)
        self._used[evidence.span] = max(self._used.get(evidence.span, 0), evidence.attempt)

    def _read_tasks(self) -> None:
        # The plan before the tasks: when it is there, so are they all.
        self._planned = self._store.stat(self.keys.plan) is not None
        digests: dict[int, set[str]] = {}
        for entry in self._store.list(self.keys.tasks):
            found = parse_task(entry.key)
            if found is None or (found.span in self._tasks and not found.rung):
                continue
            raw = self._store.get(entry.key, max_bytes=_DOCUMENT_BYTES)
            digests.setdefault(found.span, set()).add(sha256_hex(raw))
            if not found.rung:
                self._tasks[found.span] = _Known(audio_ms=ChunkTask.decode(raw).audio_ms, digests=frozenset())
        for span, more in digests.items():
            if span not in self._tasks:
                continue  # degraded options of a task that is not there (any more)
            known = self._tasks[span]
            self._tasks[span] = replace(known, digests=known.digests | more)

    def _read_results(self, prefix: str) -> None:
        """Validate what lies under *prefix* and was not seen before; the lowest attempt wins, the audio has served."""
        for entry in self._store.list(prefix):
            key = parse_result(entry.key)
            if key is None or key.key in self._invalid or key.span not in self._tasks:
                continue
            if key.span in self._winners and self._winners[key.span] <= key:
                continue
            try:
                result, _ = self._result(key)
            except DocumentInvalid as error:
                self._invalid[key.key] = error.summary
            else:
                self._winners[key.span] = key
                self._spent[key.span] = _Spent(speech_ms=result.speech_ms, usage=result.usage)
                if not self.request.keep_chunks:
                    self._store.delete(self.keys.audio(key.span))
            self._used[key.span] = max(self._used.get(key.span, 0), key.attempt)

    def _result(self, key: ResultKey) -> tuple[ChunkResult, bytes]:
        data = self._store.get(key.key, max_bytes=MAX_RESULT_BYTES)
        digests = self._tasks[key.span].digests
        return ChunkResult.read(data, run=self.record.run, span=key.span, task_sha256=digests), data

    def _read_language(self) -> None:
        if not self._language_open:
            return
        self._language_open = self._store.stat(self.keys.language) is None
        for entry in self._store.list(self.keys.language_notes):
            span = parse_note(entry.key)
            if span is not None and span not in self._notes and (note := self._document(Language, entry.key)):
                self._notes[span] = note

    def _judged(self, view: JobView) -> JobView:
        """A job that left an invalid result failed for that."""
        if view.phase != "ended" or view.span is None or view.span in self._winners:
            return view
        prefix = f"{self.keys.results_of(view.span)}a{view.attempt}-"
        reason = next((why for key, why in self._invalid.items() if key.startswith(prefix)), None)
        return replace(view, diagnosis=diagnose.invalid_result(reason)) if reason else view

    def _put_degraded(self, span: int, rung: int) -> None:
        task = ChunkTask.decode(self._store.get(self.keys.task(span)))
        options: TranscribeOptions = degrade(task.options, rung)
        raw = task.model_copy(update={"options": options}).encode()
        self._store.put(self.keys.task(span, rung), raw)
        known = self._tasks[span]
        self._tasks[span] = replace(known, digests=known.digests | {sha256_hex(raw)})

    def _write_transcript(self, verdict: Verdict, lost: Sequence[int]) -> None:
        # Once more: an attempt that was given up for lost may have answered meanwhile.
        self._read_results(self.keys.results)
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
        for span in sorted(self._winners):
            result, data = self._result(self._winners[span])
            winners.append(Winner(span=span, key=self._winners[span].key, sha256=sha256_hex(data)))
            yield result

    def _report(self, verdict: Verdict, elapsed_s: float) -> Report:
        spans = tuple(self._span_report(span) for span in sorted(self._tasks))
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
        winner, spent = self._winners.get(span), self._spent.get(span)
        return SpanReport(
            span=span,
            attempts=max([winner.attempt if winner else 0, *(item.attempt for item in failures)]),
            failures=tuple(item.failure for item in failures),
            audio_s=self._tasks[span].audio_ms / 1000,
            speech_s=spent.speech_ms / 1000 if spent else 0.0,
            fetch_s=spent.usage.fetch_ms / 1000 if spent else 0.0,
            load_s=spent.usage.load_ms / 1000 if spent else 0.0,
            transcribe_s=spent.usage.transcribe_ms / 1000 if spent else 0.0,
        )

    def _document(self, kind: type[_D], key: str) -> _D | None:
        try:
            return kind.decode(self._store.get(key, max_bytes=_DOCUMENT_BYTES))
        except ObjectMissing:
            return None


def _summary(verdict: Verdict, lost: Sequence[int]) -> str:
    if verdict == "partial":
        return f"{len(lost)} chunk{'s' if len(lost) > 1 else ''} without a result: marked as gaps"
    return "transcribed" if verdict == "complete" else "failed"
