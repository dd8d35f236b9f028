"""A batch in S3 that several machines work on at the same time, and that outlives an outage."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.open_store import open_store
from tests import pipeline, speech
from tests.pipeline import SMALL

COUNT = 12


@pytest.fixture
def machines(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[tuple[pipeline.Workplace, ...]]:
    both = (pipeline.Workplace(tmp_path / "one"), pipeline.Workplace(tmp_path / "two"))
    yield both
    for one in both:
        one.clear()


@pytest.mark.parametrize("shards", [("1/2", "2/2"), ("", "")], ids=["shards", "the whole"])
def test_two_machines_divide_a_batch(
    machines: tuple[pipeline.Workplace, ...], bucket: str, shards: tuple[str, str]
) -> None:
    """Each in a folder of its own, with a copy of the recordings. One is killed; the other resumes its part."""
    store = {"STENOFLEET_STORE": f"s3://{bucket}/team"}
    started = []
    for machine, shard in zip(machines, shards, strict=True):
        folder = machine.folder / "talks"
        folder.mkdir()
        for number in range(COUNT):
            speech.write_wav(folder / f"{number:02}.wav", speech.silence(1 + number / 100, noise_db=-60))
        part = ("--shard", shard) if shard else ()
        command = ("batch", "submit", "talks", "-o", f"s3://{bucket}/text", "-f", "txt", *SMALL, *part)
        started.append(machine.start(*command, env=store))
    opened = open_store(store["STENOFLEET_STORE"])
    pipeline.until(lambda: sum("/ends/" in entry.key for entry in opened.list("batches/")) >= 3, "three have ended")
    machines[0].kill_all()
    started[0].ended()
    assert started[1].ended().code in (0, 4)
    (batch,) = opened.folders("batches/")
    # Relative names begin in the folder of the first submission, which is there: it is one machine after all.
    resumed = machines[1].run("batch", "resume", batch, "--max-parallel", "2", env=store)
    assert resumed.code == 0, resumed.err
    waited = machines[0].run("batch", "wait", batch, "--json", env=store)
    found = json.loads(waited.out)
    assert (waited.code, found["complete"], found["left"]) == (0, COUNT, 0)
    outputs = [entry.key for entry in open_store(f"s3://{bucket}/text").list("")]
    assert outputs == [f"{number:02}.txt" for number in range(COUNT)]
    results = [entry.key for entry in opened.list("work/") if "/results/" in entry.key]
    assert len({key.split("/")[1] for key in results}) == COUNT
