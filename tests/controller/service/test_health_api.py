"""``/healthz`` and ``/readyz`` while the store does not answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.service import app
from tests.controller.service.running import running

pytestmark = pytest.mark.process


class Slow(FileStore):
    """A store that answers questions about objects when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Semaphore(0)

    def stat(self, key: str) -> StoredObject | None:
        self.asked.release()
        assert self.answers.wait(20)
        return super().stat(key)


def test_a_process_is_alive_though_all_its_threads_wait_for_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "THREADS", 4)
    store = Slow(tmp_path / "store")
    with running(store) as service, ThreadPoolExecutor(7) as clients:
        assert service.client.get("/readyz").status_code == 200
        store.answers.clear()
        waiting = [clients.submit(service.client.get, "/readyz") for _ in range(5)]
        for _ in range(4):
            assert store.asked.acquire(timeout=20)
        answer = clients.submit(service.client.get, "/healthz")
        refused = clients.submit(service.client.get, "/v1/runs", headers={"Origin": "http://evil.example"})
        try:
            assert answer.result(timeout=60).text == "ok\n"
            # Who makes a request is found without a thread.
            assert refused.result(timeout=60).status_code == 403
        finally:
            store.answers.set()
        assert {one.result().status_code for one in waiting} == {200}
