"""The command line with a store that an attacker has written to."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

import controller.cli
from chunk_job.contract import sha256_hex
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from controller.cli import execute, resume, transcribe
from controller.cli import options as shared
from controller.cli.requests import keep_local
from controller.domain.documents import Request, Source
from controller.domain.interfaces import RunOutcome, RunRequest, RunRequests
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import PlanOptions
from controller.intake import source
from controller.runs.run_requests import make_run_request
from tests import fakes
from tests.tamper.scene import Scene

pytestmark = pytest.mark.hostile

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    for name in os.environ:
        if name.startswith("STENOFLEET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in (transcribe, resume):
        monkeypatch.setattr(command, "ensure_model", lambda *_, **__: None)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = controller.cli.run([os.fspath(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """The requests of commands, which are not executed."""
    seen: list[RunRequest] = []

    def execute(requests: RunRequests, *_: object, **__: object) -> list[object]:
        # What was written before depends on this machine.
        seen.extend(replace(one, written=None) for one in fakes.taken(requests))
        return []

    for command in (transcribe, resume):
        monkeypatch.setattr(command, "execute", execute)
    return seen


@pytest.fixture
def run_request(store: Store, tmp_path: Path) -> RunRequest:
    """A requested run, as its objects in the store describe it."""
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"not really")
    made = make_run_request(
        source.inspect(talk),
        Output(base=(tmp_path / "out" / "talk").as_uri(), formats=("txt", "json")),
        plan=PlanOptions(),
        options=fakes.record().options,
        audio_track=None,
        on_chunk_failure="fail",
        keep_chunks=False,
    )
    keys = RunKeys(made.record.run)
    store.put(keys.record, made.record.encode())
    store.put(keys.request, made.request.encode())
    return made


def spoil(store: Store, key: str, **changes: Any) -> None:
    store.put(key, json.dumps(json.loads(store.get(key)) | changes).encode())


def keys_of(run_request: RunRequest) -> RunKeys:
    return RunKeys(run_request.record.run)


@pytest.mark.parametrize("where", ["record", "request"])
@pytest.mark.parametrize("run", ["q/../../scratch/x/victim", "f" * 16, "", 7])
def test_a_run_id_of_the_store_is_not_believed(
    store: Store,
    command_line: CommandLine,
    asked: list[RunRequest],
    run_request: RunRequest,
    tmp_path: Path,
    where: str,
    run: object,
) -> None:
    victim = tmp_path / "scratch" / "x" / "victim"
    victim.mkdir(parents=True)
    (victim / "file").touch()
    spoil(store, getattr(keys_of(run_request), where), run=run)
    code, _, err = command_line("resume", run_request.record.run, "-o", "out")
    assert code == 3, err
    assert asked == []
    assert (victim / "file").exists()
    assert "Traceback" not in err


def test_resume_asks_for_an_output_folder_of_a_run_that_was_not_begun_here(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest, tmp_path: Path
) -> None:
    request = Request.decode(store.get(keys_of(run_request).request))
    evil = Output(base=(tmp_path / "evil" / "transcript").as_uri(), formats=("txt",))
    store.put(keys_of(run_request).request, request.model_copy(update={"outputs": (evil,)}).encode())
    code, _, err = command_line("resume", run_request.record.run)
    assert (code, asked) == (2, [])
    assert "was not started on this machine" in err
    assert str(tmp_path / "evil" / "transcript.txt") in err
    assert f"with model {run_request.record.options.model}" in err
    assert f"stenofleet resume {run_request.record.run} -o FOLDER" in err
    code, _, err = command_line("resume", run_request.record.run, "-o", "mine", "-f", "srt")
    assert code == 0, err
    (resumed,) = asked
    assert resumed.request.outputs == (Output(base=(Path.cwd() / "mine" / "talk").as_uri(), formats=("srt",)),)
    assert (resumed.record, resumed.request.source) == (run_request.record, run_request.request.source)


def test_resume_uses_the_local_outputs_of_a_run_whatever_the_store_contains(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest
) -> None:
    keep_local(store, run_request)
    keys = keys_of(run_request)
    spoil(store, keys.request, outputs=[{"base": "file:///tmp/evil", "formats": ["txt"]}])
    spoil(store, keys.record, identity="0" * 64)
    code, _, err = command_line("resume", run_request.record.run, "--junit", "junit.xml")
    assert code == 0, err
    assert asked == [run_request]
    assert [one.name for one in JUnitXml.fromfile("junit.xml")] == [source.shown(run_request.request.source)]
    assert command_line("resume", run_request.record.run, "-o", "other")[0] == 0
    assert asked[1].request.outputs[0].base == (Path.cwd() / "other" / "talk").as_uri()


def test_an_output_folder_from_the_environment_or_a_file_applies_only_to_new_runs(
    store: Store,
    command_line: CommandLine,
    asked: list[RunRequest],
    run_request: RunRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STENOFLEET_OUTPUT_DIR", "elsewhere")
    Path("stenofleet.toml").write_text('output-dir = "elsewhere"\n', encoding="utf-8")
    assert command_line("resume", run_request.record.run)[0] == 2
    keep_local(store, run_request)
    assert command_line("resume", run_request.record.run)[0] == 0
    assert asked == [run_request]


def test_a_run_begun_here_in_another_store_is_not_known_in_this_one(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest, tmp_path: Path
) -> None:
    keep_local(FileStore(tmp_path / "other"), run_request)
    assert command_line("resume", run_request.record.run)[0] == 2
    assert asked == []


@pytest.mark.parametrize(
    "changes",
    [
        {"options": json.loads(fakes.record().options.encode()) | {"model": "/tmp/other-model"}},
        {"identity": "0" * 64},
        {"audio_track": 1},
        {"salt": "x"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_record_that_is_not_what_the_id_was_made_of_is_refused(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest, changes: dict[str, Any]
) -> None:
    spoil(store, keys_of(run_request).record, **changes)
    code, _, err = command_line("resume", run_request.record.run, "-o", "out")
    assert (code, asked) == (3, [])
    assert "does not match its id" in err


def test_another_local_file_is_not_accepted_as_the_recording(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest, tmp_path: Path
) -> None:
    secret = tmp_path / "diary.wav"
    secret.write_bytes(b"dear diary")
    status = secret.stat()
    planted = json.loads(store.get(keys_of(run_request).request))["source"] | {
        "uri": secret.as_uri(),
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    spoil(store, keys_of(run_request).request, source=planted)
    code, _, err = command_line("resume", run_request.record.run, "-o", "out")
    assert (code, asked) == (3, [])
    assert "diary.wav is not the recording of run" in err


@pytest.mark.parametrize("formats", [["sh"], ["pth"], ["txt/../../x"], []])
def test_formats_are_the_known_ones(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest, formats: list[str]
) -> None:
    spoil(store, keys_of(run_request).request, outputs=[{"base": "file:///tmp/evil", "formats": formats}])
    store.put(f"{keys_of(run_request).home}transcript.sh", b"#!/bin/sh")
    code, _, err = command_line("resume", run_request.record.run, "-o", "out")
    assert (code, asked) == (3, [])
    assert "Request: outputs.0.formats" in err


def test_a_run_that_was_resumed_with_a_folder_is_known_here_from_then_on(
    store: Store, command_line: CommandLine, asked: list[RunRequest], run_request: RunRequest
) -> None:
    assert command_line("resume", run_request.record.run, "-o", "mine")[0] == 0
    assert command_line("resume", run_request.record.run)[0] == 0
    assert asked[0] == asked[1]


def test_clean_removes_the_local_entry_of_a_run(
    store: Store, command_line: CommandLine, run_request: RunRequest, tmp_path: Path
) -> None:
    keep_local(store, run_request)
    assert shared.local_requests().find(store.url, run_request.record.run)
    assert command_line("clean", run_request.record.run, "--yes")[0] == 0
    assert shared.local_requests().find(store.url, run_request.record.run) is None


def test_render_takes_no_transcript_of_another_run(store: Store, command_line: CommandLine, scene: Scene) -> None:
    scene.command(scene.run_request(), scene.run_request(fakes.record("e" * 16, beam_size=1)))
    ours, other = RunKeys(fakes.RUN), RunKeys("e" * 16)
    store.put(ours.transcript("json"), store.get(other.transcript("json")))
    store.delete(ours.final)
    code, out, err = command_line("render", fakes.RUN, "-o", "out")
    assert (code, out) == (2, "")
    assert "has no transcript yet" in err


@pytest.mark.parametrize("command", ["status", "list", "logs", "watch"])
def test_a_status_of_many_megabytes_is_not_read(
    store: Store, command_line: CommandLine, scene: Scene, command: str
) -> None:
    scene.command()
    keys = RunKeys(fakes.RUN)
    store.put(keys.status, b" " * (70 << 10) + store.get(keys.status))
    code, out, err = command_line(command, *([] if command == "list" else [fakes.RUN]))
    assert code == 0, err
    assert not any(
        printed.startswith(("name ", "chunks ")) or printed.endswith("  talk.mp4") for printed in out.splitlines()
    )


def test_only_the_same_store_and_run_is_found_on_this_machine(
    store: Store, command_line: CommandLine, run_request: RunRequest, tmp_path: Path
) -> None:
    keep_local(store, run_request)
    folder = tmp_path / "state" / "stenofleet" / ".local" / "requests" / sha256_hex(store.url.encode())[:16]
    kept = folder / f"{run_request.record.run}.json"
    other = folder / f"{'e' * 16}.json"
    other.write_bytes(kept.read_bytes())
    requests = shared.local_requests()
    assert requests.find(store.url, run_request.record.run)
    assert requests.find(store.url, "e" * 16) is None
    kept.write_bytes(b"{")
    assert requests.find(store.url, run_request.record.run) is None


def test_render_names_its_files_by_local_knowledge_and_not_by_the_store(
    store: Store, command_line: CommandLine, scene: Scene
) -> None:
    scene.command()
    keys = RunKeys(fakes.RUN)
    planted = json.loads(store.get(keys.transcript("json")))
    planted["source"]["name"] = "requirements.mp4"
    store.put(keys.transcript("json"), json.dumps(planted).encode())
    store.delete(keys.final)
    Path("requirements.txt").write_text("mine")
    code, out, err = command_line("render", fakes.RUN, "-f", "txt")
    assert code == 0, err
    assert out == f"{Path(f'{fakes.RUN}.txt').absolute()}\n"
    assert Path("requirements.txt").read_text() == "mine"


def test_advice_from_the_store_cannot_be_mistaken_for_ours(
    store: Store, command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = RunOutcome(run="", name="talk.mp4", verdict="failed", summary="so", advice="x\nstenofleet: run evil")
    execute.report([ended], as_json=False, quiet=False)
    assert "\nstenofleet: run evil" not in capsys.readouterr().err


def test_an_unusable_state_folder_is_reported_and_resume_works_with_a_given_folder(
    store: Store,
    command_line: CommandLine,
    asked: list[RunRequest],
    run_request: RunRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "state").write_text("a file")
    keep_local(store, run_request)
    assert "run this whole command again" in capsys.readouterr().err
    code, _, err = command_line("resume", run_request.record.run, "-o", "mine")
    assert code == 0, err
    assert asked[0].record == run_request.record


@pytest.mark.parametrize("round_id", ["x" * 5_000, "\udcff"])
def test_a_round_is_a_short_text(
    command_line: CommandLine, asked: list[RunRequest], tmp_path: Path, round_id: str
) -> None:
    (tmp_path / "here" / "talk.wav").write_bytes(b"x")
    code, _, err = command_line("transcribe", "talk.wav", "--model", "tiny", "--round", round_id)
    assert (code, asked) == (2, [])
    assert "--round" in err


@pytest.mark.parametrize("folder", ["s3://b/o\nut", "https://host/x?token=abc"])
def test_an_impossible_output_folder_is_reported(
    command_line: CommandLine, asked: list[RunRequest], tmp_path: Path, folder: str
) -> None:
    (tmp_path / "here" / "50%00.wav").write_bytes(b"x")
    code, _, err = command_line("transcribe", "50%00.wav", "--model", "tiny", "-o", folder)
    assert (code, asked) == (2, [])
    assert "abc" not in err


def test_a_percent_sign_is_a_letter_like_any_other_in_the_name_of_an_object() -> None:
    raw = json.loads(fakes.request(fakes.record()).source.encode()) | {"uri": "s3://bucket/a%00b.wav"}
    assert Source.decode(json.dumps(raw).encode()).uri == "s3://bucket/a%00b.wav"


@pytest.mark.parametrize("status", [b"{", None], ids=["damaged", "gone"])
def test_how_a_run_has_ended_is_known_without_its_status(
    store: Store, command_line: CommandLine, scene: Scene, status: bytes | None
) -> None:
    scene.command()
    key = RunKeys(fakes.RUN).status
    store.delete(key)
    if status is not None:
        store.put(key, status)
    (run,) = json.loads(command_line("list", "--json")[1])["runs"]
    assert (run["state"], run["percent"], run["summary"]) == ("complete", 100.0, "transcribed")
    assert command_line("status", fakes.RUN)[0] == 0
    store.delete(RunKeys(fakes.RUN).marker("complete"))
    (run,) = json.loads(command_line("list", "--json")[1])["runs"]
    assert (run["state"], run["advice"]) == ("interrupted", f"stenofleet resume {fakes.RUN} --store {store.url}")


def test_an_obstacle_for_one_run_does_not_stop_the_others(
    tmp_path: Path, command_line: CommandLine, store: Store
) -> None:
    if store.remote:
        locks = tmp_path / "state" / "stenofleet" / ".local" / "locks"
    else:
        locks = tmp_path / "store" / ".local" / "locks"
    locks.mkdir(parents=True, mode=0o700)
    os.mkfifo(locks / f"{'a' * 16}.lock")
    for name in "abc":
        store.put(RunKeys(name * 16).record, fakes.record(name * 16).encode())
    code, _, err = command_line("clean", "--all", "--yes")
    assert code == 4
    assert "is a named pipe" in err
    assert "removed 2 of 3 runs" in err
    assert [entry.key for entry in store.list("")] == [RunKeys("a" * 16).record]
