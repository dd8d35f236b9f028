"""A cache of the identities of files that were read on this machine.

Touches: the state folder of this user. A command that gets the same thousand recordings again does not read them again:
a file with the same path, size and times counts as unchanged.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.domain.documents import KnownFile, Source

_UNCHANGED_NS = 2_000_000_000
"""Smallest age of a change: a file may change again within one step of its file system's clock."""


class KnownFiles:
    """The identities of files, one document per path. There are at most 65,536; a new one may replace another."""

    def __init__(self, home: Path | None) -> None:
        """*home* is the state folder of this user. None: there is none, and nothing is stored."""
        self._store = FileStore(home / ".local" / "files") if home else None

    def find(self, path: Path, status: os.stat_result) -> Source | None:
        """The stored source of *path* if the file is unchanged; None if it must be read."""
        if self._store is None:
            return None
        uri = path.absolute().as_uri()
        try:
            known = KnownFile.decode(self._store.get(_key(uri), max_bytes=KnownFile.max_bytes))
        except JobError:
            return None
        return known.source if known == _known(known.source, uri, status) else None

    def keep(self, source: Source, status: os.stat_result, *, now_ns: int) -> None:
        """Store the identity of a file whose *status* was the same before and after it was read.

        If it cannot be stored, the file is just read again next time.
        """
        if self._store is None or not now_ns - max(status.st_mtime_ns, status.st_ctime_ns) > _UNCHANGED_NS:
            return
        with contextlib.suppress(JobError):
            self._store.put(_key(source.uri), _known(source, source.uri, status).encode())


def _known(source: Source, uri: str, status: os.stat_result) -> KnownFile:
    """The document of the file at *uri* with this *status*, whose content *source* identifies."""
    found = {"uri": uri, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return KnownFile(
        source=source.model_copy(update=found),
        device=status.st_dev,
        inode=status.st_ino,
        ctime_ns=status.st_ctime_ns,
    )


def _key(uri: str) -> str:
    digest = sha256_hex(uri.encode())
    return f"{digest[:2]}/{digest[2:4]}.json"
