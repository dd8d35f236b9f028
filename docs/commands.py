# ruff: noqa: INP001
"""Write the reference of all commands, and their man pages, from the command line itself.

python docs/commands.py
"""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from controller import cli
from controller.cli.sections import OWN, sections

FOLDER = Path(__file__).parent
PROGRAM = "stenofleet"
_HEAD = """\
# Commands

Written by `.venv/bin/python docs/commands.py` from the code, as are the man pages in [man/](../man). The installed
package has them too: `man stenofleet-transcribe`. Where options come from: [settings.md](settings.md).

"""
_ENVIRONMENT = (
    "Each option with a variable in brackets is also read from it, or from stenofleet.toml in the current folder;"
    " an option on the command line takes precedence, then the variable. stenofleet config show --origin shows which"
    " ones count."
)
_EXIT = "Exit codes:"


@dataclass(frozen=True, kw_only=True)
class Option:
    """A row of the options of a command."""

    names: str
    """With the kind of its value: ``--model NAME|FOLDER``."""
    help: str
    variable: str
    """Empty: it is only read from the command line."""
    section: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, as it is described."""

    words: tuple[str, ...]
    """``stenofleet``, and the names of the group and of the command."""
    summary: str
    usage: str
    """What stands after the words."""
    text: Sequence[str]
    """Paragraphs."""
    options: Sequence[Option]
    below: Sequence[tuple[str, str]]
    """Of a group: the commands in it, each with its summary."""

    @property
    def name(self) -> str:
        """The name of its man page."""
        return "-".join(self.words)


def commands() -> list[Command]:
    """Return all commands: the program first, then in the order of its help."""
    return list(_commands(cli.stenofleet, (PROGRAM,), "Long audio and video to transcripts"))


def _commands(command: click.Command, words: tuple[str, ...], summary: str) -> Iterator[Command]:
    context = click.Context(command, info_name=" ".join(words), **cli.stenofleet.context_settings)
    inside: list[tuple[str, str, click.Command]] = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None
            short = cli.SHORT_HELP[name] if len(words) == 1 else one.get_short_help_str(1_000)
            inside.append((name, short, one))
    epilog = (command.epilog or "").replace("\b", "")
    yield Command(
        words=words,
        summary=summary.rstrip("."),
        usage=" ".join(command.collect_usage_pieces(context)),
        text=[*_paragraphs(command.help or ""), *_paragraphs(epilog)],
        options=[
            _option(one, context, section)
            for section, options in sections(command, context).items()
            for one in options
            if one in command.params
        ],
        below=[(name, short) for name, short, _ in inside],
    )
    for name, short, one in inside:
        yield from _commands(one, (*words, name), short)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.replace("\b", "").split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _option(option: click.Option, context: click.Context, section: str) -> Option:
    record = option.get_help_record(context)
    assert record is not None
    names, text = record
    return Option(names=names, help=" ".join(text.split()), variable=str(option.envvar or ""), section=section)


# ---------------------------------------------------------------- Markdown


def as_reference(described: Sequence[Command]) -> str:
    """Return the text of ``commands.md``."""
    rows = [(f"[`{' '.join(one.words)}`](#{one.name})", _plain(one.summary)) for one in described]
    parts = [_HEAD, _table(("command", "what it does"), rows)]
    for one in described:
        parts.append(f"## {one.name}\n\n```text\n{' '.join([*one.words, one.usage])}\n```\n\n")
        parts += [f"{_plain(text)}\n\n" for text in one.text]
        for section, options in itertools.groupby(one.options, key=lambda option: option.section):
            parts.append(_table((section, "meaning", "variable"), [_row(option) for option in options]))
    return "".join(parts).rstrip() + "\n"


def _row(option: Option) -> tuple[str, ...]:
    return f"`{option.names}`", _plain(option.help), f"`{option.variable}`" if option.variable else ""


def _plain(text: str) -> str:
    """Return *text* without a meaning for Markdown."""
    return re.sub(r"([\\*_<\[`])", r"\\\1", text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells) + "\n"


# ---------------------------------------------------------------- man pages


def as_man_page(one: Command, described: Sequence[Command]) -> str:
    """Return the man page of a command, in the language of man(7)."""
    # Without hyphens in names of variables, and without wide spaces.
    lines = ['.\\" Written by docs/commands.py', _title(one), ".nh", ".ad l"]
    lines += [".SH NAME", f"{_roff(one.name)} \\- {_roff(one.summary)}"]
    lines += [".SH SYNOPSIS", f"\\fB{_roff(' '.join(one.words))}\\fR {_roff(one.usage)}"]
    lines.append(".SH DESCRIPTION")
    ends = [text for text in one.text if text.startswith(_EXIT)]
    for number, text in enumerate(text for text in one.text if text not in ends):
        lines += [*([".PP"] if number else []), _lines(text)]
    if one.below:
        lines.append(".SH COMMANDS")
        for name, summary in one.below:
            lines += [".TP", f"\\fB{_roff(name)}\\fR", _lines(summary)]
    lines += [".SH OPTIONS"] if one.options else []
    for section, options in itertools.groupby(one.options, key=lambda option: option.section):
        lines += [] if section == OWN else [f".SS {_roff(section)}"]
        for option in options:
            lines += [".TP", _names(option.names)]
            lines.append(
                _lines(" ".join(filter(None, [option.help, option.variable and f"[{option.variable}]"])) or "–")
            )
    if any(option.variable for option in one.options):
        lines += [".SH ENVIRONMENT AND FILES", _lines(_ENVIRONMENT)]
    for text in ends:
        lines += [".SH EXIT STATUS", _lines(text.removeprefix(_EXIT).strip())]
    lines += [
        ".SH SEE ALSO",
        ",\n".join(f".BR {_roff(name)} (1)" for name in _related(one, described)).replace(",\n", " ,\n"),
    ]
    return "\n".join(lines) + "\n"


def _title(one: Command) -> str:
    newest = re.search(
        r"^## (\S+) - (\S+)$", (FOLDER.parent / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest
    return f'.TH "{_roff(one.name.upper())}" 1 {newest[2]} "{PROGRAM} {newest[1]}" "{PROGRAM}"'


def _related(one: Command, described: Sequence[Command]) -> list[str]:
    """Return the pages of its group and of the commands in it; for a command in no group, that of the program."""
    above = "-".join(one.words[:-1])
    below = [other.name for other in described if other.words[:-1] == one.words]
    return [*([above] if above else []), *below]


def _lines(text: str) -> str:
    """Return lines of text: one that begins with a dot or a quote would be a request."""
    wrapped = textwrap.wrap(_roff(text), 80, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in wrapped)


def _names(text: str) -> str:
    """Return the names of an option in bold, and the kind of its value, which may be broken at each bar."""
    words = [
        f"\\fB{_roff(word)}\\fR" if word.startswith("-") else _roff(word).replace("|", "|\\:") for word in text.split()
    ]
    return " ".join(words)


def _roff(text: str) -> str:
    """Return *text* without a meaning for troff, in ASCII."""
    signs = {"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"}
    return "".join(
        signs.get(sign) or (sign if sign.isascii() else f"\\[u{ord(sign):04X}]") for sign in " ".join(text.split())
    )


def files() -> dict[Path, str]:
    """Return all files with their contents."""
    described = commands()
    pages = {FOLDER / "man" / f"{one.name}.1": as_man_page(one, described) for one in described}
    return {FOLDER / "reference" / "commands.md": as_reference(described), **pages}


def main() -> None:
    """Write all files, and remove the pages of commands that are no more."""
    written = files()
    for path in (FOLDER / "man").glob("*.1"):
        if path not in written:
            path.unlink()
    (FOLDER / "man").mkdir(exist_ok=True)
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
