"""Rules of chart-testing that need nothing published: how files are written, and the fields of Chart.yaml."""

from pathlib import Path

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]
from yamllint import linter  # type: ignore[import-untyped]
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]

from tests.testbed.chart import CHART

FILES = sorted([CHART / "Chart.yaml", CHART / "values.yaml", *CHART.glob("ci/*.yaml"), *CHART.glob("samples/*.yaml")])
_INSIDE = {"min-spaces-inside": 0, "max-spaces-inside": 0, "min-spaces-inside-empty": -1, "max-spaces-inside-empty": -1}
RULES = {
    "braces": _INSIDE,
    "brackets": _INSIDE,
    "colons": {"max-spaces-before": 0, "max-spaces-after": 1},
    "commas": {"max-spaces-before": 0, "min-spaces-after": 1, "max-spaces-after": 1},
    "comments": {"require-starting-space": True, "min-spaces-from-content": 2},
    "empty-lines": {"max": 2, "max-start": 0, "max-end": 0},
    "hyphens": {"max-spaces-after": 1},
    "indentation": {"spaces": "consistent", "indent-sequences": "whatever", "check-multi-line-strings": False},
    "key-duplicates": "enable",
    "new-lines": {"type": "unix"},
    "trailing-spaces": "enable",
    "truthy": "enable",
}
"""The rules of yamllint that chart-testing 3.13 sets by default."""
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
FIELDS = {
    "type": "object",
    # `home` and `maintainers`, which chart-testing requires too, are for whoever publishes the chart: CONTRIBUTING.md.
    "required": ["apiVersion", "description", "name", "version"],
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("apiVersion", "appVersion", "description", "home", "icon", "kubeVersion", "name"), _TEXT),
        **dict.fromkeys(("type", "version"), _TEXT),
        "annotations": {"type": "object", "additionalProperties": _TEXT},
        "keywords": _TEXTS,
        "sources": _TEXTS,
    },
}
"""The fields of Chart.yaml that it knows."""


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_yamllint_finds_nothing_with_the_rules_of_chart_testing(file: Path) -> None:
    config = YamlLintConfig(yaml.safe_dump({"rules": RULES}))
    text = file.read_text(encoding="utf-8")
    assert [str(problem) for problem in linter.run(text, config)] == []


def test_the_fields_of_the_chart_are_those_that_chart_testing_knows() -> None:
    jsonschema.validate(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8")), FIELDS)


def test_a_file_that_breaks_a_rule_is_found() -> None:
    config = YamlLintConfig(yaml.safe_dump({"rules": RULES}))
    assert {problem.rule for problem in linter.run("a: [ 1 ] #x\na:  yes\n", config)} == {
        *("brackets", "colons", "comments", "key-duplicates", "truthy")
    }
