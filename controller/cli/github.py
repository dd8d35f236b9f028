"""What GitHub Actions, and systems that work as it does, show of a command: groups, annotations, a summary, outputs.

Touches: stderr, the files that the system names in variables. Lines that begin with ``::`` are
commands to it, and messages may contain text of recordings, files and jobs: so commands are off while we print others.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import click

from chunk_job.text import masked, printable, shown
from controller.cli.conclusion import Conclusion, name_of

MOST_ANNOTATIONS = 10
"""GitHub shows no more of a step, of each kind."""
_MOST_ROWS = 1_000
_MOST_SUMMARY_BYTES = 1_000_000
"""GitHub takes at most 1 MiB of a step, and nothing of what is longer."""
_MOST_TEXT = 300
_COMMAND = re.compile(r"^(\s*):|##\[")
"""What makes a line a command, of today's and of the first kind."""

_STOPPED: ContextVar[str] = ContextVar("stopped", default="")
"""What turns commands on again; empty: they are on."""


def is_here() -> bool:
    """Whether such a system runs this process."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextlib.contextmanager
def without_commands() -> Iterator[None]:
    """No line that is printed in the block is a command to the system, except those of this module."""
    token = secrets.token_hex(16)
    before = _STOPPED.set(token)
    _say(f"::stop-commands::{token}")
    try:
        yield
    finally:
        _say(f"::{token}::")
        _STOPPED.reset(before)


@contextlib.contextmanager
def section(title: str) -> Iterator[None]:
    """Fold the lines that are printed in the block. *title* is a text of this program."""
    _commands(f"::group::{title}")
    try:
        yield
    finally:
        _commands("::endgroup::")


def harmless(line: str) -> str:
    """Return a line for stdout that is no command.

    The system reads stdout and stderr side by side: a line of stdout may come to it after we turned commands on again.
    """
    return _COMMAND.sub(lambda found: found[0][:-1] + f"\\x{ord(found[0][-1]):02x}", line)


def publish(ended: Conclusion) -> None:
    """Show how a command ended. A file that cannot be written is not an error of the command."""
    _commands(
        *(
            f"::{kind} title={_property(name)}::{_data(text)}"
            for kind, lines in (("error", ended.errors), ("warning", ended.warnings))
            for name, text in lines[:MOST_ANNOTATIONS]
        )
    )
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in ended.numbers.items()))
    _append("GITHUB_STEP_SUMMARY", "".join(_summary(ended, _MOST_SUMMARY_BYTES - _size("GITHUB_STEP_SUMMARY"))))


def _commands(*lines: str) -> None:
    """Print commands, with commands turned on for them alone."""
    token = _STOPPED.get()
    if token and lines:
        _say("\n".join([f"::{token}::", *lines, f"::stop-commands::{token}"]))


def _summary(ended: Conclusion, room: int) -> Iterator[str]:
    """Yield Markdown: a table of the recordings, first those that went wrong; of as many as *room* bytes have."""
    below = {item: ended.below(item) for item in ended.judged}
    items = sorted(below, key=lambda item: (item.verdict == "complete", not below[item], not item.warnings))
    yield f"### stenofleet: {ended.numbers['complete']} of {ended.recordings} transcribed\n\n"
    if ended.left:
        yield f"{ended.left:,} have not ended.\n\n"
    if ended.problem:
        yield f"{_cell('; '.join(filter(None, ended.problem)))}\n\n"
    if items:
        yield "| Recording | Result | What happened |\n|---|---|---|\n"
    rows = 0
    for item in items[:_MOST_ROWS]:
        what = [item.summary if item.verdict != "complete" else "", *below[item], *item.warnings]
        result = "below a limit" if below[item] and item.verdict == "complete" else item.verdict
        row = f"| {_cell(name_of(item))} | {result} | {_cell('; '.join(filter(None, what)))} |\n"
        room -= len(row.encode())
        if room < 0:
            break
        rows += 1
        yield row
    if len(items) > rows:
        yield f"\n{len(items) - rows:,} more are not shown.\n"
    if ended.skipped:
        yield f"\n{len(ended.skipped):,} were skipped: all their outputs exist.\n"


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


def _size(variable: str) -> int:
    """How many bytes the file has: of other commands of the step. 0: there is none."""
    try:
        return Path(os.environ.get(variable, "")).stat().st_size
    except OSError:
        return 0


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        _say(printable(f"{variable}: {path}: cannot be written: {error.strerror}; the job does not get what is in it"))
