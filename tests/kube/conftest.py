"""An API server for every test here: the one in memory, and the real one when a cluster is requested."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.leadership import kubernetes_lease as lease
from controller.leadership.kubernetes_lease import KubernetesLeases
from controller.runners.kubernetes.api import Api, Reply, connect
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import Owner, job_document
from tests.kube import cases
from tests.kube.kubelet import Kubelet
from tests.kube.server import FakeApi, Server
from tests.kube.wire import Object
from tests.testbed.cluster import Cluster

_PATIENCE_S = 60.0
_STEP_S = 0.1
OTHER_RUN = "f" * 16


class ApiNamespace:
    """A namespace of a real API server, with the operations of a test."""

    def __init__(self, api: Api, cluster: Cluster | None = None) -> None:
        self.api = api
        self._cluster = cluster
        self.leases: list[KubernetesLeases] = []
        """Leases that are renewed while time passes; in a real namespace their thread does it."""

    @property
    def options(self) -> JobOptions:
        """Options for Jobs whose pods fit no node."""
        return replace(cases.OPTIONS, namespace=self.api.namespace, node_selector={"stenofleet.io/test": "nowhere"})

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def set_quota(self, jobs: int) -> None:
        """Limit the number of Jobs."""
        assert self._cluster
        spec = {"hard": {"count/jobs.batch": str(jobs)}}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": spec}
        self._cluster.apply(self.api.namespace, quota)

    def expire_history(self) -> str:
        """A version that is too old for a watch."""
        assert self._cluster
        # It keeps its history for minutes, unless it is restarted.
        self._cluster.kill("apiserver")
        self._cluster.start("apiserver")
        self._cluster.wait_for_api()
        return "1"

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Let time pass until *condition* is true."""
        for _ in range(round(_PATIENCE_S / _STEP_S)):
            if condition():
                return
            self.pause(_STEP_S)
        pytest.fail(f"it never came to it: {what}")

    def lease(self, name: str = "lease", **labels: str) -> Object:
        """A new Lease."""
        meta = {"name": name, "namespace": self.api.namespace, "labels": labels}
        return self.api.create(
            "leases", {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": {}}
        )

    def job(self, owner: Object, span: int = 0, *, run: str = cases.RUN) -> Object:
        """A new Job that belongs to a Lease."""
        whose = Owner(name=owner["metadata"]["name"], uid=owner["metadata"]["uid"])
        return self.api.create("jobs", job_document(replace(cases.chunk(span), run=run), self.options, whose))

    def names(self, kind: Any, **query: str) -> list[str]:
        """The names of all objects of a kind, at this moment."""
        return sorted(str(item["metadata"]["name"]) for item in self.api.find(kind, exact=True, **query)["items"])


class FakeNamespace(ApiNamespace):
    """A namespace in memory, where time passes at once."""

    def __init__(self, server: Server) -> None:
        super().__init__(FakeApi(server))
        self.server = server
        self.kubelet = Kubelet(server)
        self._renewed_s = 0.0

    def pause(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / _STEP_S))):
            self.server.clock.sleep(_STEP_S)
            self.kubelet.tick()
            if self.server.clock.s - self._renewed_s >= lease.RENEW_S:
                self._renewed_s = self.server.clock.s
                for one in self.leases:
                    one._renew_all()

    def set_quota(self, jobs: int) -> None:
        self.server.quota = jobs

    def expire_history(self) -> str:
        self.server.compact()
        return "1"


@pytest.fixture(params=["memory", pytest.param("real", marks=[pytest.mark.cluster, pytest.mark.timeout(600)])])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiNamespace]:
    if request.param == "memory":
        yield FakeNamespace(Server())
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with cluster.namespace("api") as namespace:
        yield ApiNamespace(connect(namespace=namespace), cluster)


@pytest.fixture
def fake() -> FakeNamespace:
    """A server in memory, for faults that a real server cannot produce on request."""
    return FakeNamespace(Server())


def status_of(ask: Callable[[], object]) -> tuple[int, str]:
    """Status and reason of a request that is refused."""
    with pytest.raises(Reply) as refused:
        ask()
    return int(refused.value.status), refused.value.reason
