"""Corrections over the API: saved once, never lost, in every format, of one tenant, and gone with their run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import sha256_hex
from chunk_job.errors import ExitCode
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from controller import cli
from controller.domain import correction_documents
from controller.domain.correction_documents import Correction
from controller.domain.documents import Final
from controller.domain.keys import RunKeys
from controller.runs import corrected_files, lookup
from controller.runs.lookup import read_run
from controller.service import requests
from controller.transcript.model import Transcript
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_runs_api import problem
from tests.fakes import fails_with

pytestmark = pytest.mark.process

TEXT = "w0a word <b>&</b>"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service, and the headers of the tenant whose it mostly is."""
    folder = tmp_path_factory.mktemp("service")
    tenants, headers = tenants_file(folder, news="requests_per_second = 10000", radio="")
    with running(FileStore(folder / "store"), tenants=tenants, chunks_ms=(10_000, 10_000)) as up:
        yield up, headers["news"]


@pytest.fixture
def service(started: tuple[Running, dict[str, str]]) -> Running:
    """The service; tests change the headers of its client."""
    up, headers = started
    up.client.headers.update(headers)
    return up


@pytest.fixture
def run_id(service: Running) -> str:
    return str(service.wait_for(service.submit("talk.wav")["id"])["id"])


def keys_of(service: Running, run_id: str) -> RunKeys:
    return RunKeys(service.client.get(f"/v1/runs/{run_id}").json()["run"])


def save(service: Running, run_id: str, text: str, *based_on: int, segment: int = 0, **more: Any) -> dict[str, Any]:
    body = {"segment": segment, "text": text, "based_on": based_on, **more}
    reply = service.client.post(f"/v1/runs/{run_id}/corrections", json=body)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def listed(service: Running, run_id: str, **query: int) -> dict[str, Any]:
    reply = service.client.get(f"/v1/runs/{run_id}/corrections", params=query)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def result(service: Running, run_id: str, form: str = "json", **query: str) -> str:
    reply = service.client.get(f"/v1/runs/{run_id}/result", params={"format": form, **query})
    assert reply.status_code == 200, reply.text
    return reply.text


def test_a_correction_makes_a_version_beside_the_transcript_of_the_model(service: Running, run_id: str) -> None:
    before = result(service, run_id)
    nothing = {"version": 0, "changed": 0, "conflicts": [], "corrections": [], "lines": [], "next_after": None}
    assert listed(service, run_id) == nothing
    saved = save(service, run_id, f"  {TEXT}\n", author=" Ana ", id="first-one")
    assert saved["version"] == 1
    assert saved["correction"]["author"] == "Ana"
    assert saved["correction"]["state"] == "valid"
    line = {key: saved["line"][key] for key in ("segment", "text", "machine_text", "is_conflict")}
    assert [one["probability"] for one in saved["line"]["words"]] == [0.9, None, None]
    assert line == {"segment": 0, "text": TEXT, "machine_text": "w0a w0b", "is_conflict": False}
    assert result(service, run_id) == result(service, run_id, version="machine") == before
    corrected = Transcript.decode(result(service, run_id, version="latest").encode())
    machine = Transcript.decode(before.encode())
    assert corrected.corrected is not None
    assert corrected.corrected.model_dump() == {"version": 1, "segments": 1, "conflicts": 0}
    assert corrected.segments[1:] == machine.segments[1:]
    assert corrected.segments[0].words[0] == machine.segments[0].words[0]
    assert [word.get("corrected", False) for word in corrected.segments[0].words] == [False, True, True]
    assert corrected.text == f"{TEXT} w1a w1b"


