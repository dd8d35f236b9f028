"""Deletes what nobody needs any more: of uploads that were not completed or used in time, and of unanswered requests.

Touches: the store, a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from chunk_job.errors import JobError
from controller.service.answers import Answers
from controller.service.uploads import UploadStore

FIRST_S, EVERY_S = 60.0, 600.0

_LOG = logging.getLogger(__name__)


class Sweeper:
    """Does it every ten minutes, in a thread of its own: deleting may take long."""

    def __init__(
        self, uploads: UploadStore, answers: Answers, is_mine: Callable[[str], bool], now_ms: Callable[[], int]
    ) -> None:
        """*is_mine*: whether this replica is the one that cleans up after the upload or the request with this id."""
        self._uploads = uploads
        self._answers = answers
        self._is_mine = is_mine
        self._now_ms = now_ms
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Sweep again and again, until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop after what is being deleted."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def sweep(self) -> None:
        """Delete what no client can complete, use or get any more. What fails is tried again by the next call."""
        self._try(self._sweep_answers)
        self._try(self._sweep_uploads)

    def _sweep_answers(self) -> None:
        for entry in self._answers.over(now_ms=self._now_ms()):
            if self._is_mine(entry.request.id) and not self._closed.is_set():
                self._try(partial(self._answers.clean, entry))

    def _sweep_uploads(self) -> None:
        for entry in self._uploads.over(now_ms=self._now_ms()):
            if self._is_mine(entry.upload) and not self._closed.is_set():
                self._try(partial(self._uploads.clean, entry))

    def _keep(self) -> None:
        pause_s = FIRST_S
        while not self._closed.wait(pause_s):
            pause_s = EVERY_S
            self.sweep()

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except JobError as error:
            _LOG.warning("what is not needed any more could not be deleted: %s", error.summary)
        except Exception:  # noqa: BLE001 (without this thread it is never deleted)
            _LOG.exception("what is not needed any more could not be deleted")
