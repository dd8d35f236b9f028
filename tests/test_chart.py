"""The chart's files agree with each other and with the code. Without Helm: tests/cluster renders the templates."""

import http.client
import importlib.util
import io
import json
import re
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]

from chunk_job.names import MODEL_FILES
from chunk_job.store.files import FileStore
from controller import demo
from controller.cli.kubernetes import options as cluster_options
from controller.cli.options import attempts_options, cut_options, model_options, parallel_option, store_option
from helm import generate

CHART = generate.FOLDER
ROOT = CHART.parents[1]
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
SAMPLES = sorted((CHART / "samples").iterdir())
SETTINGS = (CHART / "templates" / "_settings.tpl").read_text(encoding="utf-8")

OF_SERVE = {
    f"STENOFLEET_{name}"
    for name in (
        *("ALLOW_MODEL", "HOST", "LOG_FORMAT", "MAX_UPLOAD_MB", "METRICS_PORT", "PORT", "RUNNER", "SHUTDOWN_GRACE"),
        *("TENANTS", "TRUSTED_HEADER", "TRUSTED_PROXIES", "WEBHOOK_KEYS"),
    )
}
"""Options of the service alone; all others are those of other commands too."""


def options() -> dict[str, click.Option]:
    """The options that the service shares with other commands, by their variables."""
    found: dict[str, click.Option] = {}
    for decorate in (store_option, parallel_option, attempts_options, cluster_options, model_options, cut_options):
        marked: Any = decorate(lambda: None)
        found |= {str(option.envvar): option for option in marked.__click_params__ if option.envvar}
    return found


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
    ],
    ids=json.dumps,
)
def test_a_wrong_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(yaml.safe_load(VALUES), changes), SCHEMA)


def test_the_samples_are_those_of_the_readme() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"samples/([a-z0-9-]+\.values\.yaml)", readme)) == {path.name for path in SAMPLES}
    assert len(SAMPLES) >= 6


def test_the_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_every_setting_is_an_option_of_the_service() -> None:
    given = set(re.findall(r'^  "(STENOFLEET_\w+)"', SETTINGS, re.MULTILINE)) | {"STENOFLEET_WEBHOOK_KEYS"}
    assert len(given) > 40
    assert given <= options().keys() | OF_SERVE
    assert given >= OF_SERVE


LIMITED = {
    "STENOFLEET_BEAM_SIZE": "decoding.beamSize",
    "STENOFLEET_MAX_PARALLEL": "concurrency.maxParallel",
    "STENOFLEET_MAX_ATTEMPTS": "retry.maxAttempts",
    "STENOFLEET_MAX_DISRUPTIONS": "retry.maxDisruptions",
    "STENOFLEET_JOB_SCRATCH": "jobs.scratchMiB",
    "STENOFLEET_CHUNKING_THRESHOLD": "chunking.thresholdSeconds",
}


@pytest.mark.parametrize("name,path", LIMITED.items())
def test_a_limit_of_a_value_is_the_limit_of_the_option(name: str, path: str) -> None:
    kind: Any = options()[name].type
    assert (value(path)["minimum"], value(path).get("maximum", kind.max)) == (kind.min, kind.max)


@pytest.mark.parametrize(
    "name,path",
    {"STENOFLEET_IMAGE_PULL_POLICY": "image.pullPolicy", "STENOFLEET_COMPUTE_TYPE": "decoding.computeType"}.items(),
)
def test_a_choice_of_a_value_is_the_choice_of_the_option(name: str, path: str) -> None:
    kind = options()[name].type
    assert isinstance(kind, click.Choice)
    assert value(path)["enum"] == list(kind.choices)


