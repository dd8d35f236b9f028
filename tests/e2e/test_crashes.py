"""Kill any process at any point: no process stays, the same command finishes, and the bytes do not change."""

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
from tests import pipeline
from tests.pipeline import CUT, Undisturbed, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

ALL = (0, 1, 2)
EVERY_ATTEMPT = """\
import os, sys
words = sys.orig_argv
if "--attempt" in words and any(word.endswith("tasks/00001.json") for word in words):
    attempt = words[words.index("--attempt") + 1]
    os.environ["STENOFLEET_CRASH_POINT"] = f"chunk.transcribed.00001.a{attempt}=abort"
"""
"""A sitecustomize: one variable names one attempt, and this test wants to lose all of them."""


def evidence(workplace: Workplace) -> list[Evidence]:
    """The classes of failed attempts, by span and attempt."""
    keys = workplace.keys()
    found = [Evidence.decode(workplace.store.get(entry.key)) for entry in workplace.store.list(keys.failures)]
    return sorted(found, key=lambda item: (-1 if item.span is None else item.span, item.attempt))


def attempts(workplace: Workplace) -> dict[int, int]:
    """The number of attempts of each span."""
    report = Report.decode(workplace.store.get(workplace.keys().report))
    return {span.span: span.attempts for span in report.spans}


def assert_undisturbed(workplace: Workplace, undisturbed: Undisturbed) -> None:
    """The outputs are those of the undisturbed run, each span has one result, and nothing else is left."""
    assert workplace.outputs == undisturbed.outputs
    assert [key.split("/")[3] for key in workplace.results()] == ["00000", "00001", "00002"]
    assert workplace.store.stat(workplace.keys().marker("complete"))
    assert list(workplace.store.list(f"{workplace.keys().work}audio/")) == [], (
        "chunk audio is deleted when its result exists"
    )
    assert workplace.leftovers() == []
    assert workplace.processes() == []


