"""The runner on the real API server, poll by poll: its requests, and how it handles deleted objects."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from controller.domain.jobs import Job
from controller.leadership import kubernetes_lease
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.labels import job_name, lease_name
from controller.runners.kubernetes.runner import TICK_S, ClusterRunner
from tests import fakes
from tests.cluster.site import GPU, Site
from tests.leading import close, cluster_runner, leads

RUN = fakes.RUN


class CountingApi(Api):
    """The real client, which counts its requests."""

    def __init__(self, of: Api) -> None:
        super().__init__(of._client, of.namespace)
        self.asked: Counter[tuple[str, str]] = Counter()

    def find(self, kind: Any, *, exact: bool = False, **query: str) -> dict[str, Any]:
        self.asked["find", kind] += 1
        return super().find(kind, exact=exact, **query)

    def create(self, kind: Any, document: Any) -> dict[str, Any]:
        self.asked["create", kind] += 1
        return super().create(kind, document)


@pytest.fixture
def api(site: Site, monkeypatch: pytest.MonkeyPatch) -> CountingApi:
    monkeypatch.setenv("KUBECONFIG", str(site.cluster.kubeconfig))
    return CountingApi(connect(namespace=site.namespace))


@pytest.fixture
def runner(site: Site, api: CountingApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRunner]:
    """It leads the run. Its jobs want more GPUs than a node has, so that no job ever starts."""
    # The Lease is polled only by the test itself.
    monkeypatch.setattr(kubernetes_lease, "RENEW_S", 600)
    monkeypatch.setattr(kubernetes_lease, "DURATION_S", 600)
    options = JobOptions(
        chunk_image=site.images.chunk_job,
        intake_image=site.images.controller,
        store_url=site.store.url,
        version="0",
        namespace=site.namespace,
        gpus=3,
    )
    runner = cluster_runner(api, options, here=fakes.FakeRunner(site.store, fakes.FakeClock()))
    assert leads(runner.leadership, RUN)
    yield runner
    close(runner, leave=True)


def chunk(span: int) -> Job:
    return Job(run=RUN, span=span, attempt=1, task_key=f"tasks/{span}", task_sha256="0" * 64, audio_ms=1_000)


def test_one_list_a_poll_explains_any_number_of_jobs_that_do_not_start(
    site: Site, api: CountingApi, runner: ClusterRunner
) -> None:
    for span in range(5):
        runner.submit(chunk(span))
    time.sleep(2 * TICK_S + 1)
    site.until(lambda: all(view.waits_for for view in runner.observe()), "each reports what it waits for")
    api.asked.clear()
    views = runner.observe()
    assert [view.phase for view in views] == ["queued"] * 5
    assert all("Insufficient nvidia.com/gpu" in view.waits_for for view in views)
    assert all("; see `kubectl describe nodes`; adapt --job-memory" in view.waits_for for view in views)
    assert api.asked == {("find", "jobs"): 1, ("find", "pods"): 1, ("find", "events"): 1}


def test_only_one_of_many_refused_jobs_is_posted_until_it_is_accepted(
    site: Site, api: CountingApi, runner: ClusterRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterRunner, "burst", 2)
    site.kubectl("create", "quota", "gpus", f"--hard=requests.{GPU}=0")
    site.until(lambda: "requests" in site.kubectl("get", "quota", "gpus"), "the quota is there")
    site.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0")
    site.kubectl("wait", "quota/none", "--for=jsonpath={.status.hard}", "--timeout=60s")
    for span in range(5):
        runner.submit(chunk(span))
    views = runner.observe()
    assert len(views) == 5
    assert all("quota" in view.waits_for for view in views)
    assert api.asked["create", "jobs"] == 1
    site.kubectl("delete", "quota", "none")
    site.until(lambda: all(view.uid for view in runner.observe()), "all are taken")
    assert {view.name for view in runner.observe()} == {job_name(chunk(span)) for span in range(5)}


def test_jobs_deleted_with_their_lease_are_a_cancel_and_not_a_failure(
    site: Site, api: CountingApi, runner: ClusterRunner
) -> None:
    runner.submit(chunk(0))
    assert len(runner.observe()) == 1
    assert not runner.leadership.cancelled(RUN)
    site.kubectl("delete", "lease", lease_name(RUN))
    site.until(lambda: not site.found("jobs"), "its jobs are collected")
    assert not runner.leadership.cancelled(RUN), "the Lease was not polled yet"
    runner.observe()
    assert runner.leadership.cancelled(RUN)


def test_a_job_that_is_deleted_alone_is_not_a_cancel(site: Site, api: CountingApi, runner: ClusterRunner) -> None:
    runner.submit(chunk(0))
    site.kubectl("delete", "job", job_name(chunk(0)))
    (view,) = runner.observe()
    assert view.phase == "ended"
    assert view.diagnosis is not None
    assert view.diagnosis.failure == "DISRUPTED.deleted"
    assert not runner.leadership.cancelled(RUN)
