"""Runs brought to their ends, and what is said of it: the loop's clock and signals, the words, the exit code.

Touches: signals, the clock, the terminal (through ``progress``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from chunk_job.contract import JobError
from chunk_job.store import Store
from chunk_job.text import json_line, masked_name, printable
from controller.decide import RetryPolicy
from controller.edges import Runner, Settled, Ticket
from controller.errors import EnvironmentProblem, Interrupted, MediaProblem
from controller.progress import Bars, Heartbeat, say, tell
from controller.run import drive

_MOST_TOLD = 10


def execute(
    tickets: Sequence[Ticket],
    store: Store,
    runner: Runner,
    *,
    policy: RetryPolicy,
    window: int,
    quiet: bool,
    anew: bool = False,
) -> list[Settled]:
    """Drive the runs to their ends. Prints the resume commands when a signal or the store ends it.

    *anew*: the same command would begin other runs.
    """
    if not tickets:
        return []
    arguments: dict[str, Any] = {
        "store": store,
        "runner": runner,
        "policy": policy,
        "window": window,
        "clock": SystemClock(),
    }
    try:
        if sys.stderr.isatty() and not quiet:
            with Bars() as bars:
                return drive(tickets, reporter=bars, **arguments)
        return drive(tickets, reporter=Heartbeat(quiet=quiet), **arguments)
    except (Interrupted, EnvironmentProblem):
        _tell_the_way_back(tickets, store, runner, anew=anew)
        raise


def _tell_the_way_back(tickets: Sequence[Ticket], store: Store, runner: Runner, *, anew: bool) -> None:
    begun = []
    with contextlib.suppress(JobError):  # a store that is away
        begun = [ticket.record.run for ticket in tickets if store.stat(ticket.request.record_key)]
    if not anew and (len(tickets) > 1 or runner.kind != "local" or not begun):
        # What a cluster needs besides is a line of options.
        say("to go on: give the same command again")
        return
    # Its options are asked anew, all the others lie in the store.
    where = "" if runner.kind == "local" else f" --runner {runner.kind} …"
    for run in begun[:_MOST_TOLD]:
        say(f"to go on: stenofleet resume {run} --store {store.url}{where}")
    if not begun:
        say("nothing was begun: give the same command again")
    if len(begun) > _MOST_TOLD:
        say(f"and {len(begun) - _MOST_TOLD} more: stenofleet list --store {store.url}")


def report(settled: Sequence[Settled], *, as_json: bool, quiet: bool) -> int:
    """Tell how everything ended: files on stdout, words on stderr; the exit code."""
    for item in settled:
        if item.verdict != "complete" and not as_json:
            parts = dict.fromkeys([item.name, item.verdict, item.summary])
            say(printable(": ".join(parts) if item.name not in item.summary else item.summary))
            if item.advice:
                say(f"  {item.advice}")
        elif not quiet and not as_json:
            say(printable(f"{item.name}: {item.summary} (run {item.run})"))
        for warning in item.warnings:
            say(printable(f"{item.name}: warning: {warning}"))
        if not as_json:
            for file in item.files:
                tell(file, exact=True)
    code = exit_code(settled)
    if as_json:
        tell(json_line({"exit_code": code, "runs": [dataclasses.asdict(item) for item in settled]}), exact=True)
    return code


def refused(name: str, error: MediaProblem) -> Settled:
    """A recording that never became a run. Its name, as it was typed, may be a URL with a secret in it."""
    return Settled(run="", name=masked_name(name), verdict="failed", summary=error.summary, advice=error.advice)


def exit_code(settled: Sequence[Settled]) -> int:
    """0 all, 4 some, and of none: 8 cancelled, 3 the environment's fault, 5."""
    verdicts = [item.verdict for item in settled]
    if all(verdict == "complete" for verdict in verdicts):
        return 0
    if any(verdict in ("complete", "partial") for verdict in verdicts):
        return 4
    if all(verdict == "cancelled" for verdict in verdicts):
        return 8
    return 3 if all(item.environment for item in settled) else 5


class SystemClock:
    """The system's clock, and the signals this process has been sent."""

    def __init__(self, *, limit_s: int | None = None) -> None:
        """After *limit_s* it is as if the system had sent SIGALRM; None: never."""
        self._signal: int | None = None
        self._end_s = None if limit_s is None else time.monotonic() + limit_s  # noqa: TID251 (this is the clock)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def now_ms(self) -> int:
        """Since the epoch."""
        return time.time_ns() // 1_000_000

    def signal(self) -> int | None:
        """The signal that asks this process to stop, if one has come."""
        now_s = time.monotonic()  # noqa: TID251 (as above)
        if self._signal is None and self._end_s is not None and now_s > self._end_s:
            return signal.SIGALRM
        return self._signal

    def _hear(self, number: int, _: object) -> None:
        # Only the reason is kept; the loop sees it at its next tick, between two whole steps.
        self._signal = number