def test_every_format_and_profile_has_the_corrected_text_and_the_machine_gives_back_its_bytes(
    service: Running, run_id: str
) -> None:
    formats = ("txt", "srt", "vtt", "tsv", "json", "ass", "lrc")
    before = {form: result(service, run_id, form) for form in formats}
    save(service, run_id, TEXT)
    for form in formats:
        found = result(service, run_id, form, version="latest")
        assert ("w0a word &lt;b&gt;&amp;&lt;/b&gt;" if form == "vtt" else "w0a word <b>&</b>") in found, form
    broken = result(service, run_id, "srt", version="latest", caption_profile="netflix")
    assert "word" in broken
    # Undone: a correction with the text of the model.
    save(service, run_id, "w0a w0b", 1)
    for form in set(formats) - {"json"}:
        assert result(service, run_id, form, version="latest") == before[form]
        assert "word" in result(service, run_id, form, version="1")
        assert result(service, run_id, form, version="0") == before[form]
    assert (
        Transcript.decode(result(service, run_id, version="2").encode()).segments
        == Transcript.decode(before["json"].encode()).segments
    )
    problem(service.client.get(f"/v1/runs/{run_id}/result?version=3"), 404, "no-such-version")
    problem(service.client.get(f"/v1/runs/{run_id}/result?version=new"), 422, "invalid-request")


def test_the_command_line_renders_a_version(
    service: Running, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(service, run_id, TEXT)
    command = ["render", run_id, "--store", service.store.url, "-o", str(tmp_path / "out"), "-f", "txt"]
    for version, text in (("latest", TEXT), ("1", TEXT), ("machine", "w0a w0b")):
        assert cli.run([*command, "--version", version, "--overwrite"]) == 0
        assert Path(capsys.readouterr().out.strip()).read_text().startswith(f"{text}\n")
    for version, said in (("2", "no version 2: the last one is 1"), ("new", "new is not a version")):
        assert cli.run([*command, "--version", version]) == 2
        assert said in capsys.readouterr().err
    assert cli.run(["render", str(tmp_path / "talk.json"), "--version", "latest"]) == 2
    assert "is a file: --version is of a run" in capsys.readouterr().err


def test_two_people_on_one_line_are_both_kept_and_shown_until_one_replaces_both(service: Running, run_id: str) -> None:
    save(service, run_id, "hers", author="Ana")
    saved = save(service, run_id, "his", author="Ben")
    assert saved["line"]["is_conflict"]
    assert [(one["author"], one["text"]) for one in saved["line"]["valid"]] == [("Ana", "hers"), ("Ben", "his")]
    assert listed(service, run_id)["conflicts"] == [0]
    assert result(service, run_id, "txt", version="latest").startswith("his\n")
    assert Transcript.decode(result(service, run_id, version="latest").encode()).corrected is not None
    solved = save(service, run_id, "theirs", 1, 2)
    assert not solved["line"]["is_conflict"]
    found = listed(service, run_id)
    assert [(one["number"], one["state"]) for one in found["corrections"]] == [
        (1, "replaced"), (2, "replaced"), (3, "valid")
    ]  # fmt: skip
    assert found["conflicts"] == []


def test_a_page_asks_only_for_what_is_new(service: Running, run_id: str) -> None:
    for number in range(3):
        save(service, run_id, f"text {number}", *range(1, number + 1))
    save(service, run_id, "other", segment=1)
    first = listed(service, run_id, limit=2)
    assert ([one["number"] for one in first["corrections"]], first["next_after"]) == ([1, 2], 2)
    rest = listed(service, run_id, after=2)
    assert ([one["number"] for one in rest["corrections"]], rest["next_after"]) == ([3, 4], None)
    assert [(one["segment"], one["text"]) for one in rest["lines"]] == [(0, "text 2"), (1, "other")]
    assert listed(service, run_id, after=4)["corrections"] == []


def test_the_same_correction_sent_again_is_one(service: Running, run_id: str) -> None:
    one, again = (save(service, run_id, "text", id="the-same-one") for _ in range(2))
    assert one["correction"] == again["correction"]
    assert len(listed(service, run_id)["corrections"]) == 1


def test_no_correction_is_lost_when_many_people_save_at_once(service: Running, run_id: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: save(service, run_id, f"text {at}", segment=at % 2), range(24)))
    found = listed(service, run_id)
    assert sorted(one["text"] for one in found["corrections"]) == sorted(f"text {at}" for at in range(24))
    assert [one["number"] for one in found["corrections"]] == list(range(1, 25))
    assert len(corrected_files.read_corrections(service.store, keys_of(service, run_id).run)) == 24


