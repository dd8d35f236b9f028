"""What GitHub Actions, and systems that work as it does, show of a command: annotations, a summary, outputs.

Touches: stderr, the files that the system names in variables. Lines that begin with ``::`` are
commands to it, and messages may contain text of recordings, files and jobs: so commands are off while we print others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chunk_job.text import masked, printable, shown

if TYPE_CHECKING:
    # This module is loaded at the start of every command.
    from controller.domain.interfaces import RunOutcome, RunVerdict
    from controller.reports.gates import GateResult

MOST_ANNOTATIONS = 10
"""GitHub shows no more of a step, of each kind."""
_MOST_ROWS = 1_000
"""A summary may have 1 MiB."""
_MOST_TEXT = 300


_VERDICTS: tuple[RunVerdict, ...] = ("complete", "partial", "failed", "cancelled")
_STOPPED: ContextVar[str] = ContextVar("stopped", default="")
"""What turns commands on again; empty: they are on, or there is no such system."""


@contextlib.contextmanager
def without_commands() -> Iterator[None]:
    """No line that is printed in the block is a command to the system, except in :func:`report`."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    before = _STOPPED.set(token)
    _say(f"::stop-commands::{token}")
    try:
        yield
    finally:
        _say(f"::{token}::")
        _STOPPED.reset(before)


def report(
    ended: Sequence[RunOutcome],
    judged: Mapping[RunOutcome, Sequence[GateResult]],
    skipped: Collection[str],
    *,
    code: int,
) -> None:
    """Show how a command ended. A file that cannot be written is not an error of the command."""
    token = _STOPPED.get()
    if not token:
        return
    _say(f"::{token}::")
    for kind, lines in (("error", _errors(ended, judged)), ("warning", _warnings(ended))):
        for name, text in lines[:MOST_ANNOTATIONS]:
            _say(f"::{kind} title={_property(name)}::{_data(text)}")
    _say(f"::stop-commands::{token}")
    counts = Counter(item.verdict for item in ended)
    outputs: dict[str, int] = {"exit-code": code, "skipped": len(skipped)}
    outputs.update((one, counts[one]) for one in _VERDICTS)
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))
    _append("GITHUB_STEP_SUMMARY", "".join(_summary(ended, judged, skipped)))


def _errors(ended: Sequence[RunOutcome], judged: Mapping[RunOutcome, Sequence[GateResult]]) -> list[tuple[str, str]]:
    failed = [
        (_name(item), "\n".join(filter(None, (item.summary or item.verdict, item.advice))))
        for item in ended
        if item.verdict != "complete"
    ]
    below = [
        (_name(item), f"{gate.gate}: {gate.text}") for item in ended for gate in judged.get(item, ()) if not gate.kept
    ]
    return failed + below


def _warnings(ended: Sequence[RunOutcome]) -> list[tuple[str, str]]:
    return [(_name(item), warning) for item in ended for warning in item.warnings]


def _summary(
    ended: Sequence[RunOutcome], judged: Mapping[RunOutcome, Sequence[GateResult]], skipped: Collection[str]
) -> Iterator[str]:
    """Yield Markdown: a table of the recordings, first those that went wrong."""
    below = {item for item in ended for gate in judged.get(item, ()) if not gate.kept}
    rows = sorted(ended, key=lambda item: (item.verdict == "complete", item not in below, not item.warnings))
    yield f"### stenofleet: {sum(item.verdict == 'complete' for item in ended)} of {len(ended)} transcribed\n\n"
    if rows:
        yield "| Recording | Result | What happened |\n|---|---|---|\n"
    for item in rows[:_MOST_ROWS]:
        gates = [f"{gate.gate}: {gate.text}" for gate in judged.get(item, ()) if not gate.kept]
        what = [item.summary if item.verdict != "complete" else "", *gates, *item.warnings]
        result = "below a limit" if item in below and item.verdict == "complete" else item.verdict
        yield f"| {_cell(_name(item))} | {result} | {_cell('; '.join(filter(None, what)))} |\n"
    if len(rows) > _MOST_ROWS:
        yield f"\n{len(rows) - _MOST_ROWS:,} more are not shown.\n"
    if skipped:
        yield f"\n{len(skipped):,} were skipped: all their outputs exist.\n"


def _name(item: RunOutcome) -> str:
    return printable(item.source or item.name)


def _cell(text: str) -> str:
    """Untrusted text for a cell of a table, in which no character means anything."""
    short = masked(printable(text))
    short = f"{short[:_MOST_TEXT]}…" if len(short) > _MOST_TEXT else short
    return "".join(one if one.isalnum() or one in " .,/-_" else f"&#{ord(one)};" for one in short)


def _data(text: str) -> str:
    return shown(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        _say(printable(f"{variable}: {path}: {error.strerror}"))
