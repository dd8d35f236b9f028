"""The help of commands with many options: a section for each purpose."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from controller import cli
from controller.cli.sections import CLUSTER, OWN, SECTIONS, Sectioned, sections


def commands(group: click.Group = cli.stenofleet, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        elif command:
            yield " ".join((*words, name)), command


COMMANDS = dict(commands())


def shown(name: str) -> dict[str, list[str]]:
    command = COMMANDS[name]
    found = sections(command, click.Context(command, **cli.stenofleet.context_settings))
    return {title: [option.opts[-1] for option in options] for title, options in found.items()}


def test_each_name_of_the_table_is_an_option_of_one_section() -> None:
    names = [name for names in SECTIONS.values() for name in names]
    assert len(names) == len(set(names))
    used = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    assert {f"--{name}" for name in names} <= used


@pytest.mark.parametrize(
    "name, own",
    [
        ("transcribe", {"--round", "--force", "--help"}),
        ("batch submit", {"--detach", "--fail-fast", "--max-failures", "--shard", "--help"}),
        ("batch wait", {"--timeout", "--help"}),
    ],
)
def test_an_option_that_many_commands_have_is_in_a_section(name: str, own: set[str]) -> None:
    found = shown(name)
    assert set(found[OWN]) == own
    assert list(found) == [title for title in (OWN, *SECTIONS, CLUSTER) if title in found]


def test_a_command_with_few_options_has_one_section_and_that_of_the_cluster() -> None:
    assert list(shown("cancel")) == [OWN, CLUSTER]


def test_what_has_more_options_than_a_reader_can_scan_has_sections() -> None:
    without = {name for name, command in COMMANDS.items() if not isinstance(command, Sectioned)}
    assert max(len(shown(name)[OWN]) for name in without) <= 20


def test_the_help_has_the_titles_and_no_option_twice() -> None:
    text = CliRunner().invoke(cli.stenofleet, ["batch", "submit", "--help"]).output
    titles = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [OWN, *SECTIONS, CLUSTER]
    assert text.count("--min-coverage SHARE") == 1
