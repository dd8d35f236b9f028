"""The page for new runs with a running service: what its form says, and what it sends without scripts."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from chunk_job.store.files import FileStore
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem

pytestmark = pytest.mark.process

MOST_FORM = 100_000
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    lines = 'sources = ["s3://media/"]\nmax_upload_bytes = 50_000\nmax_queued_runs = 3'
    tenants, headers = tenants_file(folder, news=lines)
    with running(FileStore(folder / "store"), tenants=tenants, most_form_bytes=MOST_FORM, takes_ms=10) as up:
        up.client.headers.update(headers["news"] | OWN)
        yield up


def asked(client: TestClient, *typed: tuple[str, str], files: int = 1) -> Any:
    """The answer of the check."""
    fields: dict[str, list[str]] = {"files": [str(files)]}
    for name, value in typed:
        fields.setdefault(name, []).append(value)
    return client.post("/new/check", data=fields, files={"none": (None, b"")})


def test_what_can_be_submitted_comes_back_as_the_api_takes_it(service: Running) -> None:
    typed = ("options.language", "pt"), ("labels", "case=7"), ("source", "s3://media/a.mp3\ns3://media/b.mp3")
    found = asked(service.client, *typed).json()
    assert found == {
        "request": {"labels": {"case": "7"}, "options": {"language": "pt"}},
        "sources": ["s3://media/a.mp3", "s3://media/b.mp3"],
    }
    run = service.client.post("/v1/runs", json=found["request"] | {"source": found["sources"][0]})
    assert (run.status_code, run.json()["labels"]) == (202, {"case": "7"})
    assert service.wait_for(run.json()["id"])


@pytest.mark.parametrize(
    "name, typed, words",
    [
        ("options.beam_size", "many", "must be a whole number"),
        ("options.beam_size", "99", "must be at most 32"),
        ("options.language", "klingon", "not a language that Whisper knows"),
        ("options.model", "huge", "this service has no model called 'huge'"),
        ("options.vad_filter", "perhaps", "must be true or false"),
        ("options.glossary", f"fine\n{'x' * 201}", "line 2: must have at most 200 characters"),
        ("options.clip_timestamps", "5 1", "does not end after its start"),
        ("labels", "a\n", "line 1 is not a name, = and a value"),
        ("labels", "a=1\na=2", "line 2 has a name that is there already"),
        ("labels", "sp ace=1", "has a name with other characters"),
        ("priority", "7", "this tenant may use up to 5"),
        ("source", "s3://media/a\n/etc/passwd", "line 2: the source is not an address in S3"),
        ("source", "s3://other/a", "line 1: this tenant may not name this source"),
        ("source", "s3://media/a\n" * 201, "more than 200 addresses"),
        ("output", "s3://other/", "this tenant may not name this output"),
        ("callback_url", "https://a.example/", "this service sends no callbacks"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(name: str, typed: str, words: str, service: Running) -> None:
    found = problem(asked(service.client, (name, typed)), 422, "invalid-request")
    assert [(error["pointer"], words in error["detail"]) for error in found["errors"]] == [(name, True)]


def test_no_recording_and_too_many_runs_are_said_before_anything_is_uploaded(service: Running) -> None:
    (error,) = problem(asked(service.client, files=0), 422, "invalid-request")["errors"]
    assert error == {"pointer": "file", "detail": "choose a recording first"}
    problem(asked(service.client, files=4), 429, "limit-exceeded")


def sent(client: TestClient, data: bytes = b"sound", **typed: str) -> Any:
    """The answer to the form as browsers send it without scripts: if no file is chosen, one without a name."""
    name = "talk.mp3" if data else ""
    fields = [(f'name="{field}"', value.encode()) for field, value in typed.items()]
    parts = [*fields, (f'name="file"; filename="{name}"\r\nContent-Type: application/octet-stream', data)]
    body = b"".join(
        b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (one.encode(), value) for one, value in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return client.post("/new", content=body + b"--x--\r\n", headers=headers, follow_redirects=False)


def test_a_form_that_is_sent_twice_makes_one_run(service: Running) -> None:
    places = {sent(service.client, key="a-key", labels="case=1").headers["location"] for _ in range(2)}
    (place,) = places
    run = service.wait_for(place.removeprefix("/runs/"))
    assert (run["name"], run["labels"], run["status"]) == ("talk.mp3", {"case": "1"}, "complete")


def test_several_addresses_lead_to_the_list(service: Running) -> None:
    reply = sent(service.client, b"", source="s3://media/a.mp3\ns3://media/b.mp3")
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    names = [run["name"] for run in service.client.get("/v1/runs").json()["runs"]]
    assert {"a.mp3", "b.mp3"} <= set(names)


@pytest.mark.parametrize(
    "data, typed, status, words",
    [
        (b"sound", {"labels": "</textarea><script>alert(1)</script>"}, 422, "line 1 is not a name, = and a value"),
        (b"", {}, 422, "choose a recording first"),
        (bytes(MOST_FORM // 2 + 1), {}, 413, "50,000 bytes in one upload"),
        (bytes(MOST_FORM + 1), {}, 413, "the recording has more than"),
    ],
)
def test_what_is_wrong_is_on_the_page_with_what_was_typed(
    service: Running, data: bytes, typed: dict[str, str], status: int, words: str
) -> None:
    reply = sent(service.client, data, **typed)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert words in reply.text.partition('id="new"')[0]
    assert "<script>alert" not in reply.text
    if typed:
        assert "&lt;/textarea&gt;&lt;script&gt;" in reply.text


def test_another_site_can_neither_send_nor_check_the_form(service: Running) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert service.client.post("/new", files={"file": ("a", b"x")}, headers=foreign).status_code == 403
    assert service.client.post("/new/check", data={"files": "1"}, headers=foreign).status_code == 403
