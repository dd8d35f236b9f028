"""Commands about runs in the store: ``status``, ``list``, ``render``, ``cancel``, ``clean``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chunk_job.contract import DocumentInvalid
from chunk_job.store import Store
from chunk_job.text import json_line, printable
from controller import documents, transcripts
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.edges import Runner
from controller.errors import UsageProblem
from controller.formats import FORMATS
from controller.keys import MARKERS, RUNS, WORK, RunKeys, is_run_prefix, run_of
from controller.lead import StoreLead
from controller.outputs import base_of, check_folder, place, read_file, write_output
from controller.progress import ask, say, tell, write_path
from controller.records import Format, Outcome, Request, RunRecord, Status
from controller.transcript import Transcript

_STALE_MS = 30_000
_PLACES = frozenset({"name", "recording", "outputs"})
"""Facts of a run that are file names, paths and addresses of objects: told as they are."""


@click.command("status")
@click.argument("run")
@shared.store_option
@shared.json_option
def status_command(run: str, *, store: str | None, as_json: bool) -> int:
    """How far RUN is, or how it ended."""
    opened = shared.store_at(store)
    run = existing_run(opened, run)
    facts = _facts(opened, run) | _places(opened, run)
    if as_json:
        tell(json_line(facts), exact=True)
        return 0
    facts["updated"] = _minute(facts.pop("updated_ms", 0)).strip()
    if facts.get("failures"):
        facts["failures"] = f"{facts['failures']} (stenofleet logs {run})"
    for name, value in facts.items():
        if value:
            text = f"{name:12} {', '.join(value) if isinstance(value, list) else value}"
            tell(printable(text), exact=name in _PLACES)
    return 0


@click.command("list")
@shared.store_option
@shared.json_option
def list_command(*, store: str | None, as_json: bool) -> int:
    """All runs in the store."""
    opened = shared.store_at(store)
    runs = [_facts(opened, run) for run in run_ids(opened)]
    if as_json:
        tell(json_line({"runs": runs}), exact=True)
        return 0
    for facts in runs:
        told = (facts["run"], f"{facts['state']:11}", f"{facts['percent']:5.1f}%", _minute(facts.get("updated_ms", 0)))
        tell("  ".join((*told, facts["name"])), exact=True)
    if not runs:
        say(f"no runs in {opened.url}")
    return 0


@click.command("render")
@click.argument("transcript", metavar="RUN|FILE.json")
@shared.formats_option
@shared.output_option
@shared.null_option
@shared.store_option
def render_command(
    transcript: str, formats: tuple[Format, ...], output_dir: str, *, null: bool, store: str | None
) -> int:
    """Make any format again from a transcript's JSON: no model, no media."""
    check_folder(output_dir)
    path = Path(transcript)
    try:
        if not path.exists() and is_run_prefix(transcript):
            document = _stored_transcript(shared.store_at(store), transcript)
        else:
            document = Transcript.decode(read_file(path, max_bytes=Transcript.max_bytes))
    except DocumentInvalid as error:
        raise UsageProblem(f"{transcript} is no transcript of stenofleet: {error.summary}") from error
    except OSError as error:
        raise UsageProblem(f"{transcript}: {error.strerror}", "name a run or a transcript's JSON file") from error
    stem = path.stem if path.exists() else Path(document.source.name).stem
    for extension in formats:
        target = place(base_of(output_dir, stem), extension)
        if not (path.exists() and Path(target).exists() and path.samefile(target)):
            write_output(target, FORMATS[extension](document).encode())
        write_path(target, null=null)
    return 0


def _stored_transcript(store: Store, typed: str) -> Transcript:
    run = existing_run(store, typed)
    record = documents.valid(store, RunRecord, RunKeys(run).record)
    found = record and transcripts.stored(store, record)
    if not found:
        raise UsageProblem(f"run {run} has no transcript yet", "see stenofleet status")
    return found


