"""``/v1/uploads`` with a running service and a folder as its store: parts come to the service itself."""

import json
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from chunk_job.store.files import FileStore
from controller.domain.service_documents import Upload
from controller.domain.service_keys import id_of
from controller.service import serving, uploads_api
from controller.service.answers import Answers
from controller.service.problems import Problem
from controller.service.requests import RequestStore
from controller.service.sweeper import Sweeper
from controller.service.upload_completion import Completions
from controller.service.uploads import FORM_VALID_MS, LIVES_MS, USED_WITHIN_MS, UploadStore
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_requests import request
from tests.controller.service.test_runs_api import problem
from tests.controller.service.uploading import begin, follow_the_docs, look, send, send_missing
from tests.pipeline import PATIENCE_S

pytestmark = pytest.mark.process

PART = 1000
SOUND = bytes(range(250)) * 10  # two parts and a half
_HOUR_MS = 3600 * 1000


@pytest.fixture
def service(store: FileStore) -> Iterator[Running]:
    with running(store, part_bytes=PART) as up:
        yield up


def keys(store: Any, prefix: str = "") -> list[str]:
    """The objects of uploads and their entries."""
    return [item.key for top in ("incomplete/", "uploads/") for item in store.list(f"{top}{prefix}")]


def test_an_upload_in_parts_becomes_the_recording_of_a_run(service: Running) -> None:
    upload = begin(service.client, len(SOUND), "a/b/talk.mp3")
    assert (upload["name"], upload["status"], upload["part_count"], upload["missing_parts"]) == (
        "talk.mp3",
        "incomplete",
        3,
        3,
    )
    assert [(part["number"], part["offset"], part["size_bytes"]) for part in upload["parts"]] == [
        (1, 0, PART),
        (2, PART, PART),
        (3, 2 * PART, 500),
    ]
    send_missing(service.client, upload, SOUND)
    done = service.client.post(f"/v1/uploads/{upload['id']}:complete")
    assert (done.status_code, done.json()["status"]) == (200, "complete")
    assert done.json()["expires_at"] > upload["expires_at"]
    home = f"uploads/default/{upload['id']}/"
    assert [item.key for item in service.store.list(home)] == [f"{home}media.mp3", f"{home}upload.json"]
    assert service.store.get(f"{home}media.mp3") == SOUND
    # It can be repeated.
    assert service.client.post(f"/v1/uploads/{upload['id']}:complete").json() == done.json()
    assert look(service.client, upload) == done.json()
    run = service.client.post("/v1/runs", json={"upload": upload["id"]}).json()
    assert run["name"] == "talk.mp3"
    assert service.wait_for(run["id"])["status"] == "complete"
    service.wait_until_gone(home)


def test_only_what_is_missing_is_sent_again(service: Running) -> None:
    upload = begin(service.client, len(SOUND))
    assert send(service.client, upload["parts"][1], SOUND[PART : 2 * PART]) == 204
    refused = service.client.post(f"/v1/uploads/{upload['id']}:complete")
    assert problem(refused, 409, "upload-incomplete")["detail"] == "2 parts are missing"
    problem(service.client.post("/v1/runs", json={"upload": upload["id"]}), 409, "upload-incomplete")
    now = look(service.client, upload)
    assert ([part["number"] for part in now["parts"]], now["missing_parts"]) == ([1, 3], 2)
    send_missing(service.client, now, SOUND)
    assert look(service.client, upload)["parts"] == []
    assert service.client.post(f"/v1/uploads/{upload['id']}:complete").status_code == 200
    assert service.store.get(f"uploads/default/{upload['id']}/media.wav") == SOUND


@pytest.mark.parametrize("change", [b"", SOUND[: PART - 1], SOUND[: PART + 1]])
def test_a_part_with_another_length_is_refused(service: Running, change: bytes) -> None:
    upload = begin(service.client, len(SOUND))
    path = upload["parts"][0]["url"]
    reply = service.client.put(path, content=change)
    problem(reply, 413 if len(change) > PART else 422, "too-large" if len(change) > PART else "wrong-size")
    last = upload["parts"][2]["url"]
    problem(service.client.put(last, content=bytes(501)), 422, "wrong-size")
    assert look(service.client, upload)["missing_parts"] == 3


