"""Copies models with a manifest: from a folder or a store to a folder, and from a folder to a store.

Touches: folders, stores. Files are hashed while they are copied. A folder gets its name, and a prefix its manifest,
only when everything else is there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from chunk_job import safe_files
from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.model_manifest import MANIFEST, ModelManifest
from chunk_job.models.verification import ModelDamaged, compare_hash, compare_sizes, mark, parsed
from chunk_job.safe_files import write_whole
from chunk_job.store.base import ObjectMissing, Sink, Store, copy_bounded

log = logging.getLogger("stenofleet.chunk_job")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Read = Callable[[str, Sink, int], None]
"""Copies the file of a name to a sink, at most so many bytes.

Raises :class:`ObjectMissing`, and :class:`DocumentInvalid` if it is longer.
"""


class HashedFile:
    """A file that is written from its beginning, and the hash of what was written. Without a file: only the hash."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._length = 0

    def write(self, data: bytes, /) -> int:
        """Append *data*."""
        if self._file:
            self._file.write(data)
        self._digest.update(data)
        self._length += len(data)
        return len(data)

    def tell(self) -> int:
        """The bytes that were written."""
        return self._length

    def seek(self, offset: int, /) -> int:
        """Start again: a store does that where a transfer cannot be continued. *offset* must be 0."""
        if offset:
            raise ValueError(offset)
        if self._file:
            self._file.seek(0)
        self._digest, self._length = hashlib.sha256(), 0
        return 0

    def truncate(self) -> int:
        """Remove what is after the position."""
        if self._file:
            self._file.truncate()
        return self._length

    def hexdigest(self) -> str:
        """The sha256 of what was written."""
        return self._digest.hexdigest()


def manifest_of(store: Store) -> ModelManifest | None:
    """The manifest of the model in *store*; None if there is none.

    Raises :class:`ModelDamaged` if it cannot be parsed, and the store's failures.
    """
    try:
        return parsed(store.url, store.get(MANIFEST, max_bytes=ModelManifest.max_bytes))
    except ObjectMissing:
        return None
    except DocumentInvalid as error:
        raise ModelDamaged(store.url, error.summary) from error


def required_manifest(store: Store) -> ModelManifest:
    """The manifest of the model in *store*. Raises :class:`JobError` (MODEL) if there is none."""
    manifest = manifest_of(store)
    if manifest is None:
        raise JobError(
            ExitCode.MODEL,
            f"{store.url} is not a model: it has no {MANIFEST}, which is written last",
            f"put a model there: stenofleet model fetch MODEL --to {store.url}",
        )
    return manifest


def verify_store(store: Store) -> ModelManifest:
    """Read every object of the model in *store*, and compare it with its manifest.

    Raises :class:`ModelDamaged`, :class:`JobError` (MODEL) if there is no manifest, and the store's failures.
    """
    manifest = required_manifest(store)
    _compare_objects(store, manifest)
    for name in manifest.files:
        _copy(store.url, manifest, name, from_store(store), HashedFile())
    return manifest


def fetch(store: Store, manifest: ModelManifest, folder: Path, work: Path) -> None:
    """Copy the model of *store* to *folder*, as :func:`to_folder` does."""
    _compare_objects(store, manifest)
    to_folder(store.url, manifest, from_store(store), folder, work)


