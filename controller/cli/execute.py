"""Runs brought to their ends, and what is said of it: the loop's clock and signals, the words, the exit code.

Touches: signals, the clock, the terminal (through ``progress``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from chunk_job.text import json_line, masked_name, printable
from controller.cli.terminal import Bars, Heartbeat, print_data, print_message, write_path
from controller.domain.interfaces import Runner, RunOutcome, RunRequests, Stopped
from controller.domain.keys import RunKeys
from controller.domain.policy import RetryPolicy
from controller.errors import EnvironmentProblem, Interrupted, MediaProblem
from controller.intake.source import is_object
from controller.orchestrator.loop import run_loop, within

_MOST_TOLD = 10

_STEP_S = 2.0
"""How long a step of the loop may go on after a signal."""

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
) -> list[RunOutcome]:
    """Drive the runs to their ends. Prints the resume commands when a signal or the store ends it.

    *anew*: the same command would begin other runs.
    """
    arguments: dict[str, Any] = {
        "store": store,
        "runner": runner,
        "policy": policy,
        "max_parallel": max_parallel,
        "clock": SystemClock(),
    }
    try:
        if sys.stderr.isatty() and not quiet:
            with Bars() as bars:
                return run_loop(requests, reporter=bars, **arguments)
        return run_loop(requests, reporter=Heartbeat(quiet=quiet), **arguments)
    except (Interrupted, EnvironmentProblem):
        _print_how_to_resume(requests, store, runner, new_runs=new_runs)
        raise


def _print_how_to_resume(requests: RunRequests, store: Store, runner: Runner, *, new_runs: bool) -> None:
    begun: list[str] = []

    def find() -> None:
        with contextlib.suppress(JobError):
            begun.extend(run for run in requests.taken if store.stat(RunKeys(run).record))

    # It may be the store that is away.
    within(_FIND_S, find)
    if not new_runs and (len(requests.taken) > 1 or not requests.exhausted or runner.kind != "local" or not begun):
        # What a cluster needs besides is a line of options.
        print_message("to go on: give the same command again")
        return
    # How jobs run is asked again; all the rest is kept on this machine.
    where = "" if runner.kind == "local" else f" --runner {runner.kind} …"
    for run in begun[:_MOST_TOLD]:
        print_message(f"to go on: stenofleet resume {run} --store {store.url}{where}")
    if not begun:
        print_message("nothing was begun: give the same command again")
    if len(begun) > _MOST_TOLD:
        print_message(f"and {len(begun) - _MOST_TOLD} more: stenofleet list --store {store.url}")


def report(
    ended: Sequence[RunOutcome], *, as_json: bool, quiet: bool, null: bool = False, reported: Sequence[RunOutcome] = ()
) -> int:
    """Report how everything ended: files on stdout, words on stderr; the exit code.

    What was *reported* before the work is not repeated but for its names. *null*: as :func:`write_path` takes it.
    """
    before = set(reported)
    for item in ended:
        if item not in before:
            _report_one(item, as_json=as_json, quiet=quiet, null=null)
    if reported and len(reported) < len(ended) and not as_json:
        more = f" and {len(reported) - _MOST_TOLD} more" if len(reported) > _MOST_TOLD else ""
        print_message(printable(f"not transcribed: {', '.join(item.name for item in reported[:_MOST_TOLD])}{more}"))
    code = exit_code(ended)
    if as_json:
        print_data(json_line({"exit_code": code, "runs": [_facts(item) for item in ended]}), exact=True)
    return code


def _facts(item: RunOutcome) -> dict[str, Any]:
    """The facts of a run for JSON: text that any parser takes, and the same places as URIs that hold every byte."""
    return dataclasses.asdict(item) | {
        "uris": [file if is_object(file) else Path(file).as_uri() for file in item.files]
    }


def _report_one(item: RunOutcome, *, as_json: bool, quiet: bool, null: bool) -> None:
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
    """Advice as lines that cannot be taken for others: a part of it may come from a store."""
    return "\n".join(f"  {line}" for line in advice.split("\n"))


def refused(name: str, error: MediaProblem) -> RunOutcome:
    """A recording that never became a run. Its name, as it was typed, may be a URL with a secret in it."""
    return RunOutcome(run="", name=masked_name(name), verdict="failed", summary=error.summary, advice=error.advice)


def exit_code(ended: Sequence[RunOutcome]) -> int:
    """0 all, 4 some, and of none: 8 cancelled, 3 the environment's fault, 5."""
    verdicts = [item.verdict for item in ended]
    if all(verdict == "complete" for verdict in verdicts):
        return 0
    if any(verdict in ("complete", "partial") for verdict in verdicts):
        return 4
    if all(verdict == "cancelled" for verdict in verdicts):
        return 8
    return 3 if all(item.environment for item in ended) else 5


class _Woken(BaseException):
    """A signal has ended a wait."""


class SystemClock:
    """The system's clock, and the signals this process has been sent.

    The first signal ends the loop's waits, and at its next tick the loop; where that takes too long, whatever the loop
    is doing. A second one ends the process at once.
    """

    def __init__(self, *, limit_s: int | None = None) -> None:
        """After *limit_s* it is as if the system had sent SIGALRM; None: never."""
        self._signal: int | None = None
        self._resting = False
        self._end_s = None if limit_s is None else _now_s() + limit_s
        signal.signal(signal.SIGALRM, self._stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def now_ms(self) -> int:
        """Since the epoch."""
        return time.time_ns() // 1_000_000

    def signal(self) -> int | None:
        """The signal that asks this process to stop, if one has come."""
        if self._signal is None and self._end_s is not None and _now_s() > self._end_s:
            return signal.SIGALRM
        if self._signal is not None:
            # The loop has met it.
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

    def _hear(self, number: int, _: object) -> None:
        if self._signal is not None:
            # At once: the jobs of this machine notice that it is gone, and objects are whole or absent.
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstenofleet: ended at once; the same command resumes what is done\n")
            os._exit(128 + number)
        self._signal = number
        if self._resting:
            self._resting = False
            raise _Woken
        # Between two steps the loop sees it by itself. A step that waits for a server may take much longer.
        signal.setitimer(signal.ITIMER_REAL, _STEP_S)

    def _stop(self, *_: object) -> None:
        if self._signal is not None:
            raise Stopped(self._signal)


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (this is where the loop gets its time from)
