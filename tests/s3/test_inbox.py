"""An inbox in a bucket: its listing, events that the server sends, and a service that is fed while it restarts."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.service.inbox.places import InboxSettings
from tests.controller.service.running import running
from tests.controller.service.test_runs_api import problem
from tests.pipeline import until
from tests.ports import free_port
from tests.testbed import s3_server
from tests.testbed.s3_server import Server

NAMES = (
    "a.mp3",
    "a-b.mp3",
    "a/b.mp3",
    "a/Season #2/What? é+ñ 100%.mp3",
    "a b.mp3",
    "Z.mp3",
    "ä.mp3",
    "～.mp3",
    "😀.mp3",
)
"""In no alphabetical order: what S3 sorts by are bytes."""


def settings(store: Store, **more: Any) -> InboxSettings:
    return InboxSettings(inbox=f"{store.url}/inbox", outbox=f"{store.url}/outbox", **{"poll_s": 0.2, **more})


def test_objects_are_transcribed_once_into_the_same_tree(store: Store, asked: list[str]) -> None:
    for name in NAMES:
        store.put(f"inbox/{name}", b"sound")
    store.put("inbox/a/stenofleet.yaml", b"output_formats: [txt, vtt]")
    store.put("inbox/bad.mp3", b"")
    wanted = {"outbox/bad.mp3.error.json"}
    for name in NAMES:
        wanted |= {f"outbox/{name}.{end}" for end in (("txt", "vtt") if name[:2] == "a/" else ("txt", "srt", "json"))}

    def written() -> set[str]:
        return {entry.key for entry in store.list("outbox/")}

    with running(store, inbox=settings(store), max_parallel=4) as service:
        until(lambda: written() >= wanted, "all are transcribed")
        assert written() == wanted
        assert store.get("outbox/a.mp3.txt") == b"w0a w0b\n"
        assert json.loads(store.get("outbox/bad.mp3.error.json"))["summary"].endswith("is empty (0 bytes)")
        runs = len(service.client.get("/v1/runs").json()["runs"])
        store.put("outbox/a.mp3.txt", b"corrected\n")
        store.put("inbox/a.mp3", b"another sound")
        until(lambda: len(service.client.get("/v1/runs").json()["runs"]) == runs + 1, "it is transcribed again")
        until(lambda: not list(store.list("queue/")), "it has ended")
        assert store.get("outbox/a.mp3.txt") == b"corrected\n"
        store.put("inbox/bad.mp3", b"sound")
        until(lambda: store.stat("outbox/bad.mp3.error.json") is None, "the error is removed when it succeeds")
    with running(store, inbox=settings(store)) as service:
        asked.clear()
        until(lambda: sum("prefix=some%2Fprefix%2Finbox%2F" in request for request in asked) > 3, "it looks again")
        assert len(service.client.get("/v1/runs").json()["runs"]) == runs + 2
        looked = [request for request in asked if "%2Finbox%2F" in request or "/inbox/" in request]
        assert all("list-type=2" in request for request in looked), "what is known is only listed"


def test_the_same_content_put_again_is_tried_again_only_after_a_failure(store: Store) -> None:
    store.put("inbox/good.mp3", b"sound")
    store.put("inbox/empty.mp3", b"")
    with running(store, inbox=settings(store)) as service:

        def states() -> str:
            return " ".join(entry.key for entry in store.list("inbox-state/default/objects/"))

        until(lambda: "-done-" in states() and "-failed-" in states(), "both have ended")
        before = store.stat("inbox/empty.mp3")
        assert before
        store.put("inbox/good.mp3", b"sound")
        until(lambda: _put_later(store, "inbox/empty.mp3", before.modified_s), "the server's time is another one")
        until(lambda: len(service.client.get("/v1/runs").json()["runs"]) == 3, "the failure is tried again")
        until(lambda: not list(store.list("queue/")), "it has ended")
        names = [run["name"] for run in service.client.get("/v1/runs").json()["runs"]]
        assert sorted(names) == ["empty.mp3", "empty.mp3", "good.mp3"]


def _put_later(store: Store, key: str, before_s: float) -> bool:
    """Put an empty object. Returns whether its time differs: the server says it in whole seconds."""
    store.put(key, b"")
    found = store.stat(key)
    return found is not None and found.modified_s > before_s


def test_events_of_the_server_are_followed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if s3_server.given():
        pytest.skip("configures its server, and the given one is not ours to configure")
    port = free_port()
    variables = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_inbox": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_inbox": f"http://127.0.0.1:{port}/v1/hooks/s3",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_inbox": "stf_news_token",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_inbox": str(tmp_path / "events"),
    }
    with s3_server.own(tmp_path / "minio", variables=variables) as server:
        _use(server, monkeypatch)
        server.client().make_bucket(bucket_name="media")
        store = open_store("s3://media/service")
        _serve_events(store, server, port, tmp_path)


def _use(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def _serve_events(store: Store, server: Server, port: int, folder: Path) -> None:
    from tests.controller.service.running import tenants_file

    tenants, headers = tenants_file(folder, news="")
    never = settings(store, poll_s=10**6)
    with running(store, tenants=tenants, inbox=never, port=port) as service:
        until(lambda: list(store.list("replicas/")), "it works")
        arn = "arn:minio:sqs::inbox:webhook"
        server.mc("event", "add", "server/media", arn, "--event", "put", "--prefix", "service/inbox/")
        store.put("inbox/news/a b/é #1.mp3", b"sound")
        until(lambda: store.stat("outbox/news/a b/é #1.mp3.txt"), "it is transcribed without a poll")
        (run,) = service.client.get("/v1/runs", headers=headers["news"]).json()["runs"]
        assert run["name"] == "é #1.mp3"
        reply = httpx.post(f"{service.address}/v1/hooks/s3", json={"Records": []})
        problem(reply, 401, "unauthenticated")
