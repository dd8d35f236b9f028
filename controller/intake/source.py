"""A recording as a source: whether it exists, its identity, whether it changed, and where its content can be read.

Touches: media files (reads them), media objects in S3 (through ``chunk_job.store``), a scratch folder, the clock; never
ffmpeg.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit

from chunk_job.errors import JobError
from chunk_job.sampled_digest import add_samples
from chunk_job.store.base import Store, StoredObject, StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.text import masked_name
from controller.domain.documents import Source
from controller.errors import EnvironmentProblem, MediaProblem
from controller.intake.known_files import KnownFiles

_WHOLE_UP_TO = 2 << 30
_SAMPLE_BYTES = 1 << 20
_SPARE_BYTES = 256 << 20
_EMPTY_ADVICE = "check how it was copied or recorded"
_S3 = "s3://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DOWNLOAD = "download the recording first, or use an object in S3: s3://bucket/key"
_KEYS = "write s3://bucket/key, and set the keys in the usual AWS variables"


def is_object(name: str) -> bool:
    """Whether a typed name or a URI is an object in S3."""
    return name.startswith(_S3)


class NoSuchFile(MediaProblem):
    """The file does not exist."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file or object that may be a recording. *source* is None if the file must be read to identify it."""

    size_bytes: int
    source: Source | None


