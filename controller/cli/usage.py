"""``usage``: what runs used and cost, in all their attempts.

Touches: the store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import click

from chunk_job.text import json_line
from controller.cli import options as shared
from controller.cli.prices import price_options, taken_prices
from controller.cli.terminal import print_data, print_message
from controller.domain.usage_documents import UsageReport
from controller.reports import usage, usage_formats
from controller.reports.stored_usage import usages
from controller.runs.lookup import existing_run, run_ids

Shape = Literal["table", "json", "csv", "prometheus"]


@click.command("usage")
@click.argument("runs", metavar="[RUN…]", nargs=-1)
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv", "prometheus"]),
    default="table",
    show_default=True,
    help="For people, or one JSON document, a row for each run, a text file of Prometheus.",
)
@shared.option("--tenant", metavar="NAME", default="", help="Only runs of this tenant of the service.")
@price_options
@shared.store_option
def usage_command(runs: Sequence[str], *, output: Shape, tenant: str, store: str | None, **prices: Any) -> int:
    """What each RUN used in all its attempts, also in those that failed, and the sum: time by purpose, cost.

    Without a RUN: all runs in the store. What is not known is "unknown", never 0.
    """
    opened = shared.store_at(store)
    wanted = [existing_run(opened, run) for run in runs] if runs else run_ids(opened)
    found = (one for one in usages(opened, wanted) if not tenant or one.tenant == tenant)
    of = usage.report(found, taken_prices(prices))
    if not of.runs:
        print_message(f"no runs{f' of tenant {tenant}' if tenant else ''} in {opened.url}")
    _print(of, output)
    return 0


def _print(of: UsageReport, output: Shape) -> None:
    if output == "json":
        print_data(json_line(json.loads(of.encode())), exact=True)
    elif output == "csv":
        for line in usage_formats.csv_lines(of):
            print_data(line, exact=True, crlf=True)
    elif output == "prometheus":
        for line in usage_formats.prometheus_lines(of):
            print_data(line, exact=True)
    elif of.runs:
        for line in usage_formats.lines(of):
            print_data(line)