def test_a_part_without_a_length_is_limited_too(service: Running) -> None:
    def pieces(number: int) -> Iterator[bytes]:
        for _ in range(number):
            yield bytes(100)

    upload = begin(service.client, len(SOUND))
    for part, number, status, name in ((3, 6, 422, "wrong-size"), (3, 4, 422, "wrong-size"), (1, 11, 413, "too-large")):
        path = f"/v1/uploads/{upload['id']}/parts/{part}"
        problem(service.client.put(path, content=pieces(number)), status, name)
    assert look(service.client, upload)["missing_parts"] == 3


def test_a_part_that_is_too_long_is_refused_before_the_rest_comes() -> None:
    came = []

    class Sent:
        async def stream(self) -> AsyncIterator[bytes]:
            for number in range(100):
                came.append(number)
                yield bytes(10)

    with tempfile.NamedTemporaryFile() as file, pytest.raises(Problem, match="must have 25 bytes"):
        anyio.run(uploads_api._receive, Sent(), file, 25)  # type: ignore[arg-type]
    assert came == [0, 1, 2]


def test_a_part_with_another_length_in_the_store_is_missing(service: Running, tmp_path: Path) -> None:
    upload = begin(service.client, len(SOUND))
    uploads = UploadStore(service.store)
    record = uploads.find("default", upload["id"])
    assert record
    data = tmp_path / "part"
    data.write_bytes(b"half")
    for number in (1, 2, 3):
        uploads.put_part(record, number, data)
    assert look(service.client, upload)["missing_parts"] == 3
    problem(service.client.post(f"/v1/uploads/{upload['id']}:complete"), 409, "upload-incomplete")


def test_what_is_no_part_is_refused(service: Running) -> None:
    upload = begin(service.client, len(SOUND))
    for number in ("0", "4", "-1"):
        reply = service.client.put(f"/v1/uploads/{upload['id']}/parts/{number}", content=b"x")
        assert problem(reply, 404, "not-found")["advice"] == "it has parts 1 to 3"
    problem(service.client.put(f"/v1/uploads/{upload['id']}/parts/one", content=b"x"), 422, "invalid-request")
    send_missing(service.client, upload, SOUND)
    service.client.post(f"/v1/uploads/{upload['id']}:complete")
    late = service.client.put(upload["parts"][0]["url"], content=SOUND[:PART])
    problem(late, 409, "upload-complete")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a"},
        {"name": "", "size_bytes": 1},
        {"name": "a", "size_bytes": 0},
        {"name": "a", "size_bytes": "1"},
        {"name": "a", "size_bytes": 10**15},
        {"name": "a", "size_bytes": 1, "more": 1},
        {"name": "\ud800", "size_bytes": 1},
        [],
    ],
)
def test_a_bad_upload_is_refused(service: Running, body: Any) -> None:
    # Escaped, as some clients send it: a lone surrogate is no text.
    reply = service.client.post("/v1/uploads", content=json.dumps(body), headers={"Content-Type": "application/json"})
    problem(reply, 422, "invalid-request")
    assert keys(service.store) == []


@pytest.mark.parametrize(
    "body, pointer, detail",
    [
        ({"name": "a"}, "#/size_bytes", "size_bytes: is missing"),
        ({"name": "a", "size_bytes": "12"}, "#/size_bytes", "size_bytes: must be a whole number"),
        ({"name": "a", "size": 1, "size_bytes": 1}, "#/size", "size: is not known here"),
    ],
)
def test_a_bad_upload_is_refused_with_the_name_of_its_field(
    service: Running, body: Any, pointer: str, detail: str
) -> None:
    found = problem(service.client.post("/v1/uploads", json=body), 422, "invalid-request")
    assert found["errors"][0]["pointer"] == pointer
    assert found["detail"].startswith(detail)


def test_what_a_name_contains_never_becomes_a_key(service: Running) -> None:
    upload = begin(service.client, 1, "../../../x\n.w?v")
    assert upload["name"] == "x_.w?v"
    send_missing(service.client, upload, b"x")
    service.client.post(f"/v1/uploads/{upload['id']}:complete")
    assert service.store.get(f"uploads/default/{upload['id']}/media") == b"x"