def find(name: str | Path) -> Found:
    """Check whether *name* may be a recording, without reading the content of a file.

    Raises the errors of :func:`inspect`.
    """
    _check_name(str(name))
    if is_object(str(name)):
        found = _inspect_object(str(name))
        return Found(size_bytes=found.size_bytes, source=found)
    path = Path(name)
    status = _checked_status(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from error
    return Found(size_bytes=status.st_size, source=None)


def inspect(name: str | Path, known: KnownFiles | None = None) -> Source:
    """The source of *name*, a path or ``s3://bucket/key``. The content of a file is read once, that of an object not.

    A file in *known* is not read; a new one is added to it. Raises :class:`MediaProblem` if it cannot be a recording
    (missing, a folder, a device, empty, no access), and :class:`EnvironmentProblem` if S3 is not available.
    """
    _check_name(str(name))
    return _inspect_object(str(name)) if is_object(str(name)) else _inspect_file(Path(name), known)


def _check_name(name: str) -> None:
    """Raise :class:`MediaProblem` for a URL that is not supported."""
    if is_object(name):
        return
    if (scheme := _SCHEME.match(name)) and not os.path.lexists(name):
        advice = "use its path, without file://" if scheme[1].lower() == "file" else _DOWNLOAD
        raise MediaProblem(f"{masked_name(name)}: URLs of this kind are not supported", advice)


def inspect_uri(uri: str) -> Source:
    """The source of a URI in a document. Raises the errors of :func:`inspect`."""
    return inspect(uri if is_object(uri) else local_path(uri))


def local_path(uri: str) -> Path:
    """The path of a ``file://`` URI, byte for byte."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def file_name(uri: str) -> PurePosixPath:
    """The last part of its path or key: the transcript gets its name."""
    return PurePosixPath(uri.rpartition("/")[2]) if is_object(uri) else PurePosixPath(local_path(uri).name)


def shown(source: Source) -> str:
    """Its name for messages."""
    return source.uri if is_object(source.uri) else str(local_path(source.uri))


def check_unchanged(source: Source) -> None:
    """Raise :class:`MediaProblem` if it changed since it was inspected. Also raises the errors of the store."""
    if is_object(source.uri):
        store, key = _opened(source.uri)
        entry = store.stat(key)
        if entry is None:
            raise MediaProblem(f"{source.uri}: was deleted", "restore it, then run the same command again")
        same = object_identity(entry) == source.identity
    else:
        path = local_path(source.uri)
        try:
            status = path.stat()
        except OSError as error:
            raise MediaProblem(
                f"{path}: cannot be found: {error.strerror}", "restore it, then run the same command again"
            ) from error
        same = (status.st_size, status.st_mtime_ns) == (source.size_bytes, source.mtime_ns)
    if not same:
        raise MediaProblem(
            f"{shown(source)}: changed while it was being read",
            "wait until it is complete, then run the command again",
        )


@contextlib.contextmanager
def at_hand(source: Source) -> Iterator[Path]:
    """A context with its file. An object is downloaded to the scratch folder (``TMPDIR``), because ffmpeg must seek.

    Raises :class:`MediaProblem`, the errors of the store, and :class:`EnvironmentProblem` if the disk is full.
    """
    if not is_object(source.uri):
        yield local_path(source.uri)
        return
    store, key = _opened(source.uri)
    with tempfile.TemporaryDirectory(prefix="stenofleet-media-") as folder:
        path = Path(folder, f"media{_plain_suffix(key)}")
        _check_free_space(source, folder)
        try:
            store.get_file(key, path)
        except JobError:
            check_unchanged(source)
            raise
        except OSError as error:
            raise _disk_full(source, folder, error.strerror or str(error)) from error
        yield path


def _inspect_file(path: Path, known: KnownFiles | None) -> Source:
    status = _checked_status(path)
    if known and (found := known.find(path, status)):
        return found
    try:
        identity = _file_identity(path, status)
        after = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    source = Source(
        uri=path.absolute().as_uri(),
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        identity=identity,
    )
    if known and _unchanged(status, after):
        known.keep(source, after, now_ns=time.time_ns())
    return source


def _unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        *(after.st_size, after.st_mtime_ns, after.st_ctime_ns),
    )


def _checked_status(path: Path) -> os.stat_result:
    """The status of a file. Raises :class:`MediaProblem` if it cannot be a recording."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaProblem(f"{path}: is a folder", "give the media files in it, for instance FOLDER/*.mp4")
    if not stat.S_ISREG(status.st_mode):
        raise MediaProblem(f"{path}: is not a regular file", "save the recording as a file first")
    if status.st_size == 0:
        raise MediaProblem(f"{path}: is empty (0 bytes)", _EMPTY_ADVICE)
    return status


def _unreadable(path: Path, error: OSError) -> MediaProblem:
    if isinstance(error, FileNotFoundError):
        return NoSuchFile(f"{path}: no such file", "check the name")
    return MediaProblem(f"{path}: cannot be read: {error.strerror}", "check its permissions and its disk")


def _inspect_object(url: str) -> Source:
    try:
        store, key = _opened(url)
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    try:
        entry = store.stat(key)
    except StoreUnavailable as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    except JobError as error:
        raise MediaProblem(f"{url}: {error.summary}", error.advice) from error
    if entry is None:
        raise MediaProblem(f"{url}: no such object", "check bucket and key: they are case-sensitive")
    if entry.size_bytes == 0:
        raise MediaProblem(f"{url}: is empty (0 bytes)", _EMPTY_ADVICE)
    return Source(uri=url, size_bytes=entry.size_bytes, mtime_ns=0, identity=object_identity(entry))


def _opened(url: str) -> tuple[Store, str]:
    """The store of an object's bucket, and its exact key. Raises :class:`JobError`."""
    bucket, _, key = url.removeprefix(_S3).partition("/")
    if "@" in url and ("@" in bucket or ":" in bucket):
        raise MediaProblem(f"{masked_name(url)}: an address with a user in it is not supported", _KEYS)
    if not key or not key.isprintable():
        raise MediaProblem(f"{url}: names no object", "write s3://bucket/folder/recording.mp4")
    if any(part.startswith(".") or not part for part in key.split("/")):
        raise MediaProblem(
            f"{url}: a key with an empty part, or with a part that begins with a dot, is not supported",
            "copy the recording to another key",
        )
    return open_store(f"{_S3}{bucket}"), key


def object_identity(entry: StoredObject) -> str:
    """The identity of an object in S3: another one if its content changes."""
    return hashlib.sha256(f"s3\0{entry.revision}\0{entry.size_bytes}".encode()).hexdigest()


def _file_identity(path: Path, status: os.stat_result) -> str:
    """The digest of the content. For a file above 2 GiB: of its size, its time and 64 samples of 1 MiB."""
    with path.open("rb") as file:
        if status.st_size <= _WHOLE_UP_TO:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}\0".encode())
        add_samples(digest, file, size_bytes=status.st_size, sample_bytes=_SAMPLE_BYTES)
        return digest.hexdigest()


def _plain_suffix(key: str) -> str:
    """The suffix of the key if it is plain, as a hint for ffmpeg; else empty."""
    suffix = PurePosixPath(key).suffix
    return suffix if len(suffix) < 8 and suffix[1:].isalnum() and suffix.isascii() else ""


def _check_free_space(source: Source, folder: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < source.size_bytes + _SPARE_BYTES:
        raise _disk_full(source, folder, f"{free >> 20} MiB are free there")


def _disk_full(source: Source, folder: str, why: str) -> EnvironmentProblem:
    parent = Path(folder).parent
    return EnvironmentProblem(
        f"{source.uri}: {source.size_bytes >> 20} MiB do not fit into {parent}: {why}",
        "free space there, or choose a folder with free space: --scratch-dir",
    )
