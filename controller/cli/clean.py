"""``clean``: removes runs from the store, but none that somebody works on."""

from __future__ import annotations

import click

from chunk_job.store import Store
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.edges import Runner
from controller.errors import UsageProblem
from controller.keys import RUNS, WORK
from controller.lead import StoreLead
from controller.progress import ask, say
from controller.stored_runs import existing_run, remove_run, run_ids

_HOMES = (RUNS, WORK)


@click.command("clean", cls=shared.Sectioned)
@click.argument("runs", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All runs nobody works on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@kubernetes.runner_option
@shared.store_option
@kubernetes.place_options
def clean_command(
    runs: tuple[str, ...], *, everything: bool, yes: bool, runner: str, store: str | None, context: str, namespace: str
) -> int:
    """Remove RUNS from the store: results, stored transcripts, everything. Files in output folders stay.

    With --runner kubernetes the Jobs that a stopped controller has left go first: they would write results again.
    """
    opened = shared.store_at(store)
    if everything == bool(runs):
        raise UsageProblem("name runs to remove, or --all", "see stenofleet list")
    named = run_ids(opened, homes=_HOMES) if everything else (existing_run(opened, run, homes=_HOMES) for run in runs)
    chosen = list(dict.fromkeys(named))
    if chosen and not yes and not ask(f"Remove {len(chosen)} run{'s' if len(chosen) > 1 else ''} from {opened.url}?"):
        raise click.Abort
    here = shared.runner_for(opened)
    kept = 0
    for run in chosen:
        if not here.lead(run) or _led_elsewhere(opened, run, here):
            say(f"run {run} is being worked on: cancel it first")
            kept += 1
            continue
        if runner == "kubernetes":
            kubernetes.sweep(kubernetes.api_of({"context": context, "namespace": namespace}), run)
        remove_run(opened, run)
        shared.local_requests().forget(opened.url, run)
    here.close(leave=False)
    say(f"removed {len(chosen) - kept} of {len(chosen)} runs")
    return 4 if kept else 0


def _led_elsewhere(store: Store, run: str, runner: Runner) -> bool:
    """Whether another machine works on it."""
    return store.remote and StoreLead(store, run, runner.place(run)).held_elsewhere(runner.wait)
