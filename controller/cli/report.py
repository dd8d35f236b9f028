"""``report``: a run as one HTML file."""

from __future__ import annotations

from typing import Any

import click

from chunk_job.text import printable
from controller.cli import options as shared
from controller.cli.option_values import Place
from controller.cli.output_options import check_replaced
from controller.cli.prices import price_options, taken_prices
from controller.cli.terminal import print_message, write_path
from controller.domain.captions import PROFILES, Profile
from controller.errors import UsageProblem
from controller.reports.stored_report import is_page, write_report
from controller.runs.lookup import existing_run


@click.command("report")
@click.argument("run")
@shared.option(
    "-o",
    "--output",
    type=Place(),
    default="report.html",
    show_default=True,
    metavar="FILE|s3://…",
    help="The file to write.",
)
@shared.option("--overwrite", is_flag=True, help="Also replace a file that is no report.")
@shared.option(
    "--caption-profile",
    type=click.Choice(list(PROFILES)),
    metavar="PROFILE",
    help="Mark captions that break its limits (broadcast, netflix; whisper has none; default: the run's, or netflix).",
)
@price_options
@shared.store_option
def report_command(
    run: str, output: str, *, overwrite: bool, caption_profile: Profile | None, store: str | None, **prices: Any
) -> int:
    """Write RUN as one HTML file: its chunks, their times, what failed, and the transcript.

    The file needs no network and no other file. Every run that ends has it in its store too, as report.html. A run that
    is being worked on is shown as it is now.
    """
    opened = shared.store_at(store)
    run = existing_run(opened, run)
    check_replaced(output, "report", is_page, overwrite=overwrite)
    state = write_report(opened, run, output, profile=caption_profile, prices=taken_prices(prices))
    if state is None:
        raise UsageProblem(f"run {run} was removed just now from {opened.url}", "see stenofleet list")
    if state in ("running", "waiting"):
        print_message(printable(f"run {run} has not ended: the report shows it as it is now"))
    write_path(output)
    return 0
