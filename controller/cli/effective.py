"""The effective value of every option, where it comes from, and what is wrong with the settings.

Touches: variables of the environment (through click, and those of other programs), the settings file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click

from chunk_job.errors import JobError
from chunk_job.text import masked, printable
from controller import cli
from controller.cli.settings import Entry, entries, given_twice
from controller.errors import StenofleetError, UsageProblem

_SECRET_OPTIONS = frozenset({"job-env"})
"""Options whose values people may use for secrets, although their help says not to."""

SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN")
OTHER_VARIABLES = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CA_BUNDLE",
    "SSL_CERT_FILE", "KUBECONFIG", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "XDG_STATE_HOME", "TMPDIR",
)  # fmt: skip
"""Variables of other programs that have an effect here too."""

_DESCRIBED = re.compile(r"\bdefault: ([^)\]]+)", re.IGNORECASE)
_SET = "set (not shown)"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The effective value of an option in some commands."""

    option: str
    commands: tuple[str, ...]
    value: Any
    """For JSON, without secrets; None: it is not set."""
    described: str
    """What an option that is not set stands for; empty if its help does not say so."""
    origin: Literal["default", "file", "variable"]
    place: str
    """The line of the file, or the name of the variable; empty for a default."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A wrong setting."""

    place: str
    """The file, or the name of the variable."""
    summary: str
    advice: str


class Settings:
    """All settings of this process, and what is wrong with them."""

    def __init__(self, path: Path, commands: Sequence[str]) -> None:
        """*path*: of the settings file. *commands*: full names of those whose options are shown."""
        self.problems: list[Problem] = []
        known = dict(cli.all_options())
        self._by_name = self._read(path, {name for options in known.values() for name in cli.by_name(options)})
        self.of_file = sorted(self._by_name)
        self._add(
            *(
                Problem(place=name, summary="no such option: it is ignored", advice="see stenofleet COMMAND --help")
                for name in cli.unknown_variables()
            )
        )
        found: dict[tuple[Any, ...], Setting] = {}
        for command in commands:
            for setting in self._of_command(command, known[command]):
                key = (setting.option, repr(setting.value), setting.origin, setting.place)
                before = found.get(key)
                found[key] = replace(before, commands=(*before.commands, command)) if before else setting
        self.settings = tuple(found.values())

    def _read(self, path: Path, known: set[str]) -> dict[str, Entry]:
        """Return the usable settings of the file."""
        found: dict[str, Entry] = {}
        try:
            listed = entries(path)
        except UsageProblem as error:
            self._add(_problem(str(path), error))
            return found
        for entry in listed:
            try:
                entry.check()
                if entry.name in found:
                    raise given_twice(entry)
                if entry.name not in known:
                    raise cli.no_such_option(entry, command="COMMAND")
            except UsageProblem as error:
                self._add(_problem(str(path), error))
            else:
                found[entry.name] = entry
        return found

    def _of_command(self, name: str, options: Iterable[click.Option]) -> Iterator[Setting]:
        context = click.Context(click.Command(name), info_name=name)
        for long, option in cli.by_name(options).items():
            entry = self._by_name.get(long)
            origin: Literal["default", "file", "variable"] = "default"
            place, value = "", option.get_default(context)
            if typed := option.resolve_envvar_value(context):
                origin, place, value = "variable", str(option.envvar), typed
                self._check_variable(option, context)
            elif entry:
                line = entry.line()
                origin, place, value = "file", f"{entry.path}{f', line {line}' if line else ''}", entry.value
                try:
                    entry.default(option, context)
                except (UsageProblem, JobError) as error:
                    self._add(_problem(str(entry.path), error))
            described = _DESCRIBED.search(option.help or "")
            yield Setting(
                option=f"--{long}",
                commands=(name,),
                value=_shown(value, is_secret=long in _SECRET_OPTIONS),
                described=described[1].rstrip(".") if described else "",
                origin=origin,
                place=place,
            )

    def _check_variable(self, option: click.Option, context: click.Context) -> None:
        try:
            option.process_value(context, option.value_from_envvar(context))
        except click.UsageError as error:
            self._add(Problem(place=str(option.envvar), summary=masked(error.message), advice="correct or unset it"))
        except (StenofleetError, JobError) as error:
            self._add(_problem(str(option.envvar), error))

    def _add(self, *problems: Problem) -> None:
        """Keep problems, each once: several commands have the same option."""
        self.problems += [one for one in dict.fromkeys(problems) if one not in self.problems]


def other_variables() -> Mapping[str, str | None]:
    """Return the variables of other programs; of secret ones only whether they are set. None: not set."""
    variables = os.environ  # noqa: TID251 (where settings come from)
    plain = {name: masked(printable(variables[name])) if variables.get(name) else None for name in OTHER_VARIABLES}
    return plain | {name: _SET if variables.get(name) else None for name in SECRET_VARIABLES}


def _problem(place: str, error: StenofleetError | JobError) -> Problem:
    return Problem(place=place, summary=error.summary.removeprefix(f"{place}: "), advice=error.advice)


def _shown(value: Any, *, is_secret: bool) -> Any:
    """Return a value for JSON, without secrets; None if it is not set."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        each = [_shown(one, is_secret=is_secret) for one in value]
        return each or None
    if not isinstance(value, str | Path) or str(value) == "":
        return None
    return _SET if is_secret else masked(str(value))
