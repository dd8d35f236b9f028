"""Batches whose recordings, outputs or runs have changed, and those that end before their end."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from controller import cli
from controller.domain.batches import BatchEntry
from tests import quick_jobs, speech
from tests.batch_machine import Machine, lay, written


def test_a_store_does_not_decide_which_files_of_a_machine_are_read_and_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(Path("talks"), 2)
    machine.interrupt_after(1)
    assert machine.submit("talks").code == 130
    machine.on_job = lambda _: None
    monkeypatch.setenv("XDG_STATE_HOME", str(machine.folder / "another"))
    for command in ("resume", "retry"):
        refused = machine.run(command, machine.batch)
        assert (refused.code, "was not made on this machine" in refused.err) == (2, True)
        assert "the same command is the same batch" in refused.err
    assert written(Path("out")) == set()
    assert machine.submit("talks").code == 0
    with pytest.raises(ValidationError):
        BatchEntry(number=0, name="x", output="../../x", size_bytes=1)


def test_another_folder_with_the_same_names_and_sizes_is_transcribed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        speech.write_wav(Path(folder, "talk.wav"), speech.silence(0.3, noise_db=-60 if folder == "one" else -50))
    sizes = {Path(folder, "talk.wav").stat().st_size for folder in ("one", "two")}
    assert len(sizes) == 1
    monkeypatch.chdir("one")
    assert machine.submit("talk.wav").code == 0
    monkeypatch.chdir("../two")
    assert machine.submit("talk.wav").code == 0
    assert Path("out/talk.txt").is_file()
    assert sum(job.span is not None for job in machine.jobs) == 2
    (batch,) = json.loads(machine.run("list", "--json").out)["batches"]
    assert batch["left"] == 0


def test_outputs_that_were_removed_are_written_again(machine: Machine) -> None:
    lay(Path("talks"), 3)
    assert machine.submit("talks").code == 0
    jobs = len(machine.jobs)
    Path("out/001.txt").unlink()
    again = machine.submit("talks", "--json")
    assert (again.code, json.loads(again.out)["known"]) == (0, 0), "they were computed in this batch"
    assert written(Path("out")) == {"000.txt", "001.txt", "002.txt"}
    assert len(machine.jobs) == jobs


def test_a_recording_that_was_replaced_by_a_broken_one_has_failed(machine: Machine) -> None:
    lay(Path("talks"), 2)
    assert machine.submit("talks").code == 0
    path = Path("talks/001.wav")
    path.write_bytes(quick_jobs.NOT_MEDIA.ljust(path.stat().st_size, b"x"))
    assert machine.submit("talks").code == 4
    assert machine.counts() == {"complete": 1, "failed": 1}
    assert machine.run("wait", machine.batch).code == 4


def test_waiting_ends_when_nothing_more_is_begun(machine: Machine) -> None:
    lay(Path("talks"), 40, broken=2)
    assert machine.submit("talks", "--fail-fast").code in (4, 5)
    assert machine.counts()["left"] > 10
    assert machine.run("wait", machine.batch).code in (4, 5)
    assert machine.submit("talks").code == 4
    assert machine.counts() == {"complete": 20, "failed": 20}


def test_each_shard_tries_its_own_failures_again_in_one_round(machine: Machine) -> None:
    lay(Path("talks"), 8, broken=2)
    for shard in ("1/2", "2/2"):
        machine.submit("talks", "--shard", shard)
    # Each fourth and each second of those are broken: all in the second half.
    assert "nothing has failed" in machine.run("retry", machine.batch, "--shard", "1/2").err
    assert machine.run("retry", machine.batch, "--shard", "2/2").code == 5
    assert json.loads(machine.run("status", machine.batch, "--json").out)["round"] == 2
    assert machine.counts() == {"complete": 4, "failed": 4}


def test_a_limit_of_a_run_that_was_removed_is_not_kept(machine: Machine) -> None:
    lay(Path("talks"), 1)
    assert machine.submit("talks").code == 0
    assert cli.run(["clean", "--all", "--yes", "--store", str(machine.folder / "store")]) == 0
    waited = machine.run("wait", machine.batch, "--min-confidence", "0.1")
    assert waited.code == 7
    assert "--min-confidence: it cannot be measured: its run is not in the store any more" in waited.err


def test_the_same_list_twice(machine: Machine) -> None:
    lay(Path("talks"), 1)
    Path("l.csv").write_text("source,output\ntalks/000.wav,x\n", encoding="utf-8")
    twice = machine.submit("l.csv", "l.csv")
    assert (twice.code, "l.csv is named twice" in twice.err) == (2, True)


def test_a_report_replaces_only_reports(machine: Machine) -> None:
    lay(Path("talks"), 1)
    assert machine.submit("talks").code == 0
    Path("report.csv").write_text("mine", encoding="utf-8")
    refused = machine.run("report", machine.batch, "-o", ".")
    assert (refused.code, "report.csv: is not a report of a batch" in refused.err) == (2, True)
    assert Path("report.csv").read_text(encoding="utf-8") == "mine"
    Path("report.csv").unlink()
    for _ in range(2):
        assert machine.run("report", machine.batch, "-o", ".").code == 0


def test_words_are_compared_with_references(machine: Machine) -> None:
    lay(Path("talks"), 1)
    assert machine.submit("talks").code == 0
    Path("references").mkdir()
    Path("references/000.txt").write_text(Path("out/000.txt").read_text(encoding="utf-8"), encoding="utf-8")
    limit = ("--max-wer", "0.1", "--reference", "references")
    assert machine.run("wait", machine.batch, *limit).code == 0
    Path("references/000.txt").write_text("something else was said", encoding="utf-8")
    wrong = machine.run("wait", machine.batch, *limit)
    assert (wrong.code, "--max-wer: its word error rate is" in wrong.err) == (7, True), wrong.err


def test_more_machines_than_recordings(machine: Machine) -> None:
    lay(Path("talks"), 3)
    assert machine.submit("talks", "--shard", "4/4").code == 0
    assert machine.counts() == {"left": 3}
    for shard in ("0/4", "5/4", "1/0", "-1/4"):
        assert machine.submit("talks", "--shard", shard).code == 2
    assert machine.submit("talks", "--max-failures", "0").code == 2
    assert machine.submit("talks", "--shard", "3/4").code == 0
    assert machine.counts() == {"complete": 1, "left": 2}


def test_a_batch_that_nobody_works_on_is_cancelled_and_tried_again(machine: Machine) -> None:
    lay(Path("talks"), 3)
    assert machine.submit("talks", "--shard", "4/4").code == 0
    assert machine.run("cancel", machine.batch[:6]).code == 0
    assert machine.run("cancel", machine.batch).code == 0
    assert machine.run("wait", machine.batch).code == 8
    assert machine.run("resume", machine.batch).code == 2
    assert machine.run("retry", machine.batch).code == 0
    assert machine.counts() == {"complete": 3}
