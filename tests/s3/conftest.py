"""A real S3 server for each worker, and a bucket for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3 import HTTPConnectionPool

from chunk_job.store import s3_client
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from tests.reference import shared, talk, tape, undisturbed, wanted
from tests.testbed import proxy as proxies
from tests.testbed import s3_server
from tests.testbed.fixtures import bucket, environment, server
from tests.testbed.s3_server import OwnServer, Server

__all__ = ["bucket", "environment", "server", "shared", "talk", "tape", "undisturbed", "wanted"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.s3)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[OwnServer]:
    """A server that the test may kill."""
    if s3_server.given():
        pytest.skip("kills its server, and the given one is not ours to kill")
    with s3_server.own(tmp_path / "minio") as own:
        yield own


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries: tests of retries run faster."""
    monkeypatch.setattr(s3_client, "jittered", lambda _: 0.01)


@pytest.fixture
def store(environment: pytest.MonkeyPatch, bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests of this process, as they are sent: method and address."""
    sent: list[str] = []
    urlopen = HTTPConnectionPool.urlopen

    def counted(pool: HTTPConnectionPool, method: str, url: str, *rest: Any, **more: Any) -> Any:
        sent.append(f"{method} {url}")
        return urlopen(pool, method, url, *rest, **more)

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", counted)
    return sent


@pytest.fixture
def proxy(server: Server, environment: pytest.MonkeyPatch) -> Iterator[proxies.Proxy]:
    """A proxy between the store and its server."""
    with proxies.proxied(server.address) as proxy:
        environment.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy
