"""Objects as files of a folder of this machine (``file://``).

Touches: files (through ``safe_files``). An object is written completely or not at all: readers never see a part of it.
A killed writer leaves at most a hidden temporary file, which ``sweep`` removes.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import pwd
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from chunk_job import safe_files
from chunk_job.errors import ExitCode, JobError
from chunk_job.safe_files import WrongKind
from chunk_job.store.base import (
    MAX_BYTES,
    ObjectMissing,
    Sink,
    StoreDenied,
    StoredObject,
    StoreFull,
    StoreUnavailable,
    copy_bounded,
    too_large,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
# The folder or file does not exist, was just deleted, or is of another kind.
_ABSENT = (FileNotFoundError, NotADirectoryError, WrongKind)
# Names that stenofleet creates at the top level of a store.
_OURS = re.compile(
    r"runs|work|written|doctor|batches|requests|queue|index|cancels|answers|uploads|incomplete|webhooks|replicas|inbox-state"
    r"|\.local|\.[0-9a-f]{16}\.tmp"
)


class FileStore:
    """Objects as files under one private folder. A put ends with a rename after the bytes are on disk.

    The path to the folder may contain links, the path below it may not. Only plain files are objects.
    """

    remote = False
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = self.root.as_uri()

    def keep_private(self) -> str | None:
        """Remove the access of other users to the folder. Returns a sentence about it, or None if nobody had access.

        Only a folder of this user that contains nothing but a store is changed, never a folder like ``/tmp`` or a home.
        """
        with contextlib.suppress(OSError), safe_files.folder(self.root) as root:
            mode = os.fstat(root).st_mode
            if not mode & 0o077:
                return None
            if self._is_only_a_store(root):
                with contextlib.suppress(OSError):
                    os.fchmod(root, 0o700)
                    return f"{self.root}: other users had access to this store; now it is private (mode 0700)"
            return (
                f"{self.root}: other users have access to this store (mode {stat.S_IMODE(mode):04o}): remove it, or"
                " use a separate folder for --store, which will be private"
            )
        return None

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        with self.open(key, max_bytes=max_bytes) as file, self._errors(key):
            # Not to its end: another process could make the file grow while it is read.
            return file.read(min(os.fstat(file.fileno()).st_size, max_bytes))

    def open(self, key: str, *, max_bytes: int = MAX_BYTES) -> BinaryIO:
        *parts, name = _parts(key)
        with self._errors(key):
            try:
                with safe_files.folder(self.root, parts) as folder:
                    file = os.fdopen(safe_files.open_plain(name, folder), "rb")
            except (FileNotFoundError, WrongKind) as error:
                raise ObjectMissing(key) from error
        if os.fstat(file.fileno()).st_size > max_bytes:
            file.close()
            raise too_large(key, max_bytes)
        return file

    def get_file(self, key: str, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        with self.open(key, max_bytes=max_bytes) as source, path.open("xb") as file:
            copy_bounded(key, source.read, file, max_bytes=max_bytes)

    def copy_to(self, key: str, sink: Sink, *, max_bytes: int = MAX_BYTES) -> None:
        with self.open(key, max_bytes=max_bytes) as source:
            copy_bounded(key, source.read, sink, max_bytes=max_bytes)

    def put(self, key: str, data: bytes) -> None:
        self._put(key, lambda file: file.write(data))

    def put_new(self, key: str, data: bytes) -> bool:
        return self._put(key, lambda file: file.write(data), replace=False)

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._put(key, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Store the objects *parts*, one after the other, as one object."""

        def write(file: BinaryIO) -> None:
            for part in parts:
                with self.open(part) as source:
                    shutil.copyfileobj(source, file, 1 << 20)

        self._put(key, write)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        # No descriptor is open between two entries: a listing may be stopped early, and several may run at once.
        waiting: list[StoredObject | str] = [prefix]
        while waiting:
            found = waiting.pop()
            if isinstance(found, StoredObject):
                yield found
            else:
                waiting += reversed(self._scan(found, after))

    def _scan(self, prefix: str, after: str) -> Sequence[StoredObject | str]:
        """The objects of one folder after the key *after*, and the prefixes of the folders in it, in key order."""
        parts = _parts(prefix.rstrip("/")) if prefix else ()
        found: dict[str, StoredObject | str] = {}
        with self._errors(prefix), contextlib.suppress(*_ABSENT), safe_files.folder(self.root, parts) as folder:
            for each in _visible(folder):
                key = f"{prefix}{each.name}"
                if each.is_dir(follow_symlinks=False):
                    # Sorted by its name with the slash, like its objects in an object store.
                    found[f"{key}/"] = f"{key}/"
                elif key <= after:
                    continue
                elif each.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        found[key] = _entry(key, each.stat(follow_symlinks=False))
        return [found[key] for key in sorted(found)]

    def folders(self, prefix: str) -> Iterator[str]:
        parts = _parts(prefix.rstrip("/")) if prefix else ()
        found: list[str] = []
        with self._errors(prefix), contextlib.suppress(*_ABSENT), safe_files.folder(self.root, parts) as folder:
            found = [each.name for each in _visible(folder) if each.is_dir(follow_symlinks=False)]
        # Sorted by the name with the slash, as in an object store.
        yield from sorted(found, key=lambda name: f"{name}/")

    def stat(self, key: str) -> StoredObject | None:
        *parts, name = _parts(key)
        with self._errors(key), contextlib.suppress(*_ABSENT), safe_files.folder(self.root, parts) as folder:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return _entry(key, status) if stat.S_ISREG(status.st_mode) else None
        return None

    def delete(self, key: str) -> None:
        *parts, name = _parts(key)
        absent = contextlib.suppress(*_ABSENT, IsADirectoryError)
        with self._errors(key), absent, safe_files.folder(self.root, parts) as folder:
            os.unlink(name, dir_fd=folder)
        self._remove_empty(parts)

    def _remove_empty(self, parts: Sequence[str]) -> None:
        # An object store has no empty folders. Here they would disturb `clean` and `list`.
        with contextlib.suppress(OSError):
            while parts:
                *above, name = parts
                with safe_files.folder(self.root, above) as folder:
                    os.rmdir(name, dir_fd=folder)
                parts = above

    def sweep(self, prefix: str) -> None:
        waiting = [_parts(prefix.rstrip("/"))]
        while waiting:
            parts = waiting.pop()
            with self._errors(prefix), contextlib.suppress(*_ABSENT), safe_files.folder(self.root, parts) as folder:
                waiting += [[*parts, each.name] for each in _visible(folder) if each.is_dir(follow_symlinks=False)]
                for name in fnmatch.filter(os.listdir(folder), ".*.tmp"):
                    if not safe_files.has_writer(name, folder):
                        os.unlink(name, dir_fd=folder)
            self._remove_empty(parts)

    def _is_only_a_store(self, root: int) -> bool:
        """Whether the folder belongs to this user and contains only the files of a store."""
        status = os.fstat(root)
        # With the sticky bit, the folder is shared on purpose.
        if (
            status.st_uid != os.geteuid()
            or status.st_mode & stat.S_ISVTX
            or any(os.path.samestat(status, home) for home in _homes())
        ):
            return False
        with os.scandir(root) as entries:
            found = list(entries)
            if not all(
                _OURS.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_uid == status.st_uid
                for entry in found
            ):
                return False
        # An empty folder directly below / is more likely a system folder (/srv, /mnt) than a store.
        return bool(found) or len(self.root.resolve().parts) > 2

    def _put(self, key: str, write: Callable[[BinaryIO], object], *, replace: bool = True) -> bool:
        """Store what *write* writes. Returns False if there is an object already, and it must not be replaced."""
        *parts, name = _parts(key)
        temporary = safe_files.temporary_name()
        with self._errors(key), self._created(parts, temporary) as (folder, file):
            try:
                safe_files.complete(file, temporary, name, write, folder, replace=replace)
            except FileExistsError:
                if replace:
                    raise
                return False
            # A rename is on disk only after its folder was synced.
            os.fsync(folder)
        return True

    @contextlib.contextmanager
    def _created(self, parts: Sequence[str], temporary: str) -> Iterator[tuple[int, BinaryIO]]:
        """Create a new file, and its folder if needed. A context with the folder's descriptor and the file."""
        # Another process may delete the last object, and with it the folder, before the file is created: try again.
        for left in reversed(range(20)):
            with contextlib.ExitStack() as opened:
                try:
                    folder = opened.enter_context(safe_files.folder(self.root, parts, make=True))
                    file = safe_files.create(temporary, folder, private=True)
                except FileNotFoundError:
                    if not left:
                        raise
                    continue
                yield folder, file
                return

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _translate(error, key, self.root) from error


