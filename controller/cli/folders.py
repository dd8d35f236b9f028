"""Finds the recordings in folders and below prefixes of S3.

Touches: folders (their entries, not the content of files), S3 (through ``chunk_job.store``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from chunk_job.errors import JobError
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.open_store import open_store
from controller.errors import EnvironmentProblem, MediaProblem
from controller.intake.source import is_object

MEDIA_SUFFIXES = frozenset((
    ".3ga", ".3gp", ".aac", ".aif", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".ds2", ".dss", ".flac",
    ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".spx", ".ts", ".vob", ".w64", ".wav", ".weba",
    ".webm", ".wma", ".wmv", ".wv",
))  # fmt: skip
"""Names in a folder with another suffix are not recordings. A file that is named itself may have any suffix."""


def is_folder(name: str) -> bool:
    """Whether a name stands for all recordings in it: a folder, or a prefix that ends with a slash."""
    return name.endswith("/") if is_object(name) else os.path.isdir(name)  # noqa: PTH112 (a name may have any bytes)


def recordings_in(folder: str) -> list[str]:
    """Return the paths of all recordings in a folder and its subfolders, relative to it and sorted.

    Hidden files and folders are left out, and links to folders are not followed. Raises :class:`MediaProblem` if the
    folder, or one in it, cannot be read, and :class:`EnvironmentProblem` if S3 cannot be reached.
    """
    found = _objects(folder) if is_object(folder) else _files(folder)
    return sorted(name for name in found if is_media_name(name))


def is_media_name(name: str) -> bool:
    """Whether a path is of audio or video, by its suffix, and no part of it is hidden."""
    path = PurePosixPath(name)
    return path.suffix.lower() in MEDIA_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _files(folder: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise MediaProblem(f"{error.filename}: cannot be read: {error.strerror}", "check its permissions") from error

    for where, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            yield os.path.relpath(os.path.join(where, name), folder)  # noqa: PTH118


def _objects(prefix: str) -> Iterator[str]:
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    try:
        for entry in open_store(f"s3://{bucket}").list(key):
            yield entry.key.removeprefix(key)
    except StoreUnavailable as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    except JobError as error:
        raise MediaProblem(f"{prefix}: {error.summary}", error.advice) from error
