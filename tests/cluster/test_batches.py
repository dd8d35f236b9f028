"""Batches whose jobs run on a cluster."""

import json

import pytest

from tests import speech
from tests.cluster.site import PATIENCE_S, Site

pytestmark = pytest.mark.timeout(600)

COUNT = 20
BROKEN = 19


def test_a_batch_in_a_bucket_is_interrupted_and_finished(site: Site) -> None:
    bucket = site.store_of("in")
    for number in range(COUNT):
        path = site.workplace.folder / f"{number:02}.wav"
        speech.write_wav(path, speech.silence(1 + number / 100, noise_db=-60))
        bucket.put_file(path.name, path)
    bucket.put(f"{BROKEN:02}.wav", b"no media")
    source, target = f"s3://{site.bucket}/in/", f"s3://{site.bucket}/out"
    command = ("batch", "submit", source, "-o", target, "-f", "txt", "--language", "en", *site.options)
    started = site.workplace.start(*command, env=site.environment)
    site.until(lambda: len(list(site.store_of("out").list(""))) >= 4, "four transcripts")
    started.kill()
    batch = next(iter(site.store.folders("batches/")))
    ended = site.workplace.start(*command, env=site.environment)
    assert ended.ended(patience_s=PATIENCE_S).code == 4
    waited = site.ask("batch", "wait", batch, "--json")
    found = json.loads(waited.out)
    assert (waited.code, found["complete"], found["failed"]) == (4, COUNT - 1, 1)
    assert [one["source"] for one in found["failures"]] == [f"{source}{BROKEN:02}.wav"]
    assert len(list(site.store_of("out").list(""))) == COUNT - 1
    site.until(site.empty, "nothing is left on the cluster")
