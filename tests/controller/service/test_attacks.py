"""Two tenants of a running service attack each other: one never finds out what the other has, nor changes it."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.domain.jobs import Job
from controller.domain.webhook_documents import run_ended
from controller.service.outbox import Outbox
from tests import fakes
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.controller.service.uploading import begin, look, send_missing
from tests.fakes import JobBehaviour
from tests.pipeline import until

pytestmark = pytest.mark.process

UNKNOWN = "0" * 26
WEBHOOK_KEYS = 'current = "a"\n[keys]\na = "a secret of the service"\n'
NEWS_TABLE = """
max_queued_runs = 50
requests_per_second = 1000
sources = ["s3://news-media/"]
outputs = ["s3://news-out/"]
"""
RADIO_TABLE = """
requests_per_second = 1000
sources = ["s3://"]
outputs = ["s3://"]
"""


class CountingStore(FileStore):
    """Notes the requests that are made for clients, which are those of the threads of the HTTP server."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests: list[str] = []

    def _note(self, kind: str, key: str) -> None:
        if threading.current_thread().name.startswith("AnyIO"):
            self.requests.append(f"{kind} {key}")

    def open(self, key: str, **limit: Any) -> Any:
        self._note("open", key)
        return super().open(key, **limit)

    def _put(self, key: str, write: Any, **more: Any) -> bool:
        self._note("put", key)
        return super()._put(key, write, **more)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self._note("list", f"{prefix} {after}")
        return super().list(prefix, after=after)

    def stat(self, key: str) -> StoredObject | None:
        self._note("stat", key)
        return super().stat(key)

    def delete(self, key: str) -> None:
        self._note("delete", key)
        super().delete(key)


@dataclass(kw_only=True)
class Victim:
    """What the tenant *news* has."""

    ended: str
    open: str
    incomplete: dict[str, Any]
    complete: str
    dead: str
    """A callback that is not tried any more."""
    events: list[str]


@dataclass(kw_only=True)
class Two:
    """A service with two tenants, of which *radio* attacks."""

    up: Running
    store: CountingStore
    news: dict[str, str]
    radio: dict[str, str]
    victim: Victim

    def attack(self, method: str, path: str, **more: Any) -> Any:
        headers = self.radio | more.pop("headers", {})
        return self.up.client.request(method, path, headers=headers, **more)


def dead_delivery(store: FileStore, folder: Path) -> str:
    """The id of a dead delivery of *news*. It is made elsewhere, so that the service never sends it."""
    request = fakes.service_request()
    outbox = Outbox(FileStore(folder / "elsewhere"))
    outbox.add("news", "https://hooks.example/x", run_ended(request, fakes.service_end(request)), ended_ms=1)
    (pending,) = outbox.pending("news")
    delivery = outbox.read(pending)
    assert delivery
    store.put(f"webhooks/news/dead/{delivery.id}.json", delivery.encode())
    return delivery.id


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("attacks")
    path, headers = tenants_file(folder, news=NEWS_TABLE, radio=RADIO_TABLE)
    keys = folder / "keys.toml"
    keys.write_text(WEBHOOK_KEYS)
    store = CountingStore(folder / "store")

    def script(job: Job) -> JobBehaviour:
        return JobBehaviour(leaves="result", takes_ms=10**7 if "slow" in job.media_uri else 20)

    with running(store, tenants=path, webhook_keys=keys, script=script, part_bytes=4) as up:
        news = headers["news"]
        ended = up.submit("secret.wav", headers=news | {"Idempotency-Key": "order-1"}, labels={"case": "secret"})["id"]
        up.wait_for(ended, **news)
        waits = begin(up.client, 4, "other.slow", headers=news)
        send_missing(up.client, waits, b"slow", news)
        assert up.client.post(f"/v1/uploads/{waits['id']}:complete", headers=news).status_code == 200
        not_ended = up.client.post("/v1/runs", json={"upload": waits["id"]}, headers=news).json()["id"]
        incomplete = begin(up.client, 6, "secret.wav", headers=news)
        events = up.client.get(f"/v1/runs/{ended}/events", headers=news).text
        victim = Victim(
            ended=ended,
            open=not_ended,
            incomplete=incomplete,
            complete=waits["id"],
            dead=dead_delivery(store, folder),
            events=re.findall(r"^id: (.*)$", events, re.MULTILINE),
        )
        yield Two(up=up, store=store, news=news, radio=headers["radio"], victim=victim)
        # Nothing that the tests did has changed anything.
        assert up.client.get(f"/v1/runs/{ended}", headers=news).json()["status"] == "complete"
        assert up.client.get(f"/v1/runs/{not_ended}", headers=news).json()["status"] in ("queued", "running")
        dead = up.client.get("/v1/webhooks/dead", headers=news).json()["deliveries"]
        assert [delivery["id"] for delivery in dead] == [victim.dead]
        assert look(up.client, incomplete, news)["missing_parts"] == 2
        assert up.client.get(f"/v1/runs/{ended}/result", params={"format": "txt"}, headers=news).text == "w0a w0b\n"
        assert up.client.get(f"/v1/uploads/{waits['id']}", headers=news).json()["status"] == "complete"


