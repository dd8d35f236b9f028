"""Requests that schemathesis makes from the description of the API, valid and invalid ones: no answer is a failure of
the service, and each is as described.
"""

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from chunk_job.store.files import FileStore
from controller.service import limits
from docs.openapi import document
from tests.controller.service.running import Running, running, tenants_file
from tests.documented import ROOT

pytestmark = pytest.mark.process
EXAMPLES = int(os.environ.get("STENOFLEET_API_EXAMPLES", "6"))
"""For each operation."""
LEFT_OUT: list[Any] = [checks.positive_data_acceptance]
"""A body may fit its schema, and still contradict itself: names of speakers without channels: split."""
PATHS = list(json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))["paths"])
KNOWN: dict[str, list[str]] = {}
"""Ids that exist, by the name of their parameter."""

_turns = itertools.count()


def map_path_parameters(context: object, path_parameters: dict[str, str] | None) -> dict[str, str] | None:
    """Most requests are for runs and uploads that exist."""
    turn = next(_turns) % 5
    for name, known in KNOWN.items():
        if path_parameters and name in path_parameters and turn < len(known):
            path_parameters[name] = known[turn]
    return path_parameters


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document()


# The requests are made when its test runs: making all of them while tests are collected would cost each
# worker some seconds.
@pytest.fixture(params=PATHS)
def operations(request: pytest.FixtureRequest, described: dict[str, Any]) -> BaseSchema:
    """The description of one path."""
    # schemathesis reads it and writes it, and this version of pytest has no such field.
    request.node._nodeid = request.node.nodeid
    schema = schemathesis.openapi.from_dict(described | {"paths": {request.param: described["paths"][request.param]}})
    # Parameters that an endpoint does not have are ignored.
    schema.config.generation.update(max_examples=EXAMPLES, deterministic=True, allow_extra_parameters=False)
    schema.hook(map_path_parameters)
    return schema


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    tenants, headers = tenants_file(folder, news="requests_per_second = 10000\nsources = []")
    # Many requests have no token, and 429 would hide what is tested.
    with (
        pytest.MonkeyPatch.context() as patch,
        running(FileStore(folder / "store"), tenants=tenants) as up,
    ):
        patch.setattr(limits, "FAILURES_AT_ONCE", 1_000_000)
        up.client.headers.update(headers["news"])
        KNOWN["run_id"] = [up.submit(f"{number}.wav")["id"] for number in range(4)]
        for run in KNOWN["run_id"]:
            up.wait_for(run)
        upload = {"name": "a.wav", "size_bytes": 3}
        KNOWN["upload_id"] = [up.client.post("/v1/uploads", json=upload).json()["id"] for _ in range(3)]
        yield up


@schemathesis.pytest.from_fixture("operations").parametrize()
def test_no_answer_differs_from_the_description(case: schemathesis.Case[Any], service: Running) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{service.server.port}",
        headers={"Authorization": service.client.headers["Authorization"]},
        excluded_checks=LEFT_OUT,
        timeout=30,
    )
