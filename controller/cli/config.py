"""``config show``: every setting and where it comes from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from chunk_job.names import near
from chunk_job.text import json_line, printable
from controller import cli
from controller.cli import options as shared
from controller.cli.effective import Setting, Settings, other_variables
from controller.cli.execute import indented
from controller.cli.terminal import print_data, print_message
from controller.errors import UsageProblem

_MOST_COLUMNS = 44
"""Of a value in front of its origin."""


@click.group("config")
def config_command() -> None:
    """Show the settings of this folder and this environment."""


@config_command.command("show")
@click.argument("words", nargs=-1, metavar="[COMMAND]")
@click.option("--origin", is_flag=True, help="Also where each value comes from: default, file, or variable.")
@shared.json_option
def show_command(words: tuple[str, ...], *, origin: bool, as_json: bool) -> int:
    """Show the effective value of every option of COMMAND (default: of all), and what is wrong with the settings.

    Values are from a variable STENOFLEET_<OPTION>, else from ./stenofleet.toml, else the default; an option on a
    command line takes precedence. Secrets are shown as set or not set. With a wrong setting, the exit code is 2.
    """
    found = Settings(Path(cli.CONFIG_FILE), _chosen(" ".join(words)))
    variables = other_variables()
    if as_json:
        facts = {
            "file": cli.CONFIG_FILE if found.of_file else None,
            "options": [dataclasses.asdict(one) for one in found.settings],
            "variables": variables,
            "problems": [dataclasses.asdict(one) for one in found.problems],
        }
        print_data(json_line(facts), exact=True)
    else:
        for line in _rows(found.settings, origin=origin):
            print_data(line)
        width = max(map(len, variables))
        for name, value in variables.items():
            print_data(f"{name:{width}}  {value or 'not set'}")
    for problem in found.problems:
        print_message(printable(f"{problem.place}: {problem.summary}"))
        print_message(indented(problem.advice))
    return 2 if found.problems else 0


def _chosen(wanted: str) -> list[str]:
    """Return the full names of a command, or of all in a group; empty: all. Raises :class:`UsageProblem`."""
    known = [name for name, _ in cli.all_options()]
    chosen = [name for name in known if f"{name} ".startswith(f"{wanted} ")] if wanted else known
    if not chosen:
        hint = near(wanted, known)
        raise UsageProblem(f"no such command: {wanted}", f"is {hint} meant?" if hint else "see stenofleet --help")
    return chosen


def _rows(settings: tuple[Setting, ...], *, origin: bool) -> Iterator[str]:
    """Yield a line for each option; one that differs between commands has several."""
    values = Counter(one.option for one in settings)
    names = [f"{one.option} ({', '.join(one.commands)})" if values[one.option] > 1 else one.option for one in settings]
    width = max(map(len, names), default=0)
    for name, one in zip(names, settings, strict=True):
        text = _text(one)
        if not origin:
            yield f"{name:{width}}  {text}"
            continue
        yield f"{name:{width}}  {text:{_MOST_COLUMNS}}  {one.place or one.origin}"


def _text(setting: Setting) -> str:
    value = setting.value
    if value is None:
        return setting.described or "not set"
    if isinstance(value, list):
        return printable(" ".join(map(str, value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(str(value))
