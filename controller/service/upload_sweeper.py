"""Deletes what is left of uploads that were not completed in time.

Touches: the store, a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from chunk_job.errors import JobError
from controller.service.uploads import UploadStore

FIRST_S, EVERY_S = 60.0, 600.0

_LOG = logging.getLogger(__name__)


class UploadSweeper:
    """Does it every ten minutes, in a thread of its own: deleting may take long."""

    def __init__(self, uploads: UploadStore, is_mine: Callable[[str], bool], now_ms: Callable[[], int]) -> None:
        """*is_mine*: whether this replica is the one that cleans up after the upload with this id."""
        self._uploads = uploads
        self._is_mine = is_mine
        self._now_ms = now_ms
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="uploads", daemon=True)

    def start(self) -> None:
        """Sweep again and again, until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the upload that is being deleted."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def sweep(self) -> None:
        """Delete what no client can complete any more. Raises what the store raises."""
        for entry in self._uploads.over(now_ms=self._now_ms()):
            if self._closed.is_set():
                return
            if self._is_mine(entry.upload):
                self._uploads.clean(entry)

    def _keep(self) -> None:
        pause_s = FIRST_S
        while not self._closed.wait(pause_s):
            pause_s = EVERY_S
            try:
                self.sweep()
            except JobError as error:
                _LOG.warning("old uploads could not be deleted: %s", error.summary)
            except Exception:  # noqa: BLE001 (without this thread they are never deleted)
                _LOG.exception("old uploads could not be deleted")