REFUSED = [
    ({"segment": 2, "text": "x"}, "#/segment"),
    ({"segment": -1, "text": "x"}, "#/segment"),
    ({"segment": 0, "text": "x" * 5_001}, "#/text"),
    ({"segment": 0, "text": "x" * 100_000}, "#/text"),
    ({"segment": 0}, "#/text"),
    ({"segment": 0, "text": None}, "#/text"),
    ({"segment": 0, "text": "x", "based_on": [1]}, "#/based_on"),
    ({"segment": 0, "text": "x", "author": "a\nb"}, "#/author"),
    ({"segment": 0, "text": "x", "author": "\u202ex"}, "#/author"),
    ({"segment": 0, "text": "x", "id": "../../x"}, "#/id"),
    ({"segment": 0, "text": "x", "number": 7}, "#/number"),
]


def test_what_cannot_be_saved_is_said_and_nothing_is_stored(service: Running, run_id: str) -> None:
    for body, where in REFUSED:
        found = problem(service.client.post(f"/v1/runs/{run_id}/corrections", json=body), 422, "invalid-request")
        assert found["errors"][0]["pointer"] == where
    assert listed(service, run_id)["version"] == 0


def test_a_correction_of_another_line_cannot_be_replaced(service: Running, run_id: str) -> None:
    save(service, run_id, "text")
    body = {"segment": 1, "text": "x", "based_on": [1]}
    problem(service.client.post(f"/v1/runs/{run_id}/corrections", json=body), 422, "invalid-request")


def test_hostile_text_is_one_line_of_text_everywhere(service: Running, run_id: str) -> None:
    hostile = (
        "a\u202eb\u2066c\r\n\n1\n00:00:01,000 --> 00:00:02,000\n\x00\x1b[31m<script>alert(1)</script> {\\an8} & \u2028x"
    )
    saved = save(service, run_id, hostile)
    text = "abc 1 00:00:01,000 --> 00:00:02,000 [31m<script>alert(1)</script> {\\an8} & x"
    assert saved["line"]["text"] == text
    srt = result(service, run_id, "srt", version="latest")
    assert srt.count("-->") == 2
    assert "<script>" not in result(service, run_id, "vtt", version="latest")
    assert len(result(service, run_id, "txt", version="latest").splitlines()) == 2
    # Surrogates are no text.
    raw = b'{"segment": 0, "text": "\\ud800"}'
    headers = {"Content-Type": "application/json"}
    reply = service.client.post(f"/v1/runs/{run_id}/corrections", content=raw, headers=headers)
    problem(reply, 422, "invalid-request")


def test_another_tenant_sees_and_writes_nothing(service: Running, run_id: str, tmp_path: Path) -> None:
    save(service, run_id, "text")
    radio = {"Authorization": "Bearer stf_radio_token"}
    path = f"/v1/runs/{run_id}/corrections"
    problem(service.client.get(path, headers=radio), 404, "not-found")
    problem(service.client.get(f"{path}/glossary", headers=radio), 404, "not-found")
    problem(service.client.post(path, json={"segment": 0, "text": "x"}, headers=radio), 404, "not-found")
    assert listed(service, run_id)["version"] == 1


def test_corrections_are_deleted_with_their_run(service: Running, run_id: str) -> None:
    save(service, run_id, "text")
    home = keys_of(service, run_id).home
    assert service.client.delete(f"/v1/runs/{run_id}").status_code == 204
    assert list(service.store.list(home)) == []
    problem(service.client.get(f"/v1/runs/{run_id}/corrections"), 404, "not-found")


