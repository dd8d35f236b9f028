"""The guard of unit tests: no socket, no process. Tests marked process, s3, model, page, cluster or soak are exempt."""

import _posixsubprocess
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import urllib3  # noqa: F401 (it opens a socket when it is imported; that is not a violation by a test)
from hypothesis import settings

from chunk_job.store.files import FileStore
from tests.testbed import cluster as testbed
from tests.testbed.cluster import Cluster

MARKERS = pytest.StashKey[dict[str, frozenset[str]]]()
"""The markers of every collected test, by its name, also of those that are not selected: see test_targets.py."""

EXEMPT = ("process", "s3", "model", "page", "cluster", "soak")
_FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")

# Also where a CI system runs the tests, commands write as for a person, unless a test says otherwise.
for _name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI"):
    os.environ.pop(_name, None)

# A test must fail only because the code changed, so every run uses the same examples.
settings.register_profile("scene", deadline=None, derandomize=True)
settings.load_profile("scene")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember the markers of all tests before ``-m`` removes some."""
    config.stash[MARKERS] = {item.nodeid: frozenset(mark.name for mark in item.iter_markers()) for item in items}


def pytest_collection_finish() -> None:
    """Leave the collected tests out of every later garbage collection: they are millions of objects, and they stay."""
    gc.collect()
    gc.freeze()


class Guard:
    """Records violations. A violation raises past ``except Exception``, and is recorded where even that is caught."""

    def __init__(self) -> None:
        self.active = False
        self.violations: list[str] = []

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.active and event.startswith(_FORBIDDEN):
            self.refuse(event)

    def refuse(self, what: str) -> NoReturn:
        self.violations.append(what)
        pytest.fail(f"a unit test used {what}: mark it process if it needs that")


# An audit hook cannot be removed: there is one for the whole process, inactive while the guard is.
_GUARD = Guard()
sys.addaudithook(_GUARD.audit)


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[Guard]:
    if any(request.node.get_closest_marker(mark) for mark in EXEMPT):
        yield _GUARD
        return
    with pytest.MonkeyPatch.context() as patch:
        # multiprocessing starts its processes here, without an audit event.
        patch.setattr(_posixsubprocess, "fork_exec", lambda *_: _GUARD.refuse("fork_exec"))
        _GUARD.violations, _GUARD.active = [], True
        try:
            yield _GUARD
        finally:
            _GUARD.active = False
    assert not _GUARD.violations, f"a unit test used {', '.join(_GUARD.violations)}"


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can see a power cut, and waiting for the disk takes longer than many tests. Processes still wait."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Kubernetes cluster: one for the whole session. Waits until another session has ended its own."""
    with testbed.cluster() as up:
        yield up
