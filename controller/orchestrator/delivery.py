"""A transcript on its way to where the command wants it: kept until it is written, and written once more on request.

Touches: through the repository, the store; the output files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.domain.budgets import ENVIRONMENT
from controller.domain.documents import Outcome, Output, Request
from controller.domain.interfaces import RunOutcome, RunVerdict
from controller.errors import EnvironmentProblem
from controller.runs.outputs import write_outputs
from controller.runs.repository import RunRepository
from controller.runs.transcript_files import TranscriptFiles


@dataclass(frozen=True, kw_only=True)
class _Unwritten:
    """How a run has ended, while its outputs are not written yet."""

    outcome: Outcome
    transcript: TranscriptFiles | None
    warnings: tuple[str, ...]
    mark: bool
    """Whether the run's last object is to be put behind them."""


class Delivery:
    """The outputs of one run. What cannot be written now is not merged again for that."""

    def __init__(self, repository: RunRepository, request: Request, name: str) -> None:
        self._repository = repository
        self._request = request
        self._name = name
        self._unwritten: _Unwritten | None = None
        self._ended_before: RunOutcome | None = None
        """How the run had ended when more outputs were asked for."""
        self._more: tuple[Output, ...] = ()

    @property
    def is_due(self) -> bool:
        """Whether there is something to write."""
        return self._unwritten is not None or self._ended_before is not None

    @property
    def has_transcript(self) -> bool:
        """Whether the run has ended in the store, and only its outputs are missing."""
        return self._unwritten is not None

    @property
    def is_repeated(self) -> bool:
        """Whether the run had ended before these outputs were asked for."""
        return self._ended_before is not None

    def drop(self) -> None:
        """Another process leads the run now."""
        self._unwritten = None

    def add(self, outputs: tuple[Output, ...], ended: RunOutcome | None) -> bool:
        """Write to these places too. Whether a run that has *ended* is to be worked on once more for that."""
        both = self._request.outputs + outputs
        self._request = self._repository.request = self._request.model_copy(update={"outputs": both})
        if ended is None or ended.verdict not in ("complete", "partial"):
            return False
        self._more += outputs
        self._ended_before = ended
        return True

    def begin(self, outcome: Outcome, *, mark: bool) -> None:
        """Take the transcript of a run that has ended. *mark*: put the run's last object behind its outputs."""
        transcript = self._repository.transcript() if outcome.verdict != "failed" else None
        warnings = dict.fromkeys([*self._repository.warnings(), *(transcript.summary.warnings if transcript else ())])
        self._unwritten = _Unwritten(outcome=outcome, transcript=transcript, warnings=tuple(warnings), mark=mark)

    def write(self) -> tuple[RunOutcome, bool]:
        """Write the outputs, then the run's last object: it promises that everything before it is there.

        How the run has ended for this command, and whether the store says the same. Raises :class:`StoreUnavailable`
        where it is to be tried again.
        """
        unwritten = self._unwritten
        assert unwritten is not None
        outcome, warnings = unwritten.outcome, unwritten.warnings
        files: tuple[str, ...] = ()
        if unwritten.transcript is not None:
            try:
                files, kept = write_outputs(self._request, unwritten.transcript)
                warnings += kept
            except EnvironmentProblem as error:
                failed = self._ended("failed", error.summary, error.advice)
                return replace(failed, environment=True), False
        if unwritten.mark:
            self._repository.mark(outcome)
        ended = self._ended(outcome.verdict, outcome.summary, outcome.advice)
        return replace(ended, files=files, warnings=warnings, environment=outcome.failure in ENVIRONMENT), True

    def done(self) -> None:
        """Keep the transcript no longer: it may be large."""
        self._unwritten = None

    def write_more(self) -> RunOutcome | None:
        """Write the transcript of a run that has ended to places that were asked for since.

        None where its transcript is not there any more: the run is to be done again.
        """
        before = self._ended_before
        assert before is not None
        if self._repository.ended() is None:
            self._ended_before = None
            return None
        wanted = self._request.model_copy(update={"outputs": self._more})
        try:
            files, kept = write_outputs(wanted, self._repository.transcript())
        except EnvironmentProblem as error:
            ended = replace(before, verdict="failed", summary=error.summary, advice=error.advice, environment=True)
        else:
            ended = replace(before, files=before.files + files, warnings=before.warnings + kept)
        self._ended_before, self._more = None, ()
        return ended

    def _ended(self, verdict: RunVerdict, summary: str, advice: str) -> RunOutcome:
        return RunOutcome(
            run=self._repository.record.run,
            name=self._name,
            verdict=verdict,
            summary=summary,
            advice=advice,
        )
