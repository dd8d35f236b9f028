"""Completes uploads in threads: for a large one, the store copies for longer than a request is kept open.

Touches: the store, threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future

from chunk_job.store.base import ObjectMissing
from controller.domain.service_documents import Upload
from controller.service.problems import Problem, not_found
from controller.service.uploads import UploadStore

_AT_ONCE = 2
"""Uploads of one tenant that one replica completes at the same time."""


class Completions:
    """The uploads that this replica completes now."""

    def __init__(self, uploads: UploadStore, now_ms: Callable[[], int]) -> None:
        self._uploads = uploads
        self._now_ms = now_ms
        self._lock = threading.Lock()
        """Protects both dictionaries."""
        self._running: dict[str, Future[None]] = {}
        """By the id of the upload."""
        self._of_tenant: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))

    def is_running(self, upload: Upload) -> bool:
        """Whether this replica completes *upload* now."""
        with self._lock:
            return upload.id in self._running

    def start(self, upload: Upload) -> Future[None]:
        """Complete *upload* in a thread, unless this is being done. The result has the error, if there is one."""
        with self._lock:
            if found := self._running.get(upload.id):
                return found
            future: Future[None] = Future()
            # A client that goes away must not cancel it for the others.
            future.set_running_or_notify_cancel()
            self._running[upload.id] = future
            turn = self._of_tenant[upload.tenant]
        # A daemon: this process may end meanwhile, and the client then completes the upload by another one.
        threading.Thread(target=self._run, args=(upload, turn, future), name="complete", daemon=True).start()
        return future

    def _run(self, upload: Upload, turn: threading.Semaphore, future: Future[None]) -> None:
        error: BaseException | None = None
        try:
            with turn:
                self._complete(upload)
        except BaseException as raised:  # noqa: BLE001 (whoever waits gets it)
            error = raised
        with self._lock:
            del self._running[upload.id]
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _complete(self, upload: Upload) -> None:
        with contextlib.suppress(ObjectMissing):
            if not self._uploads.missing(upload):
                self._uploads.complete(upload, now_ms=self._now_ms())
                return
        # Another replica may have completed it meanwhile, and deleted the parts.
        now = self._uploads.find(upload.tenant, upload.id)
        if now is None:
            raise not_found("upload")
        if not now.complete:
            raise _parts_missing(len(self._uploads.missing(now)))


def _parts_missing(number: int) -> Problem:
    """Return the problem of an upload without all its parts."""
    what = "1 part is missing" if number == 1 else f"{number} parts are missing"
    return Problem(409, "upload-incomplete", what, "GET the upload: it says where to send them")
