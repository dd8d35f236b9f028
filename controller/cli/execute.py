"""Executes runs for a command: the loop's clock and signals, the final report, the exit code.

Touches: signals, the clock, the terminal (through ``terminal``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from chunk_job.text import json_line, masked_name, printable
from controller.cli import ci
from controller.cli.event_lines import Both, EventLines
from controller.cli.terminal import MANY, Bars, Heartbeat, print_data, print_message, write_path
from controller.domain.interfaces import Reporter, Runner, RunOutcome, RunRequests, RunVerdict, Stopped
from controller.domain.keys import RunKeys
from controller.domain.policy import RetryPolicy
from controller.errors import EnvironmentProblem, Interrupted, MediaProblem
from controller.intake.source import is_object
from controller.orchestrator.loop import run_loop, within
from controller.orchestrator.slots import InOrder
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.gates import GateResult
from controller.reports.stored_report import StoredReports

GATE_FAILED = 7
"""The exit code where every recording was transcribed, and one does not keep a limit."""
NO_GATES: Mapping[RunOutcome, Sequence[GateResult]] = {}

_MOST_LISTED = 10
_MOST_KINDS = 5
_MOST_NAMED = 3

_STEP_S = 2.0
"""How long a step of the loop may continue after a signal."""

_FIND_S = 1.5


def execute(
    requests: RunRequests,
    store: Store,
    runner: Runner,
    *,
    policy: RetryPolicy,
    max_parallel: int,
    quiet: bool,
    new_runs: bool = False,
    prices: Prices = NO_PRICES,
    on_end: Callable[[RunOutcome], None] = lambda _: None,
    events: EventLines | None = None,
    batch: str = "",
    clock: SystemClock | None = None,
) -> list[RunOutcome]:
    """Work on the runs until they end. Prints how to resume if a signal or the environment ends the command.

    *new_runs*: the same command would start other runs. *prices*: for the reports of the runs. *on_end* is called with
    each outcome as soon as it is known. *events* are written beside what a person is shown. *batch*: of which the runs
    are; then outcomes are not kept, nor returned. *clock*: that receives the signals already.
    """

    def reporter(shown: Reporter) -> Reporter:
        return Both(shown, events) if events else shown

    arguments: dict[str, Any] = {
        "store": store,
        "runner": runner,
        "policy": policy,
        "slots": InOrder(max_parallel),
        "clock": clock or SystemClock(),
        "on_end": on_end,
        "reports": StoredReports(store, prices=prices),
        "keep_outcomes": not batch,
    }
    try:
        if ci.is_watched(sys.stderr) and not quiet:
            with Bars() as bars:
                return run_loop(requests, reporter=reporter(bars), **arguments)
        with contextlib.nullcontext() if quiet else ci.section("Progress of the recordings"):
            return run_loop(requests, reporter=reporter(Heartbeat(quiet=quiet)), **arguments)
    except (Interrupted, EnvironmentProblem):
        if batch:
            print_message(f"to resume: run the same command again, or stenofleet batch resume {batch}")
            raise
        _print_how_to_resume(requests, store, runner, new_runs=new_runs)
        raise


def _print_how_to_resume(requests: RunRequests, store: Store, runner: Runner, *, new_runs: bool) -> None:
    begun: list[str] = []

    def find() -> None:
        with contextlib.suppress(JobError):
            begun.extend(run for run in requests.taken if store.stat(RunKeys(run).record))

    several = len(requests.taken) > 1 or not requests.exhausted or runner.kind != "local"
    if new_runs or not several:
        # With a time limit: the store may be unavailable.
        within(_FIND_S, find)
    if not new_runs and (several or not begun):
        # On a cluster, `resume` needs all its options again: the same command is simpler.
        print_message("to resume: run the same command again")
        return
    # Options of the runner have to be given again; all others are kept on this machine.
    options = "" if runner.kind == "local" else f" --runner {runner.kind} …"
    for run in begun[:_MOST_LISTED]:
        print_message(f"to resume: stenofleet resume {run} --store {store.url}{options}")
    if not begun:
        print_message("no run was started: run the same command again")
    if len(begun) > _MOST_LISTED:
        print_message(f"and {len(begun) - _MOST_LISTED} more: stenofleet list --store {store.url}")


def reports_at_once(count: int, *, as_json: bool, quiet: bool) -> bool:
    """Whether each of *count* recordings is reported as soon as it has ended.

    A few are reported at the end, in the order in which they were named. On a terminal with bars, paths would come
    between them.
    """
    bars = ci.is_watched(sys.stderr) and not quiet
    return count > MANY and not as_json and not (bars and sys.stdout.isatty())


def report(
    ended: Sequence[RunOutcome],
    *,
    as_json: bool,
    quiet: bool,
    null: bool = False,
    reported: Sequence[RunOutcome] = (),
    skipped: Collection[str] = (),
    summarized: bool = False,
    judged: Mapping[RunOutcome, Sequence[GateResult]] = NO_GATES,
    measured: Collection[RunOutcome] = (),
) -> int:
    """Report how everything ended: files on stdout, messages on stderr. Returns the exit code.

    For those already *reported* before, only the names are repeated. *null*: as for :func:`write_path`. *skipped*:
    recordings that were left out, because their outputs exist. *summarized*: with a summary, however few they are.
    *judged*: whether each keeps the limits of the quality gates. *measured*: the stored runs of skipped recordings.
    """
    before = set(reported)
    for item in ended:
        if item not in before:
            report_one(item, as_json=as_json, quiet=quiet, null=null)
    below = [(item, gate) for item, gates in judged.items() for gate in gates if not gate.kept]
    for item, gate in below:
        print_message(printable(f"{item.name}: {gate.gate}: {gate.text}"))
    code = exit_code(ended) or (GATE_FAILED if below else 0)
    if as_json:
        facts = {"exit_code": code, "runs": [_facts(item, judged.get(item, ())) for item in ended]}
        of_skipped = {"measured": [_facts(item, judged.get(item, ())) for item in measured]} if measured else {}
        print_data(json_line(facts | ({"skipped": sorted(skipped)} if skipped else {}) | of_skipped), exact=True)
    elif summarized or len(ended) + len(skipped) > MANY:
        print_message(summary(ended, len(skipped)))
    elif len(ended) > 1 and (failed := [item for item in ended if item.verdict not in ("complete", "partial")]):
        names = ", ".join(item.source or item.name for item in failed)
        print_message(printable(f"{len(failed)} of {len(ended)} not transcribed: {names}"))
    if skipped and not as_json and not quiet and len(ended) + len(skipped) <= _MOST_LISTED:
        print_message(f"skipped: {len(skipped)} of {len(ended) + len(skipped)}, all their outputs exist")
    return code


def summary(ended: Sequence[RunOutcome], skipped: int) -> str:
    """Return one line with the number of each outcome, and the first recordings that were not transcribed, with why."""
    counts = Counter(item.verdict for item in ended)
    parts = [f"{counts[verdict]} {verdict}" for verdict in get_args(RunVerdict) if counts[verdict]]
    parts += [f"{skipped} skipped"] if skipped else []
    kept = sum(len(item.kept) for item in ended)
    parts += [f"{kept} output files kept as they were"] if kept else []
    failed = [item for item in ended if item.verdict != "complete"]
    first = f"ended: {', '.join(parts)} (complete ones of equal content count once)"
    return "\n".join([first, *(_by_kind(failed) if len(failed) > _MOST_LISTED else map(_named, failed))])


def _named(item: RunOutcome) -> str:
    why = printable(item.summary)
    return f"  {why if item.name in item.summary else f'{printable(item.source or item.name)}: {why or item.verdict}'}"


def _by_kind(failed: Sequence[RunOutcome]) -> Iterator[str]:
    """Yield for each reason how often it came, and the first recordings; the most frequent reasons first."""
    kinds: dict[str, list[RunOutcome]] = {}
    for item in failed:
        # The same reason for another chunk counts as the same.
        kinds.setdefault(f"{item.verdict}: {re.sub(r'[0-9]+', '#', _reason(item))}", []).append(item)
    frequent = sorted(kinds.values(), key=len, reverse=True)
    for some in frequent[:_MOST_KINDS]:
        yield f"  {len(some)} {some[0].verdict}: {printable(_reason(some[0]))}"
        more = [f"and {len(some) - _MOST_NAMED} more"] if len(some) > _MOST_NAMED else []
        yield from (f"    {text}" for text in [*map(_place, some[:_MOST_NAMED]), *more])
    if rest := sum(map(len, frequent[_MOST_KINDS:])):
        yield f"  {rest} for {len(frequent) - _MOST_KINDS} other reasons"
    yield "  each is in a message of its own above; --json lists all of them in one document"


def _reason(item: RunOutcome) -> str:
    """Why a recording was not transcribed completely, without its name."""
    why = item.summary
    for name in (item.source, item.name):
        why = why.removeprefix(f"{name}: ") if name else why
    return why or item.verdict


def _place(item: RunOutcome) -> str:
    return printable(item.source or item.name)


def _facts(item: RunOutcome, judged: Sequence[GateResult]) -> dict[str, Any]:
    """Return a run's outcome for JSON: text that any parser accepts, and the files as URIs that keep every byte."""
    uris = [file if is_object(file) else Path(file).as_uri() for file in item.files]
    gates = {"gates": [dataclasses.asdict(one) for one in judged]} if judged else {}
    return dataclasses.asdict(item) | {"uris": uris} | gates


