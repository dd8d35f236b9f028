"""What a person sees while runs go on: bars on a terminal, a line now and then elsewhere.

Touches: the terminal. Everything that the controller writes goes through :func:`print_message`, :func:`print_data`,
:func:`write_path`, :func:`ask` or :class:`Bars`: untrusted text (file names, documents of the store, logs, what ffmpeg
says) is escaped here.
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
from controller.domain.progress import Progress as RunProgress

HEARTBEAT_S = 15.0


def print_message(text: str) -> None:
    """Write lines for people to stderr."""
    _write(shown(text), sys.stderr)


def print_data(text: str, *, exact: bool = False) -> None:
    """Write lines of data to stdout.

    *exact*: one line that programs read (a path, the address of an object, JSON of ``text.json_line``): not masked.
    """
    _write(printable(text) if exact else shown(text), sys.stdout)


def write_path(path: str, *, null: bool = False) -> None:
    """Write a path, or an object's address, to stdout: a line of it, for programs byte for byte.

    On a terminal it is escaped. *null*: programs get a NUL behind it instead of a line break, which names may hold.
    """
    if sys.stdout.isatty():
        print_data(path, exact=True)
    else:
        click.echo(os.fsencode(path) + (b"\0" if null else b"\n"), file=sys.stdout, nl=False)


def ask(question: str) -> bool:
    """Ask for yes or no on the terminal. Raises :class:`click.Abort` where nobody can answer."""
    return click.confirm(shown(question), err=True)


def _one_line(text: str) -> str:
    """*text* without line breaks, for what has one line."""
    return shown(printable(text))


def _write(text: str, stream: TextIO) -> None:
    # A terminal of another locale than UTF-8 has characters that it cannot show.
    encoding = stream.encoding or "utf-8"
    # Anything else may be untrusted, so only here: TID251.
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


class _Speed:
    """Since this process began: what an earlier one did is not its speed. Time without any work does not count."""

    def __init__(self) -> None:
        self._worked_s = 0.0
        self._counted_s = time.monotonic()
        self._before_ms: dict[str, int] = {}
        self._before_percent: float | None = None

    def of(self, runs: Sequence[RunProgress]) -> float:
        """Audio seconds a second, over all these runs."""
        elapsed_s = self._elapsed_s(runs)
        done_ms = sum(run.done_ms - self._before_ms.setdefault(run.run, run.done_ms) for run in runs if run.spans_known)
        return max(0, done_ms) / 1000 / elapsed_s if elapsed_s else 0.0

    def left_s(self, runs: Sequence[RunProgress]) -> float | None:
        """Seconds to the end: by audio where all of it is known, else by the share that is done.

        None: too early, or nothing can be done just now and nobody knows for how long.
        """
        if _stands_still(runs):
            return None
        if all(run.planned for run in runs):
            speed = self.of(runs)
            return sum(run.total_ms - run.done_ms for run in runs) / 1000 / speed if speed else None
        percent = overall(runs)
        if self._before_percent is None:
            self._before_percent = percent
        gained = percent - self._before_percent
        # A few percent are given for cutting alone and say nothing about the rest.
        return self._elapsed_s(runs) * (100 - percent) / gained if gained > 10 else None

    def _elapsed_s(self, runs: Sequence[RunProgress]) -> float:
        """Seconds of work so far: those since it was last asked count, unless these runs stand still."""
        now_s = time.monotonic()
        if not _stands_still(runs):
            self._worked_s += now_s - self._counted_s
        self._counted_s = now_s
        return self._worked_s


def _stands_still(runs: Sequence[RunProgress]) -> bool:
    """Whether no run can go on: what it needs is away, or all its jobs wait."""
    active = [run for run in runs if run.state not in _ENDED]
    return bool(active) and all(run.held or (run.queued and not run.running) for run in active)


class Heartbeat:
    """Plain lines: events as they come, the state of all runs every fifteen seconds, with each chunk and at the end."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._speed = _Speed()
        self._next_s = time.monotonic() + HEARTBEAT_S
        self._done = 0
        self._ended = False

    def event(self, name: str, text: str) -> None:
        """Say it, with the run's name."""
        if not self._quiet:
            print_message(_one_line(f"{name}: {text}"))

    def show(self, runs: Sequence[RunProgress]) -> None:
        """Say how far everything is, if it is time."""
        now_s = time.monotonic()
        speed, left_s = self._speed.of(runs), self._speed.left_s(runs)
        done = sum(run.spans_done for run in runs)
        ended = any(run.spans_known for run in runs) and all(run.state in _ENDED for run in runs)
        due = now_s >= self._next_s or done != self._done or ended != self._ended
        if self._quiet or not due:
            return
        self._ended = ended
        self._next_s, self._done = now_s + HEARTBEAT_S, done
        print_message(summary_line(runs, speed, left_s))


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
        )
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._speed = _Speed()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def event(self, name: str, text: str) -> None:
        """Print it above the bars."""
        self._console.print(Text(_one_line(f"{name}: {text}")))

    def show(self, runs: Sequence[RunProgress]) -> None:
        """Move the bars."""
        speed, left_s = self._speed.of(runs), self._speed.left_s(runs)
        if len(runs) > 1:
            if self._all is None:
                self._all = self._bars.add_task("", total=100, label="all files", detail="")
            ended = f"{sum(run.state in _ENDED for run in runs)}/{len(runs)} files{_left(left_s)}"
            self._bars.update(self._all, completed=overall(runs), detail=ended)
        shown_now = {self._show_run(run, speed, alone=len(runs) == 1) for run in runs}
        for key in self._tasks.keys() - shown_now:
            # Identified by now, it is shown as its run.
            self._bars.update(self._tasks[key], visible=False)

    def _show_run(self, run: RunProgress, speed: float, *, alone: bool) -> str:
        # Which run a recording is, is not known before it was read.
        key = run.run or f"?{run.name}"
        if key not in self._tasks:
            if run.state in ("waiting", "following"):
                return key
            label = _one_line(run.name)[:40]
            self._tasks[key] = self._bars.add_task("", total=100, label=label, detail="")
        self._bars.update(
            self._tasks[key],
            completed=run.percent,
            detail=_detail(run, speed),
            # What has ended is told at the end; among many files the bar goes to make room.
            visible=alone or run.state not in _ENDED,
        )
        return key


