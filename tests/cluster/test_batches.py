"""A batch whose jobs run on a cluster: two machines work on it, and one of them is killed twice.

STENOFLEET_TEST_BATCH in the environment sets how many recordings it has: 20, in CI, or more.
"""

import contextlib
import csv
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from controller.domain.batches import Shard, parse_end
from controller.domain.keys import parse_result, run_of
from tests import pipeline, speech
from tests.cluster.site import Site, until

COUNT = int(os.environ.get("STENOFLEET_TEST_BATCH") or "20")
BROKEN = [20 * number + 19 - number % 2 for number in range(COUNT // 20)]
"""One in twenty, in both shards, is no media."""
PATIENCE_S = max(240.0, 10.0 * COUNT)
PRICE = 0.36
"""Of an hour of a CPU."""
SHARDS = (Shard(0, 2), Shard(1, 2))

pytestmark = pytest.mark.timeout(2 * PATIENCE_S + 120)


def name_of(number: int) -> str:
    return f"{number:05d}.wav"


def seconds_of(number: int) -> float:
    """The length of a recording; each has another one, and so another content."""
    return 1 + number / 1_000


def lay(site: Site) -> str:
    """Put the recordings into the bucket. Returns their folder."""
    bucket = site.store_of("in")
    for number in range(COUNT):
        if number in BROKEN:
            bucket.put(name_of(number), f"no media {number}".encode())
            continue
        path = site.workplace.folder / "one.wav"
        speech.write_wav(path, speech.silence(seconds_of(number), noise_db=-60))
        bucket.put_file(name_of(number), path)
    return f"s3://{site.bucket}/in/"


@contextlib.contextmanager
def jobs_made(site: Site) -> Iterator[Path]:
    """A file that gets a line for each change of each Job, from now on: its uid and name."""
    path = site.workplace.folder / "jobs"
    columns = "custom-columns=UID:.metadata.uid,NAME:.metadata.name"
    command = ["--namespace", site.namespace, "get", "jobs", "--watch", "--no-headers", "--output", columns]
    with path.open("wb") as file:
        watch = subprocess.Popen(
            [site.cluster.program, "--kubeconfig", site.cluster.kubeconfig, *command], stdout=file, stderr=file
        )
        try:
            yield path
        finally:
            watch.terminate()
            watch.wait()


def have_ended(site: Site, least: int) -> bool:
    """Whether so many recordings of the first shard have ended."""
    found = (parse_end(entry.key, entry.size_bytes) for entry in site.store.list("batches/"))
    return sum(end is not None and end.number in SHARDS[0] for end in found) >= least


def results(site: Site) -> dict[str, float]:
    """Every result of every run with its time, which shows results that were computed twice."""
    return {entry.key: entry.modified_s for entry in site.store.list("work/") if parse_result(entry.key)}


def test_two_machines_work_on_a_batch_and_one_is_killed_twice(site: Site, tmp_path: Path) -> None:
    source, target = lay(site), f"s3://{site.bucket}/out"
    command = ("batch", "submit", source, "-o", target, "-f", "txt", "--language", "en", *site.options)
    there = pipeline.Workplace(tmp_path / "another")
    with jobs_made(site) as made, contextlib.ExitStack() as stack:
        stack.callback(there.clear)
        other = there.start(*command, "--shard", "2/2", env=site.environment)
        seen: dict[str, float] = {}
        for least in (COUNT // 10, COUNT // 4):
            one = site.workplace.start(*command, "--shard", "1/2", env=site.environment)
            until(partial(have_ended, site, least), f"{least} have ended", patience_s=PATIENCE_S)
            assert one.process.poll() is None, one.err
            one.kill()
            seen |= results(site)
        last = site.workplace.start(*command, "--shard", "1/2", env=site.environment)
        codes = [started.ended(patience_s=PATIENCE_S).code for started in (last, other)]
        assert codes == [4 if any(number in shard for number in BROKEN) else 0 for shard in SHARDS]
        (batch,) = site.store.folders("batches/")
        where = str(tmp_path / "junit.xml")
        waited = there.run("batch", "wait", batch, "--json", "--junit", where, env=site.environment)
        found = json.loads(waited.out)
        assert (waited.code, found["complete"], found["failed"]) == (4, COUNT - len(BROKEN), len(BROKEN))
        assert [one["source"] for one in found["failures"]] == [f"{source}{name_of(number)}" for number in BROKEN]
        check_junit(Path(where))
        prices = ("--cpu-hour-price", str(PRICE))
        reported = there.run("batch", "report", batch, "-o", str(tmp_path), *prices, env=site.environment)
        assert reported.code == 0, reported.err
        runs = check_report(tmp_path)

    outputs = {entry.key for entry in site.store_of("out").list("")}
    assert outputs == {name_of(number).replace(".wav", ".txt") for number in range(COUNT) if number not in BROKEN}
    computed = results(site)
    assert computed.items() >= seen.items(), "what was done is not done again"
    assert Counter(run_of(key) for key in computed) == {run: 1 for number, run in runs.items() if number not in BROKEN}
    assert failures(site) == {runs[number]: ["intake/a1"] for number in BROKEN}
    # A process that is killed forgets its Jobs, and the next one finds them: none is made twice.
    jobs = {line.split()[1]: line.split()[0] for line in made.read_text().splitlines()}
    uids = {line.split()[0] for line in made.read_text().splitlines()}
    assert len(jobs) == len(uids) == 2 * COUNT - len(BROKEN)
    site.until(site.empty, "nothing is left on the cluster")


def check_report(folder: Path) -> dict[int, str]:
    """Check both files against each other, and their sums. Returns the run of each recording."""
    document: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    each = document["recordings"]
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["status"], row["run"]) for row in rows] == [
        (str(one["number"]), one["status"], one["run"]) for one in each
    ]
    assert [one["number"] for one in each] == list(range(COUNT))
    assert {one["number"] for one in each if one["status"] == "failed"} == set(BROKEN)
    assert all(one["failure"] == "BAD_INPUT" and one["summary"] and one["advice"] for one in each
               if one["status"] == "failed")  # fmt: skip
    assert document["counts"] == {
        "succeeded": COUNT - len(BROKEN), "skipped": 0, "partial": 0, "failed": len(BROKEN), "cancelled": 0,
        "not_begun": 0,
    }  # fmt: skip
    audio_s = sum(seconds_of(number) for number in range(COUNT) if number not in BROKEN)
    assert document["audio_s"] == pytest.approx(audio_s, abs=0.001 * COUNT)
    for name in ("audio_s", "compute_s", "cost"):
        total = sum(float(row[name] or 0) for row in rows)
        assert document[name] == pytest.approx(total, abs=0.001)
    assert document["cost"] == pytest.approx(document["compute_s"] * PRICE / 3600, rel=0.01)
    return {one["number"]: one["run"] for one in each}


def check_junit(path: Path) -> None:
    """One suite for each recording, and one failure with a class for each that is broken."""
    root = ET.parse(path).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(COUNT), str(len(BROKEN)), "0")
    assert len(root.findall("testsuite")) == COUNT
    failed = [str(case.get("classname")) for case in root.iter("testcase") if case.find("failure") is not None]
    assert [name.rpartition("/")[2] for name in failed] == list(map(name_of, BROKEN))
    assert {failure.get("type") for failure in root.iter("failure")} == {"BAD_INPUT"}


def failures(site: Site) -> dict[str | None, list[str]]:
    """What failed of each run: its part and attempt."""
    found: dict[str | None, list[str]] = {}
    for entry in site.store.list("work/"):
        if "/failures/" in entry.key:
            part = entry.key.partition("/failures/")[2].rpartition("-")[0]
            found.setdefault(run_of(entry.key), []).append(part)
    return found
