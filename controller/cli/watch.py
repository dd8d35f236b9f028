"""``watch`` and ``logs``: the progress of runs, and the log lines of their jobs. Both only read."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from chunk_job.document import MAX_SPANS
from chunk_job.store.base import Store
from chunk_job.text import json_line, printable
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.terminal import Bars, Heartbeat, print_data, print_message
from controller.domain import stored_documents
from controller.domain.documents import Evidence, Status
from controller.domain.keys import RunKeys, is_failure, parse_result
from controller.domain.progress import Progress, from_status
from controller.errors import UsageProblem
from controller.runs.lookup import existing_run, is_worked_on, of_each, read_run, read_status, run_ids

_POLL_S = 2.0
_SILENT_S = 180.0
"""The process that works on a run updates its status every few seconds; after this time, another one would have taken
over too."""

_UNATTENDED = "unattended"
_SILENCE = "no process has worked on it for three minutes: run its command again to resume"
_CODES = {"complete": 0, _UNATTENDED: 3, "partial": 4, "failed": 5, "cancelled": 8}


@click.command("watch")
@click.argument("runs", nargs=-1)
@shared.store_option
def watch_command(runs: tuple[str, ...], *, store: str | None) -> int:
    """Follow RUNS (default: all that are being worked on) until they end. Ctrl-C only stops watching.

    A run without a process that works on it is followed for three minutes at most.
    """
    opened = shared.store_at(store)
    chosen = [existing_run(opened, run) for run in runs] or _active(opened)
    if not chosen:
        print_message(f"no run is being worked on in {opened.url}")
        return 0
    try:
        if sys.stderr.isatty():
            with Bars() as bars:
                return _followed(opened, chosen, bars)
        return _followed(opened, chosen, Heartbeat())
    except KeyboardInterrupt:
        return 130


@click.command("logs", cls=shared.Sectioned)
@click.argument("run")
@shared.option("--chunk", type=click.IntRange(0, MAX_SPANS - 1), metavar="N", help="Default: all, the intake included.")
@kubernetes.runner_option
@shared.store_option
@shared.json_option
@kubernetes.place_options
def logs_command(
    run: str, chunk: int | None, *, runner: str, store: str | None, as_json: bool, context: str, namespace: str
) -> int:
    """Show why attempts of RUN failed, with the last log lines of their jobs.

    With --runner kubernetes also the current log lines of running jobs.
    """
    opened = shared.store_at(store)
    keys = RunKeys(existing_run(opened, run))
    kept = [item for item in _evidence(opened, keys) if chunk is None or item.span == chunk]
    alive: dict[str, list[str]] = {}
    waiting: dict[str, str] = {}
    if runner == "kubernetes":
        alive, waiting = _now(keys.run, chunk, {"context": context, "namespace": namespace})
    if as_json:
        failed = [json.loads(item.encode()) for item in kept]
        print_data(json_line({"failures": failed, "running": alive, "waiting": waiting}), exact=True)
        return 0
    for item in kept:
        _print(item)
    for name, lines in alive.items():
        print_data(printable(f"{name}, running:"))
        for line in lines:
            print_data(printable(f"  {line}"))
    for name, reason in waiting.items():
        print_data(printable(f"{name}, not running: {reason}"))
    if not kept and not alive and not waiting:
        print_message(_nothing(opened, keys, chunk))
    return 0


def _active(store: Store) -> list[str]:
    found = of_each(store, lambda run: read_status(store, run), run_ids(store))
    return [status.run for status in found if status and is_worked_on(status)]


def _followed(store: Store, runs: list[str], reporter: Bars | Heartbeat) -> int:
    """Show the runs until all have ended or are unattended. Returns the highest of their exit codes."""
    # By the clock of this process: clocks of other machines may differ.
    last: dict[str, tuple[Status | None, float]] = {}
    while True:
        now_s = time.monotonic()  # noqa: TID251 (how long a run has been silent)
        found = dict(zip(runs, of_each(store, lambda run: read_run(store, run), runs), strict=True))
        ends = {run: one.end if one else "" for run, one in found.items()}
        for run, one in found.items():
            status = one.status if one else None
            if run not in last or last[run][0] != status:
                last[run] = status, now_s
            elif now_s - last[run][1] >= _SILENT_S:
                ends[run] = ends[run] or _UNATTENDED
        reporter.show([_progress(run, last[run][0], ends[run]) for run in runs])
        if all(ends.values()):
            for run, end in ends.items():
                print_message(f"{run}: {_SILENCE if end == _UNATTENDED else end}")
            return max(_CODES[end] for end in ends.values())
        time.sleep(_POLL_S)


def _progress(run: str, status: Status | None, end: str) -> Progress:
    state: Any = "interrupted" if end == _UNATTENDED else end or (status.state if status else "waiting")
    return from_status(status, name=status.name if status else run, run=run, size_bytes=1, seen=state)


def _evidence(store: Store, keys: RunKeys) -> list[Evidence]:
    keys_of = [entry.key for entry in store.list(keys.failures) if is_failure(entry.key)]
    found = [item for key in keys_of if (item := stored_documents.valid(store, Evidence, key))]
    return sorted(found, key=lambda item: (item.ended_ms, item.span or -1, item.attempt))


def _print(item: Evidence) -> None:
    what = "intake" if item.span is None else f"chunk {item.span}"
    where = f" on {item.node}" if item.node else ""
    # Line breaks in text of jobs are escaped too: each of these is one line.
    print_data(printable(f"{what}, attempt {item.attempt}{where}: {item.failure}: {item.summary}"))
    if item.advice:
        print_data(printable(f"  what to do: {item.advice}"))
    for line in item.details:
        print_data(printable(f"  {line}"))


def _now(run: str, chunk: int | None, place: dict[str, str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the running pods with their last log lines, and the other pods with why they do not run."""
    from controller.runners.kubernetes import pod_status
    from controller.runners.kubernetes.labels import CONTAINER, identity, selector

    api = kubernetes.api_of(place)
    found = api.find("pods", labelSelector=selector([run]))["items"]
    chosen = {
        str(pod["metadata"]["name"]): pod
        for pod in found
        if (whose := identity(pod)) and (chunk is None or whose.span == chunk)
    }
    alive = {
        name: api.log(name, CONTAINER, lines=200) or []
        for name, pod in sorted(chosen.items())
        if pod_status.container_state(pod, "running")
    }
    return alive, {name: pod_status.why_not_running(pod) for name, pod in sorted(chosen.items()) if name not in alive}


def _nothing(store: Store, keys: RunKeys, chunk: int | None) -> str:
    if chunk is None:
        return f"no attempt of run {keys.run} has failed"
    done = any(parse_result(entry.key) for entry in store.list(keys.results_of(chunk)))
    if not done and store.stat(keys.task(chunk)) is None:
        raise UsageProblem(f"run {keys.run} has no chunk {chunk}", "see stenofleet status")
    return f"no attempt of chunk {chunk} has failed; it {'is transcribed' if done else 'has no result yet'}"