def _routes(two: Two) -> list[tuple[str, str]]:
    """Method and path of every endpoint with an id."""
    paths: dict[str, dict[str, Any]] = two.up.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods if "{" in path]


def test_an_id_of_another_tenant_is_answered_as_one_that_does_not_exist(two: Two) -> None:
    ids = {
        "run_id": [two.victim.ended, two.victim.open],
        "upload_id": [two.victim.incomplete["id"], two.victim.complete],
        "delivery_id": [two.victim.dead],
    }
    seen = 0
    for method, path in _routes(two):
        names = re.findall(r"{([a-z_]+)}", path)
        # A new kind of id needs an example here.
        assert set(names) <= {*ids, "number"}, path
        unknown = "0" * len(ids[names[0]][0])
        for other in ids[names[0]]:
            replies, requests = [], []
            for each in (other, unknown):
                at = path.format(**{name: "1" if name == "number" else each for name in names})
                two.store.requests.clear()
                reply = two.attack(method, at, content=b"abcd" if method == "PUT" else None)
                problem(reply, 404, "not-found")
                replies.append((reply.json(), dict(reply.headers)))
                requests.append([request.replace(each, "ID") for request in two.store.requests])
                assert not any("/news/" in request for request in requests[-1])
                assert all(request.startswith(("open", "stat", "list")) for request in requests[-1])
            assert replies[0] == replies[1], path
            assert requests[0] == requests[1], path
            assert requests[0], "the store was not asked: nothing was compared"
            seen += 1
    assert seen >= 2 * 11


def test_an_upload_of_another_tenant_cannot_be_submitted(two: Two) -> None:
    replies, requests = [], []
    for upload in (two.victim.complete, two.victim.incomplete["id"], UNKNOWN):
        two.store.requests.clear()
        reply = two.attack("POST", "/v1/runs", json={"upload": upload})
        problem(reply, 404, "not-found")
        replies.append(reply.json())
        requests.append([request.replace(upload, "ID") for request in two.store.requests])
    assert replies[0] == replies[1] == replies[2]
    assert requests[0] == requests[1] == requests[2] != []


def test_lists_have_only_runs_of_the_tenant_also_with_a_cursor_and_filters_of_another(two: Two) -> None:
    cursor = two.up.client.get("/v1/runs", params={"limit": 1}, headers=two.news).json()["next_cursor"]
    assert cursor
    for params in ({}, {"cursor": cursor}, {"label": "case=secret"}, {"status": "complete"}):
        two.store.requests.clear()
        reply = two.attack("GET", "/v1/runs", params=params)
        assert "secret" not in reply.text
        assert two.victim.ended not in reply.text
        assert not any("/news/" in request for request in two.store.requests)


def test_dead_callbacks_of_another_tenant_are_not_listed(two: Two) -> None:
    for params in ({}, {"cursor": "0" * 32}, {"cursor": two.victim.dead}):
        reply = two.attack("GET", "/v1/webhooks/dead", params=params)
        assert reply.json() == {"deliveries": [], "next_cursor": None}


def test_the_events_of_another_tenant_are_not_resumed(two: Two) -> None:
    assert two.victim.events
    for event in two.victim.events:
        reply = two.attack("GET", f"/v1/runs/{two.victim.ended}/events", headers={"Last-Event-ID": event})
        problem(reply, 404, "not-found")
    two.attack("GET", f"/v1/runs/{two.victim.ended}/events", headers={"Last-Event-ID": "../../x"})


