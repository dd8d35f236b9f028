"""JSON Lines of events: hostile texts, a file that cannot be written any more, progress at most once a second."""

import json
import os
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.cli import line_writer
from controller.cli.checks import Checks
from controller.cli.conclusion import Conclusion
from controller.cli.event_lines import EventLines
from controller.cli.gate_options import taken_checks
from controller.cli.report_files import checking
from controller.domain.command_events import CommandEvent
from controller.domain.interfaces import RunOutcome
from controller.domain.progress import Progress
from controller.errors import EnvironmentProblem, Interrupted, UsageProblem
from controller.reports.cost import NO_PRICES
from controller.reports.gates import Gates
from tests import fakes

HOSTILE = "a\n\x1b[31m\u2028\udcff http://user:hush@host"
OUTCOME = RunOutcome(run=fakes.RUN, name="talk.wav", verdict="complete", summary="transcribed", source="in/talk.wav")
NO_END = Conclusion(code=0, judged={})


def progress(percent: float, **other: Any) -> Progress:
    facts = {"spans_done": 1, "spans_known": 4, "planned": True, "running": 2, "failures": 0, **other}
    return Progress(run=fakes.RUN, name="talk.wav", size_bytes=10, state="running", percent=percent, **facts)


def lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert data.isascii()
    assert data.decode().replace("\n", "").isprintable()
    for line in data.splitlines():
        CommandEvent.decode(line)
    return [json.loads(line) for line in data.splitlines()]


def test_hostile_texts_stay_in_their_line_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("of the command before\n" * 1000)
    events = EventLines(str(tmp_path / "events"))
    events.event(HOSTILE, HOSTILE * 500, run=fakes.RUN)
    events.recording(
        replace(OUTCOME, name=HOSTILE, summary=HOSTILE, advice=HOSTILE, warnings=(HOSTILE,), source=f"/{HOSTILE}")
    )
    events.end(NO_END)
    message, recording, end = lines(tmp_path / "events")
    assert len(message["message"]["text"]) == 8_000
    assert recording["recording"]["uri"].startswith("file:///a%0A%1B%5B31m%E2%80%A8%FF")
    assert "hush" not in json.dumps([message, recording["recording"]["summary"], recording["recording"]["name"]])
    assert end["end"]["exit_code"] == 0


def test_progress_is_written_at_most_once_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    events = EventLines(str(tmp_path / "events"))
    for now_s, percent in ((0.0, 5.0), (0.4, 10.0), (1.0, 10.0), (1.9, 20.0), (3.0, 20.0), (3.1, 30.0)):  # noqa: B007
        events.show([progress(percent)])
    events.end(NO_END)
    found = [line["progress"]["percent"] for line in lines(tmp_path / "events") if line["type"] == "progress"]
    assert found == [5.0, 10.0, 20.0, 30.0]


def test_a_full_disk_stops_the_events_but_not_the_command(store: FileStore) -> None:
    done = []

    def work() -> None:
        with checking(Checks(events="/dev/full"), store, ()) as checked:
            checked.add(OUTCOME)
            done.append(checked.ended(0))

    with pytest.raises(EnvironmentProblem, match=r"^--events: /dev/full: cannot be written: No space left"):
        work()
    assert done == [0]


def test_a_program_reads_each_line_from_a_pipe_at_once_and_may_leave() -> None:
    reads, writes = os.pipe()
    events = EventLines(f"/dev/fd/{writes}")
    os.close(writes)
    events.event("talk.wav", "waits")
    assert json.loads(os.read(reads, 10_000))["message"]["text"] == "waits"
    os.close(reads)
    events.event("talk.wav", "works")
    with pytest.raises(EnvironmentProblem, match="Broken pipe"):
        events.end(NO_END)


def full_pipe() -> tuple[int, EventLines]:
    """A pipe whose reader reads nothing: its descriptor, and events that wait for it."""
    reads, writes = os.pipe()
    events = EventLines(f"/dev/fd/{writes}")
    os.close(writes)
    for _ in range(50):
        events.event("talk.wav", "waits" * 1000)
    return reads, events


def test_a_reader_that_pauses_gets_every_line_later() -> None:
    reads, events = full_pipe()
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(reads, "rb") as file:
            received.extend(file)

    reader = threading.Timer(1.0, read)
    began_s = time.process_time()
    reader.start()
    events.end(NO_END)
    reader.join()
    assert time.process_time() - began_s < 0.5, "the thread sleeps while it waits"
    assert [json.loads(line)["type"] for line in received] == [*["message"] * 50, "end"]


def test_a_reader_that_stops_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "PATIENCE_S", 0.2)
    reads, events = full_pipe()
    with pytest.raises(
        EnvironmentProblem, match=r"cannot be written: its reader has not taken all lines within 0 s"
    ) as found:
        events.end(NO_END)
    assert "finished work is kept" in found.value.advice
    os.close(reads)


def test_lines_that_wait_for_a_reader_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING_BYTES", 100_000)
    monkeypatch.setattr(line_writer, "PATIENCE_S", 0.2)
    reads, events = full_pipe()
    with pytest.raises(EnvironmentProblem, match=r"cannot be written: its reader has left 0 MiB unread"):
        events.end(NO_END)
    os.close(reads)


def test_what_the_reader_has_taken_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MOST_WAITING_BYTES", 300_000)
    reads, events = full_pipe()
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(reads, "rb") as file:
            received.extend(file)

    reader = threading.Thread(target=read)
    reader.start()
    end_s = time.monotonic() + 60
    for number in range(50, 200):
        events.event("talk.wav", "works" * 1000)
        while len(received) < number - 40 and time.monotonic() < end_s:
            time.sleep(0.001)
        assert len(received) >= number - 40
    events.end(NO_END)
    reader.join()
    assert len(received) == 201


def test_a_named_pipe_gets_its_lines_when_it_has_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    events = EventLines(str(tmp_path / "pipe"))
    events.event("talk.wav", "works")
    with (tmp_path / "pipe").open("rb") as file:
        events.end(NO_END)
        assert [json.loads(line)["type"] for line in file] == ["message", "end"]
    monkeypatch.setattr(line_writer, "PATIENCE_S", 0.2)
    alone = EventLines(str(tmp_path / "pipe"))
    with pytest.raises(EnvironmentProblem, match="its reader has not taken all lines"):
        alone.end(NO_END)
    # The thread that still waits for a reader ends with it.
    (tmp_path / "pipe").open("rb").close()


def test_an_interrupted_command_writes_its_end(store: FileStore, tmp_path: Path) -> None:
    def work() -> None:
        with checking(Checks(events=str(tmp_path / "new" / "events")), store, ()) as checked:
            checked.add(OUTCOME)
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        work()
    recording, end = lines(tmp_path / "new" / "events")
    assert recording["recording"]["verdict"] == "complete"
    assert (end["end"]["exit_code"], end["end"]["complete"]) == (143, 1)


def test_a_place_where_lines_cannot_be_written_is_refused(tmp_path: Path) -> None:
    limits = [one.name for one in fields(Gates)]
    options = dict.fromkeys(("junit", "dotenv", "reference", *limits))
    for path, why in ((str(tmp_path), "is a folder"), ("s3://bucket/events", "cannot be written line by line")):
        with pytest.raises(UsageProblem, match=why):
            taken_checks({**options, "events": path}, NO_PRICES)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match=r"Not a directory|File exists"):
        EventLines(str(tmp_path / "file" / "events"))
