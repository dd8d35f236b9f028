"""Options for CI: quality gates, a report in JUnit XML, variables for later jobs, JSON Lines.

Touches: the store, the files of the reports, what the CI system shows (through ``ci``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.cli import ci
from controller.cli.conclusion import Conclusion
from controller.cli.event_lines import EventLines
from controller.cli.option_values import Fraction
from controller.cli.options import option, together
from controller.domain.interfaces import RunOutcome
from controller.errors import StenofleetError, UsageProblem, exit_code_of
from controller.intake.source import is_object
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.gates import GateResult, Gates, judge
from controller.reports.stored_report import stored_view
from controller.runs.outputs import write_text

if TYPE_CHECKING:
    from controller.reports import junit

_F = TypeVar("_F", bound=Callable[..., Any])


def gate_options(command: _F) -> _F:
    """Add the options."""
    return together(
        option(
            "--junit",
            type=click.Path(),
            metavar="FILE|s3://…",
            help="Write a report as JUnit XML: a suite for each recording, a case for each chunk and gate.",
        ),
        option(
            "--dotenv",
            type=click.Path(),
            metavar="FILE|s3://…",
            help="Write the exit code and the numbers of recordings as NAME=number, for later jobs of a pipeline.",
        ),
        option(
            "--events",
            type=click.Path(),
            metavar="FILE",
            help="Write what happens as JSON Lines, each at once: progress, messages, how recordings end.",
        ),
        option(
            "--min-coverage",
            type=Fraction(0, 1),
            metavar="SHARE",
            help="Exit code 7 if a smaller part of a recording was transcribed (0 to 1).",
        ),
        option(
            "--min-confidence",
            type=Fraction(0, 1),
            metavar="SHARE",
            help="Exit code 7 if the average probability of a recording's words is less (0 to 1).",
        ),
        option(
            "--max-rtf",
            type=Fraction(0.0001, 1000),
            metavar="SECONDS",
            help="Exit code 7 if jobs took more time than this for a second of a recording.",
        ),
        option(
            "--max-cost",
            type=Fraction(0, 1_000_000_000),
            metavar="AMOUNT",
            help="Exit code 7 if the jobs of a recording cost more, by the prices of an hour.",
        ),
    )(command)


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What the options choose."""

    junit: str | None = None
    dotenv: str | None = None
    events: str | None = None
    gates: Gates = field(default_factory=Gates)
    prices: Prices = NO_PRICES

    @contextlib.contextmanager
    def of(self, store: Store | None, names: Iterable[str]) -> Iterator[Checked]:
        """Check the outcomes that are added in the block. At its end, also by an error, write the reports.

        *names*: of all recordings. Raises :class:`EnvironmentProblem` if a report cannot be written.
        """
        events = EventLines(self.events) if self.events else None
        checked = Checked(store=store, checks=self, names=tuple(names) if self.junit else (), events=events)
        try:
            yield checked
        except (StenofleetError, JobError) as error:
            checked.code = exit_code_of(error)
            raise
        finally:
            self._write(checked)

    def of_batch(self, store: Store | None) -> contextlib.AbstractContextManager[Checked]:
        """As :meth:`of`, for a command that keeps no outcomes, and writes the report in JUnit XML itself."""
        return replace(self, junit=None).of(store, ())

    def _write(self, checked: Checked) -> None:
        """Write the reports, each even if another one cannot be written, and tell the CI system."""
        problems = []
        for write in (self._write_junit, self._write_dotenv, self._write_end):
            try:
                write(checked)
            except (StenofleetError, JobError) as error:
                checked.code = exit_code_of(error)
                problems.append(error)
        ci.publish(checked.conclusion)
        if problems:
            raise problems[0]

    def _write_junit(self, checked: Checked) -> None:
        if self.junit:
            from controller.reports import junit

            junit.write(self.junit, checked.suites())

    def _write_dotenv(self, checked: Checked) -> None:
        if self.dotenv:
            write_text(self.dotenv, ci.dotenv(checked.conclusion))

    def _write_end(self, checked: Checked) -> None:
        if checked.events:
            checked.events.end(checked.conclusion)


