"""What each sample of the chart names and a cluster must have, and the values that the test cluster needs besides."""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import trustme

from controller import demo
from controller.service.tokens import new_token, written_digest
from tests.cluster.release import Release, named_images
from tests.cluster.site import Images
from tests.testbed.chart import CHART
from tests.testbed.cluster import NODES

NAMES = tuple(sorted(path.name.partition(".")[0] for path in (CHART / "samples").iterdir()))
IN_CI = ("air-gapped", "two-tenants")
"""Samples that CI installs; all with STENOFLEET_TEST_SAMPLES=all in the environment. Each takes about a minute."""
CHOSEN = NAMES if os.environ.get("STENOFLEET_TEST_SAMPLES") == "all" else IN_CI

_QUEUE = "kueue.x-k8s.io/queue-name"
_LABEL = "node.kubernetes.io/instance-type"
_MODEL = "large-v3-turbo"


@dataclass(kw_only=True)
class Prepared:
    """A release for one sample, in a cluster with all that the sample names."""

    release: Release
    tokens: dict[str, str] = field(default_factory=dict)
    """Of its tenants, by name."""
    admitted: list[str] = field(default_factory=list)
    """Names of the Jobs that waited in the queue."""

    @property
    def token(self) -> str:
        """A token of one of its tenants."""
        return next(iter(self.tokens.values())) if self.tokens else self.release.token()


def values(release: Release, images: Images, hub: str) -> dict[str, Any]:
    """What the test cluster needs besides the sample: its images and S3, a small model, and a CPU beside each GPU.

    The cluster has no real GPU: jobs hold one of the testbed's and work on the CPU.
    """
    s3 = release.cluster.s3
    return {
        "image": named_images(images),
        "s3": {
            "endpoint": s3.endpoint,
            "bucket": release.bucket,
            "port": s3.address[1],
            "existingSecret": "stenofleet-s3",
        },
        "model": {"s3": {"url": f"s3://{release.bucket}/models"}, "prefetch": {"hubEndpoint": hub}},
        "decoding": {"language": "en"},
        "jobs": {"threads": 1, "memoryMiB": 500},
        "server": {"extraArgs": ["--device=cpu", "--gpus=1"]},
    }


@contextlib.contextmanager
def prepared(release: Release, sample: str) -> Iterator[Prepared]:
    """What *sample* says that must be there already."""
    found = Prepared(release=release)
    with _PREPARE.get(sample, contextlib.nullcontext)(found):
        yield found


@contextlib.contextmanager
def _air_gapped(found: Prepared) -> Iterator[None]:
    """The model in S3, and an authority. S3 speaks HTTP here, so the authority is not asked."""
    release = found.release
    for path in demo.MODEL.iterdir():
        name = f"models/{_MODEL}/{path.name}"
        release.s3.fput_object(bucket_name=release.bucket, object_name=name, file_path=str(path))
    authority = {"ca.crt": trustme.CA().cert_pem.bytes().decode()}
    _make(release, "ConfigMap", "s3-ca", data=authority)
    yield


@contextlib.contextmanager
def _external_s3(found: Prepared) -> Iterator[None]:
    """The ServiceAccount of jobs, nodes with the sample's label, and a volume of its StorageClass."""
    release = found.release
    _make(release, "ServiceAccount", "stenofleet-jobs")
    volume = f"persistentvolume/stenofleet-models-{release.namespace}"
    release.cluster.kubectl("patch", volume, "--patch", '{"spec": {"storageClassName": "efs"}}')
    nodes = [f"node-{number}" for number in range(1, NODES + 1)]
    release.cluster.kubectl("label", "node", *nodes, f"{_LABEL}=g6.xlarge")
    try:
        yield
    finally:
        release.cluster.kubectl("label", "node", *nodes, f"{_LABEL}-")


@contextlib.contextmanager
def _kueue(found: Prepared) -> Iterator[None]:
    """The priority of its jobs. In place of Kueue, all Jobs of its queue are admitted as they come."""
    release, over = found.release, threading.Event()
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch-low"}}
    release.cluster.apply("default", priority | {"value": -10})

    def admit() -> None:
        while not over.wait(0.3):
            for job in release.get("jobs", "-l", f"{_QUEUE}=speech")["items"]:
                if job["spec"].get("suspend"):
                    name = str(job["metadata"]["name"])
                    found.admitted.append(name)
                    release.kubectl("patch", "job", name, "--patch", '{"spec": {"suspend": false}}')

    thread = threading.Thread(target=admit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        release.cluster.kubectl("delete", "priorityclass", "batch-low")


@contextlib.contextmanager
def _two_tenants(found: Prepared) -> Iterator[None]:
    """The Secrets with tenants, with a key of webhooks, and with a token for ``helm test``."""
    found.tokens |= {name: new_token() for name in ("news", "archive")}
    file = "\n".join(f'[tenants.{name}]\ntokens = ["{written_digest(token)}"]' for name, token in found.tokens.items())
    keys = 'current = "one"\n[keys]\none = "0123456789abcdef0123456789abcdef"\n'
    for name, key, value in (
        ("speech-tenants", "tenants.toml", file),
        ("speech-webhooks", "webhook-keys.toml", keys),
        ("speech-test", "token", found.tokens["news"]),
    ):
        _make(found.release, "Secret", name, stringData={key: value})
    yield


def _make(release: Release, kind: str, name: str, **fields: Any) -> None:
    release.cluster.apply(release.namespace, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields})


_PREPARE = {"air-gapped": _air_gapped, "external-s3": _external_s3, "kueue": _kueue, "two-tenants": _two_tenants}