def report_one(item: RunOutcome, *, as_json: bool, quiet: bool, null: bool) -> None:
    """Report one outcome. *as_json*: only its warnings, all else is in the document at the end."""
    if item.verdict != "complete" and not as_json:
        parts = dict.fromkeys([item.name, item.verdict, item.summary])
        print_message(printable(": ".join(parts) if item.name not in item.summary else item.summary))
        if item.advice:
            print_message(indented(item.advice))
    elif not quiet and not as_json:
        print_message(printable(f"{item.name}: {item.summary} (run {item.run})"))
    for warning in item.warnings:
        print_message(printable(f"{item.name}: warning: {warning}"))
    if not as_json:
        for file in item.files:
            write_path(file, null=null)


def indented(advice: str) -> str:
    """Return indented lines, so that none looks like a message of this program: a part may come from a store."""
    return "\n".join(f"  {line}" for line in advice.split("\n"))


def refused(name: str, error: MediaProblem) -> RunOutcome:
    """Return the outcome of a recording that did not become a run. Its name is masked: it may contain a secret."""
    return RunOutcome(run="", name=masked_name(name), verdict="failed", summary=error.summary, advice=error.advice)


def exit_code(ended: Sequence[RunOutcome]) -> int:
    """Return 0: all complete, 4: some, 8: all cancelled, 3: all failed because of the environment, 5: otherwise."""
    verdicts = [item.verdict for item in ended]
    if all(verdict == "complete" for verdict in verdicts):
        return 0
    if any(verdict in ("complete", "partial") for verdict in verdicts):
        return 4
    if all(verdict == "cancelled" for verdict in verdicts):
        return 8
    return 3 if all(item.environment for item in ended) else 5


