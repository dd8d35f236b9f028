"""The chart's files agree with each other and with the code. Without Helm: tests/cluster renders the templates."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]

from chunk_job.names import LANGUAGE_ALIASES, LANGUAGES
from controller.cli.option_values import parse_language
from controller.cli.serve import serve_command
from controller.service.metrics import Metrics
from helm import generate

CHART = generate.FOLDER
ROOT = CHART.parents[1]
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
SAMPLES = sorted((CHART / "samples").iterdir())
SETTINGS = (CHART / "templates" / "_settings.tpl").read_text(encoding="utf-8")

OPTIONS = {
    str(option.envvar): option for option in serve_command.params if isinstance(option, click.Option) and option.envvar
}
"""The options of the service by their variables."""


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values as Helm merges them: maps key by key."""
    both = {key: merged(values[key], changes[key]) for key in values.keys() & changes if isinstance(changes[key], dict)}
    return values | changes | both


def properties(schema: dict[str, Any], *above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in schema.get("properties", {}).items():
        yield ".".join((*above, name)), found
        yield from properties(found, *above, name)
    if isinstance(items := schema.get("items"), dict):
        yield from properties(items, *above, "[]")


def value(path: str) -> dict[str, Any]:
    """The schema of one value."""
    return dict(properties(SCHEMA))[path]


# ---------------------------------------------------------------- one source


def test_schema_and_readme_are_generated_from_the_comments_of_the_values() -> None:
    for path, content in generate.generated().items():
        assert path.read_text(encoding="utf-8") == content, f"run python helm/generate.py: {path.name}"


def test_every_value_has_a_description_and_no_group_takes_an_unknown_key() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = dict(properties(SCHEMA))
    assert len(found) > 100
    assert [path for path, schema in found.items() if not schema.get("description", "").endswith((".", "…"))] == []
    open_groups = [
        path for path, schema in found.items() if "properties" in schema and schema["additionalProperties"] is not False
    ]
    assert open_groups == []
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize(
    "text,problem",
    [
        ("# -- Group.\na:\n  # -- One.\n  b: 1\n  c: 2\n", "no description of a.c"),
        ("# -- One.\na: 1\n\nb: 2\n", "no description of b"),
        ("# A comment without a mark.\na: 1\n", "no description of a"),
    ],
)
def test_a_value_without_a_description_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        generate.read(text)


def test_comments_become_types_limits_and_sections() -> None:
    text = """
# ---------- first
# -- A number
# of two lines.
# @schema {minimum: 1}
a: 3

# ---------- second
# -- Any map.
labels: {x: y}
# -- Group.
b:
  # -- A | text.
  # @schema {enum: [x, y]}
  c: x
"""
    keys = generate.read(text)
    assert [(key.name, key.section) for key in keys] == [("a", "first"), ("labels", "second"), ("b", "second")]
    made = generate.schema(keys)["properties"]
    assert made["a"] == {"description": "A number of two lines.", "type": "integer", "default": 3, "minimum": 1}
    assert made["labels"]["additionalProperties"] == {"type": "string"}
    assert made["b"]["additionalProperties"] is False
    tables = generate.tables(keys)
    assert "| `a` | integer | `3` | A number of two lines. |" in tables
    assert '| `b.c` | `x` \\| `y` | `"x"` | A \\| text. |' in tables
    assert tables.index("### First") < tables.index("`a`") < tables.index("### Second") < tables.index("`b.c`")


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("sample", [None, *SAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_defaults_and_samples_are_valid(sample: Path | None) -> None:
    values = yaml.safe_load(VALUES)
    if sample:
        values = merged(values, yaml.safe_load(sample.read_text(encoding="utf-8")))
    jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": 2},
        {"s3": {"buckett": "media"}},
        {"tenants": {"default": {"sources": ["/etc"]}}},
        {"image": {"controller": {"digest": "latest"}}},
        {"chunking": {"duration": "long"}},
        {"jobs": {"tolerations": [{"key": "a", "tolerationSeconds": 3}]}},
        {"commonLabels": {"team": True}},
        {"s3": {"endpoint": "minio:9000"}},
        {"s3": {"endpoint": "http://user:password@minio:9000"}},
        {"s3": {"endpoint": "http://minio:9000/media"}},
        {"s3": {"publicEndpoint": "s3.example"}},
        {"s3": {"bucket": "s3://media"}},
        {"s3": {"bucket": "Media_Files"}},
        {"image": {"controller": {"repository": "team/controller:0.3.0"}}},
        {"image": {"chunkJob": {"repository": "team/chunk-job@sha256"}}},
        {"ingress": {"host": "https://transcripts.example"}},
        {"ingress": {"host": "transcripts.example/v1"}},
        {"httpRoute": {"hostnames": ["https://transcripts.example"]}},
    ],
    ids=json.dumps,
)
def test_a_wrong_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(yaml.safe_load(VALUES), changes), SCHEMA)


