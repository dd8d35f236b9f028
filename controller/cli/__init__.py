"""The command line: text → options once, errors → exit codes. The only place that exits.

Touches: arguments, environment, standard streams. Commands are imported when they are called, so that ``--help``
costs what click costs.
"""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from chunk_job.contract import JobError
from controller.errors import EnvironmentProblem, StenofleetError, UsageProblem

_COMMANDS = {
    "transcribe": "controller.cli.transcribe",
    "resume": "controller.cli.transcribe",
    "plan": "controller.cli.plan",
    "status": "controller.cli.runs",
    "list": "controller.cli.runs",
    "render": "controller.cli.runs",
    "watch": "controller.cli.looking",
    "logs": "controller.cli.looking",
    "cancel": "controller.cli.runs",
    "clean": "controller.cli.runs",
    "doctor": "controller.cli.doctor",
    "demo": "controller.cli.demo",
    "version": "controller.cli.about",
    "completion": "controller.cli.about",
}

CONFIG_FILE = "stenofleet.toml"

_OTHERS = ("STENOFLEET_CRASH_POINT", "STENOFLEET_TEST_", "STENOFLEET_SOAK_", "STENOFLEET_SERVICE_", "STENOFLEET_PORT")
"""Variables that are no options: of tests, and of pods beside a Service that is called stenofleet."""

EPILOG = """\b
Exit codes: 0 all written, 1 a bug, 2 usage, 3 environment (never the media), 4 some written or partial,
5 none written, 8 cancelled, 130/143 interrupted (the resume command is printed).
Every option can be given as STENOFLEET_<OPTION> or in ./stenofleet.toml; a flag wins over both.
"""


class _Group(click.Group):
    """Commands by name, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        module = _COMMANDS.get(cmd_name)
        found: click.Command | None = (
            getattr(importlib.import_module(module), f"{cmd_name}_command") if module else None
        )
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_SHORT_HELP.items()))


_SHORT_HELP = {
    "transcribe": "Transcribe media files; the same command again resumes.",
    "resume": "Go on with a run by its id.",
    "plan": "Show where a file would be cut; transcribe nothing.",
    "status": "How far a run is.",
    "list": "All runs in the store.",
    "render": "Make any format again from a transcript's JSON.",
    "watch": "Follow runs to their ends.",
    "logs": "Why attempts failed, and what jobs said last.",
    "cancel": "End a run; finished chunks are kept.",
    "clean": "Remove runs from the store.",
    "doctor": "See whether a run would work here, or on a cluster.",
    "demo": "The whole river on a shipped sample, with a killed job.",
    "version": "Versions of everything that makes a transcript.",
    "completion": "Shell completion for bash, zsh or fish.",
}


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # Whisper spells its options with underscores.
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 110,
    },
    epilog=EPILOG,
)
@click.pass_context
def stenofleet(ctx: click.Context) -> None:
    """Long audio and video to transcripts, one short-lived process per chunk."""
    ctx.default_map = _config(Path(CONFIG_FILE))
    if unknown := _unknown_variables():
        click.echo(f"stenofleet: no option is called {', '.join(unknown)}: not read", err=True)


def main() -> NoReturn:
    """The console script."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """The command line without the exit: its code."""
    try:
        code = stenofleet.main(args=arguments, prog_name="stenofleet", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (StenofleetError, JobError) as error:
        # Not at the top: rich and everything behind it is only needed to talk.
        from controller.progress import say

        say(f"stenofleet: {error.summary}")
        if error.advice:
            say(f"  {error.advice}")
        # A JobError comes from the store, asked by a command that only looks.
        return error.exit_code if isinstance(error, StenofleetError) else EnvironmentProblem.exit_code
    except Exception:  # noqa: BLE001 (the last line of defence: a trace for us, a sentence for the user)
        traceback.print_exc()
        click.echo("stenofleet: this is a bug: report it with the lines above; the same command resumes", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _config(path: Path) -> dict[str, Any]:
    """Defaults from the project's file, for every command that has the option. Raises :class:`UsageProblem`."""
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path}: {error}", "mend the file or move it away") from error
    options = {key.replace("-", "_"): value for key, value in table.items()}
    known: set[str] = set()
    maps: dict[str, Any] = {}
    for name, parameters in _options():
        typed = {
            long[2:].replace("-", "_"): parameter.name
            for parameter in parameters
            for long in parameter.opts
            if long.startswith("--")
        }
        known |= typed.keys()
        maps[name] = {typed[key]: value for key, value in options.items() if key in typed}
    if unknown := sorted(options.keys() - known):
        raise UsageProblem(f"{path}: no option is called {', '.join(unknown)}", "see stenofleet transcribe --help")
    return maps


def _unknown_variables() -> list[str]:
    """Variables that look like options and are none: a slip in one would be the default in silence."""
    found = {name for name in os.environ if name.startswith("STENOFLEET_") and not name.startswith(_OTHERS)}
    if not found:
        return []
    return sorted(found - {str(option.envvar) for _, options in _options() for option in options})


def _options() -> Iterator[tuple[str, list[click.Option]]]:
    """Every command's name and its options."""
    for name in _COMMANDS:
        command = stenofleet.get_command(click.Context(stenofleet), name)
        assert command is not None
        yield name, [parameter for parameter in command.params if isinstance(parameter, click.Option)]
