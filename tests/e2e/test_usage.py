"""The ledger after kills, resumes and cancels, against a meter that counts the jobs' processes from outside."""

import contextlib
import csv
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import pipeline
from tests.pipeline import CUT, Undisturbed, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

SLACK_S = 0.6
"""For each job: until the meter and the controller see its start and its end, on a busy machine."""


class Meter:
    """Adds up how long processes of jobs exist in a workplace."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self.jobs: dict[int, float] = {}
        """Seconds of each process, in the order in which they were seen."""
        self._tasks: dict[int, bytes] = {}
        self._longest_s = 0.0
        """Between two looks: on a busy machine, much more than it waits."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _measure(self) -> None:
        before_s = time.monotonic()
        while not self._end.wait(0.02):
            now_s = time.monotonic()
            self._longest_s = max(self._longest_s, now_s - before_s)
            for job in self._workplace.processes("--task work/"):
                if job not in self.jobs:
                    with contextlib.suppress(OSError, ValueError):
                        # Other arguments differ between two attempts: the number of a descriptor, for example.
                        words = Path(f"/proc/{job}/cmdline").read_bytes().split(b"\0")
                        self._tasks[job] = words[words.index(b"--task") + 1]
                self.jobs[job] = self.jobs.get(job, 0) + now_s - before_s
            before_s = now_s

    @property
    def seconds(self) -> float:
        """Of all jobs."""
        return sum(self.jobs.values())

    def same_task(self, job: int) -> list[int]:
        """*job* and all others that had its task, in their order."""
        return [one for one, task in self._tasks.items() if task == self._tasks.get(job)]

    def agrees(self, paid_s: float, jobs: list[int] | None = None) -> bool:
        """Whether *paid_s* is what was measured, of all jobs or of *jobs*."""
        measured = list(self.jobs) if jobs is None else jobs
        return abs(paid_s - sum(self.jobs[job] for job in measured)) <= (SLACK_S + self._longest_s) * len(measured)


@pytest.fixture
def meter(workplace: Workplace) -> Iterator[Meter]:
    with Meter(workplace) as meter:
        yield meter


def ledger(workplace: Workplace, *arguments: str) -> dict[str, Any]:
    """The sum of ``usage``."""
    ended = workplace.run("usage", "--output", "json", "--cpu-hour-price", "3.6", *arguments)
    assert ended.code == 0, ended.err
    total: dict[str, Any] = json.loads(ended.out)["total"]
    return total


def facts(total: dict[str, Any]) -> tuple[int, int, dict[str, int]]:
    """Attempts, failed ones, and what is not known."""
    return total["attempts"], total["failed_attempts"], total["unknown"]


def assert_whole(total: dict[str, Any], meter: Meter) -> None:
    """All of the recording is paid and transcribed once, and the sums fit together."""
    assert meter.agrees(total["paid_s"]), (total["paid_s"], meter.seconds)
    assert total["transcribed_s"] == total["audio_s"] == pytest.approx(64, abs=1)
    assert total["gpu_s"] == 0
    assert total["cpu_s"] == total["paid_s"] >= total["cut_s"] + total["failed_s"] + total["useful_s"]
    assert total["cost"] == pytest.approx(total["paid_s"] / 1000)
    assert total["cost_per_audio_hour"] == pytest.approx(total["cost"] / total["audio_s"] * 3600)


def test_a_run_and_the_same_run_again(workplace: Workplace, undisturbed: Undisturbed, meter: Meter) -> None:
    file = workplace.media(undisturbed.media, "=cmd.wav")
    assert workplace.transcribe(file, *CUT).code == 0
    total = ledger(workplace)
    assert facts(total) == (4, 0, {})
    assert_whole(total, meter)
    assert 0 < total["useful_s"] < total["paid_s"]
    assert total["queue_s"] > 0, "two slots, three chunks"
    assert (total["pull_s"], total["failed_s"], total["unpriced_s"]) == (0, 0, 0)
    run = workplace.keys().run
    workplace.media(undisturbed.media, "copy.wav")
    assert workplace.transcribe(workplace.folder / "copy.wav", *CUT).code == 0
    assert ledger(workplace, run, run[:8], run) == total, "nothing was computed again, and a run is paid once"
    (row,) = csv.DictReader(io.StringIO(workplace.run("usage", "--output", "csv").out))
    assert (row["run"], row["name"], row["paid_s"], row["cost"]) == (run, "'=cmd.wav", str(total["paid_s"]), "")
    text = workplace.run("usage", "--output", "prometheus").out
    (paid,) = [one for one in text_string_to_metric_families(text) if one.name == "stenofleet_usage_paid_seconds"]
    assert [(one.labels["run"], one.value) for one in paid.samples] == [(run, total["paid_s"])]
    assert "attempts                             4\n" in workplace.run("usage").out


