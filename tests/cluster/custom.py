"""Kinds of other projects that the chart may use: the test cluster takes their objects without knowing their fields."""

from collections.abc import Iterator

import pytest

from tests.testbed.chart import Object
from tests.testbed.cluster import Cluster

CUSTOM = {"ServiceMonitor": ("monitoring.coreos.com", "v1"), "HTTPRoute": ("gateway.networking.k8s.io", "v1")}


def definition(kind: str, group: str, version: str) -> Object:
    """A kind that takes every field."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.lower()}s.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, only for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def custom(cluster: Cluster) -> Iterator[None]:
    """The kinds of other projects, as far as the server must know them."""
    present = {item["metadata"]["name"] for item in cluster.get("crds")["items"]}
    missing = [
        made
        for kind, (group, version) in CUSTOM.items()
        if (made := definition(kind, group, version))["metadata"]["name"] not in present
    ]
    names = [f"crd/{made['metadata']['name']}" for made in missing]
    if missing:
        cluster.apply("default", *missing)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    yield
    if missing:
        cluster.kubectl("delete", *names)
