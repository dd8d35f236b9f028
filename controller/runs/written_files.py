"""The digests of the output files that commands on this machine wrote, by output.

Touches: the state folder of this user. A file that differs from all of them was changed by a person or another program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.domain.output import Format
from controller.domain.written_output import MOST_VERSIONS, WrittenOutput


class WrittenFiles:
    """What was written to each output: one document for all its formats."""

    def __init__(self, home: Path | None) -> None:
        """*home* is the state folder of this user. None: there is none, and nothing is stored."""
        self._store = FileStore(home / ".local" / "written") if home else None

    def find(self, base: str) -> Mapping[Format, tuple[str, ...]]:
        """Return the digests of each file of this output; empty if none is known."""
        if self._store is None:
            return {}
        try:
            found = WrittenOutput.decode(self._store.get(_key(base), max_bytes=WrittenOutput.max_bytes))
        except JobError:
            return {}
        return found.sha256 if found.base == base else {}

    def add(self, base: str, sha256: Mapping[Format, str]) -> None:
        """Add digests that are about to be written.

        If they cannot be stored, the files count as another program's next time, and are kept.
        """
        before = self.find(base)
        after = dict(before)
        for extension, digest in sha256.items():
            others = (known for known in before.get(extension, ()) if known != digest)
            after[extension] = (digest, *others)[:MOST_VERSIONS]
        if self._store is not None and after != before:
            with contextlib.suppress(JobError):
                self._store.put(_key(base), WrittenOutput(base=base, sha256=after).encode())


def _key(base: str) -> str:
    digest = sha256_hex(base.encode(errors="surrogateescape"))
    return f"{digest[:2]}/{digest[2:32]}.json"
