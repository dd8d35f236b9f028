"""Fixtures for tests on a real cluster with the product's images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.custom import custom
from tests.cluster.deployment import deployment
from tests.cluster.release import release
from tests.cluster.site import Images, site
from tests.reference import shared, talk, tape, undisturbed, wanted
from tests.testbed import images as built
from tests.testbed.cluster import Cluster

__all__ = ["custom", "deployment", "release", "shared", "site", "talk", "tape", "undisturbed", "wanted"]

_PATIENCE_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.cluster)
            if not item.get_closest_marker("timeout"):
                # The first test may wait for the cluster of another session, and loads the images.
                item.add_marker(pytest.mark.timeout(_PATIENCE_S))


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """The product's images, built from these sources and loaded; a given cluster has them under the same names."""
    if cluster.own:
        for target in built.TARGETS:
            cluster.load(built.archive(target))
    return Images(controller=built.name("controller"), chunk_job=built.name("chunk-job"), model=built.DEMO_MODEL)


@pytest.fixture
def lost(cluster: Cluster) -> Iterator[list[str]]:
    """Names of nodes that a test stops; they start again at its end."""
    nodes: list[str] = []
    yield nodes
    for node in nodes:
        cluster.regain(node)
    for node in nodes:
        cluster.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=60s")
