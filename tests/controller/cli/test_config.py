"""``config show``: effective values with their origins, no secrets, and everything that is wrong with its place."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller import cli
from controller.cli import settings
from controller.cli.settings import entries

FILE = Path("stenofleet.toml")


@dataclass(frozen=True, kw_only=True)
class Printed:
    code: int
    out: str
    err: str

    def rows(self) -> dict[str, str]:
        """The rest of each row by its option, with one space between columns."""
        found = [line.split(maxsplit=1) for line in self.out.splitlines()]
        return {name: " ".join(rest.split()) for name, rest in found}


class Config:
    """``config show`` in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Printed:
        code = cli.run(["config", "show", *arguments])
        printed = self._capture.readouterr()
        assert "Traceback" not in printed.err
        return Printed(code=code, out=printed.out, err=printed.err)

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--json").out)
        return found

    def option(self, name: str, *arguments: str) -> dict[str, Any]:
        (found,) = [one for one in self.json(*arguments)["options"] if one["option"] == name]
        return dict(found)


@pytest.fixture
def config(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> Config:
    return Config(capsys)


def test_an_option_comes_from_a_variable_else_from_the_file_else_it_is_the_default(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config("--origin").rows()["--beam-size"] == "5 default"
    FILE.write_text("# mine\nmodel = 'small'\n\nbeam_size = 3\n", encoding="utf-8")
    assert config("--origin").rows()["--beam-size"] == "3 stenofleet.toml, line 4"
    monkeypatch.setenv("STENOFLEET_BEAM_SIZE", "7")
    result = config("transcribe", "--origin")
    assert (result.code, result.err) == (0, "")
    assert result.rows()["--beam-size"] == "7 STENOFLEET_BEAM_SIZE"
    assert result.rows()["--model"] == "small stenofleet.toml, line 2"
    assert config("transcribe").rows()["--beam-size"] == "7"
    assert config.option("--beam-size", "transcribe") == {
        "option": "--beam-size",
        "commands": ["transcribe"],
        "value": "7",
        "described": "",
        "origin": "variable",
        "place": "STENOFLEET_BEAM_SIZE",
    }


def test_every_option_of_every_command_is_shown(config: Config) -> None:
    shown = {(one["option"], name) for one in config.json()["options"] for name in one["commands"]}
    assert shown == {(f"--{long}", command) for command, options in cli.all_options() for long in cli.by_name(options)}
    rows = config("--origin").rows()
    assert rows["--max-parallel"] == "cores / 4, at least 1; on a cluster 16 default"
    assert rows["--initial-prompt"] == "not set default"


def test_a_group_stands_for_its_commands(config: Config) -> None:
    assert {name for one in config.json("batch")["options"] for name in one["commands"]} == {
        name for name, _ in cli.all_options() if name.startswith("batch ")
    }
    of_one = config.json("batch", "submit")["options"]
    assert {name for one in of_one for name in one["commands"]} == {"batch submit"}


def test_an_option_whose_default_differs_has_a_row_for_each(config: Config) -> None:
    rows = [one for one in config.json()["options"] if one["option"] == "--output-dir"]
    values = {command: one["value"] for one in rows for command in one["commands"]}
    assert (values["transcribe"], values["render"], values["demo"]) == (".", ".", "stenofleet-demo")
    assert "--output-dir (demo) " in config().out


def test_secrets_are_set_or_not_set(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("HF_TOKEN", "hush")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://user:hush@minio:9000")
    monkeypatch.setenv("STENOFLEET_JOB_ENV", "KEY=hush")
    monkeypatch.setenv("STENOFLEET_BEAM_SIZE", "https://user:hush@host")
    FILE.write_text('chunk-image = "https://user:hush@host/image"\njob-env = ["A=hush"]\n', encoding="utf-8")
    for arguments in ((), ("--origin",), ("--json",)):
        result = config(*arguments)
        assert "hush" not in result.out + result.err
    assert config.json()["variables"]["AWS_SECRET_ACCESS_KEY"] == "set (not shown)"
    assert config.json()["variables"]["AWS_SESSION_TOKEN"] is None
    rows = config().rows()
    assert (rows["AWS_SECRET_ACCESS_KEY"], rows["AWS_SESSION_TOKEN"]) == ("set (not shown)", "not set")
    assert rows["AWS_ENDPOINT_URL_S3"] == "https://***@minio:9000"
    assert rows["--job-env"] == "set (not shown)"
    monkeypatch.delenv("STENOFLEET_JOB_ENV")
    assert config().rows()["--job-env"] == "set (not shown)"


def test_all_that_is_wrong_is_reported_with_its_place(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text(
        'model = "small"\nbeam-size = 99\nbeem-size = 3\nforce = true\nhotwords = "a"\nhot_words = "b"\n'
        'initial-prompt = """\ntask = 3\n"""\ninitial_prompt = "x"\ntask = 3\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("STENOFLEET_BATCH_SIZE", "many")
    monkeypatch.setenv("STENOFLEET_TYPO", "1")
    result = config("--origin")
    assert result.code == 2
    assert "--model" in result.rows()
    problems = config.json("transcribe")["problems"]
    assert [(one["place"], one["summary"]) for one in problems] == [
        ("stenofleet.toml", "no such option: beem-size (line 3)"),
        ("stenofleet.toml", "force is never read from a file: it starts finished runs again (line 4)"),
        ("stenofleet.toml", "no such option: hot-words (line 6)"),
        ("stenofleet.toml", "initial-prompt is given twice (line 10)"),
        ("STENOFLEET_TYPO", "no such option: it is ignored"),
        ("stenofleet.toml", "task: it takes a text in quotes (line 11)"),
        ("stenofleet.toml", "beam-size: 99 is not in the range 1<=x<=32. (line 2)"),
        ("STENOFLEET_BATCH_SIZE", "'many' is none of auto or a number from 0 to 256"),
    ]
    for one in problems:
        assert f"{one['place']}: {one['summary']}\n  {one['advice']}\n" in result.err


@pytest.mark.parametrize(
    "text,message",
    [
        ("beam-size = \nmodel = 1", "Invalid value (at line 1, column 13)"),
        ("beam-size = " + "[" * 30_000, "is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(config: Config, text: str, message: str) -> None:
    FILE.write_text(text, encoding="utf-8")
    found = config.json()
    assert [(one["place"], one["summary"]) for one in found["problems"]] == [("stenofleet.toml", message)]
    assert found["file"] is None
    assert found["options"]


def test_other_commands_name_the_line_too(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    FILE.write_text("model = 'small'\nbeem-size = 3\n", encoding="utf-8")
    assert cli.run(["transcribe", "talk.wav"]) == 2
    assert "stenofleet.toml: no such option: beem-size (line 2)\n" in capsys.readouterr().err
    FILE.write_text("\n\nbeam-size = 99\n", encoding="utf-8")
    assert cli.run(["transcribe", "talk.wav"]) == 2
    assert "(line 3)\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text,key,line",
    [
        ("a = 1\nb = 2", "b", 2),
        ("'a' = 1\n\"b\" = 2", "b", 2),
        ("[b]\nc = 1", "b", 1),
        ("b.c = 1", "b", 1),
        ('a = """\nb = 1\n"""\nb = 2', "b", 4),
        ("a = '''\nb = 1\n'''\nb = 2", "b", 4),
        ("a = [\n1,\n2]\n  b = 2", "b", 4),
        ('"\\u0062" = 1', "b", None),
    ],
)
def test_the_line_of_a_setting(working_folder: Path, text: str, key: str, line: int | None) -> None:
    FILE.write_text(text, encoding="utf-8")
    (entry,) = [one for one in entries(FILE) if one.key == key]
    assert entry.line() == line


def test_of_a_file_of_misleading_lines_few_are_examined(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text('a = """\n' + "b = 1\n" * 10_000 + '"""\nb = 2', encoding="utf-8")
    found = entries(FILE)
    examined: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        examined.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    assert [one.line() for one in found] == [1, None]
    assert len(examined) <= 1 + settings._MOST_CANDIDATES


def test_a_command_that_does_not_exist(config: Config) -> None:
    result = config("transcibe")
    assert (result.code, result.out) == (2, "")
    assert "no such command: transcibe\n  is transcribe meant?" in result.err
