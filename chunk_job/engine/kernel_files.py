"""Compiled kernels in a folder: copied from one that is only read, and written for other processes.

Touches: files. Kernels are code for the GPU. They are used only if they belong to the same user as the model, to this
user or to root, if nobody else can change their folder, and if every file has the digest that it was written with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from chunk_job import safe_files
from chunk_job.errors import DocumentInvalid
from chunk_job.kernels import DESCRIPTION, MOST_BYTES, MOST_FILES, CompiledKernels

Read = Callable[[str, int], bytes]
"""Returns the file of a name, of at most so many bytes. Raises :class:`OSError` and :class:`ValueError`."""


def owners(model_folder: Path) -> frozenset[int]:
    """Users whose kernels are used with this model: whoever can replace the model can already run code here."""
    found = {0, os.geteuid()}
    with contextlib.suppress(OSError):
        found.add((model_folder / "model.bin").stat().st_uid)
    return frozenset(found)


def description(root: Path, parts: Sequence[str], *, trusted: frozenset[int]) -> CompiledKernels | None:
    """The document of the folder *parts* below *root*; None without one that can be used."""
    try:
        with safe_files.folder(root, parts) as folder:
            status = os.fstat(folder)
            if status.st_uid not in trusted or status.st_mode & stat.S_IWOTH:
                return None
            return CompiledKernels.decode(_content(DESCRIPTION, folder, CompiledKernels.max_bytes, trusted))
    except (OSError, ValueError, DocumentInvalid):
        return None


def reader(root: Path, parts: Sequence[str], *, trusted: frozenset[int]) -> Read:
    """Reads the files of the folder *parts* below *root*, on the way to which no link is followed."""

    def read(name: str, limit: int) -> bytes:
        *above, last = name.split("/")
        with safe_files.folder(root, [*parts, *above]) as folder:
            return _content(last, folder, limit, trusted)

    return read


def copy(read: Read, found: CompiledKernels, target: Path) -> None:
    """Copy the files that *found* names to the new folder *target*, completely or not at all.

    If another process has made *target* meanwhile, that one stays. Raises :class:`OSError`, and :class:`ValueError`
    for files that are too large or have changed.
    """
    temporary = target.with_name(safe_files.temporary_name())
    safe_files.make_folder(str(temporary))
    try:
        left = MOST_BYTES
        for name, digest in found.files.items():
            data = read(name, left)
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"{name} has changed")
            left -= len(data)
            *above, last = name.split("/")
            _write(temporary, above, last, data, sync=False)
        _put(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Path and bytes of every plain file below *folder*. Raises :class:`ValueError` if there is too much."""
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for path in _plain_files(folder):
        data = path.read_bytes()
        left -= len(data)
        if left < 0 or len(found) == MOST_FILES:
            raise ValueError("more compiled kernels than can be kept")
        found[path.relative_to(folder).as_posix()] = data
    return found


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The digest of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def publish(files: Mapping[str, bytes], target: Path, document: CompiledKernels) -> None:
    """Write the files that *document* names to *target*, with the document, for every user to read.

    The folder is complete or not there; one that is there already is replaced. Raises :class:`OSError`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(safe_files.temporary_name())
    temporary.mkdir()
    try:
        for name, data in files.items():
            *above, last = name.split("/")
            _write(temporary, above, last, data, sync=True)
        _write(temporary, [], DESCRIPTION, document.encode(), sync=True)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        old = target.with_name(safe_files.temporary_name())
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        _put(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, target: Path) -> None:
    """Give the folder its name. If a folder with files has it already, that one stays."""
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _content(name: str, folder: int, limit: int, trusted: frozenset[int]) -> bytes:
    """A plain file of a trusted user. Raises :class:`OSError` and :class:`ValueError`."""
    with os.fdopen(safe_files.open_plain(name, folder), "rb") as file:
        if os.fstat(file.fileno()).st_uid not in trusted:
            raise ValueError(f"{name} belongs to another user")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} is too large")
    return data


def _write(folder: Path, above: Sequence[str], name: str, data: bytes, *, sync: bool) -> None:
    """Write a new file. *sync*: onto the disk, which a copy that is made again after a power failure does not need."""
    with (
        safe_files.folder(folder, above, make=True) as descriptor,
        safe_files.create(name, descriptor, private=True) as file,
    ):
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _plain_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path