def test_a_correction_that_comes_while_its_run_is_deleted_does_not_remain(
    service: Running, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_of(service, run_id)
    save(service, run_id, "text")
    stored = service.store.get(keys.correction(1))

    def remove_run(store: Store, run: str) -> None:
        lookup.remove_run(store, run)
        # Of a process that had read the run before, and finds its request still there.
        store.put(keys.correction(2), stored)

    monkeypatch.setattr(requests, "remove_run", remove_run)
    assert service.client.delete(f"/v1/runs/{run_id}").status_code == 204
    assert list(service.store.list(keys.home)) == []


def test_a_run_with_the_most_corrections_takes_no_more_and_its_state_is_still_found(
    service: Running, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrected_files, "MOST_CORRECTIONS", 3)
    keys = keys_of(service, run_id)
    for number in range(3):
        save(service, run_id, f"text {number}")
    body = {"segment": 0, "text": "x"}
    problem(service.client.post(f"/v1/runs/{run_id}/corrections", json=body), 409, "too-many-corrections")
    for number in range(4, 1_005):
        service.store.put(keys.correction(number), b"")
    found = read_run(service.store, keys.run)
    assert found is not None
    assert found.status is not None


def test_a_run_without_a_transcript_has_no_corrections(tmp_path: Path) -> None:
    with running(FileStore(tmp_path / "store"), script=lambda _: fails_with(ExitCode.DECODE)) as service:
        found = service.submit()
        path = f"/v1/runs/{found['id']}/corrections"
        assert service.wait_for(found["id"])["status"] == "failed"
        problem(service.client.get(path), 409, "no-transcript")
        problem(service.client.post(path, json={"segment": 0, "text": "x"}), 409, "no-transcript")


def test_corrections_of_an_older_transcript_are_shown_and_not_used(service: Running, run_id: str) -> None:
    save(service, run_id, "corrected")
    save(service, run_id, "also corrected", segment=1)
    keys = keys_of(service, run_id)
    machine = Transcript.decode(service.store.get(keys.transcript("json")))
    text = " quite other words"
    first = machine.segments[0].model_copy(update={"text": text, "words": ()})
    other = machine.model_copy(update={"segments": (first, *machine.segments[1:]), "text": f"{text} w1a w1b".strip()})
    data = other.encode()
    service.store.put(keys.transcript("json"), data)
    final = Final.decode(service.store.get(keys.final))
    outputs = {**final.outputs, "json": sha256_hex(data)}
    service.store.put(keys.final, final.model_copy(update={"outputs": outputs}).encode())
    assert result(service, run_id, "txt", version="latest") == "quite other words\nalso corrected\n"
    found = listed(service, run_id)
    assert [(one["state"], one["machine_text"]) for one in found["corrections"]] == [
        ("older", "w0a w0b"), ("valid", "w1a w1b")
    ]  # fmt: skip
    assert [line["segment"] for line in found["lines"]] == [1]


def test_a_line_with_another_text_than_was_seen_is_not_corrected(service: Running, run_id: str) -> None:
    save(service, run_id, "text", machine_text=" w0a  w0b\n")
    body = {"segment": 0, "text": "x", "machine_text": "w0a w0c"}
    problem(service.client.post(f"/v1/runs/{run_id}/corrections", json=body), 409, "other-text")
    assert listed(service, run_id)["version"] == 1


def test_objects_of_other_programs_are_ignored_and_their_numbers_are_not_used(service: Running, run_id: str) -> None:
    keys = keys_of(service, run_id)
    save(service, run_id, "mine")
    stored = Correction.decode(service.store.get(keys.correction(1)))
    service.store.put(keys.correction(2), b"garbage")
    service.store.put(keys.correction(3), stored.model_copy(update={"number": 9}).encode())
    service.store.put(keys.correction(4), stored.model_copy(update={"run": "0" * 16, "number": 4}).encode())
    service.store.put(f"{keys.corrections}notes.txt", b"x")
    saved = save(service, run_id, "mine too", 1)
    assert saved["correction"]["number"] == 5
    assert [one["number"] for one in listed(service, run_id)["corrections"]] == [1, 5]
    # A run that was deleted and exists again has other corrections.
    service.store.put(keys.correction(5), stored.model_copy(update={"number": 5, "text": "of another life"}).encode())
    assert listed(service, run_id)["corrections"][-1]["text"] == "of another life"


def test_terms_for_a_glossary_are_suggested(service: Running, run_id: str) -> None:
    save(service, run_id, "w0a Katz")
    reply = service.client.get(f"/v1/runs/{run_id}/corrections/glossary")
    assert reply.json() == {
        "terms": [{"term": "Katz", "heard": "w0b", "segments": 1, "is_name": True, "line": "Katz = w0b"}]
    }


def test_the_longest_text_and_name_are_stored(service: Running, run_id: str) -> None:
    saved = save(service, run_id, "\U0001f642" * correction_documents.MOST_CHARACTERS, author="\u65e5" * 100)
    assert len(saved["line"]["text"]) == correction_documents.MOST_CHARACTERS
    assert Transcript.decode(result(service, run_id, version="latest").encode()).segments[0].words[0]["word"]