class _Woken(BaseException):
    """Raised by the signal handler to end a wait."""


class SystemClock:
    """The system's clock and the signals that this process receives.

    The first signal ends the current wait, and the loop ends at its next tick. If that takes too long, the current step
    is interrupted. A second signal ends the process at once.
    """

    def __init__(self, *, limit_s: int | None = None) -> None:
        """*limit_s*: act after this time as if SIGALRM had been received; None: never."""
        self._signal: int | None = None
        self._resting = False
        self._end_s = None if limit_s is None else _now_s() + limit_s
        signal.signal(signal.SIGALRM, self._stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def now_ms(self) -> int:
        """Return the time since the epoch."""
        return time.time_ns() // 1_000_000

    def signal(self) -> int | None:
        """Return the signal that asks this process to stop, if one was received."""
        if self._signal is None and self._end_s is not None and _now_s() > self._end_s:
            return signal.SIGALRM
        if self._signal is not None:
            # The loop has seen the signal: do not interrupt it any more.
            signal.setitimer(signal.ITIMER_REAL, 0)
        return self._signal

    def rest(self, wait: Callable[[], None]) -> None:
        """Call *wait*; a signal ends it."""
        try:
            try:
                self._resting = True
                if self._signal is None:
                    wait()
            finally:
                self._resting = False
        except _Woken:
            return

    def _handle(self, number: int, _: object) -> None:
        if self._signal is not None:
            # Safe: local jobs notice that this process has ended, and objects are written completely or not at all.
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstenofleet: ended at once; the same command resumes what is done\n")
            os._exit(128 + number)
        self._signal = number
        if self._resting:
            self._resting = False
            raise _Woken
        # The loop sees the signal between two steps. The timer interrupts a step that waits too long for a server.
        signal.setitimer(signal.ITIMER_REAL, _STEP_S)

    def _stop(self, *_: object) -> None:
        if self._signal is not None:
            raise Stopped(self._signal)


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (the source of the loop's time)
