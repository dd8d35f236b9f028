"""``usage``: what runs used and cost, in all their attempts.

Touches: the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click

from chunk_job.store.base import Store
from chunk_job.text import json_line
from controller.cli import options as shared
from controller.cli.prices import price_options, taken_prices
from controller.cli.terminal import print_data, print_message
from controller.domain.keys import LEDGER_RUNS, RUNS
from controller.domain.usage_documents import UsageReport
from controller.errors import UsageProblem
from controller.reports import usage, usage_formats
from controller.reports.stored_usage import usages
from controller.runs.batches import BatchStore
from controller.runs.lookup import existing_run, run_ids

_HOMES = (RUNS, LEDGER_RUNS)
"""Where runs are, and what is kept of those that were removed."""

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
@shared.option("--batch", metavar="BATCH", default="", help="The runs of this batch, as far as they have ended.")
@shared.option("--tenant", metavar="NAME", default="", help="Only runs of this tenant of the service.")
@price_options
@shared.store_option
def usage_command(
    runs: Sequence[str], *, output: Shape, batch: str, tenant: str, store: str | None, **rest: Any
) -> int:
    """What each RUN used in all its attempts, also in those that failed, and the sum: time by purpose, cost.

    Without a RUN: all runs in the store, and those that were removed from it. What is not known is "unknown", never 0.
    """
    if runs and batch:
        raise UsageProblem("both runs and --batch are given", "give one of them")
    opened, prices = shared.store_at(store), taken_prices(rest)
    wanted = _batch_runs(opened, batch) if batch else _runs(opened, runs)
    found = (one for one in usages(opened, wanted) if not tenant or one.tenant == tenant)
    if output == "csv":
        for line in usage_formats.csv_lines(found, prices):
            print_data(line, exact=True, crlf=True)
        return 0
    of = usage.report(found, prices)
    if not of.runs:
        of_which = f" of batch {batch}" if batch else ""
        print_message(f"no runs{of_which}{f' of tenant {tenant}' if tenant else ''} in {opened.url}")
    _print(of, output)
    return 0


def _runs(store: Store, typed: Sequence[str]) -> Iterable[str]:
    return [existing_run(store, run, homes=_HOMES) for run in typed] if typed else run_ids(store, homes=_HOMES)


def _batch_runs(store: Store, batch: str) -> Iterable[str]:
    batches = BatchStore(store)
    return batches.runs(batches.existing(batch))


def _print(of: UsageReport, output: Shape) -> None:
    if output == "json":
        print_data(json_line(json.loads(of.encode())), exact=True)
    elif output == "prometheus":
        for line in usage_formats.prometheus_lines(of):
            print_data(line, exact=True)
    elif of.runs:
        for line in usage_formats.lines(of):
            print_data(line)
