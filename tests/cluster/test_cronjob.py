"""``docs/ci/cronjob.yaml`` on a cluster that ``kubectl apply -k k8s/`` has prepared: what is new, and no more."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests import speech
from tests.ci_examples import FOLDER, documents
from tests.cluster.deployment import Deployment

pytestmark = pytest.mark.timeout(400)

NAME = "stenofleet-nightly"


def nightly(deployment: Deployment) -> dict[str, Any]:
    """The example with the buckets, images and model of the test."""
    cluster, images = deployment.cluster, deployment.images
    text = json.dumps(documents(FOLDER / "cronjob.yaml")[0])
    for of, image in (("controller", images.controller), ("chunk-job", images.chunk_job)):
        text = text.replace(f"registry.example/team/stenofleet-{of}:{images.controller.rpartition(':')[2]}", image)
    document: dict[str, Any] = json.loads(text.replace("s3://media/", f"s3://{deployment.bucket}/"))
    (container,) = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    own = {
        "AWS_ENDPOINT_URL_S3": cluster.s3.endpoint,
        "STENOFLEET_MODEL": images.model,
        "STENOFLEET_LANGUAGE": "en",
        "STENOFLEET_DEVICE": "cpu",
        "STENOFLEET_THREADS": "1",
        "STENOFLEET_JOB_MEMORY": "500",
    }
    kept = [one for one in container["env"] if one["name"] not in own]
    container["env"] = [*kept, *({"name": name, "value": value} for name, value in own.items())]
    return document


def suites(deployment: Deployment) -> dict[str, bool]:
    """Of each recording in the JUnit file of the last start, whether it was left out."""
    reply = deployment.s3.get_object(bucket_name=deployment.bucket, object_name="reports/stenofleet.xml")
    root = ET.fromstring(reply.read())
    return {
        str(suite.get("name")).rpartition("/")[2]: suite.find("testcase/skipped") is not None
        for suite in root.iter("testsuite")
    }


def test_what_is_new_is_transcribed_and_the_next_start_does_nothing(deployment: Deployment, tmp_path: Path) -> None:
    deployment.apply()
    # Its own run is no part of this.
    deployment.kubectl("delete", "jobs", "stenofleet", "stenofleet-model", "--wait=false")
    sound = tmp_path / "sound.wav"
    speech.write_wav(sound, speech.tape(seconds=5, seed=3).pcm)
    for name in ("incoming/old.wav", "incoming/2026/new.wav", "transcripts/old.txt", "transcripts/old.vtt"):
        deployment.s3.fput_object(bucket_name=deployment.bucket, object_name=name, file_path=str(sound))
    before = deployment.objects("transcripts/")
    deployment.cluster.apply(deployment.namespace, nightly(deployment))

    def start(name: str) -> None:
        deployment.kubectl("create", "job", name, f"--from=cronjob/{NAME}")
        deployment.ends(name, "Complete")

    start("first")
    written = deployment.objects("transcripts/")
    assert written.items() > before.items()
    assert written.keys() - before.keys() == {"transcripts/2026/new.txt", "transcripts/2026/new.vtt"}
    assert suites(deployment) == {"old.wav": True, "new.wav": False}
    stored = deployment.objects("stenofleet/")
    assert len([key for key in stored if "/results/" in key]) == 1
    start("second")
    assert (deployment.objects("transcripts/"), deployment.objects("stenofleet/")) == (written, stored)
    assert suites(deployment) == {"old.wav": True, "new.wav": True}
    assert {job["metadata"]["name"] for job in deployment.jobs()} == {"first", "second"}