def kept(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> bool:
    """Whether no result was written again."""
    return before.items() <= after.items()


# ---------------------------------------------------------------- a chunk job is killed, the controller runs


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
def test_a_killed_chunk_job_is_tried_again_unless_its_result_exists(
    workplace: Workplace, undisturbed: Undisturbed, crash: str, signal_name: str, failures: Sequence[str]
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    before = workplace.results()
    ended = workplace.transcribe(file, *CUT, crash=crash)
    assert ended.code == 0, ended.err
    assert_undisturbed(workplace, undisturbed)
    assert kept(before, workplace.results())
    assert [item.failure for item in evidence(workplace)] == failures
    assert attempts(workplace) == {0: 1, 1: 1 + len(failures), 2: 1}
    assert not signal_name or f"chunk 1, attempt 1 failed ({failures[0]})" in ended.err
    assert signal_name in ended.err


def test_a_job_killed_after_it_froze_the_language_changes_nothing(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace)
    workplace.store.delete(workplace.keys().language)
    ended = workplace.transcribe(file, *CUT, crash="chunk.language.00000=kill")
    assert ended.code == 0, ended.err
    assert [(item.span, item.failure) for item in evidence(workplace)] == [(0, "DISRUPTED.deleted")]
    assert workplace.store.stat(workplace.keys().language)
    assert_undisturbed(workplace, undisturbed)


def test_a_chunk_that_always_crashes_fails_the_run_and_the_same_command_finishes(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    before = workplace.results()
    (workplace.folder / "sitecustomize.py").write_text(EVERY_ATTEMPT)
    ended = workplace.transcribe(file, *CUT, "--max-attempts", "2", env={"PYTHONPATH": str(workplace.folder)})
    assert ended.code == 5
    assert "talk.wav: failed: chunk 1 failed 2 times, last NATIVE_CRASH: native code crashed (SIGABRT)" in ended.err
    assert [(item.span, item.attempt, item.failure) for item in evidence(workplace)] == [
        (1, attempt, "NATIVE_CRASH") for attempt in (1, 2)
    ]
    assert any("reach" in line for line in evidence(workplace)[0].details), "the log's end holds the Python stack"
    assert workplace.outputs == {}
    assert workplace.store.stat(workplace.keys().marker("failed"))
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert attempts(workplace)[1] == 3
    assert kept(before, workplace.results())
    assert_undisturbed(workplace, undisturbed)


def test_a_lost_chunk_is_a_marked_gap_when_gaps_are_allowed_and_the_same_command_fills_it(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    wanted = (*CUT, "--max-attempts", "1", "--on-chunk-failure", "gap")
    ended = workplace.transcribe(file, *wanted, crash="chunk.transcribed.00001.a1=abort")
    assert ended.code == 4
    assert "talk.wav: partial: 1 chunk without a result: marked as gaps" in ended.err
    whole = json.loads(undisturbed.outputs["talk.json"])
    lost = whole["chunks"][1]
    document = workplace.document("talk")
    assert (document["status"], document["success"]) == ("partial", False)
    assert document["gaps"] == [{"start": lost["start"], "end": lost["end"]}]
    assert [chunk["quality"] for chunk in document["chunks"]] == ["ok", "lost", "ok"]
    marks = f"[no transcript from 00:00:{int(lost['start']):02d} to 00:00:{math.ceil(lost['end']):02d}]"
    for extension in ("txt", "srt", "vtt", "tsv"):
        assert workplace.outputs[f"talk.{extension}"].decode().count(marks) == 1, extension
    assert [cue.text for cue in webvtt.read(str(workplace.out / "talk.vtt")).captions].count(marks) == 1
    assert workplace.store.stat(workplace.keys().marker("partial"))
    ended = workplace.transcribe(file, *wanted)
    assert ended.code == 0, ended.err
    assert not workplace.store.stat(workplace.keys().marker("partial"))
    assert_undisturbed(workplace, undisturbed)


def test_missing_chunk_audio_is_cut_again(workplace: Workplace, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    workplace.store.delete(workplace.keys().audio(1))
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert "failed" not in ended.err
    assert_undisturbed(workplace, undisturbed)


# ---------------------------------------------------------------- the intake is killed


def test_an_intake_that_is_killed_begins_again_and_puts_what_is_missing(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    here = workplace.meeting()
    file = undisturbed.lay(workplace, 0)
    keys = workplace.keys()
    for key in (keys.plan, keys.task(1), keys.task(2), keys.audio(1), keys.audio(2)):
        workplace.store.delete(key)
    first = (workplace.store.root / keys.task(0)).stat()
    running = workplace.start("transcribe", "-o", workplace.out, file, *CUT, crash=f"intake.audio.00001=hold:{here}")
    pipeline.until(here.exists, "the intake is between audio and task")
    here.unlink()
    workplace.kill_all("controller.intake")
    running.wait_for_output("cutting, attempt 1 failed (DISRUPTED.deleted): stopped by a signal from outside (SIGKILL)")
    pipeline.until(here.exists, "a second intake has come as far")
    running.kill()
    workplace.quiet()
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    again = (workplace.store.root / keys.task(0)).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert_undisturbed(workplace, undisturbed)


# ---------------------------------------------------------------- the controller is killed


def test_no_process_survives_a_killed_controller_and_the_same_command_resumes(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = workplace.media(undisturbed.media)
    running = workplace.held("chunk.transcribed.00001.a1", file, *CUT)
    pipeline.until(lambda: len(workplace.results()) == 2, "the others are done")
    before = workplace.results()
    running.kill()
    workplace.quiet()
    assert workplace.outputs == {}
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert f"resuming run {workplace.keys().run}, chunks done so far: 2" in ended.err
    assert kept(before, workplace.results())
    assert_undisturbed(workplace, undisturbed)


@pytest.mark.parametrize(
    "point,written",
    [
        (f"run.transcript.{next(iter(FORMATS))}", False),
        (f"run.transcript.{list(FORMATS)[-1]}", False),
        ("run.concluded", False),
        ("run.reported", True),
    ],
)
def test_a_controller_killed_while_it_writes_needs_no_job_to_finish(
    workplace: Workplace, undisturbed: Undisturbed, point: str, *, written: bool
) -> None:
    """*written*: whether the outputs are there already."""
    file = undisturbed.lay(workplace, *ALL)
    before = workplace.results()
    ended = workplace.transcribe(file, *CUT, crash=f"{point}=kill")
    assert ended.code == -signal.SIGKILL
    assert workplace.outputs == (undisturbed.outputs if written else {})
    keys = workplace.keys()
    assert not workplace.store.stat(keys.marker("complete"))
    assert bool(workplace.store.stat(keys.report_page)) == written
    ended = workplace.transcribe(file, *CUT, "--max-attempts", "1", crash="chunk.loaded.00000.a2=kill")
    assert ended.code == 0, ended.err
    assert workplace.results() == before
    assert b"complete" in workplace.store.get(keys.report_page)
    assert_undisturbed(workplace, undisturbed)


def test_all_processes_killed_at_once(workplace: Workplace, undisturbed: Undisturbed) -> None:
    here = workplace.meeting()
    file = workplace.media(undisturbed.media)
    workplace.start("transcribe", "-o", workplace.out, file, *CUT, crash=f"intake.task.00000=hold:{here}")
    pipeline.until(here.exists, "the intake is held")
    kinds = ("-m controller ", "-m controller.intake", "ffmpeg ", "-m chunk_job")
    pipeline.until(lambda: all(map(workplace.processes, kinds)), "one of each kind runs")
    workplace.kill_all()
    workplace.quiet()
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert_undisturbed(workplace, undisturbed)


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_jobs_and_the_printed_command_resumes(
    workplace: Workplace, undisturbed: Undisturbed, number: signal.Signals, code: int
) -> None:
    here = workplace.meeting()
    file = undisturbed.lay(workplace, 0, 2)
    running = workplace.start(
        "transcribe", "-o", workplace.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "chunk 1 is held")
    os.kill(running.process.pid, number)
    ended = running.ended()
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert ended.err.count("to resume: ") == 1
    assert workplace.processes() == []
    assert workplace.outputs == {}
    command = next(line for line in ended.err.splitlines() if line.startswith("to resume: stenofleet "))
    assert json.loads(workplace.store.get(workplace.keys().status))["state"] == "interrupted"
    ended = workplace.run(*command.removeprefix("to resume: stenofleet ").split())
    assert ended.code == 0, ended.err
    assert_undisturbed(workplace, undisturbed)


def test_a_second_signal_costs_only_the_final_messages(workplace: Workplace, undisturbed: Undisturbed) -> None:
    here = workplace.meeting()
    file = undisturbed.lay(workplace, 0, 2)
    running = workplace.start(
        "transcribe", "-o", workplace.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "chunk 1 is held")
    # The system may merge two equal signals that are sent at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(running.process.pid, number)
    ended = running.ended()
    assert ended.code == 128 + signal.SIGTERM
    assert ended.err.endswith("stenofleet: ended at once; the same command resumes what is done\n")
    workplace.quiet()
    assert workplace.outputs == {}
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert_undisturbed(workplace, undisturbed)


# ---------------------------------------------------------------- two commands for one run


def test_a_second_command_follows_the_first_and_gives_the_same_verdict_and_files(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    here = workplace.meeting()
    file = undisturbed.lay(workplace, 0, 2)
    leader = workplace.start(
        "transcribe", "-o", workplace.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "the leader's job is held")
    follower = workplace.start("transcribe", "-o", workplace.folder / "other", file, *CUT)
    follower.wait_for_output("is worked on by another process: following it")
    assert len(workplace.processes("chunk_job")) == 1
    workplace.kill_all("chunk_job")
    first, second = leader.ended(), follower.ended()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "attempt 2 begins" in first.err
    assert "attempt" not in second.err
    assert {path.name: path.read_bytes() for path in (workplace.folder / "other").iterdir()} == undisturbed.outputs
    assert_undisturbed(workplace, undisturbed)


def test_a_follower_takes_over_from_a_killed_leader(workplace: Workplace, undisturbed: Undisturbed) -> None:
    here = workplace.meeting()
    file = undisturbed.lay(workplace, 0, 2)
    leader = workplace.start(
        "transcribe", "-o", workplace.out, file, *CUT, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "the leader's job is held")
    follower = workplace.start("transcribe", "-o", workplace.out, file, *CUT)
    follower.wait_for_output("following it")
    leader.kill()
    ended = follower.ended()
    assert ended.code == 0, ended.err
    assert "resuming run" in ended.err
    assert_undisturbed(workplace, undisturbed)


# ---------------------------------------------------------------- asked again


def test_the_same_command_again_starts_nothing_and_writes_the_same(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, *ALL)
    first = workplace.transcribe(file, *CUT)
    before = workplace.results()
    (workplace.out / "talk.srt").unlink()
    again = workplace.transcribe(file, *CUT, "--max-attempts", "1", crash="chunk.loaded.00000.a2=kill")
    assert (first.code, again.code) == (0, 0)
    assert f"run {workplace.keys().run} is already complete" in again.err
    assert first.out == again.out
    assert workplace.results() == before
    assert_undisturbed(workplace, undisturbed)


def test_a_damaged_result_is_computed_again(workplace: Workplace, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    keys: RunKeys = workplace.keys()
    whole = next(iter(undisturbed.workplace.store.list(keys.results_of(1))))
    workplace.store.put(whole.key, undisturbed.workplace.store.get(whole.key)[:-20])
    ended = workplace.transcribe(file, *CUT)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
    assert len(list(workplace.store.list(keys.results_of(1)))) == 2


def test_written_files_equal_the_stored_ones(undisturbed: Undisturbed) -> None:
    final = json.loads(undisturbed.workplace.store.get(undisturbed.workplace.keys().final))
    assert final["outputs"] == {Path(name).suffix[1:]: sha256_hex(data) for name, data in undisturbed.outputs.items()}
