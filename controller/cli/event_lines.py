"""JSON Lines of what happens while a command works: ``--events``.

Touches: the file of the lines, which may be a pipe (through ``line_writer``); the clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from chunk_job.text import json_line, masked_name, printable, shown
from controller.cli.conclusion import Conclusion
from controller.cli.line_writer import LineWriter
from controller.cli.terminal import Speed
from controller.domain.command_events import MOST_URIS, CommandEnd, CommandEvent, Figures, Message, RecordingEnd
from controller.domain.interfaces import Reporter, RunOutcome
from controller.domain.progress import ENDED, NO_TOTALS, Progress, Totals, totals
from controller.errors import EnvironmentProblem
from controller.intake.source import is_object

_EVERY_S = 1.0
"""Progress is written at most this often."""
_LONGEST_TEXT = 8_000


class EventLines:
    """Writes each event as one line, at once. A file that cannot be written any more does not stop the command.

    Neither does a reader that stops reading: lines wait for it in memory.
    """

    def __init__(self, path: str) -> None:
        """Replace the file *path*. Raises :class:`EnvironmentProblem` if that is not possible."""
        self._path = path
        self._speed = Speed()
        self._figures: Figures | None = None
        self._written: Figures | None = None
        """The figures of the last line."""
        self._next_s = time.monotonic()
        try:
            self._writer = LineWriter(path)
        except OSError as error:
            raise self._problem(error.strerror or str(error)) from error

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Write a message of the loop."""
        self._write("message", Message(name=_text(name), run=run or None, text=_text(text)))

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        """Write the progress of all recordings, if it has changed and a line is due."""
        every = sum(map(totals, runs), others)
        left_s = self._speed.left_s(runs, others)
        active = [run for run in runs if run.state not in ENDED]
        self._figures = Figures(
            percent=round(min(100.0, every.percent), 1),
            recordings=every.recordings,
            ended=every.ended,
            chunks_done=every.spans_done,
            chunks_known=every.spans_known,
            running=sum(run.running for run in active),
            queued=sum(run.queued for run in active),
            left_s=None if left_s is None else max(0, round(left_s)),
        )
        if time.monotonic() >= self._next_s:
            self._progress()

    def recording(self, outcome: RunOutcome) -> None:
        """Write how a recording ended."""
        self._write(
            "recording",
            RecordingEnd(
                name=_text(masked_name(outcome.name)),
                run=outcome.run or None,
                uri=_uri(outcome.source) if outcome.source else None,
                verdict=outcome.verdict,
                summary=_text(outcome.summary),
                advice=_text(outcome.advice),
                uris=tuple(map(_uri, outcome.files[:MOST_URIS])),
                warnings=tuple(map(_text, outcome.warnings[:MOST_URIS])),
            ),
        )

    def end(self, ended: Conclusion) -> None:
        """Write the last line, and wait for the file. Raises :class:`EnvironmentProblem` if a line was lost."""
        self._progress()
        numbers = {name.replace("-", "_"): value for name, value in ended.numbers.items()}
        self._write("end", CommandEnd(**numbers))
        if lost := self._writer.finish():
            raise self._problem(lost)

    def _progress(self) -> None:
        if self._figures and self._figures != self._written:
            self._written = self._figures
            self._next_s = time.monotonic() + _EVERY_S
            self._write("progress", self._figures)

    def _write(self, kind: str, part: Figures | Message | RecordingEnd | CommandEnd) -> None:
        line = CommandEvent.model_validate({"type": kind, "time_ms": time.time_ns() // 1_000_000, kind: part})
        self._writer.add(json_line(line.model_dump(mode="json")).encode() + b"\n")

    def _problem(self, why: str) -> EnvironmentProblem:
        summary = f"--events: {printable(self._path)}: cannot be written: {why}"
        return EnvironmentProblem(summary, "look at what reads it, or choose another file; finished work is kept")


class Both:
    """A reporter for two readers."""

    def __init__(self, first: Reporter, second: Reporter) -> None:
        self._two = (first, second)

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Report the event to both."""
        for one in self._two:
            one.event(name, text, run=run)

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        """Show the progress to both."""
        for one in self._two:
            one.show(runs, others)


def _text(text: str) -> str:
    return shown(text)[:_LONGEST_TEXT]


def _uri(path: str) -> str:
    return path if is_object(path) else Path(path).absolute().as_uri()
