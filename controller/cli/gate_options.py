"""Options for CI: quality gates, a report in JUnit XML, variables for later jobs, JSON Lines.

Touches: nothing; whether given files and folders exist is looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from controller.cli.caption_options import CaptionOptions
from controller.cli.checks import Checks
from controller.cli.option_values import Fraction, Place
from controller.cli.options import option, together
from controller.cli.report_files import reporting_early_errors
from controller.domain.captions import PROFILES
from controller.errors import UsageProblem
from controller.evaluation.pairs import References, references
from controller.intake.source import is_object
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.gates import Gates

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
            type=Place(),
            metavar="FILE|s3://…",
            help="Write a report as JUnit XML: a suite for each recording, a case for each chunk and gate.",
        ),
        option(
            "--dotenv",
            type=Place(),
            metavar="FILE|s3://…",
            help="Write the exit code and the numbers of recordings as NAME=number, for later jobs of a pipeline.",
        ),
        option(
            "--events",
            type=Place(),
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
            type=Place(path_type=Path),
            metavar="FOLDER",
            help="For --max-wer: what is said in each recording, in a txt, srt, vtt or json file of its name.",
        ),
        option(
            "--captions-profile",
            type=click.Choice([name for name in PROFILES if name != "whisper"]),
            help="Exit code 7 if captions, as --caption-profile makes them, break the limits of this profile.",
        ),
    )(command)


def taken_checks(options: dict[str, Any], prices: Prices, captions: CaptionOptions | None = None) -> Checks:
    """Take what the options of this module chose out of *options*. Raises :class:`UsageProblem`.

    From here on, an error of the command is in its reports.
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
    checks = Checks(
        **files,
        gates=gates,
        prices=prices,
        references=_references(folder) if folder else None,
        captions=captions,
    )
    click.get_current_context().with_resource(reporting_early_errors(checks))
    return checks


def _references(folder: Path) -> References:
    if not folder.is_dir():
        raise UsageProblem(f"--reference: {folder}: there is no such folder", "name the folder of the references")
    return references(folder)
