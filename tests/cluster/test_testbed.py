"""The cluster that the other tests use: its pods, names, GPUs, and components that end and restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import pods, tool_image
from tests.testbed.cluster import GPUS_PER_NODE, NODES, Cluster, OwnCluster
from tests.testbed.control_plane import NODE_GRACE_S
from tests.testbed.pods import finished, phase, until

pytestmark = pytest.mark.alone


def shell(name: str, script: str, **how: Any) -> dict[str, Any]:
    return pods.pod(name, tool_image.NAME, "sh", "-c", script, user=10001, **how)


def ready(cluster: Cluster, node: str) -> str:
    conditions = cluster.get("node", node)["status"]["conditions"]
    return str(next(one["status"] for one in conditions if one["type"] == "Ready"))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("testbed") as name:
        yield name


@pytest.fixture
def own(cluster: Cluster) -> Cluster:
    if not cluster.own:
        pytest.skip("asks how our own cluster is made, and KUBECONFIG names another")
    return cluster


def test_nodes_are_ready_and_advertise_their_gpus(own: Cluster) -> None:
    nodes = own.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == [f"node-{number}" for number in range(1, NODES + 1)]
    assert {node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes} == {str(GPUS_PER_NODE)}
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {"v1.35.4"}


def test_a_restricted_pod_runs_and_its_log_is_read(own: Cluster, namespace: str) -> None:
    own.apply(namespace, shell("speaks", "id -u; echo done"))
    assert finished(own, namespace, "speaks") == "10001\ndone\n"


def test_an_image_that_a_node_removed_is_loaded_again(own: Cluster, tmp_path: Path) -> None:
    assert isinstance(own, OwnCluster)
    archive = tool_image.write_archive(tmp_path / "tools.tar")
    node = own._nodes[0]

    def images() -> list[str]:
        return node._ctr("images", "list", "--quiet").split()

    before = images()
    own.load(archive)
    assert images() == before
    (known,) = (digest for name, digest in node._loaded().items() if name == tool_image.NAME)
    # As a kubelet does when the disk is full.
    node._ctr("images", "remove", tool_image.NAME, f"sha256:{known.removesuffix('.json')}")
    assert tool_image.NAME not in images()
    own.load(archive)
    assert tool_image.NAME in images()


def test_pods_of_one_gpu_fill_all_nodes_and_no_more(own: Cluster, namespace: str) -> None:
    names = [f"gpu-{number}" for number in range(NODES * GPUS_PER_NODE + 1)]
    own.apply(namespace, *(shell(name, "sleep 600", gpus=1) for name in names))

    def running() -> list[dict[str, Any]]:
        found = own.get("pods", "--namespace", namespace)["items"]
        return [one for one in found if one["status"]["phase"] == "Running"]

    until(lambda: len(running()) == NODES * GPUS_PER_NODE)
    assert {one["spec"]["nodeName"] for one in running()} == {f"node-{number}" for number in range(1, NODES + 1)}
    (left,) = {one["metadata"]["name"] for one in own.get("pods", "-n", namespace)["items"]} - {
        one["metadata"]["name"] for one in running()
    }
    (condition,) = own.get("pod", left, "--namespace", namespace)["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in condition["message"]


@pytest.mark.parametrize("client_node", ["node-1", "node-2"])
def test_a_pod_is_reached_from_every_node_by_its_service_s_name(own: Cluster, namespace: str, client_node: str) -> None:
    server = shell("server", "while true; do echo hello | nc -l -p 8080; done", nodeName="node-1")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "greeter"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    client = shell("client", f"until nc greeter.{namespace} 80 2>/dev/null; do sleep 0.3; done", nodeName=client_node)
    own.apply(namespace, server, service, client)
    assert finished(own, namespace, "client") == "hello\n"


def test_s3_has_one_endpoint_for_pods_and_for_this_machine(cluster: Cluster, namespace: str) -> None:
    cluster.apply(namespace, shell("asks", f"wget -q -S -O - {cluster.s3.endpoint}/minio/health/live 2>&1"))
    assert "200 OK" in finished(cluster, namespace, "asks")
    with cluster.s3.bucket() as bucket:
        assert cluster.s3.client().bucket_exists(bucket_name=bucket)


def test_a_pod_finds_the_api_server_and_has_a_token_for_it(own: Cluster, namespace: str) -> None:
    # busybox has no modern TLS: the server answers plain HTTP with an error message, which is enough here.
    script = (
        "test -s /var/run/secrets/kubernetes.io/serviceaccount/token"
        " && { printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 2; } | nc kubernetes.default.svc 443"
    )
    own.apply(namespace, shell("asks", script))
    assert "Client sent an HTTP request to an HTTPS server" in finished(own, namespace, "asks")


def test_a_command_runs_in_a_pod(own: Cluster, namespace: str) -> None:
    own.apply(namespace, shell("waits", "sleep 600"))
    until(lambda: phase(own, namespace, "waits") == "Running")
    assert own.kubectl("exec", "waits", "--namespace", namespace, "--", "sh", "-c", "echo in here") == "in here\n"


def test_a_pod_that_is_not_restricted_is_refused(cluster: Cluster, namespace: str) -> None:
    loose = shell("loose", "true")
    del loose["spec"]["containers"][0]["securityContext"]["seccompProfile"]
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        cluster.apply(namespace, loose)


def test_too_much_memory_ends_a_container_as_oom_killed(own: Cluster, namespace: str) -> None:
    greedy = shell("greedy", 'x=a; while true; do x="$x$x"; done')
    greedy["spec"]["containers"][0]["resources"] = {"limits": {"memory": "32Mi"}}
    own.apply(namespace, greedy)
    until(lambda: phase(own, namespace, "greedy") == "Failed")
    (status,) = own.get("pod", "greedy", "--namespace", namespace)["status"]["containerStatuses"]
    assert (status["state"]["terminated"]["reason"], status["state"]["terminated"]["exitCode"]) == ("OOMKilled", 137)


def test_the_api_server_restarts_while_pods_keep_running(cluster: Cluster, namespace: str) -> None:
    cluster.apply(namespace, shell("waits", "sleep 600"))
    until(lambda: phase(cluster, namespace, "waits") == "Running")
    cluster.kill("apiserver")
    with pytest.raises(RuntimeError, match="refused"):
        cluster.kubectl("get", "nodes")
    cluster.start("apiserver")
    cluster.wait_for_api()
    assert phase(cluster, namespace, "waits") == "Running"


def test_a_silent_node_becomes_not_ready_and_returns_with_its_gpus(cluster: Cluster) -> None:
    cluster.kill("kubelet-2")
    cluster.kill("containerd-2")
    until(lambda: ready(cluster, "node-2") == "Unknown", NODE_GRACE_S + 30)
    cluster.start("containerd-2")
    cluster.start("kubelet-2")
    until(lambda: ready(cluster, "node-2") == "True")
    assert cluster.get("node", "node-2")["status"]["allocatable"]["nvidia.com/gpu"] == str(GPUS_PER_NODE)


def test_s3_restarts_with_its_objects(cluster: Cluster) -> None:
    with cluster.s3.bucket() as bucket:
        cluster.kill("minio")
        assert not cluster.s3.serves()
        cluster.start("minio")
        until(cluster.s3.serves)
        assert cluster.s3.client().bucket_exists(bucket_name=bucket)
