"""A running service with an inbox: from a file in a folder to its transcript, and events of a bucket."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.errors import UsageProblem
from controller.service.inbox.places import InboxSettings, checked
from controller.service.tenants import parse
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.pipeline import until

pytestmark = pytest.mark.process


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


@pytest.fixture
def service(store: FileStore, folders: tuple[Path, Path]) -> Iterator[Running]:
    inbox, outbox = map(str, folders)
    with running(store, inbox=InboxSettings(inbox=inbox, outbox=outbox, poll_s=0.1, settle_s=0.1)) as up:
        yield up


def put(path: Path, data: bytes = b"sound") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_file_becomes_transcripts_in_the_same_subfolder_and_a_corrected_one_is_kept(
    service: Running, folders: tuple[Path, Path]
) -> None:
    inbox, outbox = folders
    put(inbox / "2024/talk.mp3")
    put(inbox / "2024/talk.wav.stenofleet.yaml", b"output_formats: [vtt]\nlabels: {case: '7'}\n")
    put(inbox / "2024/talk.wav")
    until(lambda: len(list((outbox / "2024").glob("*"))) == 4, "both are transcribed")
    names = sorted(path.name for path in (outbox / "2024").iterdir())
    assert names == ["talk.mp3.json", "talk.mp3.srt", "talk.mp3.txt", "talk.wav.vtt"]
    text = outbox / "2024/talk.mp3.txt"
    assert text.read_text() == "w0a w0b\n"
    (labelled,) = service.client.get("/v1/runs", params={"label": "case=7"}).json()["runs"]
    assert labelled["name"] == "talk.wav"
    until(lambda: "-done-" in " ".join(entry.key for entry in service.store.list("inbox-state/")), "it is recorded")
    text.write_text("corrected\n")
    (outbox / "2024/talk.mp3.srt").unlink()
    put(inbox / "2024/talk.mp3", b"another sound")
    until((outbox / "2024/talk.mp3.srt").exists, "it is transcribed again")
    until(lambda: not list(service.store.list("queue/")), "it has ended")
    assert text.read_text() == "corrected\n"


def test_a_link_that_takes_the_place_of_a_recording_is_not_read(
    service: Running, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    inbox, outbox = folders
    put(tmp_path / "secret.mp3", b"secret")
    identify = service.server.queue._make

    def replaced(request: Any, *rest: Any) -> Any:
        (inbox / "a/talk.mp3").unlink()
        (inbox / "a/talk.mp3").symlink_to(tmp_path / "secret.mp3")
        return identify(request, *rest)

    service.server.queue._make = replaced
    put(inbox / "a/talk.mp3")
    until((outbox / "a/talk.mp3.error.json").exists, "the error is shown")
    shown = json.loads((outbox / "a/talk.mp3.error.json").read_bytes())
    assert "is reached by a link" in shown["summary"]
    assert [path.name for path in (outbox / "a").iterdir()] == ["talk.mp3.error.json"]
    assert service.runner.submitted == []


def test_each_tenant_has_an_inbox_of_its_own(store: FileStore, folders: tuple[Path, Path], tmp_path: Path) -> None:
    inbox, outbox = folders
    tenants, headers = tenants_file(tmp_path, news="", radio="")
    settings = InboxSettings(inbox=str(inbox), outbox=str(outbox), poll_s=0.1, settle_s=0.1)
    put(inbox / "news/talk.mp3")
    put(inbox / "nobody/talk.mp3")
    with running(store, tenants=tenants, inbox=settings) as service:
        until((outbox / "news/talk.mp3.txt").exists, "it is transcribed")
        (run,) = service.client.get("/v1/runs", headers=headers["news"]).json()["runs"]
        assert run["name"] == "talk.mp3"
        assert service.client.get("/v1/runs", headers=headers["radio"]).json()["runs"] == []
        event: dict[str, Any] = {"Records": []}
        problem(service.client.post("/v1/hooks/s3", json=event, headers=headers["news"]), 404, "not-found")
        problem(service.client.post("/v1/hooks/s3", json=event), 401, "unauthenticated")
    assert [path.name for path in outbox.iterdir()] == ["news"]


def test_events_name_objects_of_the_inbox(store: FileStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = InboxSettings(inbox="s3://media/in", outbox="s3://media/out", poll_s=10**6)
    tenants, headers = tenants_file(tmp_path, news="")
    looked: list[str] = []

    def noticed(_: str, path: str) -> bool:
        looked.append(path)
        return True

    with running(store, tenants=tenants, inbox=settings) as service:
        # There is no server: only what is noted is of interest.
        monkeypatch.setattr(service.server._noted, "note", noticed)

        def post(body: Any) -> Any:
            return service.client.post("/v1/hooks/s3", json=body, headers=headers["news"])

        def record(key: str, bucket: str = "media") -> dict[str, Any]:
            return {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}

        keys = (
            "in/news/a+b%2Fc.mp3",
            "in/news/%C3%A7+%2B.mp3",
            "in/radio/x.mp3",
            "in/news/..%2Fradio%2Fx.mp3",
            "in/news/",
        )
        reply = post({"EventName": "s3:ObjectCreated:Put", "Records": [record(key) for key in keys]})
        assert (reply.status_code, reply.json()) == (202, {"noticed": 2, "ignored": 3})
        assert looked == ["a b/c.mp3", "ç +.mp3"]
        assert post({"Records": [record("in/news/x.mp3", "foreign")]}).json() == {"noticed": 0, "ignored": 1}
        bridge = {"source": "aws.s3", "detail": {"bucket": {"name": "media"}, "object": {"key": "in/news/a+b.mp3"}}}
        assert post(bridge).json() == {"noticed": 1, "ignored": 0}
        assert looked[2:] == ["a+b.mp3"]
        assert post({"Service": "Amazon S3", "Event": "s3:TestEvent"}).json() == {"noticed": 0, "ignored": 0}
        problem(post({"Records": [record("x")] * 201}), 422, "invalid-request")
        problem(post({"Records": [{"s3": {}}]}), 422, "invalid-request")
        large = service.client.post("/v1/hooks/s3", content=b" " * (2 << 20), headers=headers["news"])
        problem(large, 413, "too-large")


def test_places_that_would_be_read_as_recordings_are_refused(tmp_path: Path, store: FileStore) -> None:
    inside = (
        (str(tmp_path / "in"), str(tmp_path / "in/out")),
        (str(tmp_path / "in"), str(tmp_path)),
        (str(tmp_path), str(tmp_path)),
        (str(tmp_path / "in"), ""),
        (str(store.root.parent), "/elsewhere"),
    )
    for inbox, outbox in inside:
        with pytest.raises(UsageProblem):
            checked(inbox, outbox, store)
    assert checked(f"{tmp_path}/in/", f"{tmp_path}/in2", store) == (f"{tmp_path}/in", f"{tmp_path}/in2")
    assert checked("", "", store) == ("", "")


def test_inboxes_of_the_tenants_file_are_separate(tmp_path: Path) -> None:
    def tenants(*lines: str) -> None:
        tables = "\n".join(f"[tenants.t{number}]\n{line}" for number, line in enumerate(lines))
        parse(tables.encode(), tmp_path / "t.toml")

    def at(inbox: str, outbox: str) -> str:
        return f'inbox = "{inbox}"\noutbox = "{outbox}"'

    news = at("s3://media/in/a/", "s3://media/out/a/")
    tenants(news, at("s3://media/in/b/", "s3://media/out/b/"), "")
    for lines, said in (
        (('inbox = "s3://media/in/"',), "belong together"),
        ((at("s3://media/in/", "s3://media/in/out/"),), "another one or an outbox is in it"),
        ((news, at("s3://media/in/a/x/", "s3://media/out/b/")), "is in one"),
        ((news, at("s3://media/out/a/x/", "s3://media/out/b/")), "is in one"),
        ((at("/etc", "s3://media/out/"),), "inbox: not a valid value"),
    ):
        with pytest.raises(UsageProblem, match=said):
            tenants(*lines)


def test_modes_of_outbox_files_are_those_of_the_user(service: Running, folders: tuple[Path, Path]) -> None:
    inbox, outbox = folders
    before = os.umask(0o022)
    try:
        put(inbox / "empty.mp3", b"")
        until((outbox / "empty.mp3.error.json").exists, "the error is shown")
    finally:
        os.umask(before)
    assert (outbox / "empty.mp3.error.json").stat().st_mode & 0o777 == 0o644
    assert "is empty (0 bytes)" in json.loads((outbox / "empty.mp3.error.json").read_bytes())["summary"]