def to_folder(source: object, manifest: ModelManifest, read: Read, folder: Path, work: Path) -> None:
    """Copy the files of *manifest* to *folder*, which is replaced when all of them are there.

    *source*: where they are, for messages. *work*: the folder of the same disk for what is not finished, created if it
    is missing (:func:`alone`). Raises :class:`ModelDamaged` for a file of *source* that does not match,
    :class:`JobError` (MODEL) for a folder that cannot be written or has no space, and the failures of *read*.
    """
    fresh = work / safe_files.temporary_name()
    try:
        work.mkdir(parents=True, exist_ok=True)
        _check_space(work, manifest)
        fresh.mkdir()
        for name in manifest.files:
            with (fresh / name).open("xb") as file:
                _copy(source, manifest, name, read, HashedFile(file))
                file.flush()
                os.fsync(file.fileno())
        write_whole(fresh / MANIFEST, lambda file: file.write(manifest.encode()))
        mark(fresh, manifest)
        replace(folder, fresh)
    except OSError as error:
        raise not_written(folder, manifest, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def replace(folder: Path, fresh: Path) -> None:
    """Give *fresh* the name of *folder*, and remove the old folder. Raises :class:`OSError`; the old one then stays."""
    old = fresh.with_name(safe_files.temporary_name())
    try:
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except BaseException:
        # Also if a signal ends the process: what is beside *fresh* is then removed.
        with contextlib.suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def put(folder: Path, manifest: ModelManifest, store: Store, check: Callable[[], object]) -> None:
    """Store the model in *folder*, in place of the one that is in *store*. Raises the store's failures.

    Until it is complete, there is no manifest: nothing takes it for a model. *check*: called before each change; it
    raises an error if another process may be putting a model there by now.
    """
    check()
    store.delete(MANIFEST)
    for name in manifest.files:
        check()
        store.put_file(name, folder / name)
    check()
    for name in _names(store).keys() - manifest.files.keys():
        store.delete(name)
    _compare_objects(store, manifest)
    check()
    store.put(MANIFEST, manifest.encode())


def from_folder(folder: Path) -> Read:
    """Reads the files of *folder*. In the hub's cache they are links."""

    def read(name: str, sink: Sink, max_bytes: int) -> None:
        with (folder / name).open("rb") as file:
            copy_bounded(name, file.read, sink, max_bytes=max_bytes)

    return read


def from_store(store: Store) -> Read:
    """Reads the objects of *store*."""
    return lambda name, sink, max_bytes: store.copy_to(name, sink, max_bytes=max_bytes)


def not_written(folder: Path, manifest: ModelManifest, error: OSError) -> JobError:
    """The failure for *folder*, which could not be written."""
    if error.errno in _FULL:
        return _full(folder, manifest)
    return JobError(
        ExitCode.MODEL,
        f"the model's folder {folder} cannot be written: {error.strerror or error}",
        "give this user the right to write there, or use another folder",
    )


def _copy(source: object, manifest: ModelManifest, name: str, read: Read, target: HashedFile) -> None:
    wanted = manifest.files[name]
    if wanted.size_bytes > 1 << 26:
        log.info("copying %s: %.1f GB", name, wanted.size_bytes / 1e9)
    try:
        read(name, target, wanted.size_bytes)
    except (ObjectMissing, FileNotFoundError) as error:
        raise ModelDamaged(source, f"{name} is missing") from error
    except DocumentInvalid as error:
        raise ModelDamaged(source, f"{name} is too long: more than {wanted.size_bytes} bytes") from error
    if target.tell() != wanted.size_bytes:
        raise ModelDamaged(source, f"{name} is incomplete: {target.tell()} bytes instead of {wanted.size_bytes}")
    compare_hash(source, name, wanted, target.hexdigest())


def _compare_objects(store: Store, manifest: ModelManifest) -> None:
    compare_sizes(store.url, manifest, _names(store))


def _names(store: Store) -> dict[str, int]:
    """The objects of a model and their sizes. Those in folders below it are not part of it."""
    return {entry.key: entry.size_bytes for entry in store.list("") if "/" not in entry.key and entry.key != MANIFEST}


def _check_space(folder: Path, manifest: ModelManifest) -> None:
    if shutil.disk_usage(folder).free < manifest.size_bytes:
        raise _full(folder, manifest)


def _full(folder: Path, manifest: ModelManifest) -> JobError:
    free = ""
    with contextlib.suppress(OSError):
        free = f", and {shutil.disk_usage(folder if folder.is_dir() else folder.parent).free / 1e9:.1f} GB are free"
    return JobError(
        ExitCode.MODEL,
        f"no space for the model in {folder}: it needs {manifest.size_bytes / 1e9:.1f} GB{free}",
        "free space there, or use a folder on another disk (for models in S3: STENOFLEET_MODEL_CACHE)",
    )
