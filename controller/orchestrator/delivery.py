"""Writes the outputs of one run: keeps the transcript until it is written, and writes more outputs on request.

Touches: the store (through the repository), the output files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from chunk_job.crashpoint import reach
from chunk_job.errors import JobError
from chunk_job.store.base import StoreDenied, StoreFull
from controller.domain.budgets import ENVIRONMENT
from controller.domain.documents import Outcome
from controller.domain.interfaces import RunOutcome, RunRequest, RunVerdict
from controller.domain.output import Output
from controller.errors import StenofleetError
from controller.intake.source import shown
from controller.runs.outputs import write_outputs
from controller.runs.protection import OutputRules
from controller.runs.repository import RunRepository
from controller.runs.transcript_files import TranscriptFiles


@dataclass(frozen=True, kw_only=True)
class _Unwritten:
    """A run that has ended, but whose outputs are not written yet."""

    outcome: Outcome
    transcript: TranscriptFiles | None
    warnings: tuple[str, ...]
    mark: bool
    """Whether to put the run's last object after the outputs."""


class ReportWriter(Protocol):
    """Writes the page that people read about a run that has ended."""

    def write(self, outcome: Outcome, transcript: TranscriptFiles | None) -> None:
        """Put the page of the run into the store. Can be repeated.

        *outcome*: how the run has ended; it is not in the store yet. *transcript*: None if there is none. Raises
        :class:`StoreUnavailable`, which is :class:`StoreFull` if there is no place for the page.
        """


class Delivery:
    """The outputs of one run. If they cannot be written now, the merged transcript is kept for the next try."""

    def __init__(self, repository: RunRepository, run_request: RunRequest, reports: ReportWriter | None) -> None:
        """*reports*: None: no page is written."""
        self._repository = repository
        self._reports = reports
        self._request = run_request.request
        self._name = run_request.record.name
        self._rules = OutputRules(overwrite=run_request.overwrite, written=run_request.written)
        self._unwritten: _Unwritten | None = None
        self._ended_before: RunOutcome | None = None
        """The run's outcome, if it had ended when these outputs were requested."""

    @property
    def is_due(self) -> bool:
        """Whether there are outputs to write."""
        return self._unwritten is not None or self._ended_before is not None

    @property
    def has_transcript(self) -> bool:
        """Whether the run has ended in the store and only its outputs are missing."""
        return self._unwritten is not None

    @property
    def is_repeated(self) -> bool:
        """Whether the run had already ended when these outputs were requested."""
        return self._ended_before is not None

    def drop(self) -> None:
        """Drop the transcript: another process leads the run now."""
        self._unwritten = None

    def add(self, outputs: tuple[Output, ...]) -> None:
        """Add *outputs* to those of the request."""
        both = self._request.outputs + outputs
        self._request = self._repository.request = self._request.model_copy(update={"outputs": both})

    def repeat(self, ended: RunOutcome) -> None:
        """Write the outputs from the transcript in the store, because the run has *ended* before."""
        self._ended_before = ended

    def begin(self, outcome: Outcome, *, mark: bool) -> None:
        """Take the transcript of a run that has ended. *mark*: put the run's last object after its outputs."""
        transcript = self._repository.transcript() if outcome.verdict != "failed" else None
        warnings = dict.fromkeys([*self._repository.warnings(), *(transcript.summary.warnings if transcript else ())])
        self._unwritten = _Unwritten(outcome=outcome, transcript=transcript, warnings=tuple(warnings), mark=mark)

    def write(self, check: Callable[[], None]) -> tuple[RunOutcome, bool]:
        """Write the outputs, then the run's last object: its presence means that everything before it is complete.

        Returns the run's outcome for this command, and whether the store records the same outcome. Raises
        :class:`StoreUnavailable` if it has to be tried again. *check*: raises if another process may lead the run.
        """
        unwritten = self._unwritten
        assert unwritten is not None
        outcome, warnings = unwritten.outcome, unwritten.warnings
        files: tuple[str, ...] = ()
        kept_files: tuple[str, ...] = ()
        check()
        if unwritten.transcript is not None:
            files, said, problem, kept_files = write_outputs(self._request, unwritten.transcript, self._rules)
            warnings += said
            if problem:
                failed = self.outcome("failed", problem.summary, problem.advice)
                return replace(failed, files=files, warnings=warnings, environment=True, kept=kept_files), False
        if unwritten.mark:
            if self._reports is not None:
                check()
                warnings += _page(self._reports, outcome, unwritten.transcript)
                reach("run.reported")
            check()
            self._repository.mark(outcome)
        ended = self.outcome(outcome.verdict, outcome.summary, outcome.advice)
        environment = outcome.failure in ENVIRONMENT
        return replace(ended, files=files, warnings=warnings, environment=environment, kept=kept_files), True

    def given_up(self, error: JobError | StenofleetError) -> RunOutcome | None:
        """The outcome of a run whose outputs are given up because of *error*; None if there is nothing to write."""
        if not self.is_due:
            return None
        run = self._repository.record.run
        advice = (
            f"the transcript is kept: the same command writes it there, and stenofleet render {run} -o FOLDER elsewhere"
        )
        before = self._ended_before or self.outcome("failed", error.summary, advice)
        return replace(before, verdict="failed", summary=error.summary, advice=advice, environment=True)

    def done(self) -> None:
        """Release the transcript: it may be large."""
        self._unwritten = None

    def write_more(self) -> RunOutcome | None:
        """Write the transcript of a run that had ended to the outputs that were requested since then.

        Returns None if the transcript is missing from the store: the run must be done again.
        """
        before = self._ended_before
        assert before is not None
        if self._repository.ended() is None:
            self._ended_before = None
            return None
        transcript = self._repository.transcript()
        files, said, problem, kept_files = write_outputs(self._request, transcript, self._rules)
        ended = replace(
            before,
            files=before.files + files,
            warnings=before.warnings + said,
            kept=before.kept + kept_files,
        )
        if problem:
            ended = replace(ended, verdict="failed", summary=problem.summary, advice=problem.advice, environment=True)
        self._ended_before = None
        return ended

    def outcome(self, verdict: RunVerdict, summary: str, advice: str, *, environment: bool = False) -> RunOutcome:
        """The outcome of the run for this command, without files."""
        return RunOutcome(
            run=self._repository.record.run,
            name=self._name,
            source=shown(self._request.source),
            verdict=verdict,
            summary=summary,
            advice=advice,
            environment=environment,
        )


def _page(reports: ReportWriter, outcome: Outcome, transcript: TranscriptFiles | None) -> tuple[str, ...]:
    """Write the page of a run. Returns a warning if there is no place for it: the run ends without one.

    Raises :class:`StoreUnavailable` if it has to be tried again.
    """
    try:
        reports.write(outcome, transcript)
    except (StoreDenied, StoreFull) as error:
        why = f"report.html is not written: {error.summary}"
        return (f"{why}; later: stenofleet report {outcome.run} -o report.html",)
    return ()
