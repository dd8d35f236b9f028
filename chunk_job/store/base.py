"""The interface of every store: the protocol, the entry of a listing, and the failures.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from chunk_job.errors import DocumentInvalid, ExitCode, JobError

MAX_BYTES = 1 << 40
"""Default limit for the size of an object that is read."""

_PIECE_BYTES = 1 << 20


class ObjectMissing(JobError):
    """There is no object with this key."""

    def __init__(self, key: str) -> None:
        super().__init__(ExitCode.INPUT_MISSING, f"the store has no object {key}")


class StoreDenied(JobError):
    """The store refuses this identity."""

    def __init__(self, summary: str, advice: str) -> None:
        super().__init__(ExitCode.ACCESS_DENIED, summary, advice)


class StoreUnavailable(JobError):
    """The store is temporarily unavailable: down, slow, or full."""

    exit_code = ExitCode.STORE_UNAVAILABLE

    def __init__(self, summary: str, advice: str) -> None:
        super().__init__(self.exit_code, summary, advice)


class StoreFull(StoreUnavailable):
    """The store is a folder without free space. Waiting does not help: the user must free space."""

    exit_code = ExitCode.STORE_FULL


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An entry of a listing."""

    key: str
    size_bytes: int
    modified_s: float
    """Seconds since the epoch, by the store's clock. For users only, never for decisions."""
    revision: str = field(default="", compare=False)
    """A value that changes with the content of the object, if the store has one: S3's ETag and version."""


class Sink(Protocol):
    """What an object is copied to: a file, or something like it that is written from its beginning."""

    def write(self, data: bytes, /) -> int:
        """Append *data*."""

    def tell(self) -> int:
        """The bytes that were written."""

    def seek(self, offset: int, /) -> int:
        """Start again, at *offset* 0."""

    def truncate(self) -> int:
        """Remove what is after the position."""


class Store(Protocol):
    """The methods of every store. Keys are relative, ``/``-separated. Failures are subclasses of :class:`JobError`."""

    url: str
    remote: bool
    """True for a server, which can be temporarily unavailable; False for a folder."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which a process on another machine finds the same server. No credentials."""

    def get(self, key: str, *, max_bytes: int = ...) -> bytes:
        """The object's bytes. Raises :class:`ObjectMissing`, and :class:`DocumentInvalid` if it is too large."""

    def open(self, key: str, *, max_bytes: int = ...) -> BinaryIO:
        """A seekable reader of the object, for audio. Raises the errors of :meth:`get`."""

    def get_file(self, key: str, path: Path, *, max_bytes: int = ...) -> None:
        """Write the object to a new file at *path*, in small pieces and at most *max_bytes*.

        Raises the errors of :meth:`get`, and :class:`OSError` if the file cannot be written.
        """

    def copy_to(self, key: str, sink: Sink, *, max_bytes: int = ...) -> None:
        """Write the object to the empty *sink*, in small pieces and at most *max_bytes*.

        Where a transfer cannot be continued, it starts again. Raises the errors of :meth:`get`, and those of *sink*.
        """

    def put(self, key: str, data: bytes) -> None:
        """Store *data* completely, replacing an existing object."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Store *data* completely, unless there is an object with this key. Of several writers, one succeeds.

        Returns False if there is one. It may be this very one: the reply to an earlier try may have been lost.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at *path* completely, reading it in small pieces."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Every object whose key starts with *prefix* (ending in ``/``), in key order.

        Only those after the key *after*, if it is given.
        """

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders directly under *prefix* (empty, or ending in ``/``), in key order.

        Their content is not read: a folder may be empty.
        """

    def stat(self, key: str) -> StoredObject | None:
        """The object's entry; None if it does not exist."""

    def delete(self, key: str) -> None:
        """Delete the object. A missing object is no error."""

    def sweep(self, prefix: str) -> None:
        """Remove incomplete files of killed writers under *prefix* (ending in ``/``)."""


def too_large(key: str, max_bytes: int) -> DocumentInvalid:
    """The error for an object above the reader's limit."""
    return DocumentInvalid(f"object {key} is larger than {max_bytes} bytes")


def copy_bounded(
    key: str, read: Callable[[int], bytes], file: Sink, *, max_bytes: int, expected_bytes: int = 0
) -> None:
    """Append the bytes that *read* returns to *file*, until *file* has *max_bytes*.

    *expected_bytes*: the number of bytes to append, 0 if unknown. Raises :class:`DocumentInvalid` if there is more data
    than *max_bytes*. At most one byte beyond the limit is read, and none is written.
    """
    left = max_bytes - file.tell()
    if expected_bytes > left:
        raise too_large(key, max_bytes)
    while piece := read(min(_PIECE_BYTES, left + 1)):
        if len(piece) > left:
            raise too_large(key, max_bytes)
        file.write(piece)
        left -= len(piece)
