"""Files and folders reached by descriptors: below the folder a person named, no link is followed and no pipe waited on.

Touches: files. A path is looked up again each time it is used, and another user may put a link into it between two
uses; a descriptor stays with what was opened. :class:`WrongKind` is whatever is neither a plain file nor a folder where
one is expected.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not blocking, because opening a named pipe waits for its other end otherwise.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN
# What systems answer when O_NOFOLLOW meets a link, or O_DIRECTORY something else than a folder.
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})


class WrongKind(OSError):
    """Something of another kind is where a folder or a plain file is expected. Its ``filename`` is the place."""

    def __init__(self, code: int, path: str, mode: int) -> None:
        """*code* is the error number that fits, *mode* the type found there as ``st_mode`` has it."""
        super().__init__(code, os.strerror(code), path)
        self.is_link = stat.S_ISLNK(mode)
        self.kind = _kind(mode)


@contextlib.contextmanager
def folder(root: Path, parts: Sequence[str] = (), *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder *parts* below *root*, for the block. *make*: missing ones are made, private.

    The path to *root* may contain links, the path below it may not. Raises :class:`FileNotFoundError`,
    :class:`WrongKind` for something else below *root*, and :class:`OSError`.
    """
    try:
        descriptor = os.open(root, _FOLDER)
    except FileNotFoundError:
        if not make:
            raise
        make_private(root)
        descriptor = os.open(root, _FOLDER)
    try:
        for depth, part in enumerate(parts, 1):
            try:
                below = _enter(part, descriptor, make=make)
            except OSError as error:
                error.filename = str(root.joinpath(*parts[:depth]))
                raise
            descriptor, above = below, descriptor
            os.close(above)
        yield descriptor
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Make the folder and every parent it lacks, for this user alone whatever the umask; one that is there is kept."""
    missing = []
    for above in (path, *path.parents):
        if above.exists():
            break
        missing.append(above)
    for each in reversed(missing):
        try:
            make_folder(str(each))
        except FileExistsError:
            # Another process was faster; a link to nowhere is no folder.
            if not each.is_dir():
                raise


def make_folder(name: str, above: int | None = None) -> None:
    """Make one folder, in *above* where that is given, for this user alone. Raises :class:`OSError`."""
    os.mkdir(name, 0o700, dir_fd=above)
    # A umask can only take rights away. One that takes the owner's is rare, and chmod by name is left to that case.
    if os.stat(name, dir_fd=above, follow_symlinks=False).st_mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=above)


def is_own_folder(name: str, above: int | None = None) -> bool:
    """Whether this is a folder itself, no link to one, and belongs to this user."""
    try:
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def open_plain(name: str, above: int | None = None, *, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the plain file *name*, in *above* where that is given; one that ``O_CREAT`` makes is private.

    Raises :class:`WrongKind` for a link, a named pipe, a folder and the like, and :class:`OSError`.
    """
    # Looked at before it is opened: opening a device may do something.
    with contextlib.suppress(FileNotFoundError):
        _check_plain(name, os.stat(name, dir_fd=above, follow_symlinks=False))
    descriptor = os.open(name, flags | _PLAIN, 0o600, dir_fd=above)
    try:
        status = os.fstat(descriptor)
        _check_plain(name, status)
        if flags & os.O_CREAT and status.st_mode & 0o600 != 0o600:
            # New, and made under a umask that takes the owner's rights.
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def temporary_name() -> str:
    """A hidden name for a file that is being written. Not made of the final name, which may be as long as allowed."""
    return f".{secrets.token_hex(8)}.tmp"


def create(name: str, above: int | None = None, *, private: bool) -> BinaryIO:
    """A new file to write: for this user alone whatever the umask, or else as the umask has it.

    Raises :class:`FileExistsError` for anything that has the name.
    """
    descriptor = os.open(name, _NEW, 0o600 if private else 0o666, dir_fd=above)
    if private:
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def complete(
    file: BinaryIO, temporary: str, name: str, write: Callable[[BinaryIO], object], above: int | None = None
) -> None:
    """Let *write* fill the new *file*, and give it its *name* once the bytes are on disk; on failure remove it.

    What had the name before, be it a link, is replaced itself. Raises :class:`OSError`.
    """
    try:
        with file:
            # Released when this process ends, however it ends: a temporary file without a lock has no writer.
            with contextlib.suppress(OSError):  # a file system that has no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=above, dst_dir_fd=above)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=above)
        raise


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let *write* fill the file at *path*: whole and on disk, or as it was before. Raises :class:`OSError`."""
    temporary = str(path.with_name(temporary_name()))
    complete(create(temporary, private=False), temporary, str(path), write)


def has_writer(name: str, above: int) -> bool:
    """Whether the temporary file may still be written; true for what cannot be asked."""
    try:
        with os.fdopen(open_plain(name, above), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _enter(name: str, above: int, *, make: bool) -> int:
    if make:
        with contextlib.suppress(FileNotFoundError):
            return _enter(name, above, make=False)
        with contextlib.suppress(FileExistsError):
            make_folder(name, above)
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
        raise WrongKind(errno.ENOTDIR, name, mode) from error


def _check_plain(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise WrongKind(errno.EINVAL, name, status.st_mode)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
