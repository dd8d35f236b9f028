"""The store between the processes: named objects, whole or absent, behind one protocol.

Touches: files. ``file://`` is the door a laptop uses; another scheme is another class with these same verbs (``s3://``:
``s3.py``), chosen in :func:`open_store` and nowhere else. An object is put whole or not at all: readers never see half
of one, and a killed writer leaves at most a hidden temporary file, which ``sweep`` removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from chunk_job.contract import DocumentInvalid, ExitCode, JobError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


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

    def __init__(self, summary: str, advice: str) -> None:
        super().__init__(ExitCode.STORE_UNAVAILABLE, summary, advice)


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What a listing tells of an object."""

    key: str
    size_bytes: int
    modified_s: float
    """Seconds since the epoch, by the store's clock: for people, never for decisions."""
    revision: str = field(default="", compare=False)
    """What another content under this key would change, where the store says it at all: S3's ETag and version."""


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

    def open(self, key: str) -> BinaryIO:
        """A seekable reader over the object, for audio."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to a new file at *path*, streaming. Raises :class:`OSError` where that cannot be written."""

    def put(self, key: str, data: bytes) -> None:
        """Store *data* whole, replacing what was there."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at *path* whole, streaming."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key starts with *prefix* (ending in ``/``), in key order."""

    def stat(self, key: str) -> StoredObject | None:
        """The object's entry, or None."""

    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    def sweep(self, prefix: str) -> None:
        """Remove what writers that died have left half-written under *prefix* (ending in ``/``)."""


def open_store(url: str) -> Store:
    """The store at *url*. Raises :class:`JobError`: USAGE for a URL that is none, CONFIG where something is missing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from chunk_job.s3 import S3Store

        return S3Store(url)
    raise JobError(
        ExitCode.USAGE,
        f"no store behind {url!r}",
        "use file:///absolute/folder, for instance file:///var/lib/stenofleet, or s3://bucket/prefix",
    )


def write_whole(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    create: Callable[[Path], BinaryIO] = lambda path: path.open("xb"),
) -> None:
    """Let *write* fill the file at *path*: whole and on disk, or as it was before. Raises :class:`OSError`."""
    # Not made of the file's own name, which may be as long as names can be.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    file = create(temporary)
    try:
        with file:
            # Ends with this process, however it ends: what is not locked is nobody's any more.
            _lock(file)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class FileStore:
    """Objects as files under one private folder; a put is a rename, after the bytes are on disk."""

    remote = False
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = self.root.as_uri()

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        with self.open(key) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise DocumentInvalid(f"object {key} is larger than {max_bytes} bytes")
        return data

    def open(self, key: str) -> BinaryIO:
        with self._errors(key):
            return self._path(key).open("rb")

    def get_file(self, key: str, path: Path) -> None:
        with self.open(key) as source, path.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def put(self, key: str, data: bytes) -> None:
        self._put(key, lambda file: file.write(data))

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._put(key, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = self._path(prefix.rstrip("/")) if prefix else self.root
        names: list[str] = []
        # A folder that goes while we look held nothing any more.
        with self._errors(prefix), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = os.listdir(folder)
        # A folder sorts where its objects do in an object store: by its name with the slash.
        for name in sorted(names, key=lambda name: name + "/" if (folder / name).is_dir() else name):
            if name.startswith("."):
                continue
            if (folder / name).is_dir():
                yield from self.list(f"{prefix}{name}/")
            elif entry := self.stat(f"{prefix}{name}"):
                yield entry

    def stat(self, key: str) -> StoredObject | None:
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _translate(error, key, self.root) from error
        if not stat.S_ISREG(status.st_mode):
            return None
        return StoredObject(key=key, size_bytes=status.st_size, modified_s=status.st_mtime)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors(key):
            path.unlink(missing_ok=True)
        self._remove_empty(path)

    def _remove_empty(self, path: Path) -> None:
        # An object store has no empty folders; leaving them here would litter `clean` and `list`.
        for folder in path.parents:
            if folder == self.root:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def sweep(self, prefix: str) -> None:
        folder = self._path(prefix.rstrip("/"))
        with self._errors(prefix), contextlib.suppress(FileNotFoundError):
            for left in [path for path in folder.rglob(".*.tmp") if _nobody_writes(path)]:
                left.unlink(missing_ok=True)
                self._remove_empty(left)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
            raise JobError(ExitCode.CONFIG, f"not an object key: {key!r}")
        return self.root.joinpath(*parts)

    def _put(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._path(key)
        with self._errors(key):
            write_whole(path, write, create=self._create)
            _sync_folder(path.parent)

    def _create(self, temporary: Path) -> BinaryIO:
        # A delete next door may take the last object, and with it the folder, between mkdir and open.
        for _ in range(20):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                temporary.parent.mkdir(parents=True, exist_ok=True)
                return temporary.open("xb")
        return temporary.open("xb")

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ObjectMissing(key) from error
        except OSError as error:
            raise _translate(error, key, self.root) from error


def _lock(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # a file system that has no locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _nobody_writes(path: Path) -> bool:
    """Whether the writer of a half-written file has died."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _translate(error: OSError, key: str, root: Path) -> JobError:
    """The store's word for an operating system's error."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreUnavailable(f"no room for {key} in {root}: {reason}", "free space there or choose another --store")
    if error.errno in _DENIED:
        return StoreDenied(
            f"no access to {key} in {root}: {reason}", "give this user the folder or choose another --store"
        )
    return StoreUnavailable(f"{key} in {root}: {reason}", "check the folder or choose another --store")


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
