"""What players get of a run: the recording or its rendition in parts, the waveform, and why there is nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.domain.documents import Request
from controller.domain.keys import RunKeys
from controller.domain.playback import Playback
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import RequestKey
from controller.domain.waveform import WaveformHeader, dat_header
from controller.intake.peaks import Peaks
from controller.intake.source import object_identity
from controller.runs import waveforms
from controller.service import media, media_api
from controller.service.problems import Problem
from controller.service.ranges import part_of
from controller.service.request_reader import FoundRequest
from controller.service.requests import RequestStore
from controller.service.tenant import Tenant
from tests import fakes
from tests.controller.service import running as service_of_tests
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem

pytestmark = pytest.mark.process

SOUND = bytes(range(256)) * 4_000
SIZE = len(SOUND)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service, and the headers of the tenant whose it mostly is."""
    folder = tmp_path_factory.mktemp("service")
    news = 'requests_per_second = 10000\nsources = ["s3://media/"]'
    tenants, headers = tenants_file(folder, news=news, radio="sources = []")
    with running(FileStore(folder / "store"), tenants=tenants) as up:
        yield up, headers["news"]


@pytest.fixture
def service(started: tuple[Running, dict[str, str]]) -> Running:
    """The service; tests change the headers of its client."""
    up, headers = started
    up.client.headers.update(headers)
    return up


def ended(service: Running, *, media_type: str = "", rendition: bytes = b"", status: str = "complete") -> str:
    """The id of a run that has ended, with what an intake puts for players."""
    found = service.wait_for(service.submit()["id"], status)
    keys = RunKeys(found["run"])
    if rendition:
        service.store.put(keys.rendition, rendition)
    playback = Playback(run=keys.run, media_type=media_type, rendition=bool(rendition))  # type: ignore[arg-type]
    service.store.put(keys.playback, playback.encode())
    return str(found["id"])


def put_waveform(service: Running, run_id: str, folder: Path, samples: int = 64_100) -> Path:
    keys = RunKeys(service.client.get(f"/v1/runs/{run_id}").json()["run"])
    path = folder / "waveform.bin"
    peaks = Peaks(folder / "peaks", lead_samples=0)
    peaks.add(np.full(samples, 25_700, np.int16))
    peaks.finish(keys.run, path)
    peaks.close()
    service.store.put_file(keys.waveform, path)
    return path


# ---------------------------------------------------------------- media


