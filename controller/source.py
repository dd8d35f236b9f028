"""A media file as a source: does it exist, what identifies its content, has it changed meanwhile.

Touches: media files (reads them), never ffmpeg.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from controller.errors import MediaProblem
from controller.records import Source

_WHOLE_UP_TO = 2 << 30
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 20


def inspect(path: Path) -> Source:
    """The source at *path*, its content read once.

    Raises :class:`MediaProblem` for what cannot be a recording: nothing there, a folder, a device, no bytes, no access.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaProblem(f"{path}: is a folder", "name the media files in it, for instance with FOLDER/*.mp4")
        if not stat.S_ISREG(status.st_mode):
            raise MediaProblem(f"{path}: is no regular file", "save the recording as a file first")
        if status.st_size == 0:
            raise MediaProblem(f"{path}: is empty (0 bytes)", "check how it was copied or recorded")
        identity = _identity(path, status)
    except FileNotFoundError:
        raise MediaProblem(f"{path}: no such file", "check the name") from None
    except OSError as error:
        raise MediaProblem(f"{path}: cannot be read: {error.strerror}", "check its permissions and its disk") from error
    return Source(
        uri=path.absolute().as_uri(),
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        identity=identity,
    )


def local_path(uri: str) -> Path:
    """The path behind a ``file://`` URI, byte for byte."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def check_unchanged(source: Source) -> None:
    """Raises :class:`MediaProblem` if the file is no longer the one that was inspected."""
    path = local_path(source.uri)
    try:
        status = path.stat()
    except OSError as error:
        raise MediaProblem(
            f"{path}: is gone: {error.strerror}", "put it back, then run the same command again"
        ) from error
    if (status.st_size, status.st_mtime_ns) != (source.size_bytes, source.mtime_ns):
        raise MediaProblem(
            f"{path}: changed while it was being read",
            "wait until it is complete, then run the command again",
        )


def _identity(path: Path, status: os.stat_result) -> str:
    """Above 2 GiB reading everything would cost more than it tells: size, time and 64 spaced MiB stand for it."""
    with path.open("rb") as file:
        if status.st_size <= _WHOLE_UP_TO:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}\0".encode())
        for place in range(_SAMPLES):
            file.seek((status.st_size - _SAMPLE_BYTES) * place // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()