@click.command("cancel", cls=shared.Sectioned)
@click.argument("run")
@kubernetes.runner_option
@shared.store_option
@kubernetes.place_options
def cancel_command(run: str, *, runner: str, store: str | None, context: str, namespace: str) -> int:
    """End RUN: whoever works on it stops within a few seconds. Finished chunks are kept for a later transcribe.

    With --runner kubernetes its Jobs are deleted too, whether anybody works on it or not.
    """
    opened = shared.store_at(store)
    keys = RunKeys(existing_run(opened, run))
    if opened.stat(keys.marker("complete")):
        say(f"run {keys.run} is complete already")
        return 0
    opened.put(keys.cancel, b"")
    if runner == "kubernetes":
        _sweep(keys.run, context=context, namespace=namespace)
    say(f"run {keys.run} is cancelled")
    return 0


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
    homes = (RUNS, WORK)
    chosen = run_ids(opened, homes=homes) if everything else [existing_run(opened, run, homes=homes) for run in runs]
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
            _sweep(run, context=context, namespace=namespace)
        remove_run(opened, run)
        shared.local_requests().forget(opened.url, run)
    here.close(leave=False)
    say(f"removed {len(chosen) - kept} of {len(chosen)} runs")
    return 4 if kept else 0


def remove_run(store: Store, run: str) -> None:
    """Take all of it out of the store."""
    keys = RunKeys(run)
    # The record last: a clean that is interrupted can be given again by the run's name.
    for prefix in (keys.work, keys.home):
        for entry in sorted(store.list(prefix), key=lambda entry: entry.key == keys.record):
            store.delete(entry.key)
        store.sweep(prefix)


def _sweep(run: str, *, context: str, namespace: str) -> None:
    from controller.cluster import sweep

    for pod in sweep(kubernetes.api_of({"context": context, "namespace": namespace}), run):
        say(f"pod {pod} is still ending; behind a node that is lost it does so until that one is back")


def _led_elsewhere(store: Store, run: str, runner: Runner) -> bool:
    """Whether another machine works on it."""
    return store.remote and StoreLead(store, run, runner.place(run)).held_elsewhere(runner.wait)


def existing_run(store: Store, typed: str, *, homes: Sequence[str] = (RUNS,)) -> str:
    """The run called *typed*, a run id or the unambiguous beginning of one. Raises :class:`UsageProblem`."""
    matching = [run for run in run_ids(store, homes=homes) if run.startswith(typed.lower())]
    if len(matching) == 1:
        return matching[0]
    what = f"{typed} is the beginning of {len(matching)} runs" if matching else f"no run {typed}"
    raise UsageProblem(f"{what} in {store.url}", "see stenofleet list")


def run_ids(store: Store, *, homes: Sequence[str] = (RUNS,)) -> list[str]:
    """Every run in the store; with ``WORK`` among *homes* also one that only its jobs' objects are left of."""
    return sorted({run for home in homes for entry in store.list(home) if (run := run_of(entry.key))})


def worked_on(status: Status) -> bool:
    """Whether somebody has reported on it lately, by the clock of whoever did."""
    return status.state == "running" and time.time_ns() // 1_000_000 - status.updated_ms <= _STALE_MS


def _facts(store: Store, run: str) -> dict[str, Any]:
    """What the store says of a run; a running state nobody has renewed for long is said to be interrupted."""
    keys = RunKeys(run)
    status = documents.valid(store, Status, keys.status)
    if status is None:
        return {"run": run, "name": "", "state": "interrupted", "percent": 0.0, "advice": f"stenofleet resume {run}"}
    facts: dict[str, Any] = {
        "run": run,
        "name": status.name,
        "state": status.state,
        "percent": status.percent,
        "chunks": f"{status.spans_done}/{status.spans_known}{'' if status.planned else '+'}",
        "failures": status.failures,
        "updated_ms": status.updated_ms,
    }
    for verdict in MARKERS:
        if store.stat(keys.marker(verdict)):
            try:
                outcome = documents.read(store, Outcome, keys.marker(verdict))
            except DocumentInvalid as error:
                return facts | {"state": "damaged", "summary": error.summary}
            return facts | {"state": outcome.verdict, "summary": outcome.summary, "advice": outcome.advice}
    if store.stat(keys.cancel):
        facts["state"] = "cancelled"
    elif status.state == "running" and not worked_on(status):
        facts["state"] = "interrupted"
    if facts["state"] in ("cancelled", "interrupted", "failed"):
        facts["advice"] = f"stenofleet resume {run}"
    return facts


def _minute(when_ms: int) -> str:
    """By this machine's clock on the wall; of a time that cannot be, nothing."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(when_ms / 1000)) if when_ms else f"{'':16}"
    except (ValueError, OverflowError, OSError):
        return f"{'':16}"


def _places(store: Store, run: str) -> dict[str, Any]:
    """Where the recording lies, and where the transcript goes."""
    request = documents.valid(store, Request, RunKeys(run).request)
    if request is None:
        return {}
    outputs = [place(output.base, extension) for output in request.outputs for extension in output.formats]
    return {"recording": request.source.uri, "outputs": outputs}
