"""``watch`` and ``logs``: the progress of runs, and the log lines of their jobs. Both only read.

Touches: the store, the terminal, the clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import click

from chunk_job.document import MAX_SPANS
from chunk_job.store.base import Store
from chunk_job.text import json_line, printable
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.prices import price_options, taken_prices
from controller.cli.screen import Screen, can_show
from controller.cli.sections import Sectioned
from controller.cli.terminal import Heartbeat, print_data, print_message
from controller.domain import stored_documents
from controller.domain.attempt_documents import Attempts
from controller.domain.documents import Evidence, Status
from controller.domain.keys import RunKeys, is_failure, parse_result
from controller.domain.progress import Progress, from_status
from controller.errors import UsageProblem
from controller.reports.build import build
from controller.reports.cost import Prices
from controller.reports.figures import lost_attempts
from controller.reports.run_view import RunView
from controller.reports.stored_run import documents_of, status_only
from controller.runs.lookup import StoredRun, existing_run, is_worked_on, of_each, read_run, read_status, run_ids

_POLL_S = 2.0
_SILENT_S = 180.0
"""The process that works on a run updates its status every few seconds; after this time, another one would have taken
over too."""

_MOST_WHOLE = 8
"""Runs whose chunks are read at each change; of others, only the progress."""

_UNATTENDED = "unattended"
_SILENCE = "no process has worked on it for three minutes: run its command again to resume"
_CODES = {"complete": 0, _UNATTENDED: 3, "partial": 4, "failed": 5, "cancelled": 8}


@click.command("watch")
@click.argument("runs", nargs=-1)
@price_options
@shared.store_option
def watch_command(runs: tuple[str, ...], *, store: str | None, **prices: Any) -> int:
    """Follow RUNS (default: all that are being worked on) until they end. Ctrl-C only stops watching.

    A terminal is filled with the chunks, the jobs, the failures and the timeline of each; elsewhere there is a line
    every fifteen seconds, for each chunk and for each failure. A run without a process that works on it is followed for
    three minutes at most.
    """
    opened = shared.store_at(store)
    chosen = [existing_run(opened, run) for run in runs] or _active(opened)
    if not chosen:
        print_message(f"no run is being worked on in {opened.url}")
        return 0
    # A run that is named twice is shown once.
    chosen = list(dict.fromkeys(chosen))
    try:
        if can_show():
            with Screen() as screen:
                ends = _followed(opened, chosen, _Pictures(opened, screen, taken_prices(prices)))
        else:
            ends = _followed(opened, chosen, _Lines(opened))
    except KeyboardInterrupt:
        return 130
    for run, end in ends.items():
        print_message(f"{run}: {_SILENCE if end == _UNATTENDED else end}")
    return max(_CODES[end] for end in ends.values())


@click.command("logs", cls=Sectioned)
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


class _Seen(NamedTuple):
    """A run as it was found last."""

    found: StoredRun
    end: str
    """Its verdict, ``cancelled``, ``unattended``, or empty if it has not ended."""


class _Shown(Protocol):
    """Where runs are shown."""

    def show(self, runs: Sequence[_Seen]) -> None:
        """Show how they are now."""

    def wait(self, seconds: float) -> None:
        """Wait before they are read again."""


def _followed(store: Store, runs: Sequence[str], shown: _Shown) -> Mapping[str, str]:
    """Show the runs until all have ended or are unattended. Returns how each ended."""
    # By the clock of this process: clocks of other machines may differ.
    last: dict[str, tuple[Status | None, float]] = {}
    while True:
        now_s = time.monotonic()  # noqa: TID251 (how long a run has been silent)
        seen = []
        for run, one in zip(runs, of_each(store, lambda run: read_run(store, run), runs), strict=True):
            found = one or StoredRun(run=run, end="", status=None)
            end = found.end
            if run not in last or last[run][0] != found.status:
                last[run] = found.status, now_s
            elif now_s - last[run][1] >= _SILENT_S:
                end = end or _UNATTENDED
            seen.append(_Seen(found, end))
        shown.show(seen)
        if all(one.end for one in seen):
            return {one.found.run: one.end for one in seen}
        shown.wait(_POLL_S)


class _Lines:
    """A line every fifteen seconds, for each chunk that is done and for each attempt that fails from now on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heartbeat = Heartbeat()
        self._failures: dict[str, tuple[int, set[str]]] = {}
        """By run: how many there were, and their keys."""

    def show(self, runs: Sequence[_Seen]) -> None:
        """Print what is new."""
        for one in runs:
            if one.found.status:
                self._print_failures(one.found.status)
        self._heartbeat.show([_progress(one) for one in runs])

    def wait(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _print_failures(self, status: Status) -> None:
        before = self._failures.get(status.run)
        if before and before[0] == status.failures:
            return
        keys = set(_failure_keys(self._store, RunKeys(status.run))) if status.failures else set[str]()
        self._failures[status.run] = status.failures, keys
        for key in sorted(keys - before[1]) if before else ():
            if item := stored_documents.valid(self._store, Evidence, key):
                advice = f"; what to do: {item.advice}" if item.advice else ""
                self._heartbeat.event(status.name, f"{_which(item)}: {item.summary}{advice}", run=status.run)


class _Pictures:
    """The same view of each run as its page."""

    def __init__(self, store: Store, screen: Screen, prices: Prices) -> None:
        self._store = store
        self._prices = prices
        self._screen = screen
        self._views: dict[str, tuple[object, RunView]] = {}
        """By run: from what it was made, and the view."""
        self._failures: dict[str, Evidence] = {}
        self.wait = screen.wait

    def show(self, runs: Sequence[_Seen]) -> None:
        """Show the runs. Of many, those that have not ended are read whole, as far as there is room for them."""
        whole = {one.found.run for one in sorted(runs, key=lambda one: bool(one.end))[:_MOST_WHOLE]}
        self._screen.show([self._view(one.found, whole=one.found.run in whole) for one in runs])

    def _view(self, found: StoredRun, *, whole: bool) -> RunView:
        state = found.status, found.end, found.status and is_worked_on(found.status), whole
        if found.run not in self._views or self._views[found.run][0] != state:
            documents = documents_of(self._store, found, seen=self._failures) if whole else status_only(found)
            self._views[found.run] = state, build(replace(documents, prices=self._prices))
        return self._views[found.run][1]


def _progress(one: _Seen) -> Progress:
    run, status = one.found.run, one.found.status
    state: Any = "interrupted" if one.end == _UNATTENDED else one.end or (status.state if status else "waiting")
    return from_status(status, name=status.name if status else run, run=run, size_bytes=1, seen=state)


def _failure_keys(store: Store, keys: RunKeys) -> list[str]:
    return [entry.key for entry in store.list(keys.failures) if is_failure(entry.key)]


def _evidence(store: Store, keys: RunKeys) -> list[Evidence]:
    found = [item for key in _failure_keys(store, keys) if (item := stored_documents.valid(store, Evidence, key))]
    return sorted(found, key=lambda item: (item.ended_ms, item.span or -1, item.attempt))


def _which(item: Evidence) -> str:
    what = "intake" if item.span is None else f"chunk {item.span}"
    where = f" on {item.node}" if item.node else ""
    return f"{what}, attempt {item.attempt}{where}: {item.failure}"


def _print(item: Evidence) -> None:
    # Line breaks in text of jobs are escaped too: each of these is one line.
    print_data(printable(f"{_which(item)}: {item.summary}"))
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
        noted = stored_documents.valid(store, Attempts, keys.attempts)
        lost = sum(one.lost for one in noted.attempts) if noted else 0
        return f"no attempt of run {keys.run} has failed{f'; {lost_attempts(lost)}' if lost else ''}"
    done = any(parse_result(entry.key) for entry in store.list(keys.results_of(chunk)))
    if not done and store.stat(keys.task(chunk)) is None:
        raise UsageProblem(f"run {keys.run} has no chunk {chunk}", "see stenofleet status")
    return f"no attempt of chunk {chunk} has failed; it {'is transcribed' if done else 'has no result yet'}"