def test_the_same_idempotency_key_of_two_tenants_is_two_runs(two: Two) -> None:
    for data in (b"sound", b"other"):
        reply = two.attack(
            "POST",
            "/v1/runs",
            files={"file": ("secret.wav", data)},
            data={"request": json.dumps({"labels": {"case": "secret"}})},
            headers={"Idempotency-Key": "order-1" if data == b"sound" else "order-2"},
        )
        assert reply.status_code == 202
        run = reply.json()
        assert run["id"] != two.victim.ended
        assert run["status"] in ("queued", "running"), "the transcript of another tenant is no shortcut"
        own = two.up.wait_for(run["id"], **two.radio)
        assert own["run"] != two.up.client.get(f"/v1/runs/{two.victim.ended}", headers=two.news).json()["run"]
        problem(two.up.client.get(f"/v1/runs/{run['id']}", headers=two.news), 404, "not-found")
        assert two.attack("DELETE", f"/v1/runs/{run['id']}").status_code == 204


@pytest.mark.parametrize(
    "source",
    [
        "s3://radio-media/a.wav",
        "s3://news-media",
        "s3://news-media/",
        "s3://news-media-2/a.wav",
        "s3://news-media/../radio-media/a.wav",
        "s3://news-media/%2e%2e/a.wav",
        "S3://news-media/a.wav",
        "s3://news-media@radio-media/a.wav",
        "s3://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://127.0.0.1:9000/news-media/a.wav",
        "https://kubernetes.default.svc/api",
        "/etc/passwd",
        "concat:/etc/passwd",
    ],
)
def test_only_own_sources_and_outputs_are_accepted_and_the_store_is_not_asked(two: Two, source: str) -> None:
    two.store.requests.clear()
    before = two.up.client.get("/v1/runs", headers=two.news).json()
    bodies: list[dict[str, Any]] = [{"source": source}]
    if source not in ("s3://news-media", "s3://news-media/"):
        bodies.append({"source": "s3://news-media/a.wav", "output": source})
    for body in bodies:
        two.store.requests.clear()
        found = problem(two.up.client.post("/v1/runs", json=body, headers=two.news), 403, "address-refused")
        assert source not in found["detail"]
        assert two.store.requests == []
    assert two.up.client.get("/v1/runs", headers=two.news).json() == before


def test_files_of_the_store_are_no_source(two: Two) -> None:
    for item in two.store.list(f"requests/news/{two.victim.ended}/"):
        place = (two.store.root / item.key).as_uri()
        found = problem(two.attack("POST", "/v1/runs", json={"source": place}), 403, "address-refused")
        assert str(two.store.root) not in json.dumps(found)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f000001/",
        "https://2130706433/",
        "http://example.com/",
        "ftp://example.com/",
        "https://user:pass@example.com/",
        "file:///etc/passwd",
    ],
)
def test_a_callback_to_a_private_address_is_refused(two: Two, url: str) -> None:
    reply = two.attack("POST", "/v1/runs", json={"source": "s3://some-media/a.wav", "callback_url": url})
    # A name is resolved at each delivery, and refused then.
    problem(reply, 422, "callback-refused")


def test_who_has_no_valid_token_gets_nothing(two: Two) -> None:
    token = two.news["Authorization"].removeprefix("Bearer ")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {token}"},
        {"X-Tenant": "news"},
        {"X-Auth-Request-User": "news"},
        {"Cookie": f"token={token}"},
    ):
        for method, path in [*_routes(two), ("GET", "/v1/runs"), ("POST", "/v1/runs"), ("POST", "/v1/uploads")]:
            at = re.sub(r"{number}", "1", re.sub(r"{[a-z]+_id}", two.victim.ended, path))
            two.store.requests.clear()
            reply = two.up.client.request(method, at, headers=headers, params={"token": token})
            # After some failures they are answered with 429.
            assert reply.status_code in (401, 429), (method, path, reply.text)
            assert two.store.requests == []
            assert "secret" not in reply.text
    assert two.attack("GET", "/v1/runs").status_code == 200, "a valid token is never refused because of others"


def test_metrics_are_not_among_the_endpoints_of_tenants(two: Two) -> None:
    problem(two.attack("GET", "/metrics"), 404, "not-found")


def test_requests_a_second_are_limited_for_one_tenant_and_not_for_another(store: FileStore, tmp_path: Path) -> None:
    path, headers = tenants_file(tmp_path, news="requests_per_second = 0.5", radio="")
    with running(store, tenants=path) as up:
        replies = [up.client.get("/v1/runs", headers=headers["news"]) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 429, 429]
        assert "0.5 requests a second" in problem(replies[1], 429, "limit-exceeded")["detail"]
        wait_s = int(replies[1].headers["retry-after"])
        assert 1 <= wait_s <= 2
        assert up.client.get("/v1/runs", headers=headers["radio"]).status_code == 200
        assert up.client.get("/healthz").status_code == 200
        time.sleep(wait_s)
        assert up.client.get("/v1/runs", headers=headers["news"]).status_code == 200