SAME_DEFAULT = {
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
    assert value(path)["default"] == options()[name].default


# ---------------------------------------------------------------- programs that the chart mounts into pods


def program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, CHART / "files" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def models(tmp_path: Path) -> FileStore:
    """A bucket with two models."""
    store = FileStore(tmp_path / "bucket")
    for name in ("small", "other"):
        for file in (*MODEL_FILES, "assets/more.txt"):
            store.put(f"{name}/{file}", f"{file} of {name}".encode())
    return store


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_models_are_copied_from_the_store_to_the_volume(models: FileStore, tmp_path: Path) -> None:
    volume = tmp_path / "models"
    assert program("fetch_model").main(models.url, str(volume), "small", "other") == 0
    assert contents(volume) == {
        f"{name}/{file}": f"{file} of {name}"
        for name in ("small", "other")
        for file in (*MODEL_FILES, "assets/more.txt")
    }


def test_a_model_that_is_complete_is_kept_and_another_one_replaces_it(models: FileStore, tmp_path: Path) -> None:
    volume, fetch = tmp_path / "models", program("fetch_model")
    assert fetch.main(models.url, str(volume), "small") == 0
    mark = volume / "small" / MODEL_FILES[0]
    before = mark.stat().st_ino
    assert fetch.main(models.url, str(volume), "small") == 0
    assert mark.stat().st_ino == before
    models.put(f"small/{MODEL_FILES[0]}", b"a longer, newer file")
    (volume / ".small.new").mkdir()
    assert fetch.main(models.url, str(volume), "small") == 0
    assert mark.read_text() == "a longer, newer file"
    assert {path.name for path in volume.iterdir()} == {"small"}


def test_a_model_that_cannot_be_fetched_leaves_the_old_one(
    models: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, fetch = tmp_path / "models", program("fetch_model")
    assert fetch.main(models.url, str(volume), "small") == 0
    before = contents(volume)
    models.delete(f"small/{MODEL_FILES[0]}")
    assert fetch.main(models.url, str(volume), "small") == 3
    assert f"is not a faster-whisper model: it lacks {MODEL_FILES[0]}" in capsys.readouterr().err
    assert contents(volume) == before
    assert fetch.main(models.url, str(volume), "unknown") == 3


class Service:
    """A service that is unavailable first, and then works on a run for two questions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: Iterator[Any] = iter(
            [
                self.problem(503),
                {"id": "r1", "status": "queued"},
                {"id": "r1", "status": "running"},
                OSError("reset"),
                {"id": "r1", "status": "complete"},
                text,
            ]
        )

    def problem(self, status: int) -> urllib.error.HTTPError:
        return urllib.error.HTTPError("http://s", status, "", http.client.HTTPMessage(), io.BytesIO(b"why"))

    def urlopen(self, request: urllib.request.Request, *, timeout: float) -> io.BytesIO:
        self.asked.append((request.get_method(), request.full_url, request))
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO((answer if isinstance(answer, str) else json.dumps(answer)).encode())


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = program("transcribe_sample")
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setattr(module, "_POLL_EVERY_S", 0.0)
    return module


def test_the_test_of_the_chart_compares_the_words_of_the_sample(
    sending: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(demo.SAMPLE_TEXT.read_text(encoding="utf-8").replace("one\n", "One,\n", 1))
    monkeypatch.setattr(urllib.request, "urlopen", service.urlopen)
    assert sending.main("http://s", "0.1", "60") == 0
    assert "word error rate 0.0%" in capsys.readouterr().out
    posts = [request for method, _, request in service.asked if method == "POST"]
    assert [request.full_url for request in posts] == ["http://s/v1/runs"] * 2
    assert len({request.headers["Idempotency-key"] for request in posts}) == 1, "tried again as the same request"
    assert demo.SAMPLE.read_bytes() in posts[0].data
    assert {request.headers["Authorization"] for *_, request in service.asked} == {"Bearer secret"}
    assert service.asked[-1][1] == "http://s/v1/runs/r1/result?format=txt"


def test_the_test_of_the_chart_fails_with_other_words(sending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", Service("nothing of this").urlopen)
    assert sending.main("http://s", "0.3", "60") == 1


@pytest.mark.parametrize("seconds,why", [("60", "HTTP 401: why"), ("-1", "no transcript in time: .*HTTP 503")])
def test_the_test_of_the_chart_ends_with_a_reason(
    sending: Any, monkeypatch: pytest.MonkeyPatch, seconds: str, why: str
) -> None:
    service = Service("")
    if seconds != "-1":
        service.answers = iter([service.problem(401)])
    monkeypatch.setattr(urllib.request, "urlopen", service.urlopen)
    with pytest.raises(SystemExit, match=why):
        sending.main("http://s", "0.3", seconds)


def test_the_dashboard_asks_for_metrics_of_the_service() -> None:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) == len(dashboard["panels"])
    assert all(re.findall(r"stenofleet_\w+", expression) for expression in asked)
    assert all('namespace="$namespace"' in expression for expression in asked)
