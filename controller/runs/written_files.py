"""The digests of the output files that commands wrote, by output.

Touches: the state folder of this user, the store. A file that differs from all of them was changed by a person or
another program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.keys import written_key
from controller.domain.output import Format
from controller.domain.written_output import MOST_VERSIONS, WrittenOutput


class WrittenFiles:
    """What was written to each output: one document for all its formats."""

    def __init__(self, home: Path | None, shared: Store | None = None) -> None:
        """*home* is the state folder of this user; None: there is none.

        *shared*: a store that other machines use too, so that they recognize what this one writes.
        """
        own: list[Store] = [FileStore(home / ".local")] if home else []
        self._stores = [*own, *([shared] if shared else [])]

    def find(self, base: str) -> Mapping[Format, tuple[str, ...]]:
        """Return the digests of each file of this output, in any of the places; empty if none is known.

        Raises :class:`StoreUnavailable` for a store of several machines.
        """
        found: dict[Format, tuple[str, ...]] = {}
        for one in self._found(base):
            found |= {extension: (*found.get(extension, ()), *digests) for extension, digests in one.items()}
        return found

    def add(self, base: str, sha256: Mapping[Format, str]) -> None:
        """Add digests that are about to be written.

        If they cannot be stored, the files count as another program's next time, and are kept.
        """
        for store, before in zip(self._stores, self._found(base), strict=True):
            after = dict(before)
            for extension, digest in sha256.items():
                others = (known for known in before.get(extension, ()) if known != digest)
                after[extension] = (digest, *others)[:MOST_VERSIONS]
            if after != before:
                with contextlib.suppress(JobError):
                    store.put(written_key(base), WrittenOutput(base=base, sha256=after).encode())

    def _found(self, base: str) -> Iterator[Mapping[Format, tuple[str, ...]]]:
        """What each of the places has."""
        for store in self._stores:
            # A store of this machine that cannot be read only costs the comparison; for another one, a command waits.
            try:
                found = WrittenOutput.decode(store.get(written_key(base), max_bytes=WrittenOutput.max_bytes))
            except JobError as error:
                if store.remote and isinstance(error, StoreUnavailable):
                    raise
                yield {}
            else:
                yield found.sha256 if found.base == base else {}
