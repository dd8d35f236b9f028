"""What a person sees while runs go on: bars on a terminal, a line now and then elsewhere.

Touches: the terminal (stderr). Untrusted text (file names, ffmpeg's words, logs) is made harmless in
:func:`printable`, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from controller.decide import Progress as RunProgress

HEARTBEAT_S = 15.0


def printable(text: str) -> str:
    """*text* with control characters and broken encodings as escapes: a name must not steer a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def say(text: str) -> None:
    """A line of talk on stderr."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


class _Speed:
    """Audio seconds a second since this process began: what an earlier one did is not its speed."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before_ms: dict[str, int] = {}

    def of(self, runs: Sequence[RunProgress]) -> float:
        """Over all these runs."""
        elapsed_s = time.monotonic() - self._began_s
        done_ms = sum(run.done_ms - self._before_ms.setdefault(run.run, run.done_ms) for run in runs if run.spans_known)
        return max(0, done_ms) / 1000 / elapsed_s if elapsed_s else 0.0


class Heartbeat:
    """Plain lines: events as they come, the state of all runs every fifteen seconds and whenever a chunk is done."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._speed = _Speed()
        self._next_s = time.monotonic() + HEARTBEAT_S
        self._done = 0

    def event(self, name: str, text: str) -> None:
        """Say it, with the run's name."""
        if not self._quiet:
            say(f"{name}: {text}".replace("\n", "\\n"))

    def show(self, runs: Sequence[RunProgress]) -> None:
        """Say how far everything is, if it is time."""
        now_s = time.monotonic()
        speed = self._speed.of(runs)
        done = sum(run.spans_done for run in runs)
        if self._quiet or (now_s < self._next_s and done == self._done):
            return
        self._next_s, self._done = now_s + HEARTBEAT_S, done
        say(summary_line(runs, speed))


class Bars:
    """One bar a run, for a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.fields[label]}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._speed = _Speed()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def event(self, name: str, text: str) -> None:
        """Print it above the bars."""
        self._console.print(Text(printable(f"{name}: {text}")))

    def show(self, runs: Sequence[RunProgress]) -> None:
        """Move the bars."""
        speed = self._speed.of(runs)
        for run in runs:
            if run.run not in self._tasks:
                self._tasks[run.run] = self._bars.add_task("", total=100, label=printable(run.name)[:40], detail="")
            self._bars.update(self._tasks[run.run], completed=run.percent, detail=_detail(run, speed))


def summary_line(runs: Sequence[RunProgress], speed: float) -> str:
    """All runs in one line: percentage by audio, chunks, *speed* in audio seconds a second, time left."""
    known = sum(run.total_ms for run in runs)
    weighted = sum(run.percent * max(run.total_ms, 1) for run in runs) / sum(max(run.total_ms, 1) for run in runs)
    done_ms = sum(run.done_ms for run in runs)
    planned = all(run.planned for run in runs)
    parts = [
        f"{weighted:3.0f}%",
        f"{sum(run.spans_done for run in runs)}/{sum(run.spans_known for run in runs)}{'' if planned else '+'} chunks",
        f"{sum(run.running for run in runs)} running",
        f"{speed:.1f} audio s/s",
    ]
    if planned and speed:
        parts.append(f"about {clock((known - done_ms) / 1000 / speed)} left")
    return " | ".join(parts)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as people read them."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _detail(run: RunProgress, speed: float) -> str:
    if run.state != "running":
        return run.state
    if not run.planned:
        return f"cutting, {run.spans_known} chunks so far, {run.spans_done} done"
    left = f", {clock((run.total_ms - run.done_ms) / 1000 / speed)} left" if speed else ""
    return f"{run.spans_done}/{run.spans_known} chunks{left}"
