"""``batch wait --server``: transcripts of runs that have ended are fetched and written, until the batch has ended.

Touches: the network (through ``client``), output folders and S3, the file of the report for CI, the clock, signals.
Memory does not grow with the batch, except by a byte for each recording.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from chunk_job.errors import DocumentInvalid
from controller.cli.batch_service import Service, no_batch
from controller.cli.batch_verdict import Batch, Verdict, line_of
from controller.cli.gate_options import Checks
from controller.cli.terminal import print_message
from controller.client.http import Refused
from controller.client.replies import Run, RunLine
from controller.domain.batches import as_name
from controller.domain.interfaces import RunOutcome, RunVerdict
from controller.domain.output import Format, Output
from controller.domain.served_batches import Placement, ServedEntry, entry_of
from controller.errors import EnvironmentProblem, StenofleetError, UsageProblem
from controller.intake.source import is_object
from controller.reports.gates import GateResult, judge
from controller.reports.served_view import served_view
from controller.runs.batches import Counts
from controller.runs.lookup import in_parallel
from controller.runs.outputs import base_of, write_output_of
from controller.runs.protection import OutputRules
from controller.runs.stored_transcript import rendered
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.model import Transcript

if TYPE_CHECKING:
    from controller.reports.junit import Suite

UNATTENDED_S = 120.0
"""If some recordings were not submitted, and all others have ended: how long new runs are waited for."""
_AT_ONCE = 4
_FIRST_S, _LONGEST_S = 1.0, 15.0
_SAY_S = 30.0
_MOST_FAILURES = 1_000
_NO_RUN, _NOT_ENDED = 0, 1
_VERDICTS: tuple[RunVerdict, ...] = ("complete", "partial", "failed", "cancelled")
_FIRST_VERDICT = 2


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where transcripts are written, and what is checked."""

    folder: str
    formats: tuple[Format, ...] | None
    """None: those of the submission."""
    rules: OutputRules
    checks: Checks
    say: Callable[[RunOutcome], None]
    """Called with each recording that has ended."""


class _Delivered(NamedTuple):
    """What became of a run."""

    number: int
    outcome: RunOutcome
    judged: Sequence[GateResult] = ()
    suite: Suite | None = None


