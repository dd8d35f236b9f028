"""Every test here runs on a folder (``make test-hostile``), and on a real MinIO (``make test-s3``)."""

from pathlib import Path

import pytest

from chunk_job.contract import Language
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from chunk_job.store.open_store import open_store
from controller.domain.documents import Evidence, LeaseRecord
from tests import fakes
from tests.tamper.scene import DOCUMENTS, KEYS, OTHER, Scene
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


@pytest.fixture
def whole(scene: Scene) -> dict[str, bytes]:
    """A complete run with one failed attempt, and another complete run."""
    scene.command(scene.run_request(), scene.run_request(fakes.record(OTHER.run)))
    objects = scene.objects()
    evidence = Evidence(
        run=fakes.RUN, round="0000cafe", span=1, attempt=1, failure="NATIVE_CRASH", summary="", advice="", details=(),
        ended_ms=1,
    )  # fmt: skip
    language = Language(language="pt", probability=0.5, speech_ms=1, span=1)
    objects[KEYS.failure(1, 1, "0000cafe")] = evidence.encode()
    objects[KEYS.language] = language.encode()
    objects[KEYS.language_candidate(1)] = language.encode()
    objects[KEYS.lease] = LeaseRecord(run=fakes.RUN, owner="0" * 16, lock_domain="here", renew_count=1).encode()
    assert objects.keys() >= DOCUMENTS.keys()
    return objects
