"""``clean``: removes runs from the store, except those that a process works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from chunk_job.store.base import Store
from controller.cli import kubernetes, output_options
from controller.cli import options as shared
from controller.cli.sections import Sectioned
from controller.cli.stdin_copy import remove_kept
from controller.cli.terminal import ask, print_message
from controller.domain.interfaces import Runner
from controller.domain.keys import LEDGER_RUNS, RUNS, WORK
from controller.domain.service_keys import RequestKey, is_id
from controller.errors import RunProblem, UsageProblem
from controller.leadership.store_lease import MISSED_POLLS, POLL_MS, StoreLease
from controller.reports import ledger
from controller.reports.removal import remove_run
from controller.runs import service_runs
from controller.runs.lookup import existing_run, is_there, is_worked_on, of_each, read_status, run_ids
from controller.service.outbox import Outbox
from controller.service.requests import RequestStore, TriedAgain

if TYPE_CHECKING:
    # As in kubernetes.py: loaded only when a cluster is used.
    from controller.runners.kubernetes.api import Api

_HOMES = (RUNS, WORK)
_ALL_HOMES = (*_HOMES, LEDGER_RUNS)
"""With the runs of which only the ledger knows."""
_AT_ONCE = 32
"""Runs of a remote store that are checked in parallel: checking whether a lease is renewed takes up to 20 seconds."""

_PAUSE_S = 0.5
_PATIENCE_S = 2.0
"""How long another ``clean`` may hold the lock of a run. In a remote store, its check of the lease is added."""


@click.command("clean", cls=Sectioned)
@click.argument("runs", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All runs that no process works on.")
@click.option(
    "--usage",
    "with_usage",
    is_flag=True,
    help="Remove what they used from the ledger too, also of runs removed before.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@kubernetes.runner_option
@shared.store_option
@kubernetes.place_options
def clean_command(
    runs: tuple[str, ...],
    *,
    everything: bool,
    with_usage: bool,
    yes: bool,
    runner: str,
    store: str | None,
    context: str,
    namespace: str,
) -> int:
    """Remove RUNS from the store: results, stored transcripts, everything. Files in output folders are kept.

    A run of the service is removed with its request, if it has ended. What a run used stays in the ledger: stenofleet
    usage counts it.

    With --runner kubernetes, Jobs that a stopped controller has left are deleted first: they would write results again.
    """
    opened = shared.store_at(store)
    if everything == bool(runs):
        raise UsageProblem("give the runs to remove, or --all", "see stenofleet list")
    homes = _ALL_HOMES if with_usage else _HOMES
    chosen = list(dict.fromkeys(_all(opened, homes) if everything else (_named(opened, run, homes) for run in runs)))
    if chosen and not yes and not ask(f"Remove {len(chosen)} run{'s' if len(chosen) > 1 else ''} from {opened.url}?"):
        print_message("nothing was removed; --yes removes without a question")
        return 2
    cluster: Api | None = None
    if chosen and runner == "kubernetes":
        cluster = kubernetes.api_of({"context": context, "namespace": namespace})
    here = shared.runner_for(opened)
    forget = partial(ledger.forget, opened) if with_usage else _kept
    reasons = of_each(opened, lambda one: _removed(opened, one, here, cluster, forget), chosen, at_once=_AT_ONCE)
    kept = 0
    for why in reasons:
        if why:
            print_message(why)
            kept += 1
    print_message(f"removed {len(chosen) - kept} of {len(chosen)} runs")
    if everything and (copies := remove_kept(output_options.stdin_home())):
        print_message(f"removed {copies} recordings that were kept from stdin")
    return 4 if kept else 0


def _kept(_: str) -> None:
    """Leave what a run used in the ledger."""


def _all(store: Store, homes: Sequence[str]) -> Iterator[str | RequestKey]:
    """Yield all runs: those of the service as its requests, of which some have no run."""
    yield from service_runs.requests_of_service(store)
    yield from of_each(store, lambda run: _owner(store, run), run_ids(store, homes=homes))


def _named(store: Store, typed: str, homes: Sequence[str]) -> str | RequestKey:
    """Return what *typed* names: a run, or the request of the service that it belongs to."""
    request = service_runs.request_with_id(store, typed.lower()) if is_id(typed.lower()) else None
    return request or _owner(store, existing_run(store, typed, homes=homes))


def _owner(store: Store, run: str) -> str | RequestKey:
    return service_runs.request_of_run(store, run) or run


def _removed(
    store: Store, one: str | RequestKey, here: Runner, cluster: Api | None, forget: Callable[[str], None]
) -> str:
    """Remove the run. Returns why it was not removed; empty if it was. A problem of one run stops no other."""
    try:
        if isinstance(one, RequestKey):
            return _remove_request(store, one, here, cluster, forget)
        if not _remove(store, one, here, cluster):
            return f"run {one} is being worked on: cancel it first"
        forget(one)
        return ""
    except RunProblem as error:
        return f"run {one.id if isinstance(one, RequestKey) else one}: {error.summary}: {error.advice}"


def _remove_request(
    store: Store, key: RequestKey, here: Runner, cluster: Api | None, forget: Callable[[str], None]
) -> str:
    """Remove a request of the service with everything that belongs to it. Returns why it was not removed."""
    requests = RequestStore(store)
    found = requests.find(key)
    if found is None:
        return ""
    if not found.end:
        return f"run {key.id} of the service has not ended: cancel it there first (POST /v1/runs/{key.id}:cancel)"
    if not requests.is_settled(found):
        return f"run {key.id} of the service: its end is still being recorded there: try again in a few seconds"
    run = found.end.run_id
    if run and not _remove(store, run, here, cluster):
        return f"run {key.id} of the service is being worked on: try again when it has ended"
    ends = requests.ends(found)
    Outbox(store).remove_of(found.request, ends)
    try:
        requests.remove(found)
    except TriedAgain:
        return f"run {key.id} of the service is tried again: cancel it there first (POST /v1/runs/{key.id}:cancel)"
    for each in {end.run_id for end in ends if end.run_id}:
        forget(each)
    return ""


def _remove(store: Store, run: str, here: Runner, cluster: Api | None) -> bool:
    """Remove the run unless a process works on it. Returns whether it is removed, by this command or another one."""
    if not _locked(store, run, here):
        return not is_there(store, run, homes=_HOMES)
    # Release the lock at once: each one is an open file, and another command may want the same run.
    try:
        if store.remote and StoreLease(store, run, here.leadership.domain(run)).held_elsewhere(here.wait):
            return False
        if cluster:
            kubernetes.sweep(cluster, run)
        remove_run(store, run)
        shared.local_requests().remove(store.url, run)
    finally:
        here.leadership.release(run, ended=True)
    return True


def _locked(store: Store, run: str, here: Runner) -> bool:
    """Take the run's lock. Returns False if a process works on the run (its status shows it) or the run is missing.

    Waits for another ``clean`` that has the lock.
    """
    patience_s = MISSED_POLLS * POLL_MS / 1000 if store.remote else 0.0
    for _ in range(round((patience_s + _PATIENCE_S) / _PAUSE_S)):
        if _is_ours(here, run):
            return True
        status = read_status(store, run)
        if (status and is_worked_on(status)) or not is_there(store, run, homes=_HOMES):
            return False
        here.wait(_PAUSE_S)
    return _is_ours(here, run)


def _is_ours(here: Runner, run: str) -> bool:
    return here.leadership.try_acquire_or_renew(run, 0) == "leading"