@dataclass(kw_only=True)
class Waiting:
    """A batch that is waited for."""

    service: Service
    batch: Batch
    delivery: Delivery
    rest: Callable[[float], None]
    end_s: float
    """When the time is over, by the monotonic clock."""
    quiet: bool
    states: bytearray = field(default_factory=bytearray)
    """By recording: no run, not ended, or its verdict."""
    verdict: Verdict = field(default_factory=lambda: Verdict(counts=Counts()))
    suites: dict[int, Suite] = field(default_factory=dict)
    """By recording, if a report for CI is wanted."""

    def until_ended(self) -> bool:
        """Wait until nothing is left, or nobody submits what is missing. Returns False if the time is over before.

        Raises :class:`UsageProblem` if there is no such batch, :class:`EnvironmentProblem` and :class:`Interrupted`.
        """
        pause_s, before, changed_s, said_s = _FIRST_S, -1, _now_s(), _now_s() - _SAY_S
        while True:
            began_s = _now_s()
            if not self._look():
                return False
            if not self.states:
                raise no_batch(self.service, self.batch.id)
            missing, running = self.states.count(_NO_RUN), self.states.count(_NOT_ENDED)
            now_s = _now_s()
            if missing != before:
                before, changed_s = missing, now_s
            if not running and (not missing or now_s - changed_s >= UNATTENDED_S):
                return True
            if not self.quiet and now_s - said_s >= _SAY_S:
                said_s = now_s
                print_message(line_of(self.batch, self.counts()))
                if missing:
                    print_message(f"{missing} recordings were not submitted yet: the same batch submit submits them")
            if now_s >= self.end_s:
                return False
            # A look into a batch of a hundred thousand takes many requests.
            self.rest(min(max(pause_s, now_s - began_s), self.end_s - now_s))
            pause_s = min(1.5 * pause_s, _LONGEST_S)

    def counts(self) -> Counts:
        """How many recordings are in which state."""
        ended = {one: self.states.count(_FIRST_VERDICT + place) for place, one in enumerate(_VERDICTS)}
        return Counts(entries=len(self.states), ended=Counter(cast("dict[str, int]", ended)))

    def found(self) -> Verdict:
        """How the batch stands."""
        self.verdict.counts = self.counts()
        return self.verdict

    def _look(self) -> bool:
        """List the runs, and deliver those that have ended since the last look. Returns False if the time is over."""
        for done in in_parallel(self._deliver, self._ended(), at_once=_AT_ONCE):
            self.states[done.number] = _FIRST_VERDICT + _VERDICTS.index(done.outcome.verdict)
            self._count(done)
            self.rest(0)
            if _now_s() >= self.end_s:
                return False
        return True

    def _ended(self) -> Iterator[tuple[RunLine, ServedEntry]]:
        """Yield what has ended and was not delivered, and note the state of all others."""
        asked: set[int] = set()
        for line in self.service.of_batch(self.batch.id):
            entry = entry_of(line.labels)
            if entry is None:
                continue
            if not self.states:
                self.states = bytearray(entry.entries)
            if entry.entries != len(self.states) or entry.number in asked:
                continue
            if not line.has_ended:
                # Also of one that had ended and is tried again.
                self.states[entry.number] = _NOT_ENDED
            elif self.states[entry.number] in (_NO_RUN, _NOT_ENDED):
                asked.add(entry.number)
                yield line, entry

    def _count(self, done: _Delivered) -> None:
        found, outcome = self.verdict, done.outcome
        below = any(not gate.kept for gate in done.judged)
        found.below += below and outcome.verdict == "complete"
        found.environment &= outcome.verdict != "failed" or outcome.environment
        if (outcome.verdict != "complete" or below) and len(found.failures) < _MOST_FAILURES:
            found.failures.append(outcome)
            found.judged[outcome] = done.judged
        if done.suite:
            self.suites[done.number] = done.suite
        self.delivery.say(outcome)

    def _deliver(self, one: tuple[RunLine, ServedEntry]) -> _Delivered:
        """Fetch the transcript of a run, and write it."""
        line, entry = one
        try:
            run = self.service.runs.get(line.id)
            if run.status not in ("complete", "partial"):
                return self._with_suite(entry, _outcome(run, entry.placement), None)
            transcript = self._fetched(run)
        except Refused as error:
            if error.status not in (404, 409):
                raise
            # It was deleted, or is tried again at this moment.
            outcome = RunOutcome(
                run="", name=line.name, verdict="failed", summary=error.summary, advice=error.advice, environment=True
            )
            return self._with_suite(entry, outcome, None)
        return self._with_suite(entry, self._written(run, entry.placement, transcript), transcript, run)

    def _fetched(self, run: Run) -> TranscriptFiles:
        with disk_errors(), tempfile.TemporaryFile() as file:
            self.service.runs.download(run.id, file)
            try:
                return rendered(file, most_whole_bytes=Transcript.max_bytes)
            except DocumentInvalid as error:
                raise EnvironmentProblem(
                    f"the transcript of run {run.id} is not one that this version reads: {error.summary}",
                    "use the version of the service",
                ) from error

    def _written(self, run: Run, placement: Placement, transcript: TranscriptFiles) -> RunOutcome:
        try:
            written = write_output_of(self._output(placement), transcript, self.delivery.rules)
        except UsageProblem as error:
            # A name that is possible for the service, and not here.
            return _outcome(run, placement, **_unwritten(error))
        if written.problem:
            return _outcome(run, placement, **_unwritten(written.problem))
        warnings = (*run.warnings, *written.kept)
        return _outcome(run, placement, files=written.files, warnings=warnings, kept=written.kept_files)

    def _output(self, placement: Placement) -> Output:
        above, _, last = as_name(placement.output).rpartition("/")
        folder = self.delivery.folder
        below = f"{folder.rstrip('/') if is_object(folder) else folder}/{above}" if above else folder
        return Output(
            base=base_of(below, last),
            formats=self.delivery.formats or placement.formats,
            captions=placement.captions,
            name_template=placement.name_template,
            speakers=placement.speakers,
        )

    def _with_suite(
        self, entry: ServedEntry, outcome: RunOutcome, transcript: TranscriptFiles | None, run: Run | None = None
    ) -> _Delivered:
        checks, view = self.delivery.checks, None
        judged: Sequence[GateResult] = ()
        if transcript and run and (checks.junit or checks.gates) and outcome.verdict in ("complete", "partial"):
            report = self.service.runs.report(run.id)
            view = served_view(outcome.run, outcome.name, outcome.verdict, transcript, report, checks.prices)
            style = (entry.placement.captions, entry.placement.speakers)
            judged = judge(checks.gates, view, checks.measures_of(outcome, transcript, lambda: style))
        if not checks.junit:
            return _Delivered(entry.number, outcome, judged)
        from controller.reports import junit

        return _Delivered(entry.number, outcome, judged, junit.suite(outcome, view, judged))


def _unwritten(problem: StenofleetError) -> dict[str, object]:
    """What is different in the outcome of a run whose transcript cannot be written."""
    advice = f"{problem.advice}; then give the same command again"
    return {"verdict": "failed", "summary": problem.summary, "advice": advice, "environment": True}


def _outcome(run: Run, placement: Placement, **changes: object) -> RunOutcome:
    known: dict[str, object] = {
        "run": run.run or run.id,
        "name": run.name,
        "verdict": run.status,
        "summary": run.summary,
        "advice": run.advice,
        "warnings": tuple(run.warnings),
        "environment": run.environment,
        "source": as_name(placement.source),
    }
    return RunOutcome(**(known | changes))  # type: ignore[arg-type]


def write_junit(path: str, waiting: Waiting) -> None:
    """Write the report for CI, with all recordings of the batch."""
    from controller.reports import junit

    missing = (junit.left_out(f"recording {number + 1}", "it has not ended, or was not submitted")
               for number in range(len(waiting.states)) if number not in waiting.suites)  # fmt: skip
    junit.write(path, [*(waiting.suites[number] for number in sorted(waiting.suites)), *missing])


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (of the time-out and the pauses)
