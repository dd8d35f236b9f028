"""What requests cost, whatever the machine does besides: requests to the store, waits for threads and the network."""

import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chunk_job.store import s3_client
from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.service import app, serving
from controller.service.connections import listening_socket
from controller.service.queue import _REST
from tests.controller.service.running import Running, running
from tests.controller.service.test_attacks import CountingStore
from tests.controller.service.test_queue import Scene
from tests.pipeline import until

pytestmark = pytest.mark.process


@dataclass(kw_only=True)
class Busy:
    """A service with a run in each state, which all have been asked for before."""

    up: Running
    store: CountingStore
    running: str
    queued: str
    ended: str

    def asked(self, path: str, **headers: str) -> list[str]:
        """The requests to the store that a GET makes: what is done, and with what."""
        self.store.requests.clear()
        reply = self.up.client.get(path, headers=headers)
        assert reply.status_code == 200, reply.text
        return [_short(request) for request in self.store.requests]


def _short(request: str) -> str:
    kind, key = request.split(" ")[:2]
    first, *_, last = key.rstrip("/").split("/")
    return f"{kind} {first if first == 'index' else last}"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    store = CountingStore(tmp_path_factory.mktemp("load") / "store")
    with running(store, takes_ms=10**7, max_parallel=1) as up:
        first = up.submit()["id"]
        until(lambda: up.wait_for(first, "queued", "running")["progress"], "its progress is known")
        # One job at once, and a few runs that are ready for the next one.
        others = [up.submit(f"{number}.wav")["id"] for number in range(5)]
        queued, ended = others[-2:]
        up.client.post(f"/v1/runs/{ended}:cancel")
        # The end is visible before everything that follows it is done.
        until(lambda: not [entry for entry in store.list("queue/") if ended in entry.key], "settled")
        up.wait_for(queued, "queued")
        yield Busy(up=up, store=store, running=first, queued=queued, ended=ended)


def test_a_run_is_read_with_four_requests_while_it_runs_three_before_and_two_after(busy: Busy) -> None:
    for run in (busy.running, busy.queued, busy.ended):
        busy.asked(f"/v1/runs/{run}")
    assert busy.asked(f"/v1/runs/{busy.running}") == [
        "open index",
        "stat 001",
        "open end-000.json",
        "open status.json",
    ]
    assert busy.asked(f"/v1/runs/{busy.queued}") == ["open index", "stat 001", "open end-000.json"]
    assert busy.asked(f"/v1/runs/{busy.ended}") == ["open index", "stat 001"]


def test_a_stream_that_is_resumed_costs_one_listing_and_what_is_new(busy: Busy) -> None:
    for run, first in ((busy.running, 3), (busy.queued, 3), (busy.ended, 2)):
        stream = f"/v1/runs/{run}/events?follow=false"
        text = busy.up.client.get(stream).text
        last = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")][-1]
        asked = busy.asked(stream, **{"Last-Event-ID": last})
        # Of one that has ended, the event of its end may still be missing: its entry in the queue shows that.
        settled = [request for request in asked[first:] if run == busy.ended and request.startswith("stat 4-")]
        assert len(settled) == (run == busy.ended)
        assert asked[first:] == [*settled, "list events", *(["open status.json"] if run == busy.running else [])]


def test_a_page_costs_one_listing_and_one_read_of_each_run(busy: Busy) -> None:
    assert busy.asked("/v1/runs?limit=3") == ["list index", *["open index"] * 3]


def test_a_submission_in_a_form_costs_27_requests(busy: Busy) -> None:
    busy.store.requests.clear()
    reply = busy.up.client.post(
        "/v1/runs", files={"file": ("a.wav", b"sound")}, headers={"Idempotency-Key": "the-only-one"}
    )
    assert reply.status_code == 202
    kinds = [request.partition(" ")[0] for request in busy.store.requests]
    assert (kinds.count("list"), len(kinds)) == (3, 27), busy.store.requests


def test_connections_send_what_is_written_at_once() -> None:
    with listening_socket("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_threads_of_a_service_do_not_wait_long_for_the_interpreter(store: FileStore) -> None:
    before_s = sys.getswitchinterval()
    with running(store):
        assert sys.getswitchinterval() == pytest.approx(serving.SWITCH_S)
    assert sys.getswitchinterval() == before_s


def test_the_store_keeps_a_connection_for_each_thread_that_answers_and_more_for_the_loop() -> None:
    assert app.THREADS + 16 <= s3_client.CONNECTIONS


def test_a_queue_that_is_woken_all_the_time_is_not_listed_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, listings = Scene(tmp_path), []
    listed = scene.store.list

    def slow(prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        if prefix == "queue/":
            listings.append(time.monotonic())
            time.sleep(0.05)
        return listed(prefix, after=after)

    monkeypatch.setattr(scene.store, "list", slow)
    ended = threading.Event()
    scene.queue.start()
    while len(listings) < 4 and not ended.wait(0.002):
        scene.queue.wake()
    scene.queue.close()
    pauses_s = [later - sooner for sooner, later in itertools.pairwise(listings)]
    assert min(pauses_s[:3]) >= 0.05 * (1 + _REST) * 0.99
