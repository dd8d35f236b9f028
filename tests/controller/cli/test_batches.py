"""Batches with the real command line, loop and store; jobs leave at once what they would: see tests.quick_jobs."""

import csv
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from chunk_job.store.files import FileStore
from controller.cli import batch_requests
from controller.domain.batches import BatchKeys
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from controller.orchestrator import loop
from tests import quick_jobs, speech
from tests.batch_machine import Machine, lay, written


@pytest.mark.e2e
def test_three_hundred_files_interrupted_twice_in_two_shards(machine: Machine) -> None:
    lay(Path("talks"), 300, broken=20)
    machine.interrupt_after(40)
    first = machine.submit("talks", "--shard", "1/2")
    assert first.code == 130
    batch = machine.batch
    assert f"to resume: run the same command again, or stenofleet batch resume {batch}" in first.err
    machine.interrupt_after(100)
    assert machine.submit("talks", "--shard", "1/2").code == 130
    machine.on_job = lambda _: None
    half = machine.submit("talks", "--shard", "1/2")
    # Broken are the numbers 19, 39, …, which all are in the second half.
    assert half.code == 0, half.err
    assert machine.counts() == {"complete": 150, "left": 150}
    machine.interrupt_after(70)
    assert machine.run("resume", batch, "--shard", "2/2").code == 130
    machine.on_job = lambda _: None
    other = machine.run("resume", batch, "--shard", "2/2", "--junit", "junit.xml", "--json")
    assert other.code == 4
    found = json.loads(other.out)
    assert (found["complete"], found["failed"], found["left"]) == (135, 15, 0)
    assert machine.counts() == {"complete": 285, "failed": 15}
    assert written(Path("out")) == {f"{number:03}.txt" for number in range(300) if number % 20 != 19}
    done = [(job.run, job.span) for job in machine.jobs]
    assert len(done) == len(set(done)), "no job was done twice"

    suites = list(ET.parse("junit.xml").getroot())
    assert len(suites) == 150
    assert sum(bool(list(suite.iter("failure"))) for suite in suites) == 15

    report = machine.run("report", batch, "-o", "report")
    assert report.code == 0, report.err
    document = json.loads(Path("report/report.json").read_text(encoding="utf-8"))
    assert document["counts"] == {
        "succeeded": 285, "skipped": 0, "partial": 0, "failed": 15, "cancelled": 0, "not_begun": 0,
    }  # fmt: skip
    failed = [one for one in document["recordings"] if one["status"] == "failed"]
    assert {one["source"] for one in failed} == {f"talks/{number:03}.wav" for number in range(19, 300, 20)}
    assert {(one["failure"], one["advice"]) for one in failed} == {("BAD_INPUT", "check it")}
    with Path("report/report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [one["status"] for one in document["recordings"]]
    assert [row["source"] for row in rows] == [f"talks/{number:03}.wav" for number in range(300)]


def test_the_same_command_is_the_same_batch_and_computes_nothing_again(machine: Machine) -> None:
    lay(Path("talks"), 6, broken=3)
    assert machine.submit("talks").code == 4
    jobs = len(machine.jobs)
    again = machine.submit("talks")
    assert again.code == 4
    assert f"2 had failed before; to try them again: stenofleet batch retry {machine.batch}" in again.err
    assert len(machine.jobs) == jobs
    # Another format is another batch of the same runs.
    other = machine.submit("talks", "-f", "srt", "--json")
    found = json.loads(other.out)
    assert (found["complete"], found["known"]) == (4, 4)
    assert {found["batch"]} < {one["batch"] for one in json.loads(machine.run("list", "--json").out)["batches"]}
    assert len(list(Path("out").glob("*.srt"))) == 4
    assert sum(job.span is not None for job in machine.jobs) == 4


def test_what_failed_is_tried_again_with_its_new_content(machine: Machine) -> None:
    lay(Path("talks"), 4, broken=4)
    assert machine.submit("talks").code == 4
    batch = machine.batch
    nothing = machine.run("wait", batch, "--json")
    assert (nothing.code, json.loads(nothing.out)["failed"]) == (4, 1)
    speech.write_wav(Path("talks/003.wav"), speech.silence(0.5, noise_db=-60))
    retried = machine.run("retry", batch)
    assert retried.code == 0, retried.err
    assert "(1 of them to be tried again)" in retried.err
    assert machine.counts(batch) == {"complete": 4}
    assert "nothing has failed" in machine.run("retry", batch).err
    assert json.loads(machine.run("status", batch, "--json").out)["round"] == 2


def test_a_file_that_was_replaced_by_one_of_the_same_size_is_transcribed(machine: Machine) -> None:
    lay(Path("talks"), 2)
    assert machine.submit("talks").code == 0
    before = (len(machine.jobs), machine.batch)
    data = bytearray(Path("talks/000.wav").read_bytes())
    data[-1] ^= 1
    Path("talks/000.wav").write_bytes(data)
    assert machine.submit("talks").code == 0
    assert (len(machine.jobs), machine.batch) == (before[0] + 2, before[1])
    assert machine.submit("talks").code == 0
    assert len(machine.jobs) == before[0] + 2


def test_too_many_failures_end_a_batch(machine: Machine) -> None:
    lay(Path("talks"), 60, broken=2)
    stopped = machine.submit("talks", "--max-failures", "3")
    assert stopped.code == 4
    assert "recordings failed: no others were begun" in stopped.err
    counts = machine.counts()
    assert 3 <= counts["failed"] <= 6
    assert counts["left"] > 30
    Path("bad.wav").write_bytes(quick_jobs.NOT_MEDIA)
    fast = machine.submit("bad.wav", "missing.wav", "talks", "-f", "srt", "--fail-fast", "--json")
    assert fast.code in (4, 5)
    assert json.loads(fast.out)["left"] > 50
    both = machine.submit("talks", "--fail-fast", "--max-failures", "2")
    assert (both.code, "contradict each other" in both.err) == (2, True)


@pytest.mark.parametrize("content", [quick_jobs.NOT_MEDIA, b""], ids=["a job says so", "seen before any job"])
@pytest.mark.parametrize("limit, parallel", [(1, 1), (1, 4), (3, 1), (12, 2)])
def test_when_too_many_have_failed_only_what_is_at_work_is_finished(
    machine: Machine, content: bytes, limit: int, parallel: int
) -> None:
    Path("talks").mkdir()
    for number in range(30):
        Path(f"talks/{number:02}.wav").write_bytes(content and content + bytes([number]))
    assert machine.submit("talks", "--max-failures", str(limit), "--max-parallel", str(parallel)).code == 5
    counts = machine.counts()
    assert limit <= counts["failed"] <= limit + (parallel - 1 if content else 0)
    assert counts["left"] == 30 - counts["failed"]
    assert len(machine.jobs) == (counts["failed"] if content else 0)


def test_a_batch_is_cancelled_while_it_runs_and_tried_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(Path("talks"), 40)
    monkeypatch.setattr(batch_requests, "_LOOK_S", 0.0)

    def cancel(_: Job) -> None:
        if len(machine.jobs) == 20:
            store = FileStore(machine.folder / "store")
            (name,) = store.folders("batches/")
            store.put(BatchKeys(name).cancel(1), b"")

    machine.on_job = cancel
    ended = machine.submit("talks", "--quiet")
    assert ended.code == 4
    counts = machine.counts()
    assert 8 <= counts["complete"] < 40
    assert machine.run("wait", machine.batch, "--timeout", "5").code == 4
    refused = machine.submit("talks")
    assert (refused.code, "is cancelled" in refused.err) == (2, True)
    machine.on_job = lambda _: None
    assert machine.run("retry", machine.batch, "--quiet").code == 0
    assert machine.counts() == {"complete": 40}
    assert "has ended already" in machine.run("cancel", machine.batch).err


def test_waiting_ends_with_the_time_out_and_tells_that_nobody_works(machine: Machine) -> None:
    lay(Path("talks"), 6)
    machine.interrupt_after(3)
    assert machine.submit("talks").code == 130
    waited = machine.run("wait", machine.batch, "--timeout", "1")
    assert (waited.code, "has not ended after 1 s" in waited.err) == (6, True)
    status = machine.run("status", machine.batch)
    assert f"no process works on it: stenofleet batch resume {machine.batch}" in status.out
    cancelled = machine.run("cancel", machine.batch)
    assert (cancelled.code, f"batch {machine.batch} is cancelled" in cancelled.err) == (0, True)
    done = machine.counts().get("complete", 0)
    assert machine.run("wait", machine.batch).code == (4 if done else 8)
    assert done < 6


def test_each_recording_has_its_own_options(machine: Machine) -> None:
    lay(Path("in"), 3)
    Path("in/list.csv").write_text(
        "source,output,language,track,label.show\n"
        "000.wav,,de,,news\n"
        "001.wav,one/first,,0,\n"
        "001.wav,one/second,fr,0,=1+1\n"
        "000.wav,one/third,auto,,\n",
        encoding="utf-8",
    )
    ended = machine.submit("in/list.csv", "in/002.wav")
    assert ended.code == 0, ended.err
    assert written(Path("out")) == {"000.txt", *(f"one/{name}.txt" for name in ("first", "second", "third")), "002.txt"}
    store = FileStore(machine.folder / "store")
    records = [json.loads(store.get(RunKeys(job.run).record)) for job in machine.jobs if job.span is not None]
    assert sorted((one["name"], str(one["options"]["language"]), one["audio_track"]) for one in records) == [
        ("000.wav", "None", None), ("000.wav", "de", None),
        ("001.wav", "en", 0), ("001.wav", "fr", 0), ("002.wav", "en", None),
    ]  # fmt: skip
    assert machine.run("report", machine.batch, "-o", ".").code == 0
    with Path("report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label.show"] for row in rows] == ["news", "", "'=1+1", "", ""]
    twice = machine.submit("in/list.csv", "-o", "source")
    assert (twice.code, "in/list.csv, line 3: has an output" in twice.err) == (2, True)
    Path("in/list.csv").write_text("source\n000.wav\n./000.wav\n", encoding="utf-8")
    same = machine.submit("in/list.csv")
    assert (same.code, "000.wav is named before: in/list.csv, line 2" in same.err) == (2, True)
    Path("in/list.csv").write_text("source,output\n000.wav,x\n001.wav,x\n", encoding="utf-8")
    assert machine.submit("in/list.csv").code == 2


