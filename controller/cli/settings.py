"""The settings file of the current folder: checked, then read once, and only for options that a file may set.

Touches: one file. It may come from another person, in a shared or received folder. So its owner, its size and its
content are checked before any setting is used.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.types import BoolParamType, FloatParamType, IntParamType

from chunk_job.text import masked
from controller.errors import UsageProblem
from controller.transcript.clean_text import cleaned

MAX_BYTES = 64 << 10
"""Settings for all options with long prompts are a few thousand bytes."""

NEVER = {
    "all": "it means every run",
    "detach": "it starts a process that stays",
    "download": "it fetches gigabytes",
    "force": "it starts finished runs again",
    "kernels-in-store": "it lets the store give code to the GPUs",
    "output": "each command means something else by it",
    "overwrite": "it replaces files",
    "server": "it decides who gets the recordings and the token",
    "token-file": "it decides which file is sent to a server",
    "usage": "it removes what is kept of all costs",
    "version": "it is of one run",
    "yes": "it confirms without a question",
}
"""Options that destroy something or do more than a command does by default, and why a file cannot set them."""

TOKEN_VARIABLE = "STENOFLEET_TOKEN"  # noqa: S105 (the name of a variable)
"""The token of a service. No option: other users can see the arguments of a process."""

_MAX_NUMBER = 1 << 53
_MAX_DOTS = 1_000
"""Limit for one line: the parser's time grows with the square of the number of parts of a key."""

_MOST_CANDIDATES = 100
"""Lines that are examined as the place of a setting."""

_ALL_RIGHTS = 0o777
_MAX_MESSAGE_LENGTH = 300
_CORRECT = "correct the file or move it away"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One setting of the file."""

    path: Path
    key: str
    """The name of the option as it is written."""
    value: Any
    text: str = field(repr=False)
    """Of the whole file."""

    @property
    def name(self) -> str:
        """The name of the option, without dashes before it."""
        return self.key.replace("_", "-")

    def line(self) -> int | None:
        """Return the number of its line, from 1 on; None if it is not found."""
        begin = re.compile(rf"\s*\[{{0,2}}\s*([\"']?){re.escape(self.key)}\1\s*[=.\]]")
        lines = self.text.split("\n")
        numbers = (number for number, line in enumerate(lines) if begin.match(line))
        for number in itertools.islice(numbers, _MOST_CANDIDATES):
            # In a text of several lines, what is before the line is not complete.
            with contextlib.suppress(ValueError, RecursionError):
                tomllib.loads("\n".join(lines[:number]))
                return number + 1
        return None

    def problem(self, what: str, advice: str = "") -> UsageProblem:
        """Return the error for this setting, with file and line. *advice*: default: to correct the file."""
        line = self.line()
        return UsageProblem(f"{self.path}: {what}{f' (line {line})' if line else ''}", advice or _CORRECT)

    def check(self) -> None:
        """Raise :class:`UsageProblem` if no file may set it, or if no option can have its value."""
        if why := NEVER.get(self.name):
            raise self.problem(
                f"{self.name} is never read from a file: {why}", f"give it on the command line: --{self.name}"
            )
        for single in self.value if isinstance(self.value, list) else [self.value]:
            if problem := _problem(single):
                raise self.problem(f"{self.name}: {problem}")

    def default(self, option: click.Option, ctx: click.Context) -> Any:
        """Return the value as a default of *option*. Raises :class:`UsageProblem` if the option does not accept it."""
        value = self.value
        given = value if isinstance(value, list) else [value]
        try:
            if isinstance(value, list) and not option.multiple:
                raise click.BadParameter("a list of values, where one value is expected")
            for single in given:
                _check_type(single, option.type)
            ready = tuple(given) if option.multiple else value
            # Click checks it again later, but its message would not name the file.
            made = option.process_value(ctx, ready)
            if isinstance(made, int) and abs(made) > _MAX_NUMBER:
                raise click.BadParameter("a number that is too large")
        except click.UsageError as error:
            # The message repeats the value, which may be as long as the file.
            raise self.problem(f"{self.name}: {masked(error.message)[:_MAX_MESSAGE_LENGTH]}") from None
        except (ArithmeticError, ValueError):
            raise self.problem(f"{self.name}: a value that it does not accept") from None
        return ready


def entries(path: Path) -> list[Entry]:
    """Return all settings in the file at *path*, unchecked. Empty if there is no such file.

    Raises :class:`UsageProblem` for a file that cannot be read or trusted.
    """
    data = _contents(path)
    if data is None:
        return []
    try:
        text = data.decode()
        if any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
            raise RecursionError
        table = tomllib.loads(text)
    except RecursionError:
        raise UsageProblem(f"{path}: is nested too deeply", _CORRECT) from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageProblem(f"{path}: {error}", _CORRECT) from None
    return [Entry(path=path, key=key, value=value, text=text) for key, value in table.items()]


def read(path: Path) -> dict[str, Entry]:
    """Return the settings in the file at *path* by the names of their options. Empty if there is no such file.

    Raises :class:`UsageProblem` for a file that cannot be read or trusted, and for a value that no option can have.
    """
    found: dict[str, Entry] = {}
    for entry in entries(path):
        entry.check()
        if entry.name in found:
            raise given_twice(entry)
        found[entry.name] = entry
    return found


def given_twice(entry: Entry) -> UsageProblem:
    """Return the error for a name that is in the file with a dash and with an underscore."""
    return entry.problem(f"{entry.name} is given twice")


def _check_type(value: Any, kind: click.ParamType[Any]) -> None:
    """Raises :class:`click.BadParameter` for a value that click would convert: ``true`` to 1, 2.5 to 2."""
    if isinstance(value, str):
        return
    if isinstance(kind, BoolParamType):
        taken, wanted = isinstance(value, bool), "true or false"
    elif isinstance(kind, IntParamType):
        taken, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif isinstance(kind, FloatParamType):
        taken, wanted = not isinstance(value, bool), "a number"
    else:
        taken, wanted = False, "a text in quotes"
    if not taken:
        raise click.BadParameter(f"it takes {wanted}")


def _problem(value: Any) -> str:
    """Return why *value* cannot be an option's value; empty if it can be one."""
    if isinstance(value, str):
        return "a text with control characters" if cleaned(value)[1] else ""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        # False for nan, too. An integer may be too large for any float.
        return "" if -_MAX_NUMBER <= value <= _MAX_NUMBER else "a number that is too large, or none"
    return "a list in a list, a table or a date, where a text, a number, true, false or a list of these is taken"


