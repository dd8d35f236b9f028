"""The second store of the store suite, on a real S3 server (marker s3)."""

import pytest

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from tests.testbed.fixtures import bucket, environment, server

__all__ = ["bucket", "environment", "server"]


@pytest.fixture
def s3_store(environment: pytest.MonkeyPatch, bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")