@pytest.mark.parametrize(
    "changes",
    [
        {"s3": {"endpoint": "https://[2001:db8::1]:9000/", "publicEndpoint": "https://storage.example/s3"}},
        {"s3": {"bucket": "my.media-2"}},
        {"image": {"controller": {"repository": "localhost:5000/team/controller"}}},
        {"ingress": {"host": "*.example"}, "httpRoute": {"hostnames": ["transcripts", "a-1.b.example"]}},
    ],
    ids=json.dumps,
)
def test_an_unusual_value_is_taken(changes: dict[str, Any]) -> None:
    jsonschema.validate(merged(yaml.safe_load(VALUES), changes), SCHEMA)


OTHER_NAMES = ("auto", "none", "haitian creole", "pt-br", "zh-hant-tw", "en_us.utf-8", "es-419", "nb", "iw")
NO_LANGUAGES = ("klingon", "xx", "p", "pt-", "english please", "portuguese-br", "pt br", "en.latin", "tlh-gb")


def test_the_chart_takes_the_languages_of_the_program() -> None:
    expression = (CHART / "files" / "languages.regex").read_text(encoding="utf-8").strip()

    def takes(typed: str) -> bool:
        try:
            parse_language(click.Context(serve_command), serve_command.params[0], typed)
        except click.BadParameter:
            return False
        return True

    names = [*LANGUAGES, *LANGUAGES.values(), *LANGUAGE_ALIASES, *OTHER_NAMES]
    wanted = dict.fromkeys(names, True) | dict.fromkeys(NO_LANGUAGES, False)
    assert {typed: takes(typed) for typed in wanted} == wanted
    assert {typed: bool(re.search(expression, typed)) for typed in wanted} == wanted


def test_the_samples_are_those_of_the_readme() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"samples/([a-z0-9-]+\.values\.yaml)", readme)) == {path.name for path in SAMPLES}
    assert len(SAMPLES) >= 6


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_every_setting_is_an_option_of_the_service() -> None:
    given = set(re.findall(r'^  "(STENOFLEET_\w+)"', SETTINGS, re.MULTILINE))
    given |= set(re.findall(r'\$_ := set \$s "(STENOFLEET_\w+)"', SETTINGS))
    assert given >= {"STENOFLEET_WEBHOOK_KEYS", "STENOFLEET_INBOX", "STENOFLEET_OUTBOX"}
    assert len(given) > 40
    assert given <= OPTIONS.keys()


LIMITED = {
    "STENOFLEET_INBOX_LISTS": "inbox.listsPerMinute",
    "STENOFLEET_MAX_UPLOAD_MB": "server.maxUploadMB",
    "STENOFLEET_BEAM_SIZE": "decoding.beamSize",
    "STENOFLEET_MAX_PARALLEL": "concurrency.maxParallel",
    "STENOFLEET_MAX_ATTEMPTS": "retry.maxAttempts",
    "STENOFLEET_MAX_DISRUPTIONS": "retry.maxDisruptions",
    "STENOFLEET_JOB_SCRATCH": "jobs.scratchMiB",
    "STENOFLEET_CHUNKING_THRESHOLD": "chunking.thresholdSeconds",
}