def _contents(path: Path) -> bytes | None:
    """Return the bytes of the file at *path*; None if there is none. The checked file is the file that is read."""
    try:
        before = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    _check_kind(path, before.st_mode, link=True)
    _check_owner(path, before)
    try:
        # Does not wait for a pipe; a terminal does not become the controlling terminal of this process.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageProblem(f"{path}: is a link to nothing", "correct it or move it away") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status, after = os.fstat(descriptor), path.lstat()
        _check_kind(path, status.st_mode)
        _check_owner(path, status)
        if status.st_mode & stat.S_IWOTH:
            advice = f"see what is in it, then chmod o-w {path}, or move it away"
            if stat.S_IMODE(status.st_mode) == _ALL_RIGHTS:
                # Where a Windows drive is mounted so, no chmod changes it.
                advice += (
                    "; where chmod changes nothing (a Windows drive in WSL: all its files have mode 0777), give the"
                    " options as variables (STENOFLEET_<OPTION>), or keep the file in a folder of Linux and work there"
                )
            raise UsageProblem(f"{path}: everybody may write to it", advice)
        opened = before if stat.S_ISLNK(before.st_mode) else status
        if not os.path.samestat(before, opened) or not os.path.samestat(before, after):
            raise UsageProblem(f"{path}: was replaced while it was being read", "see who writes here, and try again")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise UsageProblem(f"{path}: is longer than {MAX_BYTES} bytes", _CORRECT)
    return data


def _check_kind(path: Path, mode: int, *, link: bool = False) -> None:
    """Raises :class:`UsageProblem` if it is not a regular file or, if *link*, a symbolic link."""
    if stat.S_ISREG(mode) or (link and stat.S_ISLNK(mode)):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    what = kinds.get(stat.S_IFMT(mode), "a device")
    raise UsageProblem(f"{path}: is {what}; settings are read from a file of this name", "rename it or move it away")


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Raises :class:`UsageProblem` for a file or a link of another user."""
    if status.st_uid not in (os.geteuid(), 0):
        what = "the link belongs" if stat.S_ISLNK(status.st_mode) else "belongs"
        raise UsageProblem(
            f"{path}: {what} to another user (id {status.st_uid}), who would decide what this command does",
            f"see what is in it, then make it your own (chown -h {os.geteuid()} {path}), or move it away",
        )


def _unreadable(path: Path, error: OSError) -> UsageProblem:
    return UsageProblem(
        f"{path}: cannot be read: {error.strerror}", "get the right to read it (chmod, chown), or move it away"
    )
