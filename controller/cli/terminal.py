"""Output for people while runs are worked on: progress bars on a terminal, lines elsewhere.

Touches: the terminal. Everything that the controller writes goes through :func:`print_message`, :func:`print_data`,
:func:`write_path`, :func:`ask` or :class:`Bars`: untrusted text (file names, documents of the store, logs, messages of
ffmpeg) is escaped here; for a whole screen in ``fitting``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Self, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from chunk_job.text import printable, shown
from controller.cli import ci
from controller.domain.progress import ENDED, NO_TOTALS, Totals, totals
from controller.domain.progress import Progress as RunProgress

HEARTBEAT_S = 15.0
MANY = 10
"""With more recordings than this, each is reported when it ends, and messages are about all of them."""


def print_message(text: str) -> None:
    """Write lines for people to stderr."""
    _write(shown(text), sys.stderr)


def print_data(text: str, *, exact: bool = False) -> None:
    """Write lines of data to stdout.

    *exact*: one line that programs read (a path, the address of an object, JSON of ``text.json_line``): not masked.
    """
    _write(printable(text) if exact else shown(text), sys.stdout)


def write_path(path: str, *, null: bool = False) -> None:
    """Write a path, or an object's address, to stdout as one line; programs get its exact bytes.

    On a terminal it is escaped, and in a log whose lines can be commands. *null*: programs get a NUL after it instead
    of a line break, which names may contain.
    """
    if sys.stdout.isatty() or (ci.takes_commands() and not null):
        print_data(ci.harmless(path), exact=True)
    else:
        click.echo(os.fsencode(path) + (b"\0" if null else b"\n"), file=sys.stdout, nl=False)


def ask(question: str) -> bool:
    """Ask for yes or no on the terminal. Raises :class:`click.Abort` without a terminal."""
    return click.confirm(shown(question), err=True)


def _one_line(text: str) -> str:
    """Return *text* without line breaks."""
    return shown(printable(text))


def _write(text: str, stream: TextIO) -> None:
    # A terminal with another locale than UTF-8 cannot show all characters.
    encoding = stream.encoding or "utf-8"
    # The only place that writes text (TID251): all untrusted text is escaped before.
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


class Speed:
    """Speed since this process began: work of earlier processes and time without any work do not count."""

    def __init__(self) -> None:
        self._worked_s = 0.0
        self._counted_s = time.monotonic()
        self._before_ms: dict[str, int] = {}
        """By run: what was done when it was shown first."""
        self._done_ms: dict[str, int] = {}
        """By run: what was done since."""
        self._ended_ms = 0
        """What was done since in runs that are not shown any more."""
        self._before_percent: float | None = None

    def of(self, runs: Sequence[RunProgress]) -> float:
        """Return audio seconds per second, over all these runs and those that were shown before."""
        elapsed_s = self._elapsed_s(runs)
        for gone in self._done_ms.keys() - {run.run for run in runs}:
            self._ended_ms += self._done_ms.pop(gone)
            del self._before_ms[gone]
        for run in runs:
            if run.spans_known:
                self._done_ms[run.run] = run.done_ms - self._before_ms.setdefault(run.run, run.done_ms)
        done_ms = self._ended_ms + sum(self._done_ms.values())
        return max(0, done_ms) / 1000 / elapsed_s if elapsed_s else 0.0

    def left_s(self, runs: Sequence[RunProgress], others: Totals = NO_TOTALS) -> float | None:
        """Return the estimated seconds to the end: by audio if all of it is known, else by the finished percentage.

        None: too early to estimate, or all runs wait.
        """
        if _stands_still(runs):
            return None
        if not others.waiting and all(run.planned for run in runs):
            speed = self.of(runs)
            return sum(run.total_ms - run.done_ms for run in runs) / 1000 / speed if speed else None
        percent = overall(runs, others)
        if self._before_percent is None:
            self._before_percent = percent
        gained = percent - self._before_percent
        # The first percent are counted for cutting, and do not show the speed of transcription.
        return self._elapsed_s(runs) * (100 - percent) / gained if gained > 10 else None

    def _elapsed_s(self, runs: Sequence[RunProgress]) -> float:
        """Return the seconds of work so far; the time since the last call counts, unless these runs wait."""
        now_s = time.monotonic()
        if not _stands_still(runs):
            self._worked_s += now_s - self._counted_s
        self._counted_s = now_s
        return self._worked_s


def _stands_still(runs: Sequence[RunProgress]) -> bool:
    """Whether no run can continue: there is an outage, or all its jobs wait."""
    active = [run for run in runs if run.state not in ENDED]
    return bool(active) and all(run.held or (run.queued and not run.running) for run in active)


class Heartbeat:
    """Plain lines: events as they come, the state of all runs every fifteen seconds and at the end.

    With few recordings also with each chunk.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._speed = Speed()
        self._next_s = time.monotonic() + HEARTBEAT_S
        self._done = 0
        self._ended = False

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Print the event with the run's name."""
        del run
        if not self._quiet:
            print_message(_one_line(f"{name}: {text}"))

    def show(self, runs: Sequence[RunProgress], others: Totals = NO_TOTALS) -> None:
        """Print the progress of all runs, if a line is due."""
        now_s = time.monotonic()
        speed, left_s = self._speed.of(runs), self._speed.left_s(runs, others)
        every = _every(runs, others)
        done = every.spans_done if every.recordings <= MANY else 0
        ended = every.spans_known > 0 and not every.waiting
        due = now_s >= self._next_s or done != self._done or ended != self._ended
        if self._quiet or not due:
            return
        self._ended = ended
        self._next_s, self._done = now_s + HEARTBEAT_S, done
        print_message(summary_line(runs, speed, left_s, others))


