"""``/v1/runs`` with a running service: from a submission to its transcript, and everything that is refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.domain.attempt_documents import Attempts, AttemptTimes
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from tests.controller.service.running import Running, running
from tests.fakes import JobBehaviour, fails_with

pytestmark = pytest.mark.process


@pytest.fixture
def service(store: FileStore) -> Iterator[Running]:
    with running(store) as up:
        yield up


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service for requests that change nothing."""
    with running(FileStore(tmp_path_factory.mktemp("store"))) as up:
        yield up
        assert up.client.get("/v1/runs").json()["runs"] == []


def problem(reply: Any, status: int, name: str) -> dict[str, Any]:
    """The problem document of a reply."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
    found: dict[str, Any] = reply.json()
    assert (found["type"], found["status"]) == (f"urn:stenofleet:problem:{name}", status)
    assert found["detail"]
    return found


def test_a_recording_in_a_form_becomes_a_transcript(service: Running) -> None:
    submitted = service.submit("talk.wav", options={"language": "pt"}, labels={"case": "7"}, priority=7)
    assert submitted["status"] in ("queued", "running")
    assert (submitted["name"], submitted["labels"]) == ("talk.wav", {"case": "7"})
    ended = service.wait_for(submitted["id"])
    assert (ended["status"], ended["summary"], ended["priority"]) == ("complete", "transcribed", 7)
    assert ended["run"]
    assert ended["ended_at"]
    assert ended["progress"] is None
    text = service.client.get(f"/v1/runs/{submitted['id']}/result", params={"format": "txt"})
    assert text.text == "w0a w0b\n"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    whole = service.client.get(f"/v1/runs/{submitted['id']}/result").json()
    assert whole["text"] == "w0a w0b"
    assert service.client.get(f"/v1/runs/{submitted['id']}/report").json()["audio_s"] == 10.0
    chunks = service.client.get(f"/v1/runs/{submitted['id']}/chunks").json()
    assert chunks == {"chunks": [{"index": 0, "state": "done", "attempts": 1, "failures": 0}], "next_index": None}
    lost = AttemptTimes(span=0, attempt=1, phase="gone")
    attempts = Attempts(run=ended["run"], began_ms=0, done_before_ms=0, attempts=(lost,))
    service.store.put(RunKeys(ended["run"]).attempts, attempts.encode())
    (chunk,) = service.client.get(f"/v1/runs/{submitted['id']}/chunks").json()["chunks"]
    assert (chunk["attempts"], chunk["failures"]) == (2, 1), "it was lost with a controller that was killed"


def test_the_place_of_a_run_is_in_the_reply(service: Running) -> None:
    reply = service.client.post("/v1/runs", files={"file": ("a.wav", b"sound")})
    assert (reply.status_code, reply.headers["location"]) == (202, f"/v1/runs/{reply.json()['id']}")


def test_an_upload_is_deleted_when_its_run_is_complete_and_everything_with_the_run(service: Running) -> None:
    run_id = service.submit()["id"]
    service.wait_for(run_id)
    assert service.client.delete(f"/v1/runs/{run_id}").status_code == 204
    left = {entry.key.partition("/")[0] for entry in service.store.list("")}
    assert left == {"ledger", "replicas"}
    problem(service.client.get(f"/v1/runs/{run_id}"), 404, "not-found")
    assert service.client.get("/v1/runs").json() == {"runs": [], "next_cursor": None}


def test_the_same_key_is_the_same_run_and_another_request_with_it_is_refused(service: Running) -> None:
    key = {"Idempotency-Key": "order-66"}
    first = service.submit("a.wav", headers=key)
    again = service.submit("a.wav", headers=key)
    assert again["id"] == first["id"]
    service.wait_for(first["id"])
    # Its upload is gone by now.
    assert service.submit("a.wav", headers=key)["status"] == "complete"
    assert len(service.client.get("/v1/runs").json()["runs"]) == 1
    other = service.client.post("/v1/runs", files={"file": ("a.wav", b"other sound")}, headers=key)
    problem(other, 422, "idempotency-key-reused")
    problem(
        service.client.post("/v1/runs", headers={"Idempotency-Key": "two words"}),
        422,
        "invalid-request",
    )


@pytest.mark.parametrize(
    "body, pointer",
    [
        ("", "#"),
        ("[]", "#"),
        ("{", "#"),
        ("{}", "#"),
        ('{"source": 7}', "#/source"),
        ('{"source": "s3://media/b", "upload": "' + "0" * 26 + '"}', "#"),
        ('{"source": "s3://media/b", "other": 1}', "#/other"),
        ('{"source": "s3://media/b", "options": {"beam_size": 0}}', "#/options/beam_size"),
        ('{"source": "s3://media/b", "options": {"beam_size": "5"}}', "#/options/beam_size"),
        ('{"source": "s3://media/b", "options": {"cpu_threads": 5}}', "#/options/cpu_threads"),
        ('{"source": "s3://media/b", "options": {"compute_type": "int3"}}', "#/options/compute_type"),
        ('{"source": "s3://media/b", "options": {"model": "large-v9"}}', "#/options/model"),
        ('{"source": "s3://media/b", "options": {"language": "klingon"}}', "#/options/language"),
        ('{"source": "s3://media/b", "options": {"clip_timestamps": [5, 3]}}', "#/options/clip_timestamps"),
        ('{"source": "s3://media/b", "options": {"clip_timestamps": [0, 3, 2, 5]}}', "#/options/clip_timestamps"),
        ('{"source": "s3://media/b", "options": {"speaker_names": ["A"]}}', "#/options/speaker_names"),
        ('{"source": "s3://media/b", "options": {"chunk_duration": 3}}', None),
        ('{"source": "s3://media/b", "priority": 10}', "#/priority"),
        ('{"source": "s3://media/b", "name": "a/b"}', "#/name"),
        ('{"source": "s3://media/b", "labels": {"": "x"}}', None),
        ('{"source": "s3://media/b", "options": {"temperature": NaN}}', None),
        ('{"source": "s3://media/b", "options": ' + '{"a":' * 2000 + "1" + "}" * 2000 + "}", None),
    ],
)
def test_what_is_not_valid_is_refused_with_its_place(refusing: Running, body: str, pointer: str | None) -> None:
    reply = refusing.client.post("/v1/runs", content=body, headers={"content-type": "application/json"})
    found = problem(reply, 422, "invalid-request")
    assert found["advice"]
    if pointer:
        assert found["errors"][0]["pointer"].startswith(pointer)
    assert refusing.client.get("/v1/runs").json()["runs"] == []


@pytest.mark.parametrize(
    "source", ["file:///etc/passwd", "http://169.254.169.254/x", "/etc/passwd", "s3://b", "s3:///x"]
)
def test_only_objects_are_sources(refusing: Running, source: str) -> None:
    refused = problem(refusing.client.post("/v1/runs", json={"source": source}), 403, "address-refused")
    assert ("-F file=@" in refused["advice"]) == (not source.startswith("s3://"))


def test_other_bodies_are_refused(refusing: Running) -> None:
    other = problem(
        refusing.client.post("/v1/runs", content=b"x", headers={"content-type": "text/xml"}),
        415,
        "unsupported-media-type",
    )
    assert other["advice"] == "send application/json, or the recording as multipart/form-data"
    query = problem(refusing.client.post("/v1/runs?language=pt", json={"source": "s3://b/k"}), 422, "invalid-request")
    assert query["advice"] == "it has none: options belong in the body"
    problem(refusing.client.post("/v1/runs", data={"request": "{}"}, files={"other": b"x"}), 422, "invalid-request")
    problem(refusing.client.post("/v1/runs", files={"file": ("a.wav", b"")}), 422, "invalid-request")
    big = refusing.client.post("/v1/runs", files={"file": ("a.wav", bytes(4 << 20))})
    assert problem(big, 413, "too-large")["advice"]
    huge = json.dumps({"source": "s3://media/b", "labels": {"x": "y" * (2 << 20)}})
    problem(
        refusing.client.post("/v1/runs", content=huge, headers={"content-type": "application/json"}), 413, "too-large"
    )
    assert [entry.key for entry in refusing.store.list("uploads/")] == []


@pytest.mark.parametrize(
    "text, detail",
    [
        ("{options: 1}", "request: is not JSON: Expecting property name"),
        ("[]", "request: must be an object"),
        ('{"source": "s3://b/k"}', "request: source and upload are not allowed in a form"),
    ],
)
def test_what_is_wrong_with_the_request_in_a_form_is_said(refusing: Running, text: str, detail: str) -> None:
    reply = refusing.client.post("/v1/runs", data={"request": text}, files={"file": ("a.wav", b"sound")})
    assert problem(reply, 422, "invalid-request")["detail"].startswith(detail)


def test_a_body_without_a_length_is_limited_too(refusing: Running) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 65_536

    problem(
        refusing.client.post("/v1/runs", content=pieces(), headers={"content-type": "application/json"}),
        413,
        "too-large",
    )


def test_an_unknown_upload_or_run_or_path_is_not_found(refusing: Running) -> None:
    problem(refusing.client.post("/v1/runs", json={"upload": "0" * 26}), 404, "not-found")
    for path in ("/v1/runs/x", f"/v1/runs/{'0' * 26}", f"/v1/runs/{'0' * 26}/events", f"/v1/runs/{'0' * 26}/result"):
        problem(refusing.client.get(path), 404, "not-found")
    problem(refusing.client.get("/v2"), 404, "not-found")
    for path, allowed in (("", "GET, POST"), ("/x", "DELETE, GET"), ("/x:cancel", "POST")):
        reply = refusing.client.put(f"/v1/runs{path}")
        problem(reply, 405, "method-not-allowed")
        assert reply.headers["allow"] == allowed


def test_pages_have_every_run_once_and_filters_apply(service: Running) -> None:
    runs = [service.submit(f"{number}.wav", labels={"n": str(number % 2)})["id"] for number in range(7)]
    for run_id in runs:
        service.wait_for(run_id)
    found: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        page = service.client.get("/v1/runs", params={"limit": 3, "cursor": cursor}).json()
        found += [run["id"] for run in page["runs"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (found, pages) == (runs[::-1], 3)
    odd = service.client.get("/v1/runs", params={"label": "n=1"}).json()["runs"]
    assert [run["id"] for run in odd] == runs[5::-2]
    assert service.client.get("/v1/runs", params={"status": "failed"}).json()["runs"] == []
    problem(service.client.get("/v1/runs", params={"limit": 0}), 422, "invalid-request")
    problem(service.client.get("/v1/runs", params={"cursor": "../x"}), 422, "invalid-request")


def test_a_run_is_cancelled_and_tried_again(store: FileStore) -> None:
    slow = {"on": True}

    def script(job: Job) -> JobBehaviour:
        return JobBehaviour(leaves="result", takes_ms=10**6 if slow["on"] and job.span == 1 else 20)

    with running(store, script=script, chunks_ms=(10_000, 10_000)) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id, "running")
        problem(service.client.delete(f"/v1/runs/{run_id}"), 409, "not-ended")
        problem(service.client.get(f"/v1/runs/{run_id}/result"), 409, "not-ended")
        while not service.client.get(f"/v1/runs/{run_id}/chunks").json()["chunks"]:
            pass
        assert service.client.post(f"/v1/runs/{run_id}:cancel").status_code == 202
        assert service.wait_for(run_id)["status"] == "cancelled"
        problem(service.client.post(f"/v1/runs/{run_id}:cancel"), 409, "ended")
        problem(service.client.get(f"/v1/runs/{run_id}/result"), 409, "no-transcript")
        slow["on"] = False
        before = len(service.runner.submitted)
        assert service.client.post(f"/v1/runs/{run_id}:retry").json()["status"] in ("queued", "running")
        ended = service.wait_for(run_id, "complete", "failed")
        assert (ended["status"], ended["retries"]) == ("complete", 1)
        again = [job.span for job in service.runner.submitted[before:]]
        assert 1 in again
        assert 0 not in again, "a result is never computed again"
        problem(service.client.post(f"/v1/runs/{run_id}:retry"), 409, "complete")


def test_a_failure_says_what_to_do_and_names_the_recording_not_its_place(store: FileStore) -> None:
    def script(job: Job) -> JobBehaviour:
        return fails_with(ExitCode.BAD_INPUT, f"{job.media_uri}: is not media", "play it first")

    with running(store, script=script) as service:
        ended = service.wait_for(service.submit("talk.wav")["id"])
        assert (ended["status"], ended["failure"], ended["environment"]) == ("failed", "BAD_INPUT", False)
        assert (ended["summary"], ended["advice"]) == ("talk.wav: is not media", "play it first")
        reply = service.client.get(f"/v1/runs/{ended['id']}/result")
        assert problem(reply, 409, "no-transcript")["detail"] == "talk.wav: is not media"
        events = service.client.get(f"/v1/runs/{ended['id']}/events").text
        page = store.get(RunKeys(ended["run"]).report_page).decode()
        assert "talk.wav: is not media" in page
        assert "stenofleet transcribe talk.wav" in page
        assert str(store.root) not in events + page


def test_without_tokens_pages_of_other_sites_are_refused(refusing: Running) -> None:
    reply = refusing.client.get("/v1/runs", headers={"Origin": "https://evil.example"})
    problem(reply, 403, "foreign-page")


def test_health(refusing: Running) -> None:
    assert refusing.client.get("/healthz").text == "ok\n"
    assert refusing.client.get("/readyz").text == "ok\n"


def test_a_key_that_is_used_for_another_request_leaves_the_recording_of_the_first(store: FileStore) -> None:
    with running(store, takes_ms=10**7) as service:
        key = {"Idempotency-Key": "a"}
        first = service.submit("a.wav", headers=key)
        form = {"request": '{"options": {"language": "pt"}}'}
        other = service.client.post("/v1/runs", files={"file": ("a.wav", b"sound")}, data=form, headers=key)
        problem(other, 422, "idempotency-key-reused")
        assert [entry.key for entry in store.list("uploads/")]
        service.end_jobs()
        assert service.wait_for(first["id"])["status"] == "complete"
        service.wait_until_gone("uploads/")
        service.submit("a.wav", headers=key)
        assert not [entry.key for entry in store.list("uploads/") if "/media" in entry.key]


def test_an_upload_is_that_of_one_run(store: FileStore) -> None:
    with running(store, takes_ms=10**7) as service:
        first = service.submit("a.wav")
        (upload,) = {entry.key.split("/")[2] for entry in store.list("uploads/") if entry.key.endswith("upload.json")}
        again = service.client.post("/v1/runs", json={"upload": upload})
        assert first["id"] in problem(again, 409, "upload-used")["detail"]


@pytest.mark.parametrize("charset", ["undefined", "punycode", "unicode_escape", "no-such"])
def test_a_form_in_another_encoding_is_no_bug(refusing: Running, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n\xff\\x\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert refusing.client.post("/v1/runs", content=body, headers=headers).status_code in (400, 422)


def test_typing_errors_in_names_do_not_go_unnoticed(refusing: Running) -> None:
    form = refusing.client.post("/v1/runs", files={"file": ("a.wav", b"sound")}, data={"language": "pt"})
    assert "language" in problem(form, 422, "invalid-request")["detail"]
    query = refusing.client.get(f"/v1/runs/{'0' * 26}/result", params={"fromat": "srt"})
    assert problem(query, 422, "invalid-request")["advice"] == "it has caption_profile, format, version"


def test_methods_that_a_client_invents_are_one_series(refusing: Running) -> None:
    for number in range(5):
        refusing.client.request(f"XX{number}", "/v1/runs")
    metrics = refusing.server.metrics.registry
    assert metrics.get_sample_value(
        "stenofleet_http_requests_total", {"method": "other", "route": "/v1/runs", "status": "405"}
    )


def test_advice_is_in_words_of_the_api(store: FileStore) -> None:
    with running(store, takes_ms=10**6) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id, "running")
        service.client.post(f"/v1/runs/{run_id}:cancel")
        advice = service.wait_for(run_id, "cancelled")["advice"]
    assert advice == "finished chunks are kept: trying the run again (:retry) computes only what is missing"


@pytest.mark.parametrize(
    "method, path, status, detail",
    [
        ("GET", "/v2", 404, "GET /v2: there is no such path"),
        ("GET", "/v1/runs/", 404, "GET /v1/runs/: there is no such path"),
        ("POST", "/v1/runs/x:pause", 404, "POST /v1/runs/x:pause: there is no such path"),
        ("PATCH", "/v1/runs", 405, "PATCH /v1/runs: this path has only GET, POST"),
    ],
)
def test_a_request_for_nothing_says_what_there_is(
    refusing: Running, method: str, path: str, status: int, detail: str
) -> None:
    found = refusing.client.request(method, path, follow_redirects=False)
    document = problem(found, status, {404: "not-found", 405: "method-not-allowed"}[status])
    assert document["detail"] == detail
    assert "/openapi.json" in document["advice"]


def test_a_path_without_its_first_part_is_said(refusing: Running) -> None:
    for method, path in (("POST", "/audio/transcriptions"), ("GET", "/models"), ("GET", "/runs/x/chunks")):
        advice = problem(refusing.client.request(method, path), 404, "not-found")["advice"]
        assert advice.startswith(f"use /v1{path} (base_url of OpenAI's clients ends in /v1)")


def test_what_is_wrong_with_a_form_of_openai_has_the_name_of_its_field(refusing: Running) -> None:
    for name, value in (("language", "xx"), ("model", "no-such"), ("response_format", "doc")):
        reply = refusing.client.post(
            "/v1/audio/transcriptions", files={"file": ("a.wav", b"sound")}, data={name: value}
        )
        found = problem(reply, 422, "invalid-request")
        assert [error["pointer"] for error in found["errors"]] == [name]
        assert found["detail"].startswith(f"{name}: ")
        assert found["error"]["message"].startswith(f"{name}: ")


def test_a_glossary_is_checked_as_on_the_command_line(refusing: Running) -> None:
    for line in ("= x", "x =", "a = b = c", "a\u0007b"):
        body = {"source": "s3://media/b", "options": {"glossary": ["fine", line]}}
        found = problem(refusing.client.post("/v1/runs", json=body), 422, "invalid-request")
        assert found["errors"][0]["pointer"] == "#/options/glossary/1"
