"""Opens files and folders by descriptors. Below a given root folder, no link is followed and no named pipe is opened.

Touches: files. The system resolves a path again at each use, so another user could replace a part of it by a link
between two uses. A descriptor always refers to the file that was opened. :class:`WrongKind` is raised if something else
than the expected plain file or folder is found.
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
# Non-blocking: else opening a named pipe would wait for another process.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN
# Error numbers for O_NOFOLLOW on a link, and for O_DIRECTORY on something else than a folder.
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})
# Of a file system without hard links, as that of many memory sticks.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class WrongKind(OSError):
    """A file of another kind exists instead of the expected folder or plain file. ``filename`` is its path."""

    def __init__(self, code: int, path: str, mode: int) -> None:
        """*code*: an error number. *mode*: ``st_mode`` of the file that was found."""
        super().__init__(code, os.strerror(code), path)
        self.is_link = stat.S_ISLNK(mode)
        self.kind = _kind(mode)


@contextlib.contextmanager
def folder(root: Path, parts: Sequence[str] = (), *, make: bool = False) -> Iterator[int]:
    """A context with a descriptor of the folder *parts* below *root*. *make*: create missing folders, private.

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
    """Create the folder and its missing parents, private to this user with any umask. Existing ones are kept."""
    missing = []
    for above in (path, *path.parents):
        if above.exists():
            break
        missing.append(above)
    for each in reversed(missing):
        try:
            make_folder(str(each))
        except FileExistsError:
            # Another process may have created it. A dangling link is not a folder.
            if not each.is_dir():
                raise


def make_folder(name: str, above: int | None = None) -> None:
    """Create one folder, private to this user. *above*: descriptor of its parent. Raises :class:`OSError`."""
    os.mkdir(name, 0o700, dir_fd=above)
    # A umask can only remove permissions. chmod by name is used only in the rare case that it removes the owner's.
    if os.stat(name, dir_fd=above, follow_symlinks=False).st_mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=above)


def is_own_folder(name: str, above: int | None = None) -> bool:
    """Whether *name* is a folder of this user, and not a link."""
    try:
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def open_plain(name: str, above: int | None = None, *, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the plain file *name*. *above*: descriptor of its folder. With ``O_CREAT`` it is private.

    Raises :class:`WrongKind` for a link, a named pipe, a folder and the like, and :class:`OSError`.
    """
    # Checked before it is opened: opening a device can have side effects.
    with contextlib.suppress(FileNotFoundError):
        _check_plain(name, os.stat(name, dir_fd=above, follow_symlinks=False))
    descriptor = os.open(name, flags | _PLAIN, 0o600, dir_fd=above)
    try:
        status = os.fstat(descriptor)
        _check_plain(name, status)
        if flags & os.O_CREAT and status.st_mode & 0o600 != 0o600:
            # It is new, and the umask removed permissions of the owner.
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def temporary_name() -> str:
    """A hidden random name for a file that is being written. It does not contain the final name, which may be long."""
    return f".{secrets.token_hex(8)}.tmp"


def create(name: str, above: int | None = None, *, private: bool) -> BinaryIO:
    """Create a file for writing. *private*: only for this user with any umask; else the umask applies.

    Raises :class:`FileExistsError` if the name exists.
    """
    descriptor = os.open(name, _NEW, 0o600 if private else 0o666, dir_fd=above)
    if private:
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def complete(
    file: BinaryIO,
    temporary: str,
    name: str,
    write: Callable[[BinaryIO], object],
    above: int | None = None,
    *,
    replace: bool = True,
) -> None:
    """Let *write* fill the new *file*, and rename it to *name* after its bytes are on disk. On failure, remove it.

    An existing file or link with this name is replaced. Without *replace*, :class:`FileExistsError` is raised then.
    Raises :class:`OSError`.
    """
    try:
        with file:
            # The lock is released when this process ends for any reason: a temporary file without lock has no writer.
            with contextlib.suppress(OSError):  # a file system that has no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        else:
            _rename_new(temporary, name, above)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=above)
        raise


def _rename_new(temporary: str, name: str, above: int | None) -> None:
    try:
        os.link(temporary, name, src_dir_fd=above, dst_dir_fd=above, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # There, two processes that do it at the same moment may both succeed.
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=above, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.replace(temporary, name, src_dir_fd=above, dst_dir_fd=above)
    else:
        os.unlink(temporary, dir_fd=above)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let *write* fill the file at *path*, completely or not at all. Raises :class:`OSError`."""
    temporary = str(path.with_name(temporary_name()))
    complete(create(temporary, private=False), temporary, str(path), write)


def is_named(descriptor: int, name: str, above: int | None = None) -> bool:
    """Whether the open file is the one with this name now. *above*: descriptor of its folder."""
    try:
        named = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def has_writer(name: str, above: int) -> bool:
    """Whether a process may still be writing the temporary file. True if this cannot be found out."""
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
