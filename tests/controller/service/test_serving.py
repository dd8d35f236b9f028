"""What a replica says when it begins and when it ends."""

import logging

import pytest

from chunk_job.store.base import StoreDenied
from chunk_job.store.files import FileStore
from tests.controller.service.running import LiveClock, LiveRunner, quick, running, server_of
from tests.pipeline import until

pytestmark = pytest.mark.process


def test_a_store_that_cannot_be_used_is_reported_before_anybody_can_connect(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object, key: str) -> None:
        raise StoreDenied(key, "no key")

    clock = LiveClock()
    server = server_of(store, LiveRunner(store, clock, quick()), clock)  # type: ignore[arg-type]
    monkeypatch.setattr(FileStore, "stat", refused)
    with pytest.raises(StoreDenied):
        server.run()
    assert server.port == 0


def test_runs_that_have_not_ended_are_counted_at_the_end(store: FileStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running(store, takes_ms=10**6) as service:
        service.wait_for(service.submit()["id"], "running")
        until(lambda: service.server.queue.counts.by_tenant == {"default": 1}, "the queue is listed")
    assert "ends: runs that any process with the same --store resumes: 1" in caplog.messages
