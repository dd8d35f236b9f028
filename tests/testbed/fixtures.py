"""The S3 server of a test session as fixtures: conftest files that need one import them from here."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import s3_server
from tests.testbed.s3_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The given server, or one of our own."""
    if given := s3_server.given():
        yield given
        return
    with s3_server.own(tmp_path_factory.mktemp("minio")) as own:
        yield own


@pytest.fixture
def bucket(server: Server) -> Iterator[str]:
    with server.bucket() as name:
        yield name


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The AWS variables of the server, nothing else of AWS, and no AWS files."""
    for name in os.environ:
        if name.startswith("AWS_") or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    return monkeypatch
