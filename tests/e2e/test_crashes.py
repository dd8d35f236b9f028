"""Kill anything, anywhere: nothing stays running, the same command finishes, and the bytes are those of a quiet run."""

import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import webvtt

from chunk_job.contract import sha256_hex
from controller.domain.documents import Evidence, Report
from controller.domain.keys import RunKeys
from controller.transcript.formats import FORMATS
from tests import river
from tests.river import CUT, Desk, Undisturbed

pytestmark = pytest.mark.process

ALL = (0, 1, 2)
EVERY_ATTEMPT = """\
import os, sys
words = sys.orig_argv
if "--attempt" in words and any(word.endswith("tasks/00001.json") for word in words):
    attempt = words[words.index("--attempt") + 1]
    os.environ["STENOFLEET_CRASH_POINT"] = f"chunk.transcribed.00001.a{attempt}=abort"
"""
"""A sitecustomize: one variable names one attempt, and this test wants to lose all of them."""


def evidence(desk: Desk) -> list[Evidence]:
    """Why attempts have failed, by span and attempt."""
    keys = desk.keys()
    found = [Evidence.decode(desk.store.get(entry.key)) for entry in desk.store.list(keys.failures)]
    return sorted(found, key=lambda item: (-1 if item.span is None else item.span, item.attempt))


def attempts(desk: Desk) -> dict[int, int]:
    """How many attempts each span took."""
    report = Report.decode(desk.store.get(desk.keys().report))
    return {span.span: span.attempts for span in report.spans}


def assert_undisturbed(desk: Desk, undisturbed: Undisturbed) -> None:
    """The outputs are those of the quiet run, each span has its one result, and nothing else is left."""
    assert desk.outputs == undisturbed.outputs
    assert [key.split("/")[3] for key in desk.results()] == ["00000", "00001", "00002"]
    assert desk.store.stat(desk.keys().marker("complete"))
    assert list(desk.store.list(f"{desk.keys().work}audio/")) == [], "chunk audio is deleted when its result is in"
    assert desk.leftovers() == []
    assert desk.processes() == []


