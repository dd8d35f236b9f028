"""The running service with its store in S3: the life of a run, objects of tenants, and a server that goes away."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.domain.jobs import Job
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.fakes import JobBehaviour, Script
from tests.testbed.s3_server import OwnServer, Server

PATIENCE_S = 60.0


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "in vain"
        time.sleep(0.05)


class Gate:
    """Jobs of which the second chunk takes long, unless it begins when the gate is open."""

    def __init__(self, takes_ms: int = 10**6) -> None:
        self.is_open = False
        self.takes_ms = takes_ms

    @property
    def script(self) -> Script:
        def behave(job: Job) -> JobBehaviour:
            return JobBehaviour(leaves="result", takes_ms=self.takes_ms if job.span == 1 and not self.is_open else 20)

        return behave


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    with running(store) as up:
        yield up


def test_runs_are_submitted_listed_and_deleted_with_all_their_objects(service: Running, store: Store) -> None:
    runs = [service.submit(f"{number}.wav")["id"] for number in range(5)]
    for run in runs:
        assert service.wait_for(run)["status"] == "complete"
        text = service.client.get(f"/v1/runs/{run}/result", params={"format": "txt"}).text
        assert text == "w0a w0b\n"
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = service.client.get("/v1/runs", params={"limit": 2, "cursor": cursor}).json()
        listed += [run["id"] for run in page["runs"]]
        cursor = page["next_cursor"]
    assert sorted(listed) == sorted(runs)
    events = service.client.get(f"/v1/runs/{runs[0]}/events").text
    kinds = [line.removeprefix("event: ") for line in events.splitlines() if line.startswith("event: ")]
    assert (kinds[:2], kinds[-1]) == (["accepted", "started"], "ended")
    for run in runs:
        assert service.client.delete(f"/v1/runs/{run}").status_code == 204
    assert {entry.key.partition("/")[0] for entry in store.list("")} == {"ledger", "replicas"}


def test_a_run_is_cancelled_and_tried_again(store: Store) -> None:
    gate = Gate()
    with running(store, script=gate.script, chunks_ms=(10_000, 10_000)) as service:
        run = service.submit()["id"]
        until(lambda: len(service.client.get(f"/v1/runs/{run}/chunks").json()["chunks"]) == 2)
        until(lambda: service.client.get(f"/v1/runs/{run}/chunks").json()["chunks"][0]["state"] == "done")
        assert service.client.post(f"/v1/runs/{run}:cancel").status_code == 202
        assert service.wait_for(run)["status"] == "cancelled"
        gate.is_open = True
        until(lambda: service.client.post(f"/v1/runs/{run}:retry").status_code == 202)
        assert service.wait_for(run, "complete", "failed")["status"] == "complete"
        assert [job.span for job in service.runner.submitted].count(0) == 1


def test_a_tenant_names_an_object_and_gets_its_outputs_in_its_bucket(
    store: Store, server: Server, tmp_path: Path
) -> None:
    with server.bucket() as media, server.bucket() as foreign:
        allowed = f'sources = ["s3://{media}/in/"]\noutputs = ["s3://{media}/out/"]'
        tenants, headers = tenants_file(tmp_path, news=allowed, radio="")
        objects = open_store(f"s3://{media}")
        objects.put("in/talk.wav", b"sound")
        source, output = f"s3://{media}/in/talk.wav", f"s3://{media}/out/talks"
        with running(store, tenants=tenants) as service:
            body: dict[str, Any] = {"source": source, "output": output, "output_formats": ["txt", "json"]}
            reply = service.client.post("/v1/runs", json=body, headers=headers["news"])
            assert reply.status_code == 202, reply.text
            ended = service.wait_for(reply.json()["id"], **headers["news"])
            assert (ended["status"], ended["name"]) == ("complete", "talk.wav"), ended
            assert sorted(ended["files"]) == [f"{output}/talk.json", f"{output}/talk.txt"]
            assert objects.get("out/talks/talk.txt") == b"w0a w0b\n"
            assert json.loads(objects.get("out/talks/talk.json"))["text"] == "w0a w0b"
            for tenant, named in (
                ("news", f"s3://{foreign}/in/talk.wav"),
                ("news", f"s3://{media}/other/talk.wav"),
                ("news", f"{store.url}/requests/radio/x"),
                ("radio", source),
            ):
                refused = service.client.post("/v1/runs", json={"source": named}, headers=headers[tenant])
                problem(refused, 403, "address-refused")
            missing = service.client.post("/v1/runs", json={"source": f"{source}x"}, headers=headers["news"])
            ended = service.wait_for(missing.json()["id"], **headers["news"])
            assert (ended["status"], ended["environment"]) == ("failed", False)
            assert service.client.get("/v1/runs", headers=headers["radio"]).json()["runs"] == []
        # What a run has read and written elsewhere is not the service's to delete.
        assert objects.get("in/talk.wav") == b"sound"


def has_status(service: Running, run: str, status: str) -> bool:
    """Whether the run has this status now."""
    return bool(service.client.get(f"/v1/runs/{run}").json()["status"] == status)


@pytest.fixture
def lost(mortal: OwnServer, environment: pytest.MonkeyPatch, hasty: None) -> Store:
    """A store of which the server may be killed."""
    for name, value in mortal.environment.items():
        environment.setenv(name, value)
    mortal.client().make_bucket(bucket_name="service")
    return open_store("s3://service/state")


def test_a_server_that_goes_away_delays_runs_and_loses_nothing_that_was_accepted(
    lost: Store, mortal: OwnServer
) -> None:
    gate = Gate(5_000)
    with running(lost, script=gate.script, chunks_ms=(10_000, 10_000)) as service:
        first = service.submit("first.wav")["id"]
        until(lambda: [job.span for job in service.runner.submitted].count(1))
        until(lambda: service.client.get(f"/v1/runs/{first}/chunks").json()["chunks"][0]["state"] == "done")
        place = f"http://127.0.0.1:{service.server.port}"
        answers: dict[str, list[int]] = {}
        accepted: dict[str, str] = {}

        def submit(number: int) -> None:
            """A client that sends its requests again until they are accepted."""
            with httpx.Client(base_url=place, timeout=PATIENCE_S) as client:
                for each in range(4):
                    key = f"{number}-{each}"
                    answers[key] = []
                    while key not in accepted:
                        files = {"file": (f"{key}.wav", b"sound")}
                        reply = client.post("/v1/runs", files=files, headers={"Idempotency-Key": key})
                        answers[key].append(reply.status_code)
                        if reply.status_code == 202:
                            accepted[key] = reply.json()["id"]
                        else:
                            problem(reply, 503, "store-unavailable")
                            assert reply.headers["retry-after"] == "5"
                            time.sleep(0.2)

        clients = [threading.Thread(target=submit, args=(number,)) for number in range(3)]
        for client in clients:
            client.start()
        until(lambda: len(accepted) >= 2)
        mortal.kill()
        until(lambda: sum(503 in answer for answer in answers.values()) == len(clients))
        problem(service.client.get(f"/v1/runs/{first}"), 503, "store-unavailable")
        problem(service.client.get("/readyz"), 503, "not-ready")
        assert service.client.get("/healthz").status_code == 200, "a restart would not help"
        time.sleep(2)
        mortal.start()
        gate.is_open = True
        for client in clients:
            client.join(timeout=PATIENCE_S)
            assert not client.is_alive()
        assert len(set(accepted.values())) == 12
        for run in (first, *accepted.values()):
            until(partial(has_status, service, run, "complete"))
        listed = [run["id"] for run in service.client.get("/v1/runs").json()["runs"]]
        assert sorted(listed) == sorted([first, *accepted.values()])
        chunks = [(job.run, job.span) for job in service.runner.submitted if job.span is not None]
        assert len(set(chunks)) == len(chunks) == 26, "no chunk is computed twice"
