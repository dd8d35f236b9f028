"""Pods for tests: as restricted as those of the product, with functions that wait for them."""

import time
from collections.abc import Callable
from typing import Any

from tests.testbed.cluster import Cluster

_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, image: str, *command: str, gpus: int = 0, user: int | None = None, **spec: Any) -> dict[str, Any]:
    """A pod with one container ``main``; without *command* the image's own. ``/tmp`` may be written. *user* is for an
    image that names none; *spec* is added to the pod's.
    """
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": list(command),
        "securityContext": _SECURITY | ({} if user is None else {"runAsUser": user}),
        "resources": {"limits": {"nvidia.com/gpu": gpus} if gpus else {}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            **spec,
        },
    }


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for the condition; AssertionError when it does not become true."""
    end_s = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end_s, f"not seen within {seconds} s"
        time.sleep(0.2)


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    return str(cluster.get("pod", name, "--namespace", namespace)["status"]["phase"])


def finished(cluster: Cluster, namespace: str, name: str) -> str:
    """The log of a pod that must succeed."""
    until(lambda: phase(cluster, namespace, name) in {"Succeeded", "Failed"})
    log = cluster.kubectl("logs", name, "--namespace", namespace)
    assert phase(cluster, namespace, name) == "Succeeded", log
    return log
