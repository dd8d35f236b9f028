"""The reference of commands and the man pages: written from the code, complete, and valid."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from controller import cli
from docs import commands

ROOT = commands.FOLDER.parent
FILES = commands.files()
PAGES = sorted(path for path in FILES if path.suffix == ".1")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run: python docs/commands.py"


def test_no_page_is_of_a_command_that_is_no_more() -> None:
    assert sorted((commands.FOLDER / "man").iterdir()) == PAGES


def leaves(command: click.Command, name: str) -> dict[str, click.Command]:
    """All commands below this one, by the names of their pages."""
    found = {name: command}
    if isinstance(command, click.Group):
        context = click.Context(command, **cli.stenofleet.context_settings)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below
            found |= leaves(below, f"{name}-{each}")
    return found


def test_every_option_of_every_command_is_in_its_page_and_in_the_reference() -> None:
    known = leaves(cli.stenofleet, "stenofleet")
    assert {path.stem for path in PAGES} == set(known)
    assert {"stenofleet", "stenofleet-plan", "stenofleet-captions-check"} <= set(known)
    sections = dict(
        re.findall(
            r"^## (\S+)\n(.*?)(?=^## |\Z)", FILES[ROOT / "docs" / "reference" / "commands.md"], re.MULTILINE | re.DOTALL
        )
    )
    for name, command in known.items():
        page = FILES[ROOT / "docs" / "man" / f"{name}.1"].replace("\\-", "-")
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                for each in option.opts:
                    assert re.search(rf"(?m)^.*\\fB{re.escape(each)},?\\fR", page), (name, each)
                    assert re.search(rf"(?m)^\| `.*{re.escape(each)}\b", sections[name]), (name, each)
                assert not option.envvar or f"[{option.envvar}]" in " ".join(page.split()), (name, option.envvar)


def test_where_output_goes_has_the_same_names_in_every_command() -> None:
    found = 0
    for name, command in leaves(cli.stenofleet, "stenofleet").items():
        for option in command.params:
            if option.name in ("output", "output_dir") and "-o" in option.opts:
                found += 1
                assert "--output" in option.opts, name
    assert found > 6


def test_the_package_installs_the_pages() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["shared-data"] == {"docs/man": "share/man/man1"}
    for name, line in (("Dockerfile.gpu", "COPY docs/man docs/man"), (".dockerignore", "!docs/man")):
        assert line in (ROOT / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "text,roff",
    [
        ("a-b", "a\\-b"),
        ("C:\\x", "C:\\ex"),
        ("…", "\\[u2026]"),
        (".PP", "\\&.PP"),
        ("'x", "\\(aqx"),
        ('say "x"', "say \\(dqx\\(dq"),
        ("~^`", "\\(ti\\(ha\\(ga"),
    ],
)
def test_text_has_no_meaning_for_troff(text: str, roff: str) -> None:
    assert commands._lines(text) == roff


@pytest.mark.process
@pytest.mark.parametrize(
    "program",
    [["groff", "-ww", "-man", "-Tutf8", "-z"], ["mandoc", "-Tlint", "-Wwarning"]],
    ids=["groff", "mandoc"],
)
def test_the_pages_are_valid(program: list[str]) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not on this machine (apt-get install {program[0]})")
    checked = subprocess.run([*program, *PAGES], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.process
def test_the_check_of_pages_finds_mistakes(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not on this machine (apt-get install groff)")
    wrong = tmp_path / "wrong.1"
    wrong.write_text(PAGES[0].read_text(encoding="utf-8") + "\\fBx\n.NOSUCH\n", encoding="utf-8")
    checked = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", "-z", wrong], capture_output=True, text=True, check=False
    )
    assert "NOSUCH" in checked.stderr
