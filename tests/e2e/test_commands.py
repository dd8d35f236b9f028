"""The commands around a run that is going on: seen, cancelled, not to be removed."""

import json
from pathlib import Path

import pytest

from controller.domain.keys import RunKeys
from tests import river
from tests.river import CUT, Desk, Started, Undisturbed

pytestmark = pytest.mark.process


def held(desk: Desk, file: Path, point: str = "chunk.loaded.00001.a1") -> Started:
    """A transcription that stands at a crash point."""
    here = desk.meeting()
    running = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"{point}=hold:{here}")
    river.until(here.exists, f"{point} is reached")
    return running


def test_a_run_is_seen_while_it_goes_on_and_cancelled_by_the_beginning_of_its_name(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(desk, 0, 2)
    running = held(desk, file)
    run = desk.keys().run
    status = json.loads(desk.run("status", run[:6], "--json").out)
    assert (status["run"], status["name"], status["state"]) == (run, "talk.wav", "running")
    assert status["chunks"] == "2/3"
    assert 10 < status["percent"] < 90
    refused = desk.run("clean", run, "--yes")
    assert (refused.code, desk.keys().run) == (4, run)
    assert f"run {run} is being worked on: cancel it first" in refused.err
    follower = desk.start("transcribe", "-o", desk.folder / "other", file, *CUT)
    follower.said("following it")
    cancelled = desk.run("cancel", run[:6])
    assert (cancelled.code, cancelled.err) == (0, f"run {run} is cancelled\n")
    ended = running.ended()
    assert (ended.code, follower.ended().code) == (8, 8), "who follows a cancelled run is cancelled too"
    assert "talk.wav: cancelled\n" in ended.err
    assert desk.processes() == []
    assert desk.outputs == {}
    assert json.loads(desk.run("list", "--json").out)["runs"][0]["state"] == "cancelled"
    before = desk.results()
    assert len(before) == 2, "finished chunks are kept"
    again = desk.transcribe(file, *CUT)
    assert again.code == 0, again.err
    assert before.items() <= desk.results().items()
    assert desk.outputs == undisturbed.outputs


def test_a_killed_run_is_said_to_be_interrupted_once_its_status_is_old(desk: Desk, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(desk, 0, 2)
    running = held(desk, file)
    keys: RunKeys = desk.keys()
    running.kill()
    desk.quiet()
    status = json.loads(desk.store.get(keys.status))
    assert status["state"] == "running", "nobody was left to say otherwise"
    desk.store.put(keys.status, json.dumps(status | {"updated_ms": status["updated_ms"] - 31_000}).encode())
    facts = json.loads(desk.run("status", keys.run, "--json").out)
    assert (facts["state"], facts["advice"]) == ("interrupted", f"stenofleet resume {keys.run}")


def test_the_demo_kills_a_job_and_comes_to_the_end(desk: Desk) -> None:
    ended = desk.run("demo", "-o", desk.out)
    assert ended.code == 0, ended.err
    assert "sample.m4a: chunk 1, attempt 1 failed (DISRUPTED.deleted): somebody stopped it (SIGKILL)" in ended.err
    assert "sample.m4a: chunk 1: attempt 2 begins" in ended.err
    assert [path.name for path in ended.paths] == [f"sample.{end}" for end in ("txt", "srt", "vtt", "tsv", "json")]
    rate = next(line for line in ended.err.splitlines() if line.startswith("Word error rate"))
    assert float(rate.split()[-2]) <= 10
    assert rate.endswith(" %")
    assert desk.document("sample")["status"] == "complete"
    assert len(desk.document("sample")["chunks"]) == 5
    assert desk.leftovers() == []
    assert desk.processes() == []
