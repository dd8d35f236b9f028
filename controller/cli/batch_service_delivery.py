"""What ``batch wait --server`` does with one run that has ended: its transcript is fetched, written and judged.

Touches: the network (through ``client``), output folders and S3, temporary files, the state folder. May be used by
several threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chunk_job.errors import DocumentInvalid
from controller.cli.checks import Checks
from controller.client.http import Refused
from controller.client.replies import Run, RunLine
from controller.client.runs import Runs
from controller.domain.batches import as_name
from controller.domain.interfaces import RunOutcome
from controller.domain.output import Format, Output
from controller.domain.served_batches import Placement, ServedEntry
from controller.errors import EnvironmentProblem, StenofleetError, UsageProblem
from controller.intake.source import is_object
from controller.reports.gates import NO_MEASURES, GateResult, judge
from controller.reports.served_view import served_view, words_of
from controller.runs.fetched_transcripts import FetchedTranscript, FetchedTranscripts, RunEnd
from controller.runs.outputs import base_of, file_of, write_output_of
from controller.runs.protection import OutputRules
from controller.runs.stored_transcript import rendered
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.model import Transcript, TranscriptSummary

if TYPE_CHECKING:
    from controller.reports.junit import Suite
    from controller.reports.run_view import RunView
    from controller.runs.fetched_transcripts import WordCounts


class Delivered(NamedTuple):
    """What became of a run."""

    number: int
    outcome: RunOutcome
    judged: Sequence[GateResult] = ()
    suite: Suite | None = None


class _Written(NamedTuple):
    """A transcript that is where it belongs, or cannot be written."""

    outcome: RunOutcome
    summary: TranscriptSummary
    words: WordCounts | None
    """None: nothing needs them."""
    transcript: TranscriptFiles | None
    """None: it was not fetched, because its files are there."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where transcripts are written, and what is checked."""

    folder: str
    formats: tuple[Format, ...] | None
    """None: those of the submission."""
    rules: OutputRules
    fetched: FetchedTranscripts
    checks: Checks
    say: Callable[[RunOutcome], None]
    """Called with each recording that has ended."""

    def deliver(self, runs: Runs, line: RunLine, entry: ServedEntry) -> Delivered:
        """Fetch the transcript of a run that has ended and write it, unless its files are there as they were written.

        Raises :class:`EnvironmentProblem`, and :class:`StoreUnavailable`.
        """
        try:
            return self._ended(runs, runs.get(line.id), entry)
        except Refused as error:
            if error.status not in (404, 409):
                raise
            # It was deleted, or is tried again at this moment.
            outcome = RunOutcome(
                run="", name=line.name, verdict="failed", summary=error.summary, advice=error.advice, environment=True
            )
            return self._with_suite(entry, outcome)

    def _ended(self, runs: Runs, run: Run, entry: ServedEntry) -> Delivered:
        placement = entry.placement
        if run.status not in ("complete", "partial"):
            return self._with_suite(entry, _outcome(run, placement))
        try:
            written = self._written(runs, run, placement)
        except UsageProblem as error:
            # A name that is possible for the service, and not here.
            return self._with_suite(entry, _outcome(run, placement, **_unwritten(error)))
        outcome = written.outcome
        if not written.words or outcome.verdict not in ("complete", "partial"):
            return self._with_suite(entry, outcome)
        report, prices = runs.report(run.id), self.checks.prices
        view = served_view(outcome.run, outcome.name, outcome.verdict, written.summary, written.words, report, prices)
        style = (placement.captions, placement.speakers)
        measures = self.checks.measures_of(outcome, written.transcript, lambda: style) if self._read else NO_MEASURES
        return self._with_suite(entry, outcome, view, judge(self.checks.gates, view, measures))

    @property
    def _counted(self) -> bool:
        """Whether the words are counted, for a report or a gate."""
        return bool(self.checks.junit or self.checks.gates)

    @property
    def _read(self) -> bool:
        """Whether a gate reads the words themselves."""
        return self.checks.gates.max_wer is not None or self.checks.gates.captions_profile is not None

    def _written(self, runs: Runs, run: Run, placement: Placement) -> _Written:
        end = RunEnd(id=run.id, ended_at=run.ended_at.isoformat() if run.ended_at else "")
        output = self._output(placement)
        if not self._read and (found := self.fetched.find(end, output, counted=self._counted)):
            return _Written(_there(run, placement, found), found.summary, found.words, None)
        transcript = _fetched(runs, run)
        words = words_of(transcript) if self._counted else None
        written, sha256 = write_output_of(output, transcript, self.rules)
        if written.problem:
            outcome = _outcome(run, placement, **_unwritten(written.problem))
        else:
            warnings = (*run.warnings, *written.warnings)
            outcome = _outcome(run, placement, files=written.files, warnings=warnings, kept=written.kept_files)
            if not written.kept_files:
                self.fetched.keep(end, output, sha256, transcript.summary, words)
        return _Written(outcome, transcript.summary, words, transcript)

    def _output(self, placement: Placement) -> Output:
        above, _, last = as_name(placement.output).rpartition("/")
        folder = self.folder.rstrip("/") if is_object(self.folder) else self.folder
        below = f"{folder}/{above}" if above else self.folder
        return Output(
            base=base_of(below, last),
            formats=self.formats or placement.formats,
            captions=placement.captions,
            name_template=placement.name_template,
            speakers=placement.speakers,
        )

    def _with_suite(
        self, entry: ServedEntry, outcome: RunOutcome, view: RunView | None = None, judged: Sequence[GateResult] = ()
    ) -> Delivered:
        if not self.checks.junit:
            return Delivered(entry.number, outcome, judged)
        from controller.reports import junit

        return Delivered(entry.number, outcome, judged, junit.suite(outcome, view, judged))


def _fetched(runs: Runs, run: Run) -> TranscriptFiles:
    with disk_errors(), tempfile.TemporaryFile() as file:
        runs.download(run.id, file)
        try:
            return rendered(file, most_whole_bytes=Transcript.max_bytes)
        except DocumentInvalid as error:
            raise EnvironmentProblem(
                f"the transcript of run {run.id} is not one that this version reads: {error.summary}",
                "use the version of the service",
            ) from error


def _there(run: Run, placement: Placement, found: FetchedTranscript) -> RunOutcome:
    """The outcome of a run whose files are there as they were written."""
    files = (file_of(found.output, extension, found.summary.language) for extension in found.output.formats)
    return _outcome(run, placement, files=tuple(files))


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
