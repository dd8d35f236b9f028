"""How the recordings of a command ended, and whether each keeps the limits of the quality gates.

Touches: the store, the terminal, the lines of ``--events`` (through ``event_lines``).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.cli.checks import Checks
from controller.cli.conclusion import Conclusion
from controller.cli.event_lines import EventLines
from controller.cli.terminal import print_message
from controller.domain.interfaces import RunOutcome
from controller.errors import EnvironmentProblem, Interrupted, StenofleetError
from controller.intake.source import is_object
from controller.reports.gates import GateResult, judge, unmeasured
from controller.reports.stored_report import view_and_transcript

if TYPE_CHECKING:
    from controller.reports import junit


@dataclass(kw_only=True)
class Checked:
    """The outcomes of a command, as far as they are known."""

    store: Store | None
    """None: the runs are those of a service, which the command reads itself."""
    checks: Checks
    names: Sequence[str]
    outcomes: dict[RunOutcome, tuple[GateResult, ...]] = field(default_factory=dict)
    skipped: Collection[str] = ()
    measured: frozenset[RunOutcome] = frozenset()
    """The stored runs of skipped recordings."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """The run of each recording that was identified, by name: those of equal content have one."""
    code: int = StenofleetError.exit_code
    """The exit code of the command; a bug, until it is known."""
    problem: StenofleetError | JobError | None = None
    """What ended the command."""
    events: EventLines | None = None
    counts: Mapping[str, int] | None = None
    """Of a batch."""
    left: int = 0
    """Recordings that have not ended."""
    _noted: dict[tuple[str, str], RunOutcome] = field(default_factory=dict)
    """By run and place."""
    _suites: dict[RunOutcome, junit.Suite] = field(default_factory=dict)

    def add(self, outcome: RunOutcome) -> None:
        """Note how a recording ended. Its run may end again, for others of equal content, with more files."""
        key = outcome.run, _place(outcome.source or outcome.name)
        before = self._noted.get(key)
        if outcome == before:
            return
        if before is not None:
            del self.outcomes[before]
        elif self.events:
            self.events.recording(outcome)
        self._noted[key] = outcome
        self.outcomes[outcome] = ()

    def ended(self, code: int) -> int:
        """Note the exit *code* of the command, and return it."""
        self.code = code
        return code

    def note(
        self, counts: Mapping[str, int], judged: Mapping[RunOutcome, Sequence[GateResult]], *, left: int = 0
    ) -> None:
        """Note how a batch stands. *judged*: the first of what went wrong. *left*: how many have not ended."""
        self.left, self.counts = left, counts
        self.outcomes = {outcome: tuple(gates) for outcome, gates in judged.items()}

    @property
    def conclusion(self) -> Conclusion:
        """What is known of the end of the command."""
        ended = self.problem if not isinstance(self.problem, Interrupted) else None
        problem = (ended.summary, ended.advice) if ended else None
        return Conclusion(
            code=self.code,
            judged=self.outcomes,
            skipped=self.skipped,
            measured=self.measured,
            counts=self.counts,
            left=self.left,
            problem=problem,
        )

    def judge(
        self, ended: Iterable[RunOutcome], skipped: Collection[str], measured: Collection[RunOutcome] = ()
    ) -> Mapping[RunOutcome, Sequence[GateResult]]:
        """Read the runs that have *ended*, and say what they keep. Raises :class:`StoreUnavailable`.

        *measured*: the stored runs of recordings that were *skipped*.
        """
        self.skipped, self.measured = skipped, frozenset(measured)
        if (unknown := len(skipped) - len(measured)) and self.checks.gates:
            print_message(
                f"{unknown} of the recordings {'was' if unknown == 1 else 'were'} skipped, and not measured:"
                " no quality gate says anything about them"
            )
        for outcome in ended:
            self.add(outcome)
        for outcome in list(self._alike()):
            self.add(outcome)
        # They have not ended now.
        self.outcomes |= dict.fromkeys(measured, ())
        if self.checks.junit or self.checks.gates:
            for outcome in self.outcomes:
                self._read(outcome)
        return self.outcomes

    def _alike(self) -> Iterator[RunOutcome]:
        """Yield the recordings with the content of one that was transcribed: their run ended only once."""
        known = {place for _, place in self._noted}
        of_run = {one.run: one for one in self.outcomes if one.run and one.verdict in ("complete", "partial")}
        for name, run in self.runs.items():
            if (one := of_run.get(run)) and _place(name) not in known:
                source = name if is_object(name) else str(Path(name).absolute())
                yield replace(one, name=name.rpartition("/")[2], source=source, files=(), warnings=(), kept=())

    def _read(self, outcome: RunOutcome) -> None:
        from controller.reports import junit

        store = self.store if outcome.run else None
        view, transcript = view_and_transcript(store, outcome.run, prices=self.checks.prices) if store else (None, None)
        if outcome.verdict in ("complete", "partial"):
            self.outcomes[outcome] = (
                judge(self.checks.gates, view, self.checks.measures(store, outcome, transcript))
                if store and view
                else unmeasured(self.checks.gates, "its run is not in the store any more")
            )
        if self.checks.junit:
            self._suites[outcome] = junit.suite(outcome, view, self.outcomes[outcome])

    def suites(self) -> Iterator[junit.Suite]:
        """Yield one suite for each recording. Those that were not read, because of an error, have no chunks."""
        from controller.reports import junit

        if (problem := self.conclusion.problem) and not self.names:
            # Before the recordings were known: a report without tests would look like success.
            early = RunOutcome(run="", name="stenofleet", verdict="failed", summary=problem[0], advice=problem[1])
            yield junit.suite(replace(early, environment=self.code == EnvironmentProblem.exit_code), None)
        for outcome in self.outcomes:
            yield self._suites.get(outcome) or junit.suite(outcome, None)
        why = f"all its outputs exist{', and no quality gate has measured it' if self.checks.gates else ''}"
        known = {_place(outcome.source or outcome.name) for outcome in self.outcomes}
        yield from (junit.left_out(name, why) for name in sorted(self.skipped) if _place(name) not in known)
        known |= {*map(_place, self.skipped)}
        for name in self.names:
            if _place(name) not in known:
                yield junit.left_out(name, "the command ended before this recording")


def _place(name: str) -> str:
    """One name of a recording, which may be named in several ways. Never fails, as a Path does at a loop of links."""
    return name if is_object(name) else os.path.realpath(name)
