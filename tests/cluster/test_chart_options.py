"""Every value of the chart has an effect, and becomes an option of the service."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from controller.cli import stenofleet
from controller.cli.serve import serve_command
from helm import generate
from tests.cluster.test_chart import EVERY_OPTION, Objects, pods, settings
from tests.testbed import chart
from tests.testbed.chart import CHART, Object

VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def everything() -> Objects:
    return chart.rendered("--values", EVERY_OPTION)


def read(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of the service in its pod, as its command line parses them."""
    (service,) = pods(objects)["service"]["containers"]
    for name, value in (settings(objects) | {item["name"]: item["value"] for item in service["env"]}).items():
        monkeypatch.setenv(name, value)
    command, *arguments = [argument.replace("$$", "$") for argument in service["args"]]
    assert command == serve_command.name
    program = click.Context(stenofleet, **stenofleet.context_settings)
    return serve_command.make_context(command, arguments, parent=program).params


def test_the_program_takes_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(chart.rendered(), monkeypatch)
    assert (found["runner"], found["device"], found["gpus"]) == ("kubernetes", "cuda", None)
    assert (found["model"], found["chunk_duration"]) == ("large-v3-turbo", "auto")
    assert found["trusted_header"] is found["webhook_keys"] is None
    assert found["inbox"] == ""


def test_every_option_reaches_the_program(everything: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(everything, monkeypatch)
    assert found["store"] == "s3://transcripts/a/b"
    assert (found["host"], found["metrics_port"], found["max_upload_mb"]) == ("::", 9191, 100)
    assert (found["inbox"], found["outbox"]) == ("s3://news-media/inbox", "s3://news-media/transcripts")
    assert (found["inbox_poll"], found["inbox_lists"]) == (60, 120)
    assert found["trusted_proxies"] == ("10.0.0.0/8", "fd00::/8")
    assert found["model"] == "/var/models/large-v3"
    assert found["others"] == ("/var/models/small", "/var/models/pt-large")
    assert found["node_selector"] == {"gpu": "l4", "zone": "b"}
    assert found["tolerations"] == (
        {"key": "dedicated", "operator": "Equal", "value": "speech", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    )
    assert (found["memory_mb"], found["gpus"], found["kernels_in_store"]) == (4_000_000, 2, True)
    assert found["image_pull_secrets"] == ("registry-one", "registry-two")
    assert found["chunk_image"] == f"registry.example/team/chunk-job@sha256:{'1' * 64}"
    assert found["env"] == {"HTTPS_PROXY": "http://egress.example:3128", "NOTE": "two words and $(POD_UID)"}
    assert (found["vad_filter"], found["vad_threshold"]) == (False, 0.4)
    assert found["initial_prompt"] == "$(AWS_SECRET_ACCESS_KEY)", "an argument decides over a setting"
    assert settings(everything)["STENOFLEET_INITIAL_PROMPT"] == 'Names: "Ana" & ${HOME} $(HOME)'
    (service,) = pods(everything)["service"]["containers"]
    assert service["args"][-1] == "$$(AWS_SECRET_ACCESS_KEY)", "Kubernetes replaces no variable"


def leaves(keys: Iterable[generate.Key]) -> list[generate.Key]:
    return [leaf for key in keys for leaf in key.leaves()]


def taken_out(values: Object, path: tuple[str, ...]) -> Object | None:
    """The values without the one at *path*; None if they have none there."""
    name, *rest = path
    if name not in values:
        return None
    if not rest:
        return {key: value for key, value in values.items() if key != name}
    below = taken_out(values[name], tuple(rest))
    return None if below is None else values | {name: below}


NOT_GIVEN = {
    *(
        "global",
        "device",
        "metrics.dashboard.labels",
        "model.image",
        "model.prefetch.enabled",
        "model.pvc.existingClaim",
    ),
    *("networkPolicy.enabled", "pdb.enabled", "rbac.create", "s3.caBundle.existingConfigMap", "securityContext"),
    *("serviceAccount.create", "tenants.existingSecret", "tests.existingSecret"),
}
"""Values without which the file with every option renders more."""
HIDDEN = {"image.controller.tag", "image.chunkJob.tag"}
"""A digest decides over a tag."""


def test_every_value_has_an_effect(tmp_path: Path) -> None:
    """Without any one of them, something else is rendered, or nothing."""
    every = yaml.safe_load(EVERY_OPTION.read_text(encoding="utf-8"))
    changes = {leaf.name: taken_out(every, leaf.path) for leaf in leaves(generate.read(VALUES))}
    assert {name for name, values in changes.items() if values is None} == NOT_GIVEN

    def text(name: str, values: Object) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        try:
            made = chart.template("--values", path)
        except RuntimeError as refused:
            return str(refused)
        return re.sub(r"token: \S{47}|sha256:[0-9a-f]{64}\"\]", "", made)

    whole = text("every", every)
    given = {name: values for name, values in changes.items() if values is not None}
    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(given, pool.map(text, given, given.values()), strict=True))
    assert {name for name, found in made.items() if found == whole} == HIDDEN