@dataclass(kw_only=True)
class Checked:
    """The outcomes of a command, as far as they are known."""

    store: Store | None
    """None: the runs are those of a service, which the command reads itself."""
    checks: Checks
    names: Sequence[str]
    outcomes: dict[RunOutcome, tuple[GateResult, ...]] = field(default_factory=dict)
    skipped: Collection[str] = ()
    code: int = StenofleetError.exit_code
    """The exit code of the command; a bug, until it is known."""
    events: EventLines | None = None
    counts: Mapping[str, int] | None = None
    """Of a batch."""
    _suites: dict[RunOutcome, junit.Suite] = field(default_factory=dict)

    def add(self, outcome: RunOutcome) -> None:
        """Note how a recording ended."""
        if outcome not in self.outcomes:
            self.outcomes[outcome] = ()
            if self.events:
                self.events.recording(outcome)

    def ended(self, code: int) -> int:
        """Note the exit *code* of the command, and return it."""
        self.code = code
        return code

    @property
    def conclusion(self) -> Conclusion:
        """What is known of the end of the command."""
        return Conclusion(code=self.code, judged=self.outcomes, skipped=self.skipped, counts=self.counts)

    def judge(self, ended: Iterable[RunOutcome], skipped: Collection[str]) -> Mapping[RunOutcome, Sequence[GateResult]]:
        """Read the runs that have *ended*, and say what they keep. Raises :class:`StoreUnavailable`."""
        self.skipped = skipped
        for outcome in ended:
            self.add(outcome)
        if self.checks.junit or self.checks.gates:
            for outcome in self.outcomes:
                self._read(outcome)
        return self.outcomes

    def _read(self, outcome: RunOutcome) -> None:
        from controller.reports import junit

        store = self.store if outcome.run else None
        view = stored_view(store, outcome.run, prices=self.checks.prices) if store else None
        if view and outcome.verdict in ("complete", "partial"):
            self.outcomes[outcome] = judge(self.checks.gates, view)
        if self.checks.junit:
            self._suites[outcome] = junit.suite(outcome, view, self.outcomes[outcome])

    def suites(self) -> Iterator[junit.Suite]:
        """Yield one suite for each recording. Those that were not read, because of an error, have no chunks."""
        from controller.reports import junit

        for outcome in self.outcomes:
            yield self._suites.get(outcome) or junit.suite(outcome, None)
        yield from (junit.left_out(name, "all its outputs exist") for name in sorted(self.skipped))
        known = {_place(outcome.source or outcome.name) for outcome in self.outcomes} | {*map(_place, self.skipped)}
        for name in self.names:
            if _place(name) not in known:
                yield junit.left_out(name, "the command ended before this recording")


def _place(name: str) -> str:
    """One name of a recording, which may be named in several ways."""
    return name if is_object(name) else str(Path(name).resolve())


def taken_checks(options: dict[str, Any], prices: Prices) -> Checks:
    """Take what the options of this module chose out of *options*. Raises :class:`UsageProblem`."""
    files = {name: options.pop(name) for name in ("junit", "dotenv", "events")}
    for name, path in files.items():
        if path is not None and Path(path).is_dir():
            raise UsageProblem(f"--{name}: {path} is a folder", "name a file")
    if files["events"] is not None and is_object(files["events"]):
        raise UsageProblem("--events: an object in S3 cannot be written line by line", "name a file or a pipe")
    gates = Gates(**{one.name: options.pop(one.name) for one in fields(Gates)})
    if gates.max_cost is not None and prices == NO_PRICES:
        raise UsageProblem("--max-cost: without a price, no cost is known", "add --gpu-hour-price or --cpu-hour-price")
    return Checks(**files, gates=gates, prices=prices)
