"""What every store is to its users: the protocol, the entry of a listing, and the failures.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from chunk_job.errors import DocumentInvalid, ExitCode, JobError

MAX_BYTES = 1 << 40
"""What is read of an object where its reader sets no limit of its own."""

_PIECE_BYTES = 1 << 20


class ObjectMissing(JobError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(ExitCode.INPUT_MISSING, f"the store has no object {key}")


class StoreDenied(JobError):
    """The store refuses this identity."""

    def __init__(self, summary: str, advice: str) -> None:
        super().__init__(ExitCode.ACCESS_DENIED, summary, advice)


class StoreUnavailable(JobError):
    """The store cannot serve now: down, slow, or full."""

    exit_code = ExitCode.STORE_UNAVAILABLE

    def __init__(self, summary: str, advice: str) -> None:
        super().__init__(self.exit_code, summary, advice)


class StoreFull(StoreUnavailable):
    """The store is a folder without free space: waiting does not help, somebody must free space."""

    exit_code = ExitCode.STORE_FULL


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object as a listing has it."""

    key: str
    size_bytes: int
    modified_s: float
    """Seconds since the epoch, by the store's clock: for people, never for decisions."""
    revision: str = field(default="", compare=False)
    """What another content under this key would change, where a store has it: S3's ETag and version."""


class Store(Protocol):
    """The verbs of every store. Keys are relative, ``/``-separated; failures are leaves of :class:`JobError`."""

    url: str
    remote: bool
    """A server, which may be away for a while and come back, rather than a folder."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables by which a process elsewhere finds the same server; credentials are not among them."""

    def get(self, key: str, *, max_bytes: int = ...) -> bytes:
        """The object's bytes. Raises :class:`ObjectMissing`, and :class:`DocumentInvalid` above *max_bytes*."""

    def open(self, key: str, *, max_bytes: int = ...) -> BinaryIO:
        """A seekable reader over the object, for audio. Raises as :meth:`get` does."""

    def get_file(self, key: str, path: Path, *, max_bytes: int = ...) -> None:
        """Write the object to a new file at *path*, streaming; of one above *max_bytes* not more than that.

        Raises as :meth:`get` does, and :class:`OSError` where the file cannot be written.
        """

    def put(self, key: str, data: bytes) -> None:
        """Store *data* whole, replacing what was there."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at *path* whole, streaming."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key starts with *prefix* (ending in ``/``), in key order."""

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders directly under *prefix* (empty, or ending in ``/``), in key order.

        What is in them is not read: one of them may hold no object any more.
        """

    def stat(self, key: str) -> StoredObject | None:
        """The object's entry, or None."""

    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    def sweep(self, prefix: str) -> None:
        """Remove what writers that died have left half-written under *prefix* (ending in ``/``)."""


def too_large(key: str, max_bytes: int) -> DocumentInvalid:
    """The refusal of an object above its reader's limit."""
    return DocumentInvalid(f"object {key} is larger than {max_bytes} bytes")


def copy_bounded(
    key: str, read: Callable[[int], bytes], file: BinaryIO, *, max_bytes: int, expected_bytes: int = 0
) -> None:
    """Write what *read* gives of the object to *file*, behind what is there, up to *max_bytes* together.

    *expected_bytes* is how much that will be, where it is known. Raises :class:`DocumentInvalid` where there is more
    than may be; not more than one byte of that is read, and none is written.
    """
    left = max_bytes - file.tell()
    if expected_bytes > left:
        raise too_large(key, max_bytes)
    while piece := read(min(_PIECE_BYTES, left + 1)):
        if len(piece) > left:
            raise too_large(key, max_bytes)
        file.write(piece)
        left -= len(piece)
