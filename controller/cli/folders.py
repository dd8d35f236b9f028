"""Finds the recordings in folders and below prefixes of S3.

Touches: folders (their entries, not the content of files), S3 (through ``chunk_job.store``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import itemgetter
from pathlib import PurePosixPath
from typing import NamedTuple

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


class InFolder(NamedTuple):
    """What is in a folder."""

    recordings: tuple[str, ...]
    """The paths of all recordings in it and its subfolders, relative to it and sorted."""
    unreadable: tuple[tuple[str, MediaProblem], ...] = ()
    """The subfolders that cannot be read, with why."""


def recordings_in(folder: str) -> InFolder:
    """Return the recordings in a folder. Hidden files and folders are left out, and links to folders not followed.

    Raises :class:`MediaProblem` if the folder itself cannot be read, and :class:`EnvironmentProblem` if S3 cannot be
    reached.
    """
    unreadable: list[tuple[str, MediaProblem]] = []
    found = _objects(folder) if is_object(folder) else _files(folder, unreadable)
    return InFolder(tuple(sorted(filter(is_media_name, found))), tuple(sorted(unreadable, key=itemgetter(0))))


def is_media_name(name: str) -> bool:
    """Whether a path is of audio or video, by its suffix, and no part of it is hidden."""
    path = PurePosixPath(name)
    return path.suffix.lower() in MEDIA_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _files(folder: str, unreadable: list[tuple[str, MediaProblem]]) -> Iterator[str]:
    def fail(error: OSError) -> None:
        problem = MediaProblem(f"{error.filename}: cannot be read: {error.strerror}", "check its permissions")
        if error.filename == folder:
            raise problem from error
        unreadable.append((error.filename, problem))

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