def test_failed_attempts_and_those_lost_with_their_controller_are_paid(
    workplace: Workplace, undisturbed: Undisturbed, meter: Meter
) -> None:
    file = workplace.media(undisturbed.media)
    running = workplace.held("chunk.transcribed.00001.a1", file, *CUT)
    pipeline.until(lambda: len(workplace.results()) == 2, "the others are done")
    pipeline.until(lambda: len(workplace.processes("--task work/")) == 1, "only the job that is held is left")
    (held,) = workplace.processes("--task work/")
    time.sleep(1.5)
    running.kill()
    workplace.quiet()
    lost = ledger(workplace)
    assert facts(lost) == (4, 0, {}), "it counts as running for half a minute"
    assert lost["paid_s"] >= lost["cut_s"] + lost["load_s"] + 1.5
    # Its number is free: another job has it now, and fails too.
    ended = workplace.transcribe(file, *CUT, crash="chunk.transcribed.00001.a1=kill")
    assert ended.code == 0, ended.err
    total = ledger(workplace)
    assert facts(total)[:2] == (6, 2)
    assert total["unknown"]["paid_s"] == total["unknown"]["failed_s"] == 1, "nobody saw the end of the first one"
    assert total["unknown"]["cost"] == total["unknown"]["useful_share"] == 1
    failed = meter.same_task(held)[:-1]
    assert len(failed) == 2, "the last one has the result"
    assert meter.agrees(total["failed_s"], failed), (total["failed_s"], meter.jobs)
    assert total["failed_s"] > 1.5
    run = workplace.keys().run
    assert json.loads(workplace.run("status", run, "--json").out)["failures"] == 2
    assert "1 attempt was lost with its controller" in workplace.run("explain", run).out
    assert_whole(total, meter)


def test_a_job_that_is_killed_with_its_controller_after_its_result_is_paid_once(
    workplace: Workplace, undisturbed: Undisturbed, meter: Meter
) -> None:
    file = workplace.media(undisturbed.media)
    workplace.held("chunk.committed.00001.a1", file, *CUT)
    pipeline.until(lambda: len(workplace.results()) == 3, "the others are done")
    workplace.kill_all()
    workplace.quiet()
    before = workplace.results()
    assert workplace.transcribe(file, *CUT).code == 0
    assert workplace.results() == before
    total = ledger(workplace)
    assert facts(total) == (4, 0, {})
    assert_whole(total, meter)


def test_jobs_that_end_with_an_interrupted_command_and_a_cancel_are_paid(
    workplace: Workplace, undisturbed: Undisturbed, meter: Meter
) -> None:
    file = workplace.media(undisturbed.media)

    def held() -> pipeline.Started:
        running = workplace.held("chunk.transcribed.00001.a1", file, *CUT)
        time.sleep(1)
        return running

    running = held()
    os.kill(running.process.pid, signal.SIGINT)
    assert running.ended().code == 130
    interrupted = ledger(workplace)
    assert interrupted["unknown"].keys() <= {"audio_s"}, "the command saw the end of its jobs"
    running = held()
    assert workplace.run("cancel", workplace.keys().run).code == 0
    assert running.ended().code == 8
    cancelled = ledger(workplace)
    assert cancelled["paid_s"] > interrupted["paid_s"] + 1
    assert cancelled["unknown"] == {}
    assert meter.agrees(cancelled["paid_s"])
    assert workplace.transcribe(file, *CUT).code == 0
    total = ledger(workplace)
    assert facts(total)[1:] == (0, {})
    assert_whole(total, meter)


def test_a_follower_continues_the_ledger_of_a_killed_leader(
    workplace: Workplace, undisturbed: Undisturbed, meter: Meter
) -> None:
    file = workplace.media(undisturbed.media)
    leader = workplace.held("chunk.transcribed.00002.a1", file, *CUT)
    follower = workplace.start("transcribe", "-o", workplace.out, file, *CUT)
    follower.wait_for_output("following it")
    time.sleep(1.5)
    leader.kill()
    assert follower.ended().code == 0
    total = ledger(workplace)
    assert facts(total)[:2] == (5, 1)
    assert total["unknown"]["paid_s"] == 1
    assert_whole(total, meter)


def test_of_a_run_that_an_earlier_version_began_only_what_it_measured_is_known(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 2)
    assert workplace.transcribe(file, *CUT).code == 0
    total = ledger(workplace)
    assert total["transcribed_s"] == total["audio_s"]
    assert total["unknown"]["cut_s"] == 1, "there was an intake, and nobody noted it"
    assert total["unknown"]["queue_s"] == total["unknown"]["pull_s"] == 3
    assert total["paid_s"] > total["useful_s"] > 0
    assert total["cut_s"] is None
    assert "cutting the recording            unknown" in workplace.run("usage").out
