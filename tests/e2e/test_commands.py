"""Commands on an active run: it is listed, cancelled, and not removed."""

import json
from pathlib import Path

import pytest

from controller.domain.keys import RunKeys
from tests import pipeline
from tests.pipeline import CUT, Started, Undisturbed, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]


def held(workplace: Workplace, file: Path, point: str = "chunk.loaded.00001.a1") -> Started:
    """A transcription that is held at a crash point."""
    here = workplace.meeting()
    running = workplace.start("transcribe", "-o", workplace.out, file, *CUT, crash=f"{point}=hold:{here}")
    pipeline.until(here.exists, f"{point} is reached")
    return running


def test_an_active_run_is_listed_and_cancelled_by_the_beginning_of_its_id(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    running = held(workplace, file)
    run = workplace.keys().run
    status = json.loads(workplace.run("status", run[:6], "--json").out)
    assert (status["run"], status["name"], status["state"]) == (run, "talk.wav", "running")
    assert status["chunks"] == "2/3"
    assert 10 < status["percent"] < 90
    refused = workplace.run("clean", run, "--yes")
    assert (refused.code, workplace.keys().run) == (4, run)
    assert f"run {run} is being worked on: cancel it first" in refused.err
    follower = workplace.start("transcribe", "-o", workplace.folder / "other", file, *CUT)
    follower.wait_for_output("following it")
    cancelled = workplace.run("cancel", run[:6])
    assert (cancelled.code, cancelled.err) == (0, f"run {run} is cancelled\n")
    ended = running.ended()
    assert (ended.code, follower.ended().code) == (8, 8), "a follower of a cancelled run is cancelled too"
    assert "talk.wav: cancelled\n" in ended.err
    assert workplace.processes() == []
    assert workplace.outputs == {}
    assert json.loads(workplace.run("list", "--json").out)["runs"][0]["state"] == "cancelled"
    before = workplace.results()
    assert len(before) == 2, "finished chunks are kept"
    again = workplace.transcribe(file, *CUT)
    assert again.code == 0, again.err
    assert before.items() <= workplace.results().items()
    assert workplace.outputs == undisturbed.outputs


def test_a_killed_run_is_shown_as_interrupted_when_its_status_is_old(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    running = held(workplace, file)
    keys: RunKeys = workplace.keys()
    running.kill()
    workplace.quiet()
    status = json.loads(workplace.store.get(keys.status))
    assert status["state"] == "running", "no process was left to update it"
    workplace.store.put(keys.status, json.dumps(status | {"updated_ms": status["updated_ms"] - 31_000}).encode())
    facts = json.loads(workplace.run("status", keys.run, "--json").out)
    assert (facts["state"], facts["advice"]) == (
        "interrupted",
        f"stenofleet resume {keys.run} --store {workplace.store.url}",
    )


def test_the_demo_kills_a_job_and_comes_to_the_end(workplace: Workplace) -> None:
    ended = workplace.run("demo", "-o", workplace.out)
    assert ended.code == 0, ended.err
    assert (
        "sample.m4a: chunk 1, attempt 1 failed (DISRUPTED.deleted): stopped by a signal from outside (SIGKILL)"
        in ended.err
    )
    assert "sample.m4a: chunk 1: attempt 2 begins" in ended.err
    assert [path.name for path in ended.paths] == [f"sample.{end}" for end in ("txt", "srt", "vtt", "tsv", "json")]
    rate = next(line for line in ended.err.splitlines() if line.startswith("Word error rate"))
    assert float(rate.split()[-2]) <= 10
    assert rate.endswith(" %")
    assert workplace.document("sample")["status"] == "complete"
    assert len(workplace.document("sample")["chunks"]) == 5
    assert workplace.leftovers() == []
    assert workplace.processes() == []
