"""Batches that the environment ends, damaged ends in the store, and reports of commands that end early."""

import itertools
import json
import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.cli import batch_known, batch_status
from controller.domain.jobs import Job
from tests import quick_jobs
from tests.batch_machine import Machine, lay, written


def fail_as(monkeypatch: pytest.MonkeyPatch, code: ExitCode, *, of: str = "") -> list[str]:
    """Let every job fail, or those of recordings with *of* in their names. Returns the names that were tried."""
    ordinary, tried = quick_jobs.QuickRunner._do, list[str]()

    def do(runner: quick_jobs.QuickRunner, job: Job) -> bytes:
        if job.span is None and of in job.media_uri:
            tried.append(job.media_uri.rpartition("/")[2])
            return JobFailure(code=code, summary="there is no such thing", advice="put it there").encode()
        return ordinary(runner, job)

    monkeypatch.setattr(quick_jobs.QuickRunner, "_do", do)
    return tried


def suites(path: str) -> list[str]:
    return [str(suite.get("name")) for suite in ET.parse(path).getroot()]


def test_the_same_command_tries_again_what_failed_because_of_the_environment(machine: Machine) -> None:
    lay(Path("talks"), 4, broken=4)
    # The transcript of one recording cannot be written: its name is taken by a folder.
    Path("out/001.txt").mkdir(parents=True)
    first = machine.submit("talks")
    assert first.code == 4
    assert "1 failed because of the environment: the same submit command tries them again" in first.err
    assert machine.counts() == {"complete": 2, "failed": 2}
    assert machine.run("wait", machine.batch).code == 4
    jobs = len(machine.jobs)
    Path("out/001.txt").rmdir()
    again = machine.submit("talks")
    assert (again.code, "1 left (1 of them to be tried again)" in again.err) == (4, True), again.err
    assert "1 had failed before; to try them again: stenofleet batch retry" in again.err
    assert machine.counts() == {"complete": 3, "failed": 1}
    assert written(Path("out")) == {"000.txt", "001.txt", "002.txt"}
    assert len(machine.jobs) == jobs, "its transcript was kept"
    assert json.loads(machine.run("status", machine.batch, "--json").out)["round"] == 1


def test_a_failure_that_meets_every_recording_ends_the_batch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(Path("talks"), 40)
    with monkeypatch.context() as patched:
        tried = fail_as(patched, ExitCode.MODEL)
        ended = machine.submit("talks", "--junit", "junit.xml", "--dotenv", "batch.env")
    assert ended.code == 3, ended.err
    assert "no others were begun, because they would fail too: there is no such thing" in ended.err
    assert len(tried) < 8
    assert Path("batch.env").read_text().startswith(f"EXIT_CODE=3\nCOMPLETE=0\nPARTIAL=0\nFAILED={len(tried)}\n")
    assert len(suites("junit.xml")) == 40
    assert machine.run("wait", machine.batch).code == 3
    assert machine.run("resume", machine.batch).code == 0
    assert machine.counts() == {"complete": 40}


def test_other_failures_of_the_environment_end_it_when_they_come_one_after_the_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(Path("talks"), 30)
    with monkeypatch.context() as patched:
        tried = fail_as(patched, ExitCode.ACCESS_DENIED, of="00")
        ended = machine.submit("talks")
        assert (ended.code, 5 <= len(tried) < 10) == (3, True), ended.err
        # What failed so comes last: it does not keep the others from being begun.
        again = machine.submit("talks")
    assert "no others were begun" in again.err
    assert machine.counts()["complete"] == 20
    assert machine.submit("talks").code == 0


