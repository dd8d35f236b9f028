"""A recording as a source: does it exist, what identifies its content, has it changed meanwhile, where can it be read.

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
_DOWNLOAD = "download the recording first, or name an object in S3: s3://bucket/key"
_KEYS = "write s3://bucket/key, and give the keys by the usual AWS variables"


def is_object(name: str) -> bool:
    """Whether a name that was typed, or a URI, means an object in S3."""
    return name.startswith(_S3)


class NoSuchFile(MediaProblem):
    """There is nothing of that name."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that may be a recording. *source* is None where a file has to be read to be identified."""

    size_bytes: int
    source: Source | None


def find(name: str | Path) -> Found:
    """See whether there is something called *name* that may be a recording, without reading a file's content.

    Raises as :func:`inspect` does.
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
    """The source called *name*, a path or ``s3://bucket/key``. A file's content is read once, an object's is not.

    A file that is among *known* is not read; another one is kept there. Raises :class:`MediaProblem` for what cannot
    be a recording (nothing there, a folder, a device, no bytes, no access) and :class:`EnvironmentProblem` where S3
    itself cannot be asked.
    """
    _check_name(str(name))
    return _inspect_object(str(name)) if is_object(str(name)) else _inspect_file(Path(name), known)


def _check_name(name: str) -> None:
    """Raises :class:`MediaProblem` for a URL that is not read."""
    if is_object(name):
        return
    if (scheme := _SCHEME.match(name)) and not os.path.lexists(name):
        advice = "name its path, without file://" if scheme[1].lower() == "file" else _DOWNLOAD
        raise MediaProblem(f"{masked_name(name)}: URLs of this kind are not read", advice)


def inspect_uri(uri: str) -> Source:
    """The source behind a URI of a document. Raises as :func:`inspect` does."""
    return inspect(uri if is_object(uri) else local_path(uri))


def local_path(uri: str) -> Path:
    """The path behind a ``file://`` URI, byte for byte."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def file_name(uri: str) -> PurePosixPath:
    """The last part of where it lies: what its transcript is named after."""
    return PurePosixPath(uri.rpartition("/")[2]) if is_object(uri) else PurePosixPath(local_path(uri).name)


def shown(source: Source) -> str:
    """What to call it in a message."""
    return source.uri if is_object(source.uri) else str(local_path(source.uri))


def check_unchanged(source: Source) -> None:
    """Raises :class:`MediaProblem` if it is no longer what was inspected, and what the store raises for an object."""
    if is_object(source.uri):
        store, key = _opened(source.uri)
        entry = store.stat(key)
        if entry is None:
            raise MediaProblem(f"{source.uri}: is gone", "put it back, then run the same command again")
        same = _object_identity(entry) == source.identity
    else:
        path = local_path(source.uri)
        try:
            status = path.stat()
        except OSError as error:
            raise MediaProblem(
                f"{path}: is gone: {error.strerror}", "put it back, then run the same command again"
            ) from error
        same = (status.st_size, status.st_mtime_ns) == (source.size_bytes, source.mtime_ns)
    if not same:
        raise MediaProblem(
            f"{shown(source)}: changed while it was being read",
            "wait until it is complete, then run the command again",
        )


@contextlib.contextmanager
def at_hand(source: Source) -> Iterator[Path]:
    """Its file: an object is fetched into the scratch folder (``TMPDIR``) first, because ffmpeg must seek in it.

    Raises :class:`MediaProblem`, what the store raises, and :class:`EnvironmentProblem` where there is no room.
    """
    if not is_object(source.uri):
        yield local_path(source.uri)
        return
    store, key = _opened(source.uri)
    with tempfile.TemporaryDirectory(prefix="stenofleet-media-") as folder:
        path = Path(folder, f"media{_plain_suffix(key)}")
        _check_room(source, folder)
        try:
            store.get_file(key, path)
        except JobError:
            check_unchanged(source)
            raise
        except OSError as error:
            raise _no_room(source, folder, error.strerror or str(error)) from error
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
    """The status of a file. Raises :class:`MediaProblem` for what cannot be a recording."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaProblem(f"{path}: is a folder", "name the media files in it, for instance with FOLDER/*.mp4")
    if not stat.S_ISREG(status.st_mode):
        raise MediaProblem(f"{path}: is no regular file", "save the recording as a file first")
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
    return Source(uri=url, size_bytes=entry.size_bytes, mtime_ns=0, identity=_object_identity(entry))


def _opened(url: str) -> tuple[Store, str]:
    """The bucket of an object, and its key, in which every character counts. Raises :class:`JobError`."""
    bucket, _, key = url.removeprefix(_S3).partition("/")
    if "@" in url and ("@" in bucket or ":" in bucket):
        raise MediaProblem(f"{masked_name(url)}: an address with a user in it is not read", _KEYS)
    if not key or not key.isprintable():
        raise MediaProblem(f"{url}: names no object", "write s3://bucket/folder/recording.mp4")
    if any(part.startswith(".") or not part for part in key.split("/")):
        raise MediaProblem(
            f"{url}: a key with an empty part, or one that begins with a dot, is not read here",
            "copy the recording to a plain key",
        )
    return open_store(f"{_S3}{bucket}"), key


def _object_identity(entry: StoredObject) -> str:
    return hashlib.sha256(f"s3\0{entry.revision}\0{entry.size_bytes}".encode()).hexdigest()


def _file_identity(path: Path, status: os.stat_result) -> str:
    """Above 2 GiB reading everything would cost more than it tells: size, time and 64 spaced MiB stand for it."""
    with path.open("rb") as file:
        if status.st_size <= _WHOLE_UP_TO:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}\0".encode())
        add_samples(digest, file, size_bytes=status.st_size, sample_bytes=_SAMPLE_BYTES)
        return digest.hexdigest()


def _plain_suffix(key: str) -> str:
    """What ffmpeg may take a hint from, without what a key may have besides."""
    suffix = PurePosixPath(key).suffix
    return suffix if len(suffix) < 8 and suffix[1:].isalnum() and suffix.isascii() else ""


def _check_room(source: Source, folder: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < source.size_bytes + _SPARE_BYTES:
        raise _no_room(source, folder, f"{free >> 20} MiB are free there")


def _no_room(source: Source, folder: str, why: str) -> EnvironmentProblem:
    place = Path(folder).parent
    return EnvironmentProblem(
        f"{source.uri}: {source.size_bytes >> 20} MiB do not fit into {place}: {why}",
        "free space there, or name a folder with room: --scratch-dir",
    )