def kept(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> bool:
    """Whether no result was written again."""
    return before.items() <= after.items()


# ---------------------------------------------------------------- a chunk job dies, the controller lives


@pytest.mark.parametrize(
    "crash,signal_name,failures",
    [
        ("chunk.loaded.00001.a1=kill", "SIGKILL", ["DISRUPTED.deleted"]),
        ("chunk.transcribed.00001.a1=kill", "SIGKILL", ["DISRUPTED.deleted"]),
        ("chunk.transcribed.00001.a1=abort", "SIGABRT", ["NATIVE_CRASH"]),
        ("chunk.committed.00001.a1=kill", "", []),
        ("chunk.committed.00001.a1=abort", "", []),
    ],
)
def test_a_chunk_job_that_dies_is_tried_again_unless_its_result_is_there(
    desk: Desk, undisturbed: Undisturbed, crash: str, signal_name: str, failures: Sequence[str]
) -> None:
    file = undisturbed.lay(desk, 0, 2)
    before = desk.results()
    ended = desk.transcribe(file, *CUT, crash=crash)
    assert ended.code == 0, ended.err
    assert_undisturbed(desk, undisturbed)
    assert kept(before, desk.results())
    assert [item.failure for item in evidence(desk)] == failures
    assert attempts(desk) == {0: 1, 1: 1 + len(failures), 2: 1}
    assert not signal_name or f"chunk 1, attempt 1 failed ({failures[0]})" in ended.err
    assert signal_name in ended.err


def test_a_job_that_dies_having_frozen_the_language_changes_nothing(desk: Desk, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(desk)
    desk.store.delete(desk.keys().language)
    ended = desk.transcribe(file, *CUT, crash="chunk.language.00000=kill")
    assert ended.code == 0, ended.err
    assert [(item.span, item.failure) for item in evidence(desk)] == [(0, "DISRUPTED.deleted")]
    assert desk.store.stat(desk.keys().language)
    assert_undisturbed(desk, undisturbed)


def test_a_chunk_that_always_crashes_fails_the_run_and_the_same_command_finishes(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(desk, 0, 2)
    before = desk.results()
    (desk.folder / "sitecustomize.py").write_text(EVERY_ATTEMPT)
    ended = desk.transcribe(file, *CUT, env={"PYTHONPATH": str(desk.folder)})
    assert ended.code == 5
    assert "talk.wav: failed: chunk 1 failed 3 times, last NATIVE_CRASH: native code crashed (SIGABRT)" in ended.err
    assert [(item.span, item.attempt, item.failure) for item in evidence(desk)] == [
        (1, attempt, "NATIVE_CRASH") for attempt in (1, 2, 3)
    ]
    assert any("reach" in line for line in evidence(desk)[0].details), "the log's end holds the Python stack"
    assert desk.outputs == {}
    assert desk.store.stat(desk.keys().marker("failed"))
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert attempts(desk)[1] == 4
    assert kept(before, desk.results())
    assert_undisturbed(desk, undisturbed)


def test_a_lost_chunk_is_a_marked_gap_where_gaps_are_allowed_and_the_same_command_fills_it(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(desk, 0, 2)
    wanted = (*CUT, "--max-attempts", "1", "--on-chunk-failure", "gap")
    ended = desk.transcribe(file, *wanted, crash="chunk.transcribed.00001.a1=abort")
    assert ended.code == 4
    assert "talk.wav: partial: 1 chunk without a result: marked as gaps" in ended.err
    whole = json.loads(undisturbed.outputs["talk.json"])
    lost = whole["chunks"][1]
    document = desk.document("talk")
    assert (document["status"], document["success"]) == ("partial", False)
    assert document["gaps"] == [{"start": lost["start"], "end": lost["end"]}]
    assert [chunk["quality"] for chunk in document["chunks"]] == ["ok", "lost", "ok"]
    marks = f"[no transcript from 00:00:{int(lost['start']):02d} to 00:00:{math.ceil(lost['end']):02d}]"
    for extension in ("txt", "srt", "vtt", "tsv"):
        assert desk.outputs[f"talk.{extension}"].decode().count(marks) == 1, extension
    assert [cue.text for cue in webvtt.read(str(desk.out / "talk.vtt")).captions].count(marks) == 1
    assert desk.store.stat(desk.keys().marker("partial"))
    ended = desk.transcribe(file, *wanted)
    assert ended.code == 0, ended.err
    assert not desk.store.stat(desk.keys().marker("partial"))
    assert_undisturbed(desk, undisturbed)


def test_chunk_audio_that_is_gone_is_cut_again(desk: Desk, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(desk, 0, 2)
    desk.store.delete(desk.keys().audio(1))
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert "failed" not in ended.err
    assert_undisturbed(desk, undisturbed)


# ---------------------------------------------------------------- the intake dies


def test_an_intake_that_is_killed_begins_again_and_puts_what_is_missing(desk: Desk, undisturbed: Undisturbed) -> None:
    here = desk.meeting()
    file = undisturbed.lay(desk, 0)
    keys = desk.keys()
    for key in (keys.plan, keys.task(1), keys.task(2), keys.audio(1), keys.audio(2)):
        desk.store.delete(key)
    first = (desk.store.root / keys.task(0)).stat()
    running = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"intake.audio.00001=hold:{here}")
    river.until(here.exists, "the intake is between audio and task")
    here.unlink()
    desk.kill_all("controller.intake")
    running.said("cutting, attempt 1 failed (DISRUPTED.deleted): somebody stopped it (SIGKILL)")
    river.until(here.exists, "a second intake has come as far")
    running.kill()
    desk.quiet()
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    again = (desk.store.root / keys.task(0)).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert_undisturbed(desk, undisturbed)


# ---------------------------------------------------------------- the controller dies


def test_nothing_survives_a_controller_and_the_same_command_goes_on(desk: Desk, undisturbed: Undisturbed) -> None:
    here = desk.meeting()
    file = desk.media(undisturbed.media)
    running = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}")
    river.until(here.exists, "chunk 1 is held")
    river.until(lambda: len(desk.results()) == 2, "the others are done")
    before = desk.results()
    running.kill()
    desk.quiet()
    assert desk.outputs == {}
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert f"resuming run {desk.keys().run}, chunks done so far: 2" in ended.err
    assert kept(before, desk.results())
    assert_undisturbed(desk, undisturbed)


@pytest.mark.parametrize("point", [*(f"run.transcript.{extension}" for extension in FORMATS), "run.concluded"])
def test_a_controller_that_dies_while_it_writes_is_made_good_without_a_job(
    desk: Desk, undisturbed: Undisturbed, point: str
) -> None:
    file = undisturbed.lay(desk, *ALL)
    before = desk.results()
    ended = desk.transcribe(file, *CUT, crash=f"{point}=kill")
    assert ended.code == -signal.SIGKILL
    assert desk.outputs == {}
    assert not desk.store.stat(desk.keys().marker("complete"))
    ended = desk.transcribe(file, *CUT, "--max-attempts", "1", crash="chunk.loaded.00000.a2=kill")
    assert ended.code == 0, ended.err
    assert desk.results() == before
    assert_undisturbed(desk, undisturbed)


def test_all_of_them_die_at_once(desk: Desk, undisturbed: Undisturbed) -> None:
    here = desk.meeting()
    file = desk.media(undisturbed.media)
    desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"intake.task.00000=hold:{here}")
    river.until(here.exists, "the intake is held")
    kinds = ("-m controller ", "-m controller.intake", "ffmpeg ", "-m chunk_job")
    river.until(lambda: all(map(desk.processes, kinds)), "one of each kind runs")
    desk.kill_all()
    desk.quiet()
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert_undisturbed(desk, undisturbed)


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_jobs_and_the_printed_command_goes_on(
    desk: Desk, undisturbed: Undisturbed, number: signal.Signals, code: int
) -> None:
    here = desk.meeting()
    file = undisturbed.lay(desk, 0, 2)
    running = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}")
    river.until(here.exists, "chunk 1 is held")
    os.kill(running.process.pid, number)
    ended = running.ended()
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert ended.err.count("to go on: ") == 1
    assert desk.processes() == []
    assert desk.outputs == {}
    told = next(line for line in ended.err.splitlines() if line.startswith("to go on: stenofleet "))
    assert json.loads(desk.store.get(desk.keys().status))["state"] == "interrupted"
    ended = desk.run(*told.removeprefix("to go on: stenofleet ").split())
    assert ended.code == 0, ended.err
    assert_undisturbed(desk, undisturbed)


def test_an_impatient_second_signal_costs_nothing_but_the_words(desk: Desk, undisturbed: Undisturbed) -> None:
    here = desk.meeting()
    file = undisturbed.lay(desk, 0, 2)
    running = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}")
    river.until(here.exists, "chunk 1 is held")
    # Two of a kind, sent at once, may be one to the system.
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(running.process.pid, number)
    ended = running.ended()
    assert ended.code == 128 + signal.SIGTERM
    assert ended.err.endswith("stenofleet: ended at once; the same command resumes what is done\n")
    desk.quiet()
    assert desk.outputs == {}
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert_undisturbed(desk, undisturbed)


