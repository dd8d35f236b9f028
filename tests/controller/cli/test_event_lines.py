"""JSON Lines of events: hostile texts, a file that cannot be written any more, progress at most once a second."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.cli.conclusion import Conclusion
from controller.cli.event_lines import EventLines
from controller.cli.gate_options import Checks, taken_checks
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
        with Checks(events="/dev/full").of(store, ()) as checked:
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


def test_an_interrupted_command_writes_its_end(store: FileStore, tmp_path: Path) -> None:
    def work() -> None:
        with Checks(events=str(tmp_path / "events")).of(store, ()) as checked:
            checked.add(OUTCOME)
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        work()
    recording, end = lines(tmp_path / "events")
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
