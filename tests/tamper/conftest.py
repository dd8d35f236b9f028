"""Every test here runs on a folder, and on a real MinIO where one is asked for (``make test-s3``)."""

from pathlib import Path

import pytest

from chunk_job.store import FileStore, Store, open_store
from tests.tamper.scene import Scene
from tests.testbed.fixtures import bucket, environment, server

__all__ = ["bucket", "environment", "server"]


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def s3_store(environment: pytest.MonkeyPatch, bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture(params=[pytest.param("file_store", id="file"), pytest.param("s3_store", id="s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> Store:
    opened: Store = request.getfixturevalue(request.param)
    return opened


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    return Scene(store, tmp_path)