def test_an_upload_is_deleted_and_reserves_its_bytes_until_no_part_can_come(service: Running) -> None:
    upload = begin(service.client, len(SOUND))
    send_missing(service.client, upload, SOUND)
    path = f"/v1/uploads/{upload['id']}"
    assert service.client.delete(path).status_code == 204
    for reply in (
        service.client.get(path),
        service.client.delete(path),
        service.client.post(f"{path}:complete"),
        service.client.put(f"{path}/parts/1", content=SOUND[:PART]),
    ):
        problem(reply, 404, "not-found")
    assert list(service.store.list("uploads/")) == []
    uploads = UploadStore(service.store)
    assert uploads.reserved("default") == {upload["id"]: len(SOUND)}
    now_ms = service.clock.now_ms()
    assert uploads.over(now_ms=now_ms + 2 * _HOUR_MS) == []
    assert [entry.upload for entry in uploads.over(now_ms=now_ms + 4 * _HOUR_MS)] == [upload["id"]]


def test_a_complete_upload_is_deleted(service: Running) -> None:
    upload = begin(service.client, 1)
    send_missing(service.client, upload, b"x")
    service.client.post(f"/v1/uploads/{upload['id']}:complete")
    assert service.client.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert list(service.store.list("uploads/")) == []
    assert UploadStore(service.store).reserved("default") == {}


def test_an_upload_that_is_too_late_is_refused(service: Running, store: FileStore) -> None:
    old = Upload(
        id=id_of(bytes(16)),
        tenant="default",
        name="a.wav",
        size_bytes=1,
        created_ms=service.clock.now_ms() - LIVES_MS - 1,
        complete=False,
        part_bytes=PART,
    )
    UploadStore(store).create(old)
    path = f"/v1/uploads/{old.id}"
    assert service.client.get(path).json()["parts"] == []
    problem(service.client.put(f"{path}/parts/1", content=b"x"), 409, "upload-expired")
    problem(service.client.post(f"{path}:complete"), 409, "upload-expired")
    assert service.client.delete(path).status_code == 204


def test_the_uploads_of_a_tenant_that_are_not_complete_are_listed(store: FileStore, tmp_path: Path) -> None:
    path, headers = tenants_file(tmp_path, news="", radio="")
    with running(store, tenants=path, part_bytes=PART) as service:

        def listed(tenant: str = "news") -> list[str]:
            uploads = service.client.get("/v1/uploads", headers=headers[tenant]).json()["uploads"]
            assert {upload["status"] for upload in uploads} <= {"incomplete"}
            return [upload["id"] for upload in uploads]

        assert listed() == []
        first, second, third = (
            service.client.post("/v1/uploads", json={"name": "a", "size_bytes": size}, headers=headers["news"]).json()
            for size in (10, 20, 30)
        )
        assert set(listed()) == {first["id"], second["id"], third["id"]}
        assert listed("radio") == []
        send_missing(service.client, first, bytes(10), headers["news"])
        service.client.post(f"/v1/uploads/{first['id']}:complete", headers=headers["news"])
        service.client.delete(f"/v1/uploads/{second['id']}", headers=headers["news"])
        assert listed() == [third["id"]]
        run = service.client.post("/v1/runs", json={"upload": third["id"]}, headers=headers["news"])
        assert f"/v1/uploads/{third['id']}:complete" in problem(run, 409, "upload-incomplete")["advice"]


def test_limits_of_uploads(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_api, "MOST_INCOMPLETE", 3)
    path, headers = tenants_file(
        tmp_path, news="max_upload_bytes = 2000\nmax_upload_bytes_total = 5000", radio="max_upload_bytes = 0"
    )
    with running(store, tenants=path, part_bytes=PART) as service:

        def create(size_bytes: int, tenant: str = "news") -> Any:
            body = {"name": "a.wav", "size_bytes": size_bytes}
            return service.client.post("/v1/uploads", json=body, headers=headers[tenant])

        problem(create(2001), 413, "limit-exceeded")
        problem(create(1, "radio"), 413, "limit-exceeded")
        first = create(2000).json()
        create(2000)
        full = create(1001)
        problem(full, 429, "limit-exceeded")
        assert full.headers["retry-after"] == "300"
        form = service.client.post("/v1/runs", files={"file": ("a.wav", bytes(1001))}, headers=headers["news"])
        problem(form, 429, "limit-exceeded")
        # What is complete takes what is stored.
        send_missing(service.client, first, bytes(2000), headers["news"])
        done = service.client.post(f"/v1/uploads/{first['id']}:complete", headers=headers["news"])
        assert done.json()["status"] == "complete"
        problem(create(1001), 429, "limit-exceeded")
        assert create(500).status_code == 201
        assert create(400).status_code == 201
        many = create(1)
        assert "3 uploads that are not complete" in problem(many, 429, "limit-exceeded")["detail"]


