"""``explain``: why a run waits, is slow, or failed.

Touches: the store, the clock.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import click

from chunk_job.text import json_line, printable
from controller.cli import options as shared
from controller.cli.terminal import print_data
from controller.errors import UsageProblem
from controller.reports.explain import Cause, explain
from controller.reports.run_view import RunView
from controller.reports.stored_report import stored_view
from controller.runs.lookup import existing_run


@click.command("explain")
@click.argument("run")
@shared.store_option
@shared.json_option
def explain_command(run: str, *, store: str | None, as_json: bool) -> int:
    """Say why RUN waits, is slow or failed: causes with what shows them, what to do, and the next command.

    The cause that matters most comes first. Only the store is read: what jobs wait for is known as far as the command
    that works on the run has seen it.
    """
    opened = shared.store_at(store)
    run = existing_run(opened, run)
    view = stored_view(opened, run)
    if view is None:
        raise UsageProblem(f"run {run} was removed just now from {opened.url}", "see stenofleet list")
    causes = explain(view, now_ms=time.time_ns() // 1_000_000)
    if as_json:
        facts = {"run": run, "name": view.header.name, "state": view.header.state}
        print_data(json_line(facts | {"causes": [dataclasses.asdict(cause) for cause in causes]}), exact=True)
        return 0
    for line in _lines(view, causes):
        print_data(printable(line))
    return 0


def _lines(view: RunView, causes: tuple[Cause, ...]) -> Iterator[str]:
    yield f"{view.header.name}: {view.header.state} (run {view.header.run})"
    if not causes:
        yield "nothing is wrong with this run"
    for number, cause in enumerate(causes, 1):
        yield f"{number}. {cause.kind}: {cause.summary}"
        yield from (f"     {line}" for line in cause.evidence)
        if cause.advice:
            yield from (f"   what to do: {line}" for line in cause.advice.split("\n"))
        if cause.command:
            yield f"   next: {cause.command}"
