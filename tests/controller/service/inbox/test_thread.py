"""The thread of all inboxes: which replica looks, and what one inbox lacks is no concern of another."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.service.inbox.noted import Noted
from controller.service.inbox.places import InboxSettings
from controller.service.inbox.thread import InboxThread
from controller.service.metrics import Metrics
from controller.service.tenants import Tenants
from tests.controller.service.running import LiveClock, LiveRunner, quick, server_of, tenants_file

TENANTS = {"news": "", "radio": "max_queued_runs = 1"}


class Replica:
    """The thread of one replica, whose ticks are those of the test."""

    def __init__(self, folder: Path, *, is_mine: Callable[[str], bool] = lambda _: True) -> None:
        self.store = FileStore(folder / "store")
        self.inbox = folder / "in"
        path, _ = tenants_file(folder, **TENANTS)
        clock = LiveClock()
        service = server_of(self.store, LiveRunner(self.store, clock, quick()), clock).app.state.service  # type: ignore[arg-type]
        settings = InboxSettings(inbox=str(self.inbox), outbox=str(folder / "out"), settle_s=0, poll_s=10)
        self.noted = Noted(settings, Tenants(path))
        self.service = dataclasses.replace(service, noted=self.noted)
        self.metrics = Metrics(depths=dict, oldest_wait_s=lambda: 0.0)
        self.now_s = 1_000.0
        self.thread = InboxThread(self.service, is_mine=is_mine, metrics=self.metrics, now_s=lambda: self.now_s)

    def put(self, path: str) -> None:
        file = self.inbox / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"sound")

    def requested(self) -> list[str]:
        """The tenant of each recording that was submitted."""
        return [
            entry.key.split("/")[1] for entry in self.store.list("requests/") if entry.key.endswith("/request.json")
        ]

    def tick(self) -> float:
        self.now_s += 10
        return self.thread.tick()

    def counted(self, name: str, tenant: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"tenant": tenant})


def test_each_inbox_is_looked_into_by_one_replica_and_events_are_followed_by_any(tmp_path: Path) -> None:
    replica = Replica(tmp_path, is_mine=lambda item: item == "inbox/news")
    for tenant in TENANTS:
        replica.put(f"{tenant}/talk.mp3")
    assert replica.tick() == pytest.approx(10)
    assert replica.requested() == ["news"]
    assert replica.counted("stenofleet_inbox_objects", "news") == 1
    assert replica.counted("stenofleet_inbox_submitted_total", "news") == 1
    assert replica.counted("stenofleet_inbox_objects", "radio") is None
    replica.noted.note("radio", "talk.mp3")
    replica.tick()
    assert replica.requested() == ["news", "radio"]


def test_what_one_inbox_lacks_is_no_concern_of_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica(tmp_path)
    replica.put("radio/talk.mp3")
    (replica.inbox / "news").write_text("a file where the inbox should be")
    replica.tick()

    def broken(*_: object) -> bool:
        raise RuntimeError("a bug")

    replica.thread._inboxes["news"].turn = broken  # type: ignore[method-assign]
    replica.put("radio/other.mp3")
    replica.tick()
    replica.tick()
    assert "a bug" in caplog.text
    assert replica.requested() == ["radio"], "the other one waits until the queue has a place"


def test_objects_of_events_wait_while_the_queue_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(tmp_path, is_mine=lambda _: False)
    for number in range(2):
        replica.put(f"radio/{number}.mp3")
        replica.noted.note("radio", f"{number}.mp3")
    assert replica.tick() < 10
    assert len(replica.requested()) == 1
    assert replica.noted.has_paths()
    monkeypatch.setattr(replica.service.queue.counts, "of", lambda _: 0)
    replica.tick()
    assert len(replica.requested()) == 2
    assert not replica.noted.has_paths()