def test_queued_runs_are_limited_for_one_tenant_and_not_for_another(store: FileStore, tmp_path: Path) -> None:
    path, headers = tenants_file(tmp_path, news="max_queued_runs = 2", radio="")
    done = {"on": False}

    def script(job: Job) -> JobBehaviour:
        return JobBehaviour(leaves="result", takes_ms=20 if done["on"] else 10**7)

    with running(store, tenants=path, script=script) as up:
        runs = [up.submit(headers=headers["news"])["id"] for _ in range(2)]
        reply = up.client.post("/v1/runs", files={"file": ("a.wav", b"sound")}, headers=headers["news"])
        assert "2 runs that have not ended" in problem(reply, 429, "limit-exceeded")["detail"]
        assert reply.headers["retry-after"] == "60"
        # The recording of a refused form takes nothing.
        homes = {item.key.split("/")[2] for item in up.store.list("uploads/news/")}
        assert len(homes) == 2
        assert list(up.store.list("incomplete/")) == []
        # Another one is not limited, and the same request again is no new run.
        up.submit(headers=headers["radio"])
        for run in runs:
            assert up.client.post(f"/v1/runs/{run}:cancel", headers=headers["news"]).status_code == 202
        for run in runs:
            assert up.wait_for(run, **headers["news"])["status"] == "cancelled"
        done["on"] = True

        def accepted() -> bool:
            nonlocal reply
            reply = up.client.post("/v1/runs", files={"file": ("a.wav", b"sound")}, headers=headers["news"])
            return reply.status_code == 202

        until(accepted, "the runs that were cancelled do not count")
        assert up.wait_for(reply.json()["id"], **headers["news"])["status"] == "complete"


def test_trying_again_does_not_get_around_the_limit_of_queued_runs(store: FileStore, tmp_path: Path) -> None:
    path, headers = tenants_file(tmp_path, news="max_queued_runs = 1")
    news = headers["news"]
    with running(store, tenants=path, takes_ms=10**7) as up:
        ended = up.submit(headers=news)["id"]
        assert up.client.post(f"/v1/runs/{ended}:cancel", headers=news).status_code == 202
        assert up.wait_for(ended, **news)["status"] == "cancelled"
        until(lambda: not up.server.queue.counts.of("news"), "the queue is empty")
        up.submit(headers=news)
        problem(up.client.post(f"/v1/runs/{ended}:retry", headers=news), 429, "limit-exceeded")


def test_no_token_is_in_a_log_or_in_a_reply_or_in_the_store(
    store: FileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path, headers = tenants_file(tmp_path, news="", radio="max_queued_runs = 0")
    tokens = {name: each["Authorization"].removeprefix("Bearer ") for name, each in headers.items()}
    texts = []
    with running(store, tenants=path) as up:
        run = up.submit(headers=headers["news"])["id"]
        up.wait_for(run, **headers["news"])
        for name, each in headers.items():
            token = tokens[name]
            calls: list[tuple[str, str, dict[str, Any]]] = [
                ("GET", "/v1/runs", {}),
                ("GET", f"/v1/runs/{run}", {}),
                ("GET", f"/v1/runs/{run}/events", {}),
                ("GET", f"/v1/runs/{run}/result", {"params": {"format": "x"}}),
                ("POST", "/v1/runs", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
                ("POST", "/v1/runs", {"json": {"source": "http://x"}}),
                ("POST", "/v1/runs", {"files": {"file": ("a.wav", b"sound")}}),
                ("POST", "/v1/uploads", {"json": {"name": "a", "size_bytes": -1}}),
                ("POST", "/v1/uploads", {"json": {"name": "a", "size_bytes": 5}}),
                ("PUT", "/v1/runs", {}),
                ("GET", "/v9", {}),
            ]
            for method, at, more in calls:
                sent = each | more.pop("headers", {})
                texts.append(up.client.request(method, at, headers=sent, **more).text)
            for wrong in (f"Basic {token}", f"Bearer {token} x", token, f"Bearer {token}\u00e9"):
                raw = [(b"authorization", wrong.encode("latin-1"))]
                reply = up.client.request("GET", "/v1/runs", headers=raw)
                problem(reply, 401, "unauthenticated")
                texts.append(f"{reply.text} {reply.headers}")
    texts += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    texts += [item.key + store.get(item.key).decode("latin-1") for item in store.list("")]
    assert len(texts) > 30
    for token in tokens.values():
        assert not [text for text in texts if token in text]
