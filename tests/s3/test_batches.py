"""A batch in S3 that several machines work on at the same time, and that outlives an outage."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chunk_job.store.open_store import open_store
from tests import many, pipeline, speech
from tests.pipeline import SMALL

COUNT = 6
AT_ONCE = 2
"""Jobs of a machine."""


@pytest.fixture
def machines(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[tuple[pipeline.Workplace, ...]]:
    both = (pipeline.Workplace(tmp_path / "one"), pipeline.Workplace(tmp_path / "two"))
    yield both
    for one in both:
        one.clear()


@pytest.mark.timeout(300)
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
    # Without shards, it leads what the other one has begun when the leases of that one have expired.
    assert started[1].ended(patience_s=180).code in (0, 4)
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


@pytest.mark.timeout(2 * many.PATIENCE_S)
def test_machines_that_are_killed_and_continued_compute_each_recording_once(
    machines: tuple[pipeline.Workplace, ...], bucket: str
) -> None:
    """Each is killed with all its jobs, at another time."""
    store = {"STENOFLEET_STORE": f"s3://{bucket}/team"}
    opened = open_store(store["STENOFLEET_STORE"])

    def work(part: int) -> pipeline.Started:
        options = ("-o", f"s3://{bucket}/text", "-f", "txt", *SMALL, "--shard", f"{part + 1}/2")
        return machines[part].start("batch", "submit", "talks", *options, env=store)

    def have_ended(count: int) -> Callable[[], bool]:
        return lambda: sum("/ends/" in entry.key for entry in opened.list("batches/")) >= count

    for machine in machines:
        many.lay(machine.folder / "talks")
    started = [work(0), work(1)]
    for part in (0, 1):
        pipeline.until(have_ended((part + 1) * many.COUNT // 4), "some have ended", patience_s=many.PATIENCE_S)
        machines[part].kill_all()
        assert started[part].ended().code == -9
        started[part] = work(part)
    for part, one in enumerate(started):
        expected = 4 if any(number % 2 == part for number in many.BROKEN) else 0
        ended = one.ended(patience_s=many.PATIENCE_S)
        assert ended.code == expected, ended.err

    (batch,) = opened.folders("batches/")
    waited = machines[1].run("batch", "wait", batch, "--json", "--junit", "junit.xml", "--dotenv", "ci.env", env=store)
    found = json.loads(waited.out)
    assert (waited.code, found["complete"], found["failed"], found["left"]) == (4, many.GOOD, len(many.BROKEN), 0)
    many.check_junit(machines[1].folder / "junit.xml")
    many.check_dotenv(machines[1].folder / "ci.env")
    text = open_store(f"s3://{bucket}/text")
    many.check_transcripts({entry.key: text.get(entry.key).decode() for entry in text.list("")})

    reported = machines[0].run("batch", "report", batch, "-o", "reports", env=store)
    assert reported.code == 0, reported.err
    sums = many.check_report(machines[0].folder / "reports")
    runs = list(opened.folders("runs/"))
    results = [entry.key for entry in opened.list("work/") if "/results/" in entry.key]
    assert (len(runs), len(results)) == (many.COUNT, many.GOOD), "no recording has two runs, and none two results"

    used = machines[0].run("usage", "--batch", batch, "--output", "json", env=store)
    total = json.loads(used.out)["total"]
    attempts = list(many.attempts_of(runs, opened.get))
    assert (total["runs"], total["attempts"]) == (many.COUNT, len(attempts))
    # A recording is cut and transcribed, and as many are cut at the same time as are transcribed. What ran when its
    # machine was killed is lost, and is done again if its work was not in the store yet.
    again = len(attempts) - 2 * many.GOOD - len(many.BROKEN)
    lost = total["failed_attempts"] - len(many.BROKEN)
    assert 0 <= again <= lost <= 2 * (AT_ONCE + AT_ONCE)
    seen_s = many.measured_s(attempts)
    assert total["paid_s"] >= seen_s - 0.001
    assert "paid_s" in total["unknown"] or total["paid_s"] == pytest.approx(seen_s)
    assert total["unknown"].get("paid_s", 0) <= lost
    assert total["audio_s"] == total["transcribed_s"] == pytest.approx(sums["audio_s"], abs=0.001 * many.COUNT)
    assert total["paid_s"] > sums["compute_s"]
