"""The requests that were made on this machine, by run: paths of recordings, and where transcripts are written.

Touches: the state folder. Everyone who can write to a bucket can write a run's ``request.json``. So a command that gets
only a run id reads local paths from here, not from the bucket.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.domain.documents import LocalRequest


class LocalRequests:
    """The requests of this machine's commands: one document for each run and store."""

    def __init__(self, home: Path | None) -> None:
        """*home* is the state folder of this user. None: there is none, and nothing is stored."""
        self._store = FileStore(home / ".local" / "requests") if home else None

    def keep(self, request: LocalRequest) -> str:
        """Store the request. Returns the reason if that failed, else an empty string.

        Without a stored request, the run can only be resumed by its complete command.
        """
        if self._store is None:
            return "this user has no home folder"
        try:
            self._store.put(_key(request.store, request.run), request.encode())
        except JobError as error:
            return error.summary
        return ""

    def find(self, store_url: str, run: str) -> LocalRequest | None:
        """The request for *run* in this store; None if none was made on this machine."""
        if self._store is None:
            return None
        key = _key(store_url, run)
        try:
            found = LocalRequest.decode(self._store.get(key, max_bytes=LocalRequest.max_bytes))
        except JobError:
            return None
        return found if (found.store, found.run) == (store_url, run) else None

    def remove(self, store_url: str, run: str) -> None:
        """Remove the request, if there is one."""
        if self._store is None:
            return
        with contextlib.suppress(JobError):
            self._store.delete(_key(store_url, run))


def _key(store_url: str, run: str) -> str:
    return f"{sha256_hex(store_url.encode(errors='surrogateescape'))[:16]}/{run}.json"
