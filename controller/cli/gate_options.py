"""Options for CI: quality gates, a report in JUnit XML, variables for later jobs, JSON Lines.

Touches: the store, the files of the reports, what the CI system shows (through ``ci``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.cli import ci
from controller.cli.caption_options import CaptionOptions
from controller.cli.conclusion import Conclusion
from controller.cli.event_lines import EventLines
from controller.cli.option_values import Fraction
from controller.cli.options import option, together
from controller.domain import stored_documents
from controller.domain.captions import PROFILES, CaptionStyle
from controller.domain.documents import Request
from controller.domain.interfaces import RunOutcome
from controller.domain.keys import RunKeys
from controller.errors import StenofleetError, UsageProblem, exit_code_of
from controller.evaluation.pairs import References, references
from controller.intake.source import is_object
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.gates import NO_MEASURES, GateResult, Gates, Measures, judge
from controller.reports.stored_report import view_and_transcript
from controller.runs.outputs import write_text
from controller.runs.transcript_files import TranscriptFiles

if TYPE_CHECKING:
    from controller.reports import junit

_F = TypeVar("_F", bound=Callable[..., Any])

max_wer_option = option(
    "--max-wer",
    type=Fraction(0, 100),
    metavar="RATE",
    help="Exit code 7 if a transcript has more errors for a word of its reference (0.1: ten in a hundred).",
)


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
        max_wer_option,
        option(
            "--reference",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="For --max-wer: what is said in each recording, in a txt, srt, vtt or json file of its name.",
        ),
        option(
            "--captions-profile",
            type=click.Choice([name for name in PROFILES if name != "whisper"]),
            help="Exit code 7 if captions, as --caption-profile makes them, break the limits of this profile.",
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
    references: References | None = None
    captions: CaptionOptions | None = None
    """How the command makes captions; None: as each run was asked to."""

    def measures(self, store: Store, outcome: RunOutcome, transcript: TranscriptFiles | None) -> Measures:
        """What gates of the words need, of a run in a store. Raises :class:`StoreUnavailable`."""
        return self.measures_of(outcome, transcript, partial(self._captions_of, store, outcome.run))

    def measures_of(
        self,
        outcome: RunOutcome,
        transcript: TranscriptFiles | None,
        captions: Callable[[], tuple[CaptionStyle | None, Sequence[str]]],
    ) -> Measures:
        """What gates of the words need. *captions*: their style, and the names of speakers in them.

        Raises :class:`StoreUnavailable`.
        """
        if transcript is None:
            return Measures(why="its transcript is gone")
        # Imported here: without these gates, nothing of it is needed.
        from controller.reports.gate_measures import captions_of, errors_of

        found = errors_of(self.references, outcome, transcript) if self.references else NO_MEASURES
        if self.gates.captions_profile is None:
            return found
        return replace(found, captions=captions_of(transcript, *captions(), self.gates.captions_profile))

    def _captions_of(self, store: Store, run: str) -> tuple[CaptionStyle | None, Sequence[str]]:
        """The style of captions, and the names of speakers in them."""
        if self.captions:
            return self.captions.style, self.captions.speakers
        request = stored_documents.valid(store, Request, RunKeys(run).request)
        outputs = request.outputs if request else ()
        return (outputs[0].captions, outputs[0].speakers) if outputs else (None, ())

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
        view, transcript = view_and_transcript(store, outcome.run, prices=self.checks.prices) if store else (None, None)
        if store and view and outcome.verdict in ("complete", "partial"):
            self.outcomes[outcome] = judge(self.checks.gates, view, self.checks.measures(store, outcome, transcript))
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


def taken_checks(options: dict[str, Any], prices: Prices, captions: CaptionOptions | None = None) -> Checks:
    """Take what the options of this module chose out of *options*. Raises :class:`UsageProblem`.

    *captions*: how the command makes captions; None: it makes none.
    """
    files, folder = {name: options.pop(name) for name in ("junit", "dotenv", "events")}, options.pop("reference")
    for name, path in files.items():
        if path is not None and Path(path).is_dir():
            raise UsageProblem(f"--{name}: {path} is a folder", "name a file")
    if files["events"] is not None and is_object(files["events"]):
        raise UsageProblem("--events: an object in S3 cannot be written line by line", "name a file or a pipe")
    gates = Gates(**{one.name: options.pop(one.name) for one in fields(Gates)})
    if gates.max_cost is not None and prices == NO_PRICES:
        raise UsageProblem("--max-cost: without a price, no cost is known", "add --gpu-hour-price or --cpu-hour-price")
    if (gates.max_wer is None) != (folder is None):
        missing = "--reference FOLDER" if folder is None else "--max-wer RATE"
        raise UsageProblem("--max-wer and --reference need each other", f"add {missing}")
    return Checks(
        **files,
        gates=gates,
        prices=prices,
        references=_references(folder) if folder else None,
        captions=captions,
    )


def _references(folder: Path) -> References:
    if not folder.is_dir():
        raise UsageProblem(f"--reference: {folder}: there is no such folder", "name the folder of the references")
    return references(folder)
