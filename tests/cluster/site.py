"""A namespace with the objects that a run needs, a bucket, and the command line configured for both."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chunk_job import crashpoint
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.domain.documents import Evidence
from controller.domain.keys import RunKeys, parse_result
from controller.runners.kubernetes.labels import CHUNK, RUN
from tests import pipeline
from tests.testbed.cluster import Cluster

GPU = "nvidia.com/gpu"
RENDEZVOUS = "/tmp/here"


def held(chunk: int) -> tuple[str, ...]:
    """Options that hold the first job of *chunk* while RENDEZVOUS exists, so that a test can act meanwhile."""
    return ("--job-env", f"{crashpoint.VARIABLE}=chunk.loaded.{chunk:05d}.a1=hold:{RENDEZVOUS}")


PATIENCE_S = 240.0
"""Seconds. Kubernetes backs off for up to half a minute, for example until it sees that a quota is free again."""

_PAUSE_S = 0.25
"""Every question to the cluster is a process, which takes the CPU that pods need: not more of them than necessary."""


def until(condition: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait for *condition* of the cluster; fails with *what* when it does not become true."""
    pipeline.until(condition, what, patience_s=patience_s, pause_s=_PAUSE_S)


CUT = ("--chunk-duration", "20", "--chunking-threshold", "0")
"""Three chunks of the reference recording."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """The product's images, on every node, and the path of the demonstration model in that of the chunk job."""

    controller: str
    chunk_job: str
    model: str


@dataclass(kw_only=True)
class Site:
    """The namespace and bucket of one test on the cluster."""

    cluster: Cluster
    images: Images
    namespace: str
    bucket: str
    workplace: pipeline.Workplace

    @property
    def options(self) -> tuple[str, ...]:
        """The options of every command on this cluster: jobs work on a CPU and hold a GPU meanwhile."""
        return (
            *("--runner", "kubernetes", "--namespace", self.namespace, "--image-pull-policy", "Never"),
            *("--chunk-image", self.images.chunk_job, "--intake-image", self.images.controller),
            *("--model", self.images.model, "--device", "cpu", "--gpus", "1", "--threads", "1", "--job-memory", "500"),
        )

    @property
    def cluster_options(self) -> tuple[str, ...]:
        """The options of commands that only read or clean up."""
        return ("--runner", "kubernetes", "--namespace", self.namespace)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.cluster.s3.environment,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "STENOFLEET_STORE": f"s3://{self.bucket}/store",
        }

    @property
    def store(self) -> Store:
        return open_store(f"s3://{self.bucket}/store")

    def store_of(self, prefix: str) -> Store:
        """A store with another prefix in the same bucket."""
        return open_store(f"s3://{self.bucket}/{prefix}")

    def start(self, media: str | Path, *arguments: str, **how: Any) -> pipeline.Started:
        """Start a run of *media* into the workplace's output folder."""
        command = ("transcribe", media, "-o", self.workplace.out, *CUT, *self.options, *arguments)
        return self.workplace.start(*command, env=self.environment | how.pop("env", {}), **how)

    def run(self, media: str | Path, *arguments: str, **how: Any) -> pipeline.Ended:
        return self.start(media, *arguments, **how).ended(patience_s=PATIENCE_S)

    def ask(self, *command: str, env: Mapping[str, str] | None = None) -> pipeline.Ended:
        """Run another command on this store."""
        return self.workplace.run(*command, env=self.environment | dict(env or {}))

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments)

    def found(self, kind: str, *, chunk: int | None = None) -> list[dict[str, Any]]:
        """All our objects of a kind, or those of one chunk."""
        selector = RUN if chunk is None else f"{RUN},{CHUNK}={chunk:05d}"
        items: list[dict[str, Any]] = self.cluster.get("--namespace", self.namespace, kind, "-l", selector)["items"]
        return items

    def kubeconfig_of(self, account: str) -> Path:
        """A kubeconfig for a ServiceAccount of this namespace."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--output", "json"))
        for user in config["users"]:
            user["user"] = {"token": self.kubectl("create", "token", account).strip()}
        path = self.workplace.folder / f"{account}.kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, what)

    def running(self, chunk: int) -> str:
        """Wait until this chunk's job runs in its container; the pod's name."""
        names: list[str] = []

        def runs() -> bool:
            names[:] = [
                str(pod["metadata"]["name"])
                for pod in self.found("pods", chunk=chunk)
                for status in pod["status"].get("containerStatuses", ())
                if "running" in status["state"] and not pod["metadata"].get("deletionTimestamp")
            ]
            return bool(names)

        self.until(runs, f"chunk {chunk} runs")
        return names[0]

    def go_on(self, pod: str) -> None:
        """Release the job in *pod* when it has reached the crash point that holds it."""

        def removed() -> bool:
            with contextlib.suppress(RuntimeError):
                self.kubectl("exec", pod, "--", "rm", RENDEZVOUS)
                return True
            return False

        self.until(removed, f"{pod} is held")

    def let_go(self, chunk: int) -> None:
        """Delete the pod of a chunk's job, which a crash point holds: its next attempt is not held."""
        self.kubectl("delete", "pod", self.running(chunk), "--wait=false")

    def keys(self) -> RunKeys:
        (run,) = {entry.key.split("/")[1] for entry in self.store.list("runs/")}
        return RunKeys(run)

    def results(self) -> dict[str, float]:
        """Every result with its time, which shows results that were computed twice."""
        return {
            entry.key: entry.modified_s for entry in self.store.list(self.keys().results) if parse_result(entry.key)
        }

    def failures(self) -> list[tuple[int | None, int, str]]:
        """Span, attempt and class of every failure."""
        store = self.store
        found = [Evidence.decode(store.get(entry.key)) for entry in store.list(self.keys().failures)]
        return [(item.span, item.attempt, item.failure) for item in sorted(found, key=lambda item: item.ended_ms)]

    def empty(self) -> bool:
        """Whether none of our objects is left."""
        return not any(self.found(kind) for kind in ("jobs", "leases"))


@pytest.fixture
def site(cluster: Cluster, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in cluster.s3.environment.items():
        monkeypatch.setenv(name, value)
    with cluster.s3.bucket() as bucket, cluster.namespace("run") as namespace:
        secret = {"AWS_ACCESS_KEY_ID": cluster.s3.access_key, "AWS_SECRET_ACCESS_KEY": cluster.s3.secret_key}
        cluster.apply(
            namespace,
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stenofleet-s3"}, "stringData": secret},
        )
        workplace = pipeline.Workplace(tmp_path / "workplace")
        yield Site(cluster=cluster, images=images, namespace=namespace, bucket=bucket, workplace=workplace)
        workplace.clear()


def rest(seconds: float) -> None:
    """Wait for a time that the test is about."""
    time.sleep(seconds)
