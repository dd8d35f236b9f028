"""Batches as they are used: processes that are killed, a command in the background, and one that waits."""

import json
import signal
from pathlib import Path

import pytest

from tests import speech
from tests.controller.cli.test_ci import MARKER
from tests.pipeline import SMALL, Workplace, until

pytestmark = [pytest.mark.process, pytest.mark.e2e]


def lay(workplace: Workplace, count: int) -> None:
    """Recordings of different lengths; the last one is no media."""
    folder = workplace.folder / "talks"
    folder.mkdir()
    for number in range(count - 1):
        speech.write_wav(folder / f"{number:02}.wav", speech.silence(1 + number / 100, noise_db=-60))
    (folder / f"{count - 1:02}.wav").write_bytes(b"no media")


def batch_of(workplace: Workplace) -> str:
    (one,) = json.loads(workplace.run("batch", "list", "--json").out)["batches"]
    return str(one["batch"])


def test_a_batch_whose_processes_are_killed_is_finished_by_a_command_that_waits(workplace: Workplace) -> None:
    lay(workplace, 8)
    command = ("batch", "submit", "talks", "-o", "text", "-f", "txt", *SMALL)
    started = workplace.start(*command)
    until(lambda: len(workplace.results()) >= 2, "two are done")
    workplace.kill_all()
    started.ended()
    done = workplace.results()
    batch = batch_of(workplace)

    behind = workplace.run(*command, "--detach")
    assert (behind.code, behind.out.strip()) == (0, batch), behind.err
    waited = workplace.run("batch", "wait", batch, "--junit", "junit.xml", "--dotenv", "batch.env", "--json")
    assert waited.code == 4, waited.err
    found = json.loads(waited.out)
    assert (found["complete"], found["failed"], found["left"]) == (7, 1, 0)
    assert [one["source"] for one in found["failures"]] == ["talks/07.wav"]
    assert {path.name for path in (workplace.folder / "text").iterdir()} == {f"{number:02}.txt" for number in range(7)}
    assert workplace.results().items() >= done.items(), "what was done is not done again"
    assert (workplace.folder / "junit.xml").is_file()
    assert (workplace.folder / "batch.env").read_text().startswith("EXIT_CODE=4\nCOMPLETE=7\nPARTIAL=0\nFAILED=1\n")
    until(lambda: not workplace.processes(), "the process in the background has ended")
    log = workplace.folder / "state" / "stenofleet" / ".local" / "batches" / f"{batch}.log"
    assert f"batch {batch}: 8 recordings: 7 complete, 1 failed" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o777 == 0o600
    again = workplace.run("batch", "retry", batch, "--events", "events.jsonl", env={"GITLAB_CI": "true"})
    assert (again.code, len(MARKER.findall(again.err))) == (4, 2), again.err
    lines = [json.loads(line) for line in (workplace.folder / "events.jsonl").read_text().splitlines()]
    assert [line["recording"]["name"] for line in lines if line["type"] == "recording"] == ["07.wav"]
    assert lines[-1]["end"] | {"skipped": 0} == {
        "exit_code": 4, "complete": 7, "partial": 0, "failed": 1, "cancelled": 0, "skipped": 0,
    }  # fmt: skip
    stdin = workplace.run(*command[:2], "-", *SMALL, "--detach", stdin=b"talks/00.wav\n")
    assert (stdin.code, "--detach: a list on stdin is gone" in stdin.err) == (2, True)


def test_a_signal_stops_a_command_that_waits(workplace: Workplace) -> None:
    lay(workplace, 2)
    started = workplace.start("batch", "submit", "talks", "-o", "text", *SMALL, crash="chunk.loaded.00000.a1=hold:here")
    until(lambda: list((workplace.store.root / "batches").glob("*/batch.json")), "the batch is there")
    waiting = workplace.start("batch", "wait", batch_of(workplace))
    waiting.wait_for_output("left")
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.ended().code == 143
    cancelled = workplace.run("batch", "cancel", batch_of(workplace))
    assert cancelled.code == 0
    # Its run is cancelled too, and its job stopped.
    assert started.ended().code in (5, 8)
    workplace.quiet()


def test_a_list_of_another_folder_and_an_output_that_a_person_changed(workplace: Workplace) -> None:
    lay(workplace, 3)
    (workplace.folder / "talks" / "list.jsonl").write_text(
        '{"source": "00.wav", "output": "one/a"}\n{"source": "01.wav", "labels": {"show": "news"}}\n', encoding="utf-8"
    )
    command = ("batch", "submit", "talks/list.jsonl", "-o", "text", "-f", "txt", *SMALL)
    assert workplace.run(*command).code == 0
    changed = workplace.folder / "text" / "one" / "a.txt"
    changed.write_text("CORRECTED")
    # The recording is newer than its transcript: it is looked at again.
    Path(workplace.folder / "talks" / "00.wav").touch()
    again = workplace.run(*command)
    assert (again.code, changed.read_text()) == (0, "CORRECTED"), again.err
    assert "is kept: it was changed since it was written" in again.err


def test_the_background_is_set_by_a_variable_and_loads_nothing_from_its_folder(workplace: Workplace) -> None:
    lay(workplace, 3)
    (workplace.folder / "click.py").write_text("raise SystemExit(99)", encoding="utf-8")
    behind = workplace.run("batch", "submit", "talks", "-o", "text", *SMALL, env={"STENOFLEET_DETACH": "1"})
    assert behind.code == 0, behind.err
    waited = workplace.run("batch", "wait", behind.out.strip(), "--timeout", "50")
    assert waited.code == 4, waited.err
    until(lambda: not workplace.processes(), "one process has worked, and has ended")


def test_the_status_names_the_processes_that_work(workplace: Workplace) -> None:
    lay(workplace, 2)
    started = workplace.start("batch", "submit", "talks", "-o", "text", *SMALL, crash="chunk.loaded.00000.a1=hold:here")
    until(lambda: list((workplace.store.root / "batches").glob("*/workers/*.json")), "it says that it works")
    assert "worked on by " in workplace.run("batch", "status", batch_of(workplace)).out
    started.process.send_signal(signal.SIGINT)
    assert started.ended().code == 130
    assert "no process works on it" in workplace.run("batch", "status", batch_of(workplace)).out
