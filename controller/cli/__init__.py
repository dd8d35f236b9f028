"""The command line: parses arguments into options, turns errors into exit codes. Only this module exits.

Touches: arguments, environment, standard streams. Commands are imported when they are called, so that ``--help``
starts quickly.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from chunk_job.errors import JobError
from chunk_job.names import near
from chunk_job.text import printable, shown
from controller.cli.ci import without_commands
from controller.cli.settings import TOKEN_VARIABLE, Entry
from controller.cli.settings import read as read_settings
from controller.cli.streams import Streams
from controller.errors import EnvironmentProblem, StenofleetError, UsageProblem, exit_code_of

_COMMANDS = {
    "transcribe": "controller.cli.transcribe",
    "batch": "controller.cli.batch",
    "resume": "controller.cli.resume",
    "plan": "controller.cli.plan",
    "report": "controller.cli.report",
    "status": "controller.cli.runs",
    "list": "controller.cli.runs",
    "render": "controller.cli.runs",
    "captions": "controller.cli.captions",
    "evaluate": "controller.cli.evaluate",
    "explain": "controller.cli.explain",
    "usage": "controller.cli.usage",
    "watch": "controller.cli.watch",
    "logs": "controller.cli.watch",
    "cancel": "controller.cli.runs",
    "clean": "controller.cli.clean",
    "doctor": "controller.cli.doctor",
    "config": "controller.cli.config",
    "demo": "controller.cli.demo",
    "model": "controller.cli.model_commands",
    "serve": "controller.cli.serve",
    "watch-folder": "controller.cli.watch_folder",
    "token": "controller.cli.token",
    "version": "controller.cli.about",
    "completion": "controller.cli.about",
}

_OTHER_NAMES = {"--lang": "--language", "-l": "--language", "-m": "--model"}
"""Names that relatives of Whisper have for options of the same purpose."""

_WITHOUT_SETTINGS = ("captions", "config", "model")
"""Groups whose commands are about one file, the settings or a model: settings for transcripts are not for them."""

CONFIG_FILE = "stenofleet.toml"

_OTHERS = (
    "STENOFLEET_MODEL_CACHE",
    "STENOFLEET_CRASH_POINT",
    "STENOFLEET_TEST_",
    "STENOFLEET_SOAK_",
    "STENOFLEET_SERVICE_",
    "STENOFLEET_PORT_",
)
"""Prefixes of variables that are not options: read by jobs, used by tests, or set in pods for a Service called
stenofleet."""

EPILOG = """\b
Exit codes: 0 all written, 1 a bug, 2 usage, 3 environment (never the media), 4 some written or partial,
5 none written, 6 batch wait --timeout, 7 a limit is not kept (--strict, --max-wer, …), 8 cancelled,
130/143 interrupted (the resume command is printed).

\b
Options can be given as STENOFLEET_<OPTION> or in ./stenofleet.toml (except those that remove, replace or download
something); a flag takes precedence over both.
"""


class _Context(click.Context):
    """Escapes the help text: the defaults in it may come from the settings file."""

    def get_help(self) -> str:
        return shown(super().get_help())


class _Group(click.Group):
    """Commands by name, imported on demand."""

    context_class = _Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        module = _COMMANDS.get(cmd_name)
        found: click.Command | None = (
            getattr(importlib.import_module(module), f"{cmd_name.replace('-', '_')}_command") if module else None
        )
        if found:
            found.context_class = _Context
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = args[0]
        meant = "" if typed in _COMMANDS or typed.startswith("-") else near(typed, _COMMANDS)
        if meant and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {typed!r}. Did you mean {meant!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SHORT_HELP.items()))


SHORT_HELP = {
    "transcribe": "Transcribe media files; the same command again resumes.",
    "batch": "Thousands of recordings under one id: batch submit, wait, status, report, cancel, retry.",
    "resume": "Resume a run by its id.",
    "plan": "Show what transcribe would do, or its Jobs; change nothing.",
    "report": "A run as one HTML file.",
    "status": "The progress of a run.",
    "list": "All runs in the store.",
    "render": "Make any format again from a transcript's JSON.",
    "captions": "Check files of captions: captions check FILE.",
    "evaluate": "Compare transcripts with references: error rates, and where.",
    "explain": "Say why a run waits, is slow or failed, and what to do.",
    "usage": "What runs used and cost, in all their attempts.",
    "watch": "Follow runs until they end.",
    "logs": "Why attempts failed, and the last log lines of jobs.",
    "cancel": "End a run; finished chunks are kept.",
    "clean": "Remove runs from the store.",
    "config": "All settings and where they come from: config show --origin.",
    "doctor": "Check whether a run would work here, or on a cluster.",
    "demo": "The whole pipeline on the included sample, with a killed job.",
    "model": "Models: list, fetch, convert, verify, prepare.",
    "serve": "The transcription service: a page and an HTTP API.",
    "watch-folder": "Transcribe what is put into a folder.",
    "token": "Make a token for a client of the service.",
    "version": "Versions of everything that is used for a transcript.",
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
    command = str(ctx.invoked_subcommand)
    if command == "config":
        # It reports all that is wrong with the settings, where other commands stop at the first mistake.
        return
    ctx.default_map = _config(Path(CONFIG_FILE), command)
    if unknown := unknown_variables():
        _say(f"stenofleet: ignored, no such option: {', '.join(unknown)}")


def main() -> NoReturn:
    """The console script."""
    streams = Streams()
    write_others_harmless()
    with without_commands():
        code = run()
    if why := streams.lost():
        _say(f"stenofleet: cannot write to stdout: {why}; finished work is kept")
        code = code or EnvironmentProblem.exit_code
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code, without exiting."""
    try:
        code = stenofleet.main(args=arguments, prog_name="stenofleet", standalone_mode=False)
    except click.exceptions.Abort:
        _say("aborted")
        return 130
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):
            error = _with_near_hint(error)
        # Click's own lines; they repeat values, including those of the settings file.
        lines = io.StringIO()
        error.show(file=lines)
        _say(lines.getvalue().removesuffix("\n"))
        return error.exit_code
    except (StenofleetError, JobError) as error:
        # Always one line, even if the summary contains line breaks.
        _say(printable(f"stenofleet: {error.summary}"))
        if error.advice:
            # A part of it may come from a store: indented, so that no line looks like a message of this program.
            _say("\n".join(f"  {line}" for line in error.advice.split("\n")))
        return exit_code_of(error)
    except Exception:  # noqa: BLE001 (any other error: a stack trace for developers, a message for the user)
        _say(traceback.format_exc().removesuffix("\n"))
        _say("stenofleet: this is a bug: report it with the lines above; the same command resumes")
        return 1
    return code if isinstance(code, int) else 0


def _with_near_hint(error: click.NoSuchOption) -> click.NoSuchOption:
    """The same error that suggests only a near, listed option: click also suggests those that share a few letters."""
    parameters = error.ctx.command.params if error.ctx else []
    listed = [name for option in parameters if not getattr(option, "hidden", False) for name in option.opts]
    near_name = near(error.option_name.lstrip("-"), [name[2:] for name in listed if name.startswith("--")])
    other = _OTHER_NAMES.get(error.option_name.replace("_", "-"))
    meant = other if other in listed else near_name and f"--{near_name}"
    # As a message: click leaves out a possibility that it does not find near enough.
    message = f"No such option {error.option_name!r}. Did you mean {meant!r}?" if meant else None
    return click.NoSuchOption(error.option_name, message, ctx=error.ctx)


class _EscapedHandler(logging.Handler):
    """Writes warnings of libraries, escaped: they may contain text from servers."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(printable(self.format(record)))


def _say_trace(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and ended.exc_type is not SystemExit:
        _say("".join(traceback.format_exception(ended.exc_value)).removesuffix("\n"))


def write_others_harmless() -> None:
    """Escape log messages of libraries and stack traces of threads, for the rest of this process."""
    logging.lastResort = _EscapedHandler(logging.WARNING)
    threading.excepthook = _say_trace


def _say(text: str) -> None:
    # Imported here: rich takes time to load, and is only needed to write to the terminal.
    from controller.cli.terminal import print_message

    print_message(text)


def _config(path: Path, command: str) -> dict[str, Any]:
    """Return defaults for *command* from the settings file, and print which ones. Raises :class:`UsageProblem`."""
    settings = read_settings(path)
    if not settings:
        return {}
    typed = {name: by_name(options) for name, options in all_options()}
    known = {name for options in typed.values() for name in options}
    if unknown := sorted(settings.keys() - known):
        raise no_such_option(*(settings[name] for name in unknown[:5]), command=command)
    defaults: dict[str, Any] = {}
    read: list[str] = []
    for full, options in typed.items():
        if full.split()[0] != command:
            continue
        mine = {name: options[name] for name in settings if name in options}
        read += [name for name in mine if name not in read]
        place = defaults
        for part in full.split():
            place = place.setdefault(part, {})
        context = click.Context(stenofleet)
        place |= {str(option.name): settings[name].default(option, context) for name, option in mine.items()}
    if read:
        _say(f"stenofleet: {path} in this folder sets {', '.join(f'--{name}' for name in read)}")
    return defaults


def no_such_option(first: Entry, *more: Entry, command: str) -> UsageProblem:
    """Return the error for settings that are no options."""
    names = ", ".join(entry.name[:60] for entry in (first, *more))
    return first.problem(f"no such option: {names}", f"see stenofleet {command} --help")


def by_name(options: Iterable[click.Option]) -> dict[str, click.Option]:
    """Return *options* by their long names, without dashes before them."""
    return {long[2:]: option for option in options for long in option.opts if long.startswith("--")}


def unknown_variables() -> list[str]:
    """Return variables that look like options but are not: a typing error would silently use the default."""
    variables = os.environ  # noqa: TID251 (where options come from)
    found = {name for name in variables if name.startswith("STENOFLEET_") and not name.startswith(_OTHERS)}
    if not found:
        return []
    return sorted(found - {TOKEN_VARIABLE} - {str(option.envvar) for _, options in all_options() for option in options})


def all_options() -> Iterator[tuple[str, list[click.Option]]]:
    """Yield the name of every command, with that of its group, and its options, without Whisper's that are not used."""
    for name, command in leaves():
        if name.partition(" ")[0] in _WITHOUT_SETTINGS:
            continue
        yield name, [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is not a group, by its full name."""
    for name in _COMMANDS:
        command = stenofleet.get_command(click.Context(stenofleet), name)
        assert command is not None
        yield from _leaves_of(name, command)


def _leaves_of(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from _leaves_of(f"{name} {part}", inner)
