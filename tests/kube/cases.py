"""Shared by tests of the cluster runner: a clock, a server, a runner that leads, and jobs with pods."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.domain.jobs import Job, JobView
from controller.domain.policy import RetryPolicy
from controller.domain.state import RunState
from controller.leadership import kubernetes_lease as lease
from controller.orchestrator.decide import decide
from controller.runners.kubernetes import runner as runner_module
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.labels import CONTAINER, job_name
from controller.runners.kubernetes.runner import ClusterRunner
from tests import fakes
from tests.kube.server import START, Clock, FakeApi, Server, Stopwatch
from tests.leading import close, cluster_runner, leads

RUN = fakes.RUN
OPTIONS = JobOptions(
    chunk_image="chunk:1", intake_image="intake:1", store_url="s3://bucket/x", version="0", namespace="stenofleet"
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """The clock of the server and of the runner."""
    clock = Stopwatch()
    monkeypatch.setattr(runner_module, "_now_s", lambda: clock.s)
    monkeypatch.setattr(runner_module, "_now_ms", lambda: now_ms(clock))
    return clock


@pytest.fixture
def server(clock: Stopwatch) -> Server:
    return Server(clock)


@pytest.fixture
def runner(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRunner]:
    """It leads the run."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(lease, "RENEW_S", 600)
    here = fakes.FakeRunner(FileStore(tmp_path), fakes.FakeClock())
    runner = cluster_runner(FakeApi(server), OPTIONS, here=here)
    assert leads(runner.leadership, RUN)
    yield runner
    server.before = lambda request: None
    close(runner, leave=True)


def now_ms(clock: Clock) -> int:
    """Since the epoch."""
    return round(1000 * (START.timestamp() + clock.s))


def chunk(span: int, *, sha256: str = "0" * 64) -> Job:
    return Job(run=RUN, span=span, attempt=1, task_key=f"tasks/{span}", task_sha256=sha256, audio_ms=1_000)


def has_pod(server: Server, job: Job, state: Mapping[str, Any], phase: str) -> None:
    """Give the Job a pod whose container is in that *state*."""
    (document,) = (it for it in server.objects("jobs") if it["metadata"]["name"] == job_name(job))
    uid = document["metadata"]["uid"]
    server.put(
        "pods",
        {
            "metadata": {
                "name": f"{job_name(job)}-x7k2p",
                "labels": document["metadata"]["labels"] | {"batch.kubernetes.io/controller-uid": uid},
                "ownerReferences": [{"uid": uid}],
            },
            "spec": {"nodeName": "node-1"},
            "status": {"phase": phase, "containerStatuses": [{"name": CONTAINER, "state": state}]},
        },
    )


def crashes(server: Server, job: Job) -> None:
    """End the job's pod with an exit code that only its log explains."""
    has_pod(server, job, {"terminated": {"exitCode": 139, "startedAt": server.now()}}, "Failed")
    server.logs[f"{job_name(job)}-x7k2p"] = [f"Fatal Python error: of chunk {job.span}"]


def until(runner: ClusterRunner, there: Callable[[list[JobView]], bool]) -> list[JobView]:
    """Observe repeatedly, as the loop does, until *there* is true for the views: threads read meanwhile."""
    for _ in range(500):
        views = runner.observe()
        if there(views):
            return views
        time.sleep(0.01)
    pytest.fail("it is never seen")


def all_ended(views: list[JobView]) -> bool:
    return all(view.phase == "ended" for view in views)


def decided(*views: JobView, now_ms: int, **more: Any) -> list[Any]:
    """The decisions about these jobs of a run of one-second chunks."""
    state = RunState(
        run=RUN,
        tasks={view.span: 1_000 for view in views if view.span is not None},
        planned=True,
        answered=more.pop("answered", frozenset()),
        evidence=(),
        jobs=views,
        **more,
    )
    return decide(state, now_ms=now_ms, policy=RetryPolicy(), free_slots=9, free_intake_slots=1)
