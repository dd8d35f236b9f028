"""What was asked for on this machine, run by run: where recordings lie, where transcripts go.

Touches: the state folder. Whoever may write to a bucket may write a run's ``request.json``, so a command that is given
a run's id alone takes these from here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.domain.documents import LocalRequest


class LocalRequests:
    """The requests of this machine's commands, one document a run and store."""

    def __init__(self, home: Path | None) -> None:
        """*home* is the state folder of this user; None: there is none, and nothing is remembered."""
        self._store = FileStore(home / ".local" / "requests") if home else None

    def keep(self, request: LocalRequest) -> str:
        """Remember it. Where that cannot be done, why not: the run can then be resumed by its whole command alone."""
        if self._store is None:
            return "this user has no home folder"
        try:
            self._store.put(_key(request.store, request.run), request.encode())
        except JobError as error:
            return error.summary
        return ""

    def find(self, store_url: str, run: str) -> LocalRequest | None:
        """What was asked of *run* in this store; None where nothing was, or not from here."""
        if self._store is None:
            return None
        key = _key(store_url, run)
        try:
            found = LocalRequest.decode(self._store.get(key, max_bytes=LocalRequest.max_bytes))
        except JobError:
            return None
        return found if (found.store, found.run) == (store_url, run) else None

    def remove(self, store_url: str, run: str) -> None:
        """Remove it."""
        if self._store is None:
            return
        with contextlib.suppress(JobError):
            self._store.delete(_key(store_url, run))


def _key(store_url: str, run: str) -> str:
    return f"{sha256_hex(store_url.encode(errors='surrogateescape'))[:16]}/{run}.json"