_ENDED = frozenset({"complete", "partial", "failed", "cancelled"})


def overall(runs: Sequence[RunProgress]) -> float:
    """One percentage over several files, by their sizes: a weight that is known from the start never goes back."""
    whole = sum(max(run.size_bytes, 1) for run in runs)
    return sum(run.percent * max(run.size_bytes, 1) for run in runs) / whole


def summary_line(runs: Sequence[RunProgress], speed: float, left_s: float | None) -> str:
    """All runs in one line: percentage, files, chunks, *speed* in audio seconds a second, time left."""
    planned = all(run.planned for run in runs)
    parts = [f"{overall(runs):3.0f}%"]
    if len(runs) > 1:
        parts.append(f"{sum(run.state in _ENDED for run in runs)}/{len(runs)} files")
    parts += [
        f"{sum(run.spans_done for run in runs)}/{sum(run.spans_known for run in runs)}{'' if planned else '+'} chunks",
        *_at_work(runs),
        f"{speed:.1f} audio s/s",
    ]
    if left_s is not None and any(run.state not in _ENDED for run in runs):
        parts.append(f"about {clock(left_s)} left")
    reading = next((run.name for run in runs if run.state == "identifying"), "")
    if reading and not any(run.running for run in runs):
        parts.append(f"reading {_one_line(reading)} to identify it")
    return " | ".join(parts)


def _at_work(runs: Sequence[RunProgress]) -> list[str]:
    """What goes on: jobs at work and jobs that wait, or that the results are put together."""
    active = [run for run in runs if run.state not in _ENDED]
    running, queued = sum(run.running for run in active), sum(run.queued for run in active)
    if not active:
        return []
    if running or queued or not all(run.planned and run.spans_done == run.spans_known for run in active):
        return [f"{running} running" + (f", {queued} waiting" if queued else "")]
    return ["merging"]


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as people read them."""
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