def test_a_part_of_a_document_is_no_end(machine: Machine) -> None:
    lay(Path("talks"), 3)
    assert machine.submit("talks").code == 0
    jobs = len(machine.jobs)
    empty, part, other = sorted((machine.folder / "store" / "batches" / machine.batch / "ends").rglob("*.json"))
    empty.write_bytes(b"")
    part.write_bytes(part.read_bytes()[:-40])
    assert machine.counts() == {"complete": 1, "left": 2}
    other.write_bytes(bytes(other.stat().st_size))
    waited = machine.run("wait", machine.batch, "--timeout", "1", "--json")
    assert waited.code == 6
    again = machine.submit("talks", "--json")
    assert (again.code, json.loads(again.out)["complete"]) == (0, 3)
    assert machine.counts() == {"complete": 3}
    other = next(path for path in other.parent.glob(f"{other.name[:7]}-*"))
    other.write_bytes(bytes(other.stat().st_size))
    assert machine.run("wait", machine.batch).code == 4, "a document of zeros is none"
    assert machine.submit("talks").code == 0
    assert len(machine.jobs) == jobs, "nothing was computed again"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_reports_are_written_after_a_signal(machine: Machine, number: signal.Signals) -> None:
    lay(Path("talks"), 12, broken=3)

    def interrupt(_: Job) -> None:
        if len(machine.jobs) == 12:
            signal.raise_signal(number)

    machine.on_job = interrupt
    ended = machine.submit("talks", "--junit", "junit.xml", "--dotenv", "batch.env")
    assert ended.code == 128 + number
    counts = machine.counts()
    numbers = dict(line.split("=") for line in Path("batch.env").read_text().split())
    assert (numbers["EXIT_CODE"], numbers["COMPLETE"]) == (str(128 + number), str(counts["complete"]))
    assert numbers["FAILED"] == str(counts["failed"])
    root = ET.parse("junit.xml").getroot()
    assert [suite.get("name") for suite in root] == [f"talks/{one:03}.wav" for one in range(12)]
    assert (root.get("errors"), root.get("skipped")) == (numbers["FAILED"], str(counts["left"]))


def test_a_report_names_what_failed_where_there_is_no_time_to_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(Path("talks"), 12, broken=3)
    machine.interrupt_after(12)
    monkeypatch.setattr(batch_known, "_READ_S", 0.0)
    assert machine.submit("talks", "--junit", "junit.xml").code == 130
    failed = machine.counts()["failed"]
    names = suites("junit.xml")
    assert len(names) == failed + 1
    assert names[-1] == f"{12 - failed} recordings of batch {machine.batch}"
    *named, rest = ET.parse("junit.xml").getroot()
    assert [one.get("value") for one in rest.iter("property") if one.get("name") == "not_named"] == [str(12 - failed)]
    (skipped,) = rest.iter("skipped")
    assert str(skipped.get("message")).startswith(f"this file does not name {12 - failed} recordings of 12: ")
    assert f"stenofleet batch wait {machine.batch} --junit FILE" in str(skipped.get("message"))
    assert not any(one.get("name") == "not_named" for suite in named for one in suite.iter("property"))


def test_a_command_that_waits_reports_what_is_known(machine: Machine) -> None:
    lay(Path("talks"), 6)
    machine.interrupt_after(3)
    assert machine.submit("talks").code == 130
    done = machine.counts().get("complete", 0)
    reports = ("--junit", "junit.xml", "--dotenv", "batch.env")
    assert machine.run("wait", machine.batch, "--timeout", "1", *reports).code == 6
    assert Path("batch.env").read_text().startswith(f"EXIT_CODE=6\nCOMPLETE={done}\n")
    assert len(suites("junit.xml")) == 6


def test_waiting_ends_when_nobody_works(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(Path("talks"), 6)
    machine.interrupt_after(5)
    assert machine.submit("talks").code == 130
    batch = machine.batch
    done = machine.counts().get("complete", 0)
    looks = list[float]()
    seconds = itertools.count(step=5)

    def now_s() -> float:
        looks.append(float(next(seconds)))
        if 20 < len(looks) < 60:
            # Another process says that it works, by a clock that is wrong.
            worker = json.dumps({"schema": "stenofleet.batch-worker/1", "host": "h", "shard": "1/1",
                                 "updated_ms": len(looks)})  # fmt: skip
            FileStore(machine.folder / "store").put(f"batches/{batch}/workers/w.json", worker.encode())
        return looks[-1]

    monkeypatch.setattr(batch_status, "_now_s", now_s)
    monkeypatch.setattr(batch_status, "_FIRST_S", 0.0)
    waited = machine.run("wait", batch, "--dotenv", "batch.env")
    assert waited.code == (4 if done else 5), waited.err
    assert f"for 120 s no process has worked on it, {6 - done} left: give the same submit command" in waited.err
    assert looks[-1] >= 5 * 59 + 120, "while somebody works, it waits"
    assert Path("batch.env").read_text().startswith(f"EXIT_CODE={waited.code}\nCOMPLETE={done}\n")