def _entry(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key=key, size_bytes=status.st_size, modified_s=status.st_mtime)


def _parts(key: str) -> list[str]:
    parts = key.split("/")
    if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise JobError(ExitCode.CONFIG, f"not an object key: {key!r}")
    return parts


def _visible(folder: int) -> Iterator[os.DirEntry[str]]:
    """The entries of the folder without hidden ones. They can be used while the descriptor is open."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _homes() -> Iterator[os.stat_result]:
    """This user's home folders, from the environment and from the system's list of users."""
    with contextlib.suppress(OSError, RuntimeError):
        yield Path.home().stat()
    with contextlib.suppress(OSError, KeyError):
        yield Path(pwd.getpwuid(os.geteuid()).pw_dir).stat()


def _translate(error: OSError, key: str, root: Path) -> JobError:
    """The store's failure for an error of the operating system."""
    reason = error.strerror or str(error)
    if isinstance(error, WrongKind) and error.is_link:
        return JobError(
            ExitCode.CONFIG,
            f"no {key} in {root}: {error.filename} is a symbolic link, and a store follows no links",
            "replace it by a folder, or use the folder that it points to for --store",
        )
    if error.errno in _FULL:
        return StoreFull(f"no free space for {key} in {root}: {reason}", "free space there or choose another --store")
    if error.errno == errno.EROFS:
        return StoreDenied(
            f"no {key} in {root}: {reason}", "mount that file system for writing, or choose another --store"
        )
    if error.errno in _DENIED:
        return StoreDenied(
            f"no access to {key} in {root}: {reason}", "give this user access to the folder or choose another --store"
        )
    return StoreUnavailable(f"{key} in {root}: {reason}", "check the folder or choose another --store")