def test_a_rendition_is_sent_whole_and_in_parts(service: Running) -> None:
    path = f"/v1/runs/{ended(service, rendition=SOUND)}/media"
    whole = service.client.get(path)
    assert (whole.status_code, whole.content) == (200, SOUND)
    assert whole.headers["Content-Type"] == "audio/mpeg"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Cache-Control"] == "no-store"
    etag = whole.headers["ETag"]
    for asked, begin, end in (
        ("bytes=0-", 0, SIZE),
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        (f"bytes=10-{10**25}", 10, SIZE),
        (f"bytes=-{10**25}", 0, SIZE),
    ):
        part = service.client.get(path, headers={"Range": asked, "If-Range": etag})
        assert (part.status_code, part.content) == (206, SOUND[begin:end]), asked
        assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    # A part of another version would not fit to what the client has.
    other = service.client.get(path, headers={"Range": "bytes=5-9", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, SOUND)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={10**20}-", "bytes=-0", f"bytes={SIZE}-{SIZE + 1}"])
def test_a_part_that_is_not_there_is_a_problem_with_the_length(service: Running, asked: str) -> None:
    path = f"/v1/runs/{ended(service, rendition=SOUND)}/media"
    reply = service.client.get(path, headers={"Range": asked})
    problem(reply, 416, "no-such-part")
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"


HOSTILE = [
    "", "bytes", "bytes=", "bytes=-", "bytes=--1", "bytes=1", "bytes=a-b", "bytes=9-5", "bytes=1-2-3", "bytes= 1-2",
    "bytes=1-2 ", "octets=1-2", "bytes=+1-2", "bytes=0x1-2", "bytes=1e3-", "bytes=\u0661-\u0662", "bytes=\xb2-",
    "bytes=0-0,1-1", "bytes=0-,0-,0-,0-", "bytes=" + ",".join(f"{at}-" for at in range(5_000)),
    "bytes=" + "9" * 60_000 + "-", "bytes=0-" + "9" * 31, "bytes=1-\x00", "bytes=\n0-1", "bytes=0-1\r\nX: y",
]  # fmt: skip


@pytest.mark.parametrize("asked", HOSTILE, ids=range(len(HOSTILE)))
def test_a_header_that_is_no_single_part_is_ignored(asked: str) -> None:
    assert part_of(asked, SIZE) is None


def test_hostile_headers_give_all_of_it(service: Running) -> None:
    path = f"/v1/runs/{ended(service, rendition=SOUND)}/media"
    for asked in HOSTILE:
        if len(asked) < 30_000 and asked.isprintable() and asked.isascii():
            reply = service.client.get(path, headers={"Range": asked})
            assert (reply.status_code, len(reply.content)) == (200, SIZE), asked


def test_nothing_is_asked_of_an_empty_file() -> None:
    assert part_of("", 0) is None
    for asked in ("bytes=0-", "bytes=-1"):
        with pytest.raises(Problem, match="it has 0 bytes"):
            part_of(asked, 0)


def test_an_upload_is_played_until_it_is_deleted_and_then_its_rendition(tmp_path: Path) -> None:
    with running(FileStore(tmp_path / "store"), takes_ms=10**6) as up:
        found = up.wait_for(up.submit(name="a.mp3")["id"], "running")
        path = f"/v1/runs/{found['id']}/media"
        reply = problem(up.client.get(path), 404, "no-media")
        assert reply["detail"].endswith("it is not read yet")
        keys = RunKeys(found["run"])
        up.store.put(keys.playback, Playback(run=keys.run, media_type="audio/mp4", rendition=True).encode())
        up.store.put(keys.rendition, b"small")
        played = up.client.get(path, headers={"Range": "bytes=1-2"})
        assert (played.status_code, played.content) == (206, b"ou")
        up.store.put(keys.playback, Playback(run=keys.run, media_type="audio/mpeg", rendition=True).encode())
        assert up.client.get(path).content == b"small", "players find times in it"
        # As if the run were complete.
        request = up.server.app.state.service.requests
        held = request.find(RequestKey("default", found["id"]))
        request.remove_upload(held.request)
        assert up.client.get(path).content == b"small"
        up.store.delete(keys.rendition)
        reply = problem(up.client.get(path), 404, "no-media")
        assert reply["detail"] == "the upload was deleted when its run was complete; it has no rendition"


@pytest.mark.parametrize("default", [False, True])
def test_a_rendition_is_made_if_the_request_or_the_operator_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: bool
) -> None:
    accepted: list[bool] = []
    accept = RequestStore.accept

    def noted(self: RequestStore, request: ServiceRequest) -> ServiceRequest:
        accepted.append(request.rendition)
        return accept(self, request)

    monkeypatch.setattr(RequestStore, "accept", noted)
    monkeypatch.setattr(service_of_tests, "DEFAULTS", replace(service_of_tests.DEFAULTS, rendition=default))
    with running(FileStore(tmp_path / "store")) as up:
        for options in ({}, {"rendition": None}, {"rendition": True}, {"rendition": False}):
            run = up.wait_for(up.submit(options=options)["id"])["run"]
            request = Request.decode(up.store.get(RunKeys(run).request))
            assert request.rendition == accepted[-1]
        # Nothing is kept of a run that was answered.
        up.client.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"sound")}, data={"model": "whisper-1"})
    assert accepted == [default, default, True, False, False]


def test_what_cannot_be_played_is_said(service: Running) -> None:
    path = f"/v1/runs/{ended(service)}/media"
    reply = problem(service.client.get(path), 404, "no-media")
    assert reply["detail"] == "browsers do not play the recording; it has no rendition"
    assert "the option rendition" in reply["advice"]
    found = service.client.get(path.removesuffix("/media")).json()
    service.store.put(RunKeys(found["run"]).playback, b"{}")
    assert problem(service.client.get(path), 404, "no-media")["detail"].endswith("it was never read")


def test_another_tenant_gets_neither(service: Running, tmp_path: Path) -> None:
    run_id = ended(service, rendition=SOUND)
    put_waveform(service, run_id, tmp_path)
    service.client.headers["Authorization"] = "Bearer stf_radio_token"
    for path in ("media", "waveform"):
        problem(service.client.get(f"/v1/runs/{run_id}/{path}"), 404, "not-found")
    del service.client.headers["Authorization"]
    for path in ("media", "waveform"):
        problem(service.client.get(f"/v1/runs/{run_id}/{path}"), 401, "unauthenticated")


def test_a_link_in_the_store_is_not_followed(service: Running, tmp_path: Path) -> None:
    run_id = ended(service, rendition=SOUND)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    run = service.client.get(f"/v1/runs/{run_id}").json()["run"]
    place = Path(str(service.store.url).removeprefix("file://")) / RunKeys(run).rendition
    place.unlink()
    place.symlink_to(secret)
    problem(service.client.get(f"/v1/runs/{run_id}/media"), 404, "no-media")


def test_a_deleted_run_has_neither(service: Running, tmp_path: Path) -> None:
    run_id = ended(service, rendition=SOUND)
    put_waveform(service, run_id, tmp_path)
    run = service.client.get(f"/v1/runs/{run_id}").json()["run"]
    assert service.client.delete(f"/v1/runs/{run_id}").status_code == 204
    assert list(service.store.list(RunKeys(run).home)) == []


# ---------------------------------------------------------------- an object in S3


class OneBucket(FileStore):
    """A bucket with one object; its links name what was asked for."""

    def stat(self, key: str) -> StoredObject | None:
        return StoredObject(key=key, size_bytes=9, modified_s=1.0, revision="r1") if key == "talk.mp4" else None

    def link(self, key: str, *, media_type: str, valid_s: int, endpoint: str) -> str:
        return f"https://s3/media/{key}?type={media_type}&valid={valid_s}&at={endpoint}"


