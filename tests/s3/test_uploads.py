"""Uploads with a real server: clients send parts to it by themselves, with forms that the service has signed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from chunk_job.store.base import ObjectMissing, Store
from chunk_job.store.s3 import S3Store
from controller.service.answers import Answers
from controller.service.sweeper import Sweeper
from controller.service.uploads import UploadStore
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.controller.service.uploading import begin, follow_the_docs, look, send, send_missing
from tests.testbed.s3_server import Server

MIB = 1 << 20
PART = 5 * MIB
"""The shortest part of which a server composes an object."""
SOUND = bytes(range(256)) * (4096 * 11) + b"end"  # two parts of 5 MiB, and the rest


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    with running(store, part_bytes=PART) as up:
        yield up


def test_a_recording_is_uploaded_in_parts_resumed_and_transcribed(service: Running) -> None:
    upload = begin(service.client, len(SOUND))
    assert [part["method"] for part in upload["parts"]] == ["POST"] * 3
    # The second part is lost.
    for part in (upload["parts"][0], upload["parts"][2]):
        assert send(service.client, part, SOUND[part["offset"] : part["offset"] + part["size_bytes"]]) == 204
    problem(service.client.post(f"/v1/uploads/{upload['id']}:complete"), 409, "upload-incomplete")
    now = look(service.client, upload)
    assert [part["number"] for part in now["parts"]] == [2]
    send_missing(service.client, now, SOUND)
    done = service.client.post(f"/v1/uploads/{upload['id']}:complete")
    assert (done.status_code, done.json()["status"]) == (200, "complete"), done.text
    home = f"uploads/default/{upload['id']}/"
    assert [item.key for item in service.store.list(home)] == [f"{home}media.wav", f"{home}upload.json"]
    assert service.store.get(f"{home}media.wav") == SOUND
    run = service.client.post("/v1/runs", json={"upload": upload["id"]}).json()
    assert service.wait_for(run["id"])["status"] == "complete"
    service.wait_until_gone(home)
    assert service.client.get(f"/v1/runs/{run['id']}/result", params={"format": "txt"}).text == "w0a w0b\n"


def test_one_part_is_enough_for_a_short_recording(service: Running) -> None:
    upload = begin(service.client, 3, "a b&c?.mp3")
    send_missing(service.client, upload, b"abc")
    assert service.client.post(f"/v1/uploads/{upload['id']}:complete").status_code == 200
    assert service.store.get(f"uploads/default/{upload['id']}/media.mp3") == b"abc"


def test_the_server_itself_refuses_what_the_form_does_not_allow(service: Running, environment: Any) -> None:
    upload = begin(service.client, len(SOUND))
    last = upload["parts"][2]
    whole = SOUND[last["offset"] :]
    assert send(service.client, last, whole[:-1]) == 400
    assert send(service.client, last, whole + b"x") == 400
    changed = [
        {"key": last["fields"]["key"].replace("/00003", "/00004")},
        {"key": last["fields"]["key"].replace("uploads/default/", "uploads/other/")},
        {"x-amz-signature": "0" * 64},
        {"acl": "public-read"},
        {"success_action_redirect": "http://127.0.0.1/"},
    ]
    for change in changed:
        fields = last["fields"] | change
        assert send(service.client, {**last, "fields": fields}, whole) in (400, 403), change
    assert urllib3.request("GET", f"{last['url']}{last['fields']['key']}").status == 403
    assert look(service.client, upload)["missing_parts"] == 3
    assert all("/parts/" not in item.key for item in service.store.list("uploads/"))


def test_a_form_is_valid_for_a_while_only(service: Running, store: S3Store) -> None:
    now_ms = service.clock.now_ms()
    forms = {valid_s: store.post_form("x", size_bytes=1, until_ms=now_ms + valid_s * 1000) for valid_s in (-1, 60)}
    sent = {
        valid_s: send(service.client, {"method": "POST", "url": url, "fields": fields}, b"x")
        for valid_s, (url, fields) in forms.items()
    }
    assert sent == {-1: 403, 60: 204}


def test_parts_do_not_come_through_the_service(service: Running) -> None:
    upload = begin(service.client, 3)
    problem(service.client.put(f"/v1/uploads/{upload['id']}/parts/1", content=b"abc"), 409, "not-here")


def test_an_upload_is_deleted_and_what_is_sent_after_that_too(service: Running) -> None:
    upload = begin(service.client, 3)
    send_missing(service.client, upload, b"abc")
    path = f"/v1/uploads/{upload['id']}"
    assert service.client.delete(path).status_code == 204
    problem(service.client.get(path), 404, "not-found")
    # The form cannot be revoked.
    send_missing(service.client, upload, b"abc")
    problem(service.client.get(path), 404, "not-found")
    uploads = UploadStore(service.store)
    assert uploads.stored_bytes("default") == 3
    late_ms = service.clock.now_ms() + 4 * 3600 * 1000
    Sweeper(uploads, Answers(service.store), lambda _: True, lambda: late_ms).sweep()
    assert [item.key for top in ("incomplete/", "uploads/") for item in service.store.list(top)] == []


def test_a_part_that_disappears_is_noticed(store: S3Store) -> None:
    store.put("a/1", bytes(PART))
    with pytest.raises(ObjectMissing, match="a/whole"):
        store.compose("a/whole", ["a/1", "a/2"])
    assert store.stat("a/whole") is None
    store.put("a/2", b"x")
    store.compose("a/whole", ["a/1", "a/2"])
    assert store.get("a/whole") == bytes(PART) + b"x"


def test_two_completions_at_the_same_time_give_one_recording(store: Store) -> None:
    with running(store, part_bytes=PART) as one, running(store, part_bytes=PART) as two:
        upload = begin(one.client, len(SOUND))
        send_missing(one.client, upload, SOUND)
        record = UploadStore(store).find("default", upload["id"])
        assert record
        futures = [each.server.completions.start(record) for each in (one, two, one, two)]
        for future in futures:
            future.result(timeout=60)
        assert look(two.client, upload)["status"] == "complete"
        assert store.get(f"uploads/default/{upload['id']}/media.wav") == SOUND
        assert UploadStore(store).reserved("default") == {}


def test_tenants_attack_each_other_in_one_bucket(store: Store, tmp_path: Path, asked: list[str]) -> None:
    path, headers = tenants_file(
        tmp_path, news="", radio='sources = ["s3://"]\noutputs = ["s3://"]\nrequests_per_second = 1000'
    )
    news, radio = headers["news"], headers["radio"]
    with running(store, tenants=path, part_bytes=PART) as up:
        upload = begin(up.client, 3, headers=news)
        send_missing(up.client, upload, b"abc", news)
        run = up.submit("secret.wav", headers=news)["id"]
        up.wait_for(run, **news)
        # The store of the service is nobody's source or output, wherever the tenant may read else.
        keys = [item.key for item in store.list("") if not item.key.startswith("replicas/")]
        assert any(key.startswith("requests/news/") for key in keys)
        replies = []
        for key in [*keys, "runs/unknown", f"uploads/radio/{upload['id']}/media.wav"]:
            for body in (
                {"source": f"{store.url}/{key}"},
                {"source": "s3://else/a.wav", "output": f"{store.url}/{key}"},
            ):
                reply = up.client.post("/v1/runs", json=body, headers=radio)
                replies.append((list(body), problem(reply, 403, "address-refused")))
        assert len({str(reply) for reply in replies}) == 2
        assert all(store.url not in str(reply) for reply in replies)
        for kind, other in (("uploads", upload["id"]), ("runs", run)):
            found = []
            for each in (other, "0" * 26):
                asked.clear()
                reply = up.client.get(f"/v1/{kind}/{each}", headers=radio)
                problem(reply, 404, "not-found")
                requests = [request.replace(each, "ID") for request in asked if each in request]
                found.append((reply.content, requests))
            assert found[0] == found[1]
            assert found[0][1]
            assert all("news" not in request for request in found[0][1])
        # A form for an own part stores nothing of another tenant.
        own = begin(up.client, 3, headers=radio)["parts"][0]
        key = own["fields"]["key"].replace("/radio/", "/news/")
        assert send(up.client, {**own, "fields": own["fields"] | {"key": key}}, b"bad") == 403
        assert up.client.post(f"/v1/uploads/{upload['id']}:complete", headers=news).json()["status"] == "complete"
        assert store.get(f"uploads/news/{upload['id']}/media.wav") == b"abc"


def test_the_commands_of_the_docs_upload_a_recording(service: Running, tmp_path: Path) -> None:
    run = follow_the_docs(tmp_path, service.address, SOUND)
    assert service.wait_for(run["id"])["status"] == "complete"


def test_clients_may_reach_the_server_at_another_address(store: Store, server: Server) -> None:
    other = f"http://localhost:{server.endpoint.rpartition(':')[2]}"
    with running(store, part_bytes=PART, upload_endpoint=other) as up:
        upload = begin(up.client, 3)
        assert upload["parts"][0]["url"].startswith(f"{other}/")
        send_missing(up.client, upload, b"abc")
        assert up.client.post(f"/v1/uploads/{upload['id']}:complete").status_code == 200