@pytest.mark.parametrize("name,path", LIMITED.items())
def test_a_limit_of_a_value_is_the_limit_of_the_option(name: str, path: str) -> None:
    kind: Any = OPTIONS[name].type
    assert (value(path)["minimum"], value(path).get("maximum", kind.max)) == (kind.min, kind.max)


@pytest.mark.parametrize(
    "name,path",
    {"STENOFLEET_IMAGE_PULL_POLICY": "image.pullPolicy", "STENOFLEET_COMPUTE_TYPE": "decoding.computeType"}.items(),
)
def test_a_choice_of_a_value_is_the_choice_of_the_option(name: str, path: str) -> None:
    kind = OPTIONS[name].type
    assert isinstance(kind, click.Choice)
    assert value(path)["enum"] == list(kind.choices)


SAME_DEFAULT = {
    "STENOFLEET_INBOX_LISTS": "inbox.listsPerMinute",
    "STENOFLEET_INBOX_POLL": "inbox.pollSeconds",
    "STENOFLEET_MAX_UPLOAD_MB": "server.maxUploadMB",
    "STENOFLEET_SHUTDOWN_GRACE": "server.shutdownGraceSeconds",
    "STENOFLEET_BEAM_SIZE": "decoding.beamSize",
    "STENOFLEET_BATCH_SIZE": "decoding.batchSize",
    "STENOFLEET_CHUNKING_THRESHOLD": "chunking.thresholdSeconds",
    "STENOFLEET_COMPUTE_TYPE": "decoding.computeType",
    "STENOFLEET_CONDITION_ON_PREVIOUS_TEXT": "decoding.conditionOnPreviousText",
    "STENOFLEET_GPU_RESOURCE": "gpu.resourceName",
    "STENOFLEET_IMAGE_PULL_POLICY": "image.pullPolicy",
    "STENOFLEET_JOB_SCRATCH": "jobs.scratchMiB",
    "STENOFLEET_MAX_ATTEMPTS": "retry.maxAttempts",
    "STENOFLEET_MAX_DISRUPTIONS": "retry.maxDisruptions",
    "STENOFLEET_MODEL_PATH": "model.path",
    "STENOFLEET_S3_SECRET": "s3.existingSecret",
    "STENOFLEET_TEMPERATURE": "decoding.temperature",
    "STENOFLEET_VAD_FILTER": "decoding.vadFilter",
}


@pytest.mark.parametrize("name,path", SAME_DEFAULT.items())
def test_a_value_has_the_default_of_the_option(name: str, path: str) -> None:
    assert value(path)["default"] == OPTIONS[name].default


def test_the_dashboard_shows_every_metric_of_the_service_with_labels_that_it_has() -> None:
    metrics = Metrics(depths=dict, oldest_wait_s=lambda: 0.0)
    labels = {f"stenofleet_{name}": found for name, found in labels_of(metrics).items()}
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = set()
    for expression in asked:
        assert 'namespace="$namespace"' in expression
        (name,) = {
            re.sub(r"_(total|bucket|sum|count)$", "", found) for found in re.findall(r"stenofleet_\w+", expression)
        }
        shown.add(name)
        used = {label for group in re.findall(r"by \(([\w, ]+)\)", expression) for label in group.split(", ")}
        assert used - {"le"} <= labels[name], expression
    # How many runs a pod works on is not shown: jobs are.
    assert labels.keys() - shown == {"stenofleet_build_info", "stenofleet_runs_active"}


def labels_of(metrics: Metrics) -> dict[str, set[str]]:
    """The labels of each metric, by its name without the common prefix."""
    found: Any = metrics.registry._collector_to_names
    return {collector._name.removeprefix("stenofleet_"): set(collector._labelnames) for collector in found}