@pytest.fixture
def named(service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FoundRequest:
    """A run of ``s3://media/talk.mp4``, which is the object of :class:`OneBucket`."""
    bucket = OneBucket(tmp_path / "bucket")
    monkeypatch.setattr(media, "_bucket", lambda _: bucket)
    found: FoundRequest = service.server.app.state.service.requests.find(
        RequestKey("news", ended(service, media_type="video/mp4"))
    )
    entry = bucket.stat("talk.mp4")
    assert found is not None
    assert found.end is not None
    assert entry is not None
    keys = RunKeys(str(found.end.run_id))
    source = fakes.request(fakes.record(), tmp_path / "x").source.model_copy(
        update={"uri": "s3://media/talk.mp4", "identity": object_identity(entry)}
    )
    request = fakes.request(fakes.record(run=keys.run), tmp_path / "x").model_copy(update={"source": source})
    service.store.put(keys.request, request.encode())
    changed: FoundRequest = replace(
        found, request=found.request.model_copy(update={"upload": None, "source": "s3://media/talk.mp4"})
    )
    monkeypatch.setattr(media_api, "required", lambda *_: changed)
    return changed


def test_an_object_is_a_link_that_ends(service: Running, named: FoundRequest) -> None:
    reply = service.client.get(f"/v1/runs/{named.request.id}/media", follow_redirects=False)
    assert reply.status_code == 307
    assert reply.headers["Location"] == "https://s3/media/talk.mp4?type=video/mp4&valid=3600&at="
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "what,why",
    [
        ("rules", "this tenant may not name the source of the run any more"),
        ("gone", "the recording was deleted"),
        ("changed", "the recording was changed after it was transcribed"),
    ],
)
def test_an_object_that_may_not_be_played_is_no_link(
    service: Running, named: FoundRequest, what: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant(name="news", prefix="news", sources=() if what == "rules" else ("s3://media/",))
    if what != "rules":
        entry = None if what == "gone" else StoredObject(key="talk.mp4", size_bytes=9, modified_s=1.0, revision="r2")
        monkeypatch.setattr(OneBucket, "stat", lambda *_: entry)
    with pytest.raises(Problem, match=why) as refused:
        media.playable(service.server.app.state.service, tenant, named)
    assert refused.value.status == 404


# ---------------------------------------------------------------- the waveform


def test_each_level_is_a_file_of_its_own_with_parts(service: Running, tmp_path: Path) -> None:
    run_id = ended(service)
    path = f"/v1/runs/{run_id}/waveform"
    assert problem(service.client.get(path), 404, "no-waveform")["advice"]
    put_waveform(service, run_id, tmp_path)
    levels: dict[str, Any] = {"overview": (16_000, 5), "detail": (640, 101)}
    for level, (_, count) in levels.items():
        reply = service.client.get(path, params={"level": level})
        assert reply.status_code == 200
        assert reply.headers["Content-Type"] == "application/octet-stream"
        expected = dat_header(level, count) + bytes([100, 100]) * count  # type: ignore[arg-type]
        assert reply.content == expected
        part = service.client.get(path, params={"level": level}, headers={"Range": "bytes=24-27"})
        assert (part.status_code, part.content) == (206, bytes([100] * 4))
        assert part.headers["Content-Range"] == f"bytes 24-27/{24 + 2 * count}"
    problem(service.client.get(path, params={"level": "other"}), 422, "invalid-request")
    problem(service.client.get(path, headers={"Range": "bytes=1000-"}), 416, "no-such-part")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw.replace(b'"detail":101', b'"detail":100'),
        lambda raw: raw.replace(b'"overview":5', b'"overview":4'),
        lambda raw: raw.replace(b'"detail":101', b'"detail":999999999999'),
        lambda raw: raw.replace(b'"overview":5', b'"overview":-5'),
        lambda raw: raw.replace(b'"run":"', b'"run": "'),
        lambda raw: raw.replace(b"\x80\x3e\x00\x00", b"\x40\x1f\x00\x00"),
        lambda raw: b"{" * 100_000,
        lambda raw: b"",
        lambda raw: WaveformHeader(run="0" * 16, overview=5, detail=101).encode() + raw.partition(b"\n")[2],
    ],
    ids=range(11),
)
def test_a_waveform_that_is_not_what_it_says_is_none(service: Running, tmp_path: Path, change: Any) -> None:
    run_id = ended(service)
    raw = put_waveform(service, run_id, tmp_path).read_bytes()
    keys = RunKeys(service.client.get(f"/v1/runs/{run_id}").json()["run"])
    assert change(raw) != raw
    service.store.put(keys.waveform, change(raw))
    assert waveforms.opened(service.store, keys.run) is None
    problem(service.client.get(f"/v1/runs/{run_id}/waveform"), 404, "no-waveform")