class Bars:
    """For a terminal: a bar for everything, and one for each run that is being worked on."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.fields[label]}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            # Paths go where the caller sends them.
            redirect_stdout=False,
        )
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._hidden: set[str] = set()
        """Runs that have ended and are shown no more."""
        self._speed = Speed()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Print it above the bars."""
        del run
        self._console.print(Text(_one_line(f"{name}: {text}")))

    def show(self, runs: Sequence[RunProgress], others: Totals = NO_TOTALS) -> None:
        """Update the bars."""
        speed, left_s = self._speed.of(runs), self._speed.left_s(runs, others)
        every = _every(runs, others)
        if every.recordings > 1:
            if self._all is None:
                self._all = self._bars.add_task("", total=100, label="all files", detail="")
            ended = f"{every.ended}/{every.recordings} files{_left(left_s)}"
            self._bars.update(self._all, completed=every.percent, detail=ended)
        shown_now = {self._show_run(run, speed, alone=every.recordings == 1) for run in runs}
        for key in self._tasks.keys() - shown_now:
            # The recording is identified now and shown as its run, or has ended. Each bar is drawn at every refresh.
            self._bars.remove_task(self._tasks.pop(key))
        self._hidden &= shown_now

    def _show_run(self, run: RunProgress, speed: float, *, alone: bool) -> str:
        # The run of a recording is not known before it was read.
        key = run.run or f"?{run.name}"
        if key in self._hidden:
            return key
        if key not in self._tasks:
            if run.state in ("waiting", "following"):
                return key
            label = _one_line(run.name)[:40]
            self._tasks[key] = self._bars.add_task("", total=100, label=label, detail="")
        self._bars.update(
            self._tasks[key],
            completed=run.percent,
            detail=_detail(run, speed),
            # Ended runs are reported at the end; with many files their bars are removed.
            visible=alone or run.state not in ENDED,
        )
        if run.state in ENDED and not alone:
            self._hidden.add(key)
        return key


def _every(runs: Sequence[RunProgress], others: Totals) -> Totals:
    return sum(map(totals, runs), others)


def overall(runs: Sequence[RunProgress], others: Totals = NO_TOTALS) -> float:
    """Return one percentage over several files, weighted by size: known from the start, so it never decreases."""
    return _every(runs, others).percent


def summary_line(runs: Sequence[RunProgress], speed: float, left_s: float | None, others: Totals = NO_TOTALS) -> str:
    """Return all runs in one line: percentage, files, chunks, *speed* in audio seconds per second, time left."""
    every = _every(runs, others)
    planned = not others.waiting and all(run.planned for run in runs)
    parts = [f"{every.percent:3.0f}%"]
    if every.recordings > 1:
        parts.append(f"{every.ended}/{every.recordings} files")
    parts += [
        f"{every.spans_done}/{every.spans_known}{'' if planned else '+'} chunks",
        *_at_work(runs, others),
        f"{speed:.1f} audio s/s",
    ]
    if left_s is not None and every.waiting:
        parts.append(f"about {clock(left_s)} left")
    reading = next((run.name for run in runs if run.state == "identifying"), "")
    if reading and not any(run.running for run in runs):
        parts.append(f"reading {_one_line(reading)} to identify it")
    return " | ".join(parts)


def _at_work(runs: Sequence[RunProgress], others: Totals) -> list[str]:
    """Return what is being done: the number of running and waiting jobs, or that results are merged."""
    active = [run for run in runs if run.state not in ENDED]
    running, queued = sum(run.running for run in active), sum(run.queued for run in active)
    if not active and not others.waiting:
        return []
    if (
        running
        or queued
        or others.waiting
        or not all(run.planned and run.spans_done == run.spans_known for run in active)
    ):
        return [f"{running} running" + (f", {queued} waiting" if queued else "")]
    return ["merging"]


def clock(seconds: float) -> str:
    """Format a duration as hours, minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _left(left_s: float | None) -> str:
    return f", {clock(left_s)} left" if left_s is not None else ""


def _detail(run: RunProgress, speed: float) -> str:
    if run.state == "identifying":
        return "reading it to identify it"
    if run.state != "running":
        return run.state
    if not run.planned:
        return f"cutting, {run.spans_known} chunks so far, {run.spans_done} done"
    left_s = (run.total_ms - run.done_ms) / 1000 / speed if speed and not _stands_still([run]) else None
    return f"{run.spans_done}/{run.spans_known} chunks{_left(left_s)}"
