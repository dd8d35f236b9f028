"""What players get of a run with a real server: links that end, to the recording or to its rendition."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from chunk_job.store.s3 import S3Store
from controller.domain.keys import RunKeys
from controller.domain.playback import Playback
from controller.runs import waveforms
from tests import pipeline
from tests.controller.intake.test_for_players import clicks_ms, steps, with_clicks
from tests.controller.intake.test_intake import order
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.testbed.s3_server import Server

SOUND = bytes(range(256)) * 400


@pytest.fixture
def media(server: Server, environment: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a tenant."""
    with server.bucket() as name:
        yield name


@pytest.fixture
def service(store: Store, media: str, tmp_path: Path) -> Iterator[Running]:
    tenants, headers = tenants_file(tmp_path, news=f'sources = ["s3://{media}/in/"]')
    with running(store, tenants=tenants) as up:
        up.client.headers.update(headers["news"])
        yield up


def ended(service: Running, playback: dict[str, Any], **request: Any) -> dict[str, Any]:
    """A run of an object that has ended, with what an intake puts for players."""
    reply = service.client.post("/v1/runs", json=request)
    assert reply.status_code == 202, reply.text
    found = service.wait_for(reply.json()["id"])
    assert found["status"] == "complete", found
    keys = RunKeys(found["run"])
    service.store.put(keys.playback, Playback(run=keys.run, **playback).encode())
    return found


def link_of(service: Running, run: dict[str, Any]) -> str:
    reply = service.client.get(f"/v1/runs/{run['id']}/media", follow_redirects=False)
    assert reply.status_code == 307, reply.text
    return str(reply.headers["Location"])


def fetched(link: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", link, headers=headers)


def test_a_recording_is_played_from_its_bucket_until_it_changes(service: Running, media: str) -> None:
    objects = open_store(f"s3://{media}")
    objects.put("in/a b+c é.mp3", SOUND)
    objects.put("in/other.mp3", b"other")
    run = ended(service, {"media_type": "audio/mpeg", "rendition": False}, source=f"s3://{media}/in/a b+c é.mp3")
    link = link_of(service, run)
    part = fetched(link, Range="bytes=1000-1999")
    assert (part.status, part.data) == (206, SOUND[1000:2000])
    # Whatever type the object was stored with.
    assert part.headers["Content-Type"] == "audio/mpeg"
    assert fetched(link).data == SOUND
    assert 0 < int(parse_qs(urlsplit(link).query)["X-Amz-Expires"][0]) <= 3600
    for changed in (
        link.replace("a%20b%2Bc%20%C3%A9.mp3", "other.mp3"),
        link.replace("audio%2Fmpeg", "text%2Fhtml"),
        re.sub(r"X-Amz-Expires=\d+", "X-Amz-Expires=604800", link),
    ):
        assert changed != link
        assert fetched(changed).status == 403
    objects.put("in/a b+c é.mp3", b"another recording")
    reply = problem(service.client.get(f"/v1/runs/{run['id']}/media"), 404, "no-media")
    assert reply["detail"].startswith("the recording was changed after it was transcribed")
    objects.delete("in/a b+c é.mp3")
    reply = problem(service.client.get(f"/v1/runs/{run['id']}/media"), 404, "no-media")
    assert reply["detail"].startswith("the recording was deleted")


def test_a_rendition_is_played_from_the_store(service: Running, media: str) -> None:
    open_store(f"s3://{media}").put("in/a.wma", b"sound")
    run = ended(service, {"media_type": "", "rendition": True}, source=f"s3://{media}/in/a.wma")
    problem(service.client.get(f"/v1/runs/{run['id']}/media"), 404, "no-media")
    service.store.put(RunKeys(run["run"]).rendition, SOUND)
    assert fetched(link_of(service, run), Range="bytes=-9").data == SOUND[-9:]
    assert service.client.delete(f"/v1/runs/{run['id']}").status_code == 204
    assert list(service.store.list(RunKeys(run["run"]).home)) == []


def test_a_link_is_signed_for_the_address_that_clients_use(store: S3Store, server: Server) -> None:
    store.put("a/b.mp3", SOUND)
    port = urlsplit(server.environment["AWS_ENDPOINT_URL_S3"]).port
    public = f"http://localhost:{port}"
    link = store.link("a/b.mp3", media_type="audio/mpeg", valid_s=60, endpoint=public)
    assert link.startswith(f"{public}/")
    assert fetched(link).data == SOUND
    # A proxy that has the server under a path of its own takes that away again.
    below = store.link("a/b.mp3", media_type="audio/mpeg", valid_s=60, endpoint=f"{public}/s3")
    assert below.startswith(f"{public}/s3/")
    assert fetched(below.replace("/s3/", "/", 1)).data == SOUND


def test_a_link_ends(store: S3Store) -> None:
    store.put("b.mp3", SOUND)
    link = store.link("b.mp3", media_type="audio/mpeg", valid_s=1, endpoint="")
    pipeline.until(lambda: fetched(link).status == 403, "the link ends")


def test_an_intake_puts_the_waveform_into_the_bucket(store: Store, tmp_path: Path) -> None:
    ordered = order(store, with_clicks(tmp_path / "a.wav", 45, 31_000), rendition=True)  # type: ignore[arg-type]
    ordered.run()
    assert clicks_ms(steps(store, ordered.keys.run, "detail"), 40) == [31_000]
    assert store.stat(ordered.keys.rendition) is not None
    assert waveforms.opened(store, "0" * 16) is None
