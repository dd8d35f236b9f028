"""docs/troubleshooting.md has a row for every class of failure and every check, and names options that exist."""

import re

from controller import cli
from controller.domain.failures import FailureClass
from tests.test_setup import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_class_of_failure_has_a_row() -> None:
    rows = re.findall(r"^\| `([A-Z_.a-z]+)` \|", PAGE.partition("## Classes of failures")[2], re.MULTILINE)
    assert sorted(rows) == sorted(FailureClass)


def test_every_check_of_doctor_has_a_row() -> None:
    table = PAGE.partition("## Checks of")[2]
    rows = {name for cell in re.findall(r"^\| ([^|`]+) \|", table, re.MULTILINE) for name in cell.strip().split(", ")}
    code = "".join((ROOT / "controller" / "cli" / name).read_text() for name in ("doctor.py", "probe_checks.py"))
    names = re.findall(r'(?:_checked|_passed|Check)\(\s*(?:name=)?"([^"]+)"', code)
    names += re.findall(r'^        \("([a-z ]+)", job_document', code, re.MULTILINE)
    assert set(names) == rows - {"check"}


def test_the_options_exist() -> None:
    known = {option for _, one in cli.leaves() for parameter in one.params for option in parameter.opts}
    ours = {option for line in PAGE.splitlines() for option in re.findall(r"`(--[a-z-]+)", line)}
    assert ours <= known, ours - known