# ---------------------------------------------------------------- two commands for one run


def test_a_second_command_follows_the_first_and_gives_the_same_verdict_and_files(
    desk: Desk, undisturbed: Undisturbed
) -> None:
    here = desk.meeting()
    file = undisturbed.lay(desk, 0, 2)
    leader = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}")
    river.until(here.exists, "the leader's job is held")
    follower = desk.start("transcribe", "-o", desk.folder / "other", file, *CUT)
    follower.said("is worked on by another process: following it")
    assert len(desk.processes("chunk_job")) == 1
    desk.kill_all("chunk_job")
    first, second = leader.ended(), follower.ended()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "attempt 2 begins" in first.err
    assert "attempt" not in second.err
    assert {path.name: path.read_bytes() for path in (desk.folder / "other").iterdir()} == undisturbed.outputs
    assert_undisturbed(desk, undisturbed)


def test_a_follower_takes_over_from_a_leader_that_dies(desk: Desk, undisturbed: Undisturbed) -> None:
    here = desk.meeting()
    file = undisturbed.lay(desk, 0, 2)
    leader = desk.start("transcribe", "-o", desk.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}")
    river.until(here.exists, "the leader's job is held")
    follower = desk.start("transcribe", "-o", desk.out, file, *CUT)
    follower.said("following it")
    leader.kill()
    ended = follower.ended()
    assert ended.code == 0, ended.err
    assert "resuming run" in ended.err
    assert_undisturbed(desk, undisturbed)


# ---------------------------------------------------------------- asked again


def test_the_same_command_again_starts_nothing_and_writes_the_same(desk: Desk, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(desk, *ALL)
    first = desk.transcribe(file, *CUT)
    before = desk.results()
    (desk.out / "talk.srt").unlink()
    again = desk.transcribe(file, *CUT, "--max-attempts", "1", crash="chunk.loaded.00000.a2=kill")
    assert (first.code, again.code) == (0, 0)
    assert f"run {desk.keys().run} is already complete" in again.err
    assert first.out == again.out
    assert desk.results() == before
    assert_undisturbed(desk, undisturbed)


def test_a_damaged_result_is_computed_again(desk: Desk, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(desk, 0, 2)
    keys: RunKeys = desk.keys()
    whole = next(iter(undisturbed.desk.store.list(keys.results_of(1))))
    desk.store.put(whole.key, undisturbed.desk.store.get(whole.key)[:-20])
    ended = desk.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert desk.outputs == undisturbed.outputs
    assert len(list(desk.store.list(keys.results_of(1)))) == 2


def test_what_was_written_is_what_the_store_promises(undisturbed: Undisturbed) -> None:
    final = json.loads(undisturbed.desk.store.get(undisturbed.desk.keys().final))
    assert final["outputs"] == {Path(name).suffix[1:]: sha256_hex(data) for name, data in undisturbed.outputs.items()}
