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
from controller.domain.written_output import MOST_VERSIONS, Written, WrittenOutput


class WrittenFiles:
    """What was written to each output: one document for all its formats."""

    def __init__(self, home: Path | None, shared: Store | None = None) -> None:
        """*home* is the state folder of this user; None: there is none.

        *shared*: a store that other machines use too, so that they recognize what this one writes.
        """
        own: list[Store] = [FileStore(home / ".local")] if home else []
        self._stores = [*own, *([shared] if shared else [])]

    def find(self, base: str) -> Written:
        """Return the digests of each file of this output, in any of the places, and their recordings.

        Raises :class:`StoreUnavailable` for a store of several machines.
        """
        sha256: dict[Format, tuple[str, ...]] = {}
        recordings: dict[str, str] = {}
        for one in self._found(base):
            sha256 |= {extension: (*sha256.get(extension, ()), *digests) for extension, digests in one.sha256.items()}
            recordings |= one.recordings
        return Written(sha256=sha256, recordings=recordings)

    def add(self, base: str, sha256: Mapping[Format, str], *, recording: str | None) -> None:
        """Add digests that are about to be written.

        If they cannot be stored, the files count as another program's next time, and are kept.
        """
        for store, before in zip(self._stores, self._found(base), strict=True):
            digests = dict(before.sha256)
            for extension, digest in sha256.items():
                others = (known for known in digests.get(extension, ()) if known != digest)
                digests[extension] = (digest, *others)[:MOST_VERSIONS]
            of_file = before.recordings | (dict.fromkeys(sha256.values(), recording) if recording else {})
            listed = {digest for versions in digests.values() for digest in versions}
            recordings = {digest: of_file[digest] for digest in sorted(listed & of_file.keys())}
            after = WrittenOutput(base=base, sha256=digests, recordings=recordings)
            if after != before:
                with contextlib.suppress(JobError):
                    store.put(written_key(base), after.encode())

    def _found(self, base: str) -> Iterator[WrittenOutput]:
        """What each of the places has."""
        for store in self._stores:
            # A store of this machine that cannot be read only costs the comparison; for another one, a command waits.
            try:
                found = WrittenOutput.decode(store.get(written_key(base), max_bytes=WrittenOutput.max_bytes))
            except JobError as error:
                if store.remote and isinstance(error, StoreUnavailable):
                    raise
                yield WrittenOutput(base=base, sha256={})
            else:
                yield found if found.base == base else WrittenOutput(base=base, sha256={})