# ------------------------------------------------------------ what is left over


def upload_of(number: int, *, created_ms: int = 0) -> Upload:
    return Upload(
        id=id_of(bytes([number] * 16)),
        tenant="news",
        name="a.wav",
        size_bytes=3,
        created_ms=created_ms,
        complete=False,
        part_bytes=2,
    )


def swept(store: FileStore, now_ms: int, *, mine: bool = True) -> None:
    Sweeper(UploadStore(store), Answers(store), lambda _: mine, lambda: now_ms).sweep()


def test_an_upload_that_was_not_completed_in_time_is_deleted_by_one_replica(store: FileStore, tmp_path: Path) -> None:
    uploads, data = UploadStore(store), tmp_path / "part"
    data.write_bytes(b"xy")
    uploads.create(upload_of(1))
    uploads.put_part(upload_of(1), 1, data)
    uploads.create(upload_of(2, created_ms=_HOUR_MS))
    before = keys(store)
    swept(store, LIVES_MS + _HOUR_MS)
    swept(store, LIVES_MS + 3 * _HOUR_MS - 1, mine=False)
    assert keys(store) == before
    swept(store, LIVES_MS + 3 * _HOUR_MS - 1)
    assert {key for key in before if upload_of(1).id in key} == set(before) - set(keys(store))
    assert uploads.find("news", upload_of(2).id)


def test_parts_that_come_after_the_upload_was_complete_or_deleted_are_deleted_too(
    store: FileStore, tmp_path: Path
) -> None:
    uploads, parts = UploadStore(store), [tmp_path / "1", tmp_path / "2"]
    parts[0].write_bytes(b"xy")
    parts[1].write_bytes(b"z")
    for number in (1, 2):
        uploads.create(upload_of(number))
        for part in (1, 2):
            uploads.put_part(upload_of(number), part, parts[part - 1])
    uploads.complete(upload_of(1), now_ms=5)
    uploads.give_up(upload_of(2), now_ms=5)
    for number in (1, 2):
        uploads.put_part(upload_of(number), 1, parts[0])
    in_use(store, 1)
    swept(store, FORM_VALID_MS)
    assert sum("/parts/" in key for key in keys(store)) == 2
    swept(store, 4 * FORM_VALID_MS)
    home = f"uploads/news/{upload_of(1).id}/"
    assert keys(store) == [f"{home}media.wav", f"{home}upload.json", f"{home}used-by.json"]


def test_a_recording_of_a_form_that_was_interrupted_is_deleted(store: FileStore, tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.write_bytes(b"xyz")
    uploads = UploadStore(store)
    uploads.put_media(upload_of(1), data)
    uploads.release(upload_of(1))
    assert keys(store, "") == [item.key for item in store.list(f"uploads/news/{upload_of(1).id}/")]

    class Killed(Exception):
        pass

    class Dying(FileStore):
        def put(self, key: str, data: bytes) -> None:
            if key.endswith("upload.json"):
                raise Killed
            super().put(key, data)

    with pytest.raises(Killed):
        UploadStore(Dying(store.root)).put_media(upload_of(2), data)
    assert uploads.stored_bytes("news") == 3 + 3
    swept(store, LIVES_MS + 3 * _HOUR_MS)
    assert {key.split("/")[2] for key in keys(store)} == {upload_of(1).id}


def test_an_upload_that_is_deleted_while_it_is_completed_stays_deleted(store: FileStore, tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.write_bytes(b"xyz")
    uploads = UploadStore(store)
    one = upload_of(1).model_copy(update={"part_bytes": 3})
    uploads.create(one)
    uploads.put_part(one, 1, data)

    class Slow(FileStore):
        def compose(self, key: str, parts: Any) -> None:
            super().compose(key, parts)
            uploads.give_up(one, now_ms=0)

    with pytest.raises(Exception, match="media"):
        UploadStore(Slow(store.root)).complete(one, now_ms=0)
    assert list(store.list("uploads/")) == []


def test_a_form_with_a_key_that_was_tried_twice_is_not_deleted_with_its_first_try(
    store: FileStore, tmp_path: Path
) -> None:
    data = tmp_path / "a"
    data.write_bytes(b"xyz")
    uploads = UploadStore(store)
    uploads.create(upload_of(1))  # what a crash left
    uploads.put_media(upload_of(1, created_ms=1), data)
    uploads.release(upload_of(1, created_ms=1))
    in_use(store, 1)
    swept(store, LIVES_MS + 3 * _HOUR_MS)
    home = f"uploads/news/{upload_of(1).id}/"
    assert keys(store) == [f"{home}media.wav", f"{home}upload.json", f"{home}used-by.json"]


def in_use(store: FileStore, number: int) -> None:
    """Accept a request that has this upload."""
    one = request(id=id_of(bytes([number] * 16)), upload=upload_of(number).id)
    RequestStore(store).accept(one)
    found = UploadStore(store).find("news", upload_of(number).id)
    assert found
    UploadStore(store).bind(found, one)


def test_a_recording_whose_run_was_never_accepted_is_deleted(store: FileStore, tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.write_bytes(b"xyz")
    uploads = UploadStore(store)
    for number in (1, 2, 3):
        # The process was killed before the run of the form was accepted, or before it could note that.
        uploads.put_media(upload_of(number), data)
    uploads.bind(upload_of(2), request(id=id_of(bytes(16))))
    in_use(store, 3)
    swept(store, LIVES_MS + 3 * _HOUR_MS)
    assert uploads.reserved("news") == {}
    swept(store, USED_WITHIN_MS + 2 * _HOUR_MS - 1)
    left = {key.split("/")[2] for key in keys(store, "news/") if key.startswith("uploads/")}
    assert left == {upload_of(number).id for number in (1, 2, 3)}
    swept(store, USED_WITHIN_MS + 3 * _HOUR_MS)
    home = f"uploads/news/{upload_of(3).id}/"
    assert keys(store) == [f"{home}media.wav", f"{home}upload.json", f"{home}used-by.json"]


def complete(service: Running) -> str:
    """A complete upload."""
    upload = begin(service.client, 3)
    send_missing(service.client, upload, b"abc")
    assert service.client.post(f"/v1/uploads/{upload['id']}:complete").status_code == 200
    return str(upload["id"])


def test_of_several_runs_with_one_upload_at_the_same_time_one_is_accepted(store: FileStore) -> None:
    with (
        running(store, part_bytes=PART, takes_ms=10**7) as service,
        running(store, part_bytes=PART, takes_ms=10**7) as other,
    ):
        upload, ready = complete(service), threading.Barrier(6)

        def submit(number: int) -> Any:
            ready.wait()
            return (service, other)[number % 2].client.post("/v1/runs", json={"upload": upload})

        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(submit, range(6)))
        (won,) = [reply.json()["id"] for reply in replies if reply.status_code == 202]
        lost = [problem(reply, 409, "upload-used") for reply in replies if reply.status_code != 202]
        assert {found["detail"] for found in lost} == {f"this upload is that of run {won}"}
        assert [run["id"] for run in service.client.get("/v1/runs").json()["runs"]] == [won]
        service.client.post(f"/v1/runs/{won}:cancel")


def test_what_is_wrong_with_a_run_does_not_cost_its_upload(service: Running) -> None:
    upload = complete(service)
    wrong = service.client.post("/v1/runs", json={"upload": upload, "options": {"model": "no"}})
    problem(wrong, 422, "invalid-request")
    key = {"Idempotency-Key": "a"}
    runs = [service.client.post("/v1/runs", json={"upload": upload}, headers=key) for _ in range(2)]
    assert [run.status_code for run in runs] == [202, 202]
    assert runs[0].json()["id"] == runs[1].json()["id"]


def test_a_run_whose_process_was_killed_before_it_was_accepted_is_accepted_by_the_next_one(service: Running) -> None:
    upload = UploadStore(service.store).find("default", complete(service))
    assert upload
    source = UploadStore(service.store).uri(upload)
    killed = request(id=id_of(bytes(16)), tenant="default", upload=upload.id, source=source)
    assert UploadStore(service.store).bind(upload, killed) == killed
    again = service.client.post("/v1/runs", json={"upload": upload.id})
    assert killed.id in problem(again, 409, "upload-used")["detail"]
    assert service.wait_for(killed.id)["status"] == "complete"
    service.wait_until_gone(f"uploads/default/{upload.id}/")


def test_an_upload_that_is_deleted_meanwhile_is_that_of_no_run(store: FileStore) -> None:
    uploads = UploadStore(store)
    assert uploads.bind(upload_of(1), request()) is None
    assert keys(store) == []


def test_an_upload_that_no_run_uses_in_time_is_refused_and_deleted(service: Running, store: FileStore) -> None:
    upload = begin(service.client, 3)
    send_missing(service.client, upload, b"abc")
    service.client.post(f"/v1/uploads/{upload['id']}:complete")
    uploads = UploadStore(store)
    found = uploads.find("default", upload["id"])
    assert found
    began_ms = service.clock.now_ms() - USED_WITHIN_MS
    uploads._put(found.model_copy(update={"created_ms": began_ms}))
    refused = service.client.post("/v1/runs", json={"upload": upload["id"]})
    problem(refused, 409, "upload-expired")
    swept(store, began_ms + USED_WITHIN_MS + 4 * _HOUR_MS)
    swept(store, began_ms + USED_WITHIN_MS + 8 * _HOUR_MS)
    assert keys(store) == []


def test_a_form_leaves_no_entry(service: Running, store: FileStore) -> None:
    service.submit()
    assert list(store.list("incomplete/")) == []
    wrong = {"request": '{"options": {"model": "no"}}'}
    problem(service.client.post("/v1/runs", files={"file": ("a", b"x")}, data=wrong), 422, "invalid-request")
    assert list(store.list("incomplete/")) == []


def test_an_upload_with_a_later_entry_is_kept(store: FileStore) -> None:
    uploads = UploadStore(store)
    uploads.create(upload_of(1))
    uploads.create(upload_of(1, created_ms=2 * _HOUR_MS))
    swept(store, LIVES_MS + 4 * _HOUR_MS)
    assert uploads.find("news", upload_of(1).id)
    swept(store, LIVES_MS + 5 * _HOUR_MS)
    assert keys(store) == []


@pytest.mark.parametrize("end", ["complete", "deleted", "lost"])
def test_what_another_replica_did_meanwhile_decides(store: FileStore, tmp_path: Path, end: str) -> None:
    data = tmp_path / "a"
    data.write_bytes(b"xyz")
    uploads = UploadStore(store)
    one = upload_of(1).model_copy(update={"part_bytes": 3})
    uploads.create(one)
    uploads.put_part(one, 1, data)

    class Other(FileStore):
        def compose(self, key: str, parts: Any) -> None:
            if end == "complete":
                uploads.complete(one, now_ms=0)
            elif end == "deleted":
                uploads.give_up(one, now_ms=0)
            else:
                store.delete(parts[0])
            super().compose(key, parts)

    future = Completions(UploadStore(Other(store.root)), lambda: 0).start(one)
    if end == "complete":
        future.result(timeout=PATIENCE_S)
        assert store.get(f"uploads/news/{one.id}/media.wav") == b"xyz"
    elif end == "deleted":
        with pytest.raises(Problem, match="there is no such upload"):
            future.result(timeout=PATIENCE_S)
    else:
        with pytest.raises(Problem, match="1 part is missing"):
            future.result(timeout=PATIENCE_S)


def test_what_takes_longer_than_a_request_is_kept_open_is_answered_before(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Slow(FileStore):
        def compose(self, key: str, parts: Any) -> None:
            assert go_on.wait(PATIENCE_S)
            super().compose(key, parts)

    monkeypatch.setattr(serving, "ANSWER_WITHIN_S", 0.05)
    with running(Slow(store.root), part_bytes=PART) as service:
        upload = begin(service.client, 3)
        send_missing(service.client, upload, b"abc")
        path = f"/v1/uploads/{upload['id']}"
        for _ in range(2):
            reply = service.client.post(f"{path}:complete")
            assert (reply.status_code, reply.headers["retry-after"], reply.json()["status"]) == (
                202,
                "10",
                "completing",
            )
        problem(service.client.delete(path), 409, "completing")
        go_on.set()
        while service.client.get(path).json()["status"] == "completing":
            pass
        assert service.client.post(f"{path}:complete").status_code == 200
        assert store.get(f"uploads/default/{upload['id']}/media.wav") == b"abc"


def test_the_commands_of_the_docs_upload_a_recording(service: Running, tmp_path: Path) -> None:
    run = follow_the_docs(tmp_path, service.address, SOUND)
    assert run["name"] == "talk.mkv"
    assert service.wait_for(run["id"])["status"] == "complete"
