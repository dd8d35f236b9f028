"""Every test is run by exactly one target of the Makefile that CI calls, and every target is documented."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MARKERS

ROOT = Path(__file__).parents[1]
OUTSIDE_CI = frozenset({"soak"})
"""Markers of tests that CI does not run."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def called_by_ci() -> list[str]:
    (names,) = re.findall(r"^targets=\((.*)\)$", text(".ci/run"), re.MULTILINE)
    return str(names).split()


def expressions() -> dict[str, str]:
    """What each target passes to ``pytest -m``; joined by ``or`` if it starts pytest several times."""
    rules = re.findall(r"^([a-z0-9-]+):.*## .*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    passed = {name: re.findall(r'-m pytest .*-m (?:"([^"]+)"|(\w+))', recipe) for name, recipe in rules}
    return {name: " or ".join(f"({one or other})" for one, other in found) for name, found in passed.items() if found}


def selects(expression: str, markers: frozenset[str]) -> bool:
    """Whether ``pytest -m`` with this expression selects a test that has these markers."""
    return bool(eval(re.sub(r"\b(?!(?:not|and|or)\b)\w+", lambda name: str(name[0] in markers), expression)))


def test_every_test_is_in_exactly_one_target_of_ci(request: pytest.FixtureRequest) -> None:
    targets = {name: expression for name, expression in expressions().items() if name in called_by_ci()}
    chosen = {
        test: [name for name, expression in targets.items() if selects(expression, markers)]
        for test, markers in request.config.stash[MARKERS].items()
        if not markers & OUTSIDE_CI
    }
    assert chosen
    assert not {test: names for test, names in chosen.items() if len(names) != 1}


def test_ci_calls_every_target_that_runs_tests() -> None:
    assert expressions().keys() - OUTSIDE_CI == {name for name in called_by_ci() if name.startswith("test")}
    assert expressions().keys() >= OUTSIDE_CI


def test_an_expression_selects_as_pytest_does() -> None:
    assert selects("not s3 and not hostile", frozenset({"process"}))
    assert not selects("not s3 and not hostile", frozenset({"process", "hostile"}))
    assert selects("hostile and not s3", frozenset({"hostile"}))
    assert not selects("s3", frozenset({"s3_only"}))


@pytest.mark.parametrize("name", [*called_by_ci(), *OUTSIDE_CI])
def test_every_target_is_in_the_table_of_contributing(name: str) -> None:
    assert re.search(rf"^\| `make {name}[ `]", text("CONTRIBUTING.md"), re.MULTILINE)


@pytest.mark.process
@pytest.mark.parametrize("failing", ["", *called_by_ci()])
def test_ci_calls_every_target_once_and_fails_if_one_fails(tmp_path: Path, failing: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / ".ci/need").write_text("exit 1")
    (tmp_path / "Makefile").write_text(f"venv ffmpeg: ;\n%:\n\t@echo run $@; [ $@ != '{failing}' ]\n")
    done = subprocess.run(["bash", tmp_path / ".ci/run"], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == bool(failing)
    assert sorted(re.findall(r"^run (\S+)$", done.stdout, re.MULTILINE)) == sorted(called_by_ci())
    verdicts = dict(re.findall(r"^ci: (\S+) +(passed|FAILED) +\d+ s$", done.stdout, re.MULTILINE))
    assert verdicts == {name: "FAILED" if name == failing else "passed" for name in called_by_ci()}
