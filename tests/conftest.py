"""The fence around unit tests: no socket, no process. Tests marked process, s3, cluster or soak are outside of it."""

import _posixsubprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import urllib3  # noqa: F401 (it tries a socket when it is loaded, which is no test's doing)
from hypothesis import settings

from chunk_job.store.files import FileStore
from tests.testbed import cluster as testbed
from tests.testbed.cluster import Cluster

OUTSIDE = ("process", "s3", "cluster", "soak")
_FENCED = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")

# A red test must mean that the code changed, so every run tries the same examples.
settings.register_profile("scene", deadline=None, derandomize=True)
settings.load_profile("scene")


class Fence:
    """Who tried to get out. A breach raises past ``except Exception``, and is remembered where even that is caught."""

    def __init__(self) -> None:
        self.up = False
        self.breaches: list[str] = []

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.up and event.startswith(_FENCED):
            self.refuse(event)

    def refuse(self, what: str) -> NoReturn:
        self.breaches.append(what)
        pytest.fail(f"a unit test reached for {what}: mark it process if it has to")


# An audit hook cannot be taken back: one for the whole process, asleep while the fence is down.
_FENCE = Fence()
sys.addaudithook(_FENCE.audit)


@pytest.fixture(autouse=True)
def fence(request: pytest.FixtureRequest) -> Iterator[Fence]:
    if any(request.node.get_closest_marker(mark) for mark in OUTSIDE):
        yield _FENCE
        return
    with pytest.MonkeyPatch.context() as patch:
        # multiprocessing starts its processes here, and no audit event tells.
        patch.setattr(_posixsubprocess, "fork_exec", lambda *_: _FENCE.refuse("fork_exec"))
        _FENCE.breaches, _FENCE.up = [], True
        try:
            yield _FENCE
        finally:
            _FENCE.up = False
    assert not _FENCE.breaches, f"a unit test reached for {', '.join(_FENCE.breaches)}"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Kubernetes cluster: one for the whole session, after another session's."""
    with testbed.cluster() as up:
        yield up