def test_recordings_of_equal_content_are_computed_and_counted_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is waited for between them: one such wait is longer than the time limit of a test.
    monkeypatch.setattr(loop, "_IDENTIFY_S", 1000.0)
    lay(Path("talks"), 1)
    for number in range(1, 12):
        Path(f"talks/{number:03}.wav").write_bytes(Path("talks/000.wav").read_bytes())
    ended = machine.submit("talks", "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["complete"], found["known"]) == (0, 12, 11)
    assert len(written(Path("out"))) == 12
    assert sum(job.span is not None for job in machine.jobs) == 1


def test_a_report_counts_the_jobs_of_equal_content_once_though_shards_have_it(machine: Machine) -> None:
    lay(Path("talks"), 1)
    for name in ("copy", "other"):
        Path(f"talks/{name}.wav").write_bytes(Path("talks/000.wav").read_bytes())
    for shard in ("1/4", "2/4", "3/4"):
        assert machine.submit("talks", "--shard", shard).code == 0
    nothing = machine.submit("talks", "--shard", "4/4")
    assert nothing.code == 0
    assert f"batch {machine.batch} (shard 4/4): 0 recordings\n" in nothing.err
    assert machine.run("report", machine.batch, "-o", ".", "--cpu-hour-price", "3600").code == 0
    found = json.loads(Path("report.json").read_text(encoding="utf-8"))
    first, *others = found["recordings"]
    assert first["compute_s"] > 0
    assert [(one["status"], one["compute_s"], one["cost"]) for one in others] == [("succeeded", 0.0, None)] * 2
    assert (found["compute_s"], found["cost"]) == (first["compute_s"], first["cost"])


def test_a_limit_that_is_not_kept_is_exit_code_7(machine: Machine) -> None:
    lay(Path("talks"), 2)
    below = machine.submit("talks", "--max-rtf", "0.0001")
    assert below.code in (0, 7)
    waited = machine.run("wait", machine.batch, "--max-rtf", "0.0001", "--json")
    assert waited.code == below.code


def test_ids_and_arguments_that_are_wrong(machine: Machine) -> None:
    lay(Path("talks"), 1)
    assert machine.run("status", "ffff").code == 2
    assert machine.run("wait", "x").code == 2
    assert machine.submit("talks", "--shard", "3/2").code == 2
    assert machine.submit("talks", "--shard", "1").code == 2
    assert machine.submit("empty.csv").code == 2
    assert machine.submit("missing.wav").code == 5
    Path("folder").mkdir()
    assert machine.submit("folder").code == 2
    assert machine.run("list", "--json").code == 0


def test_names_that_are_not_text_are_kept(machine: Machine) -> None:
    lay(Path("talks"), 1)
    name = os.fsdecode(b"talks/\xff 100%41.wav")
    Path("talks/000.wav").rename(name)
    ended = machine.submit("talks")
    assert ended.code == 0, ended.err
    assert os.listdir(b"out") == [b"\xff 100%41.txt"]
    assert machine.run("report", machine.batch, "-o", "report").code == 0
    json.loads(Path("report/report.json").read_text(encoding="utf-8"))


def test_a_store_that_is_away_for_a_moment_loses_no_end(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(Path("talks"), 8)
    from chunk_job.store.base import StoreUnavailable
    from controller.runs.batches import BatchStore

    ordinary, tries = BatchStore.put_end, []

    def put_end(self: BatchStore, *arguments: Any) -> None:
        tries.append(arguments)
        if len(tries) in (2, 3, 4):
            raise StoreUnavailable("away", "wait")
        ordinary(self, *arguments)

    monkeypatch.setattr(BatchStore, "put_end", put_end)
    ended = machine.submit("talks", "--store-patience", "30")
    assert ended.code == 0, ended.err
    assert machine.counts() == {"complete": 8}
