"""Decides whether an output may be written: a file that a person changed, or another program wrote, is kept.

Touches: output files and objects (reads them).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chunk_job.errors import JobError
from chunk_job.store.base import MAX_BYTES, ObjectMissing, StoreUnavailable
from chunk_job.store.open_store import open_object
from controller.domain.written_output import WrittenRecord
from controller.intake.source import is_object
from controller.runs.opened_files import digest_of, open_file

OF_ANOTHER = (
    "the transcript of another recording was here, and is replaced; its run keeps it: stenofleet list, then stenofleet"
    " render RUN -o FOLDER"
)
_CHANGED = "was changed since it was written, or another program wrote it; --overwrite replaces it"


@dataclass(frozen=True, kw_only=True)
class OutputRules:
    """When an existing output is replaced."""

    overwrite: bool = False
    """Also replace files that were changed since."""
    written: WrittenRecord | None = None
    """What was written before; None: not known."""


NO_RULES = OutputRules()
"""Nothing is known about existing outputs, so that those with other content are kept."""


class Decision(NamedTuple):
    """What to do with one output."""

    target: str
    """The path or object to write; empty if nothing is to be written."""
    kept: str = ""
    """Why the existing file is kept, as a sentence; empty if it is not, or if it has the wanted content already."""
    replaces: str = ""
    """The digest of what *target* has; empty if it does not exist, or cannot be read."""


def decide(path: str, sha256: str, known: Collection[str], *, overwrite: bool) -> Decision:
    """Return whether to write content with the digest *sha256* to *path*.

    *known*: the digests of content that this program wrote there. Raises :class:`StoreUnavailable`.
    """
    return (_decide_object if is_object(path) else _decide_file)(path, sha256, known, overwrite=overwrite)


def _decide_object(url: str, sha256: str, known: Collection[str], *, overwrite: bool) -> Decision:
    try:
        store, key = open_object(url)
        with store.open(key, max_bytes=MAX_BYTES) as file:
            found = digest_of(file)
    except ObjectMissing:
        return Decision(url)
    except StoreUnavailable:
        raise
    except (JobError, OSError) as error:
        if not overwrite:
            return Decision("", f"{url} is kept: it cannot be compared: {error}; --overwrite replaces it")
        found = ""
    return _compared(url, url, found, sha256, known, overwrite=overwrite)


def _decide_file(path: str, sha256: str, known: Collection[str], *, overwrite: bool) -> Decision:
    try:
        linked = stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        # It does not exist, or the error is reported when it is written.
        return Decision(path)
    # A link keeps its place: its target is written. Through a link to nothing, no file is created.
    target = os.path.realpath(path)
    try:
        status = os.stat(target)  # noqa: PTH116 (also of a name that is not valid text)
    except OSError as error:
        return Decision("", f"{path} is kept: it is a link whose target cannot be used: {error.strerror}")
    if stat.S_ISDIR(status.st_mode):
        return Decision(path) if not linked else Decision("", f"{path} is kept: it is a link to a folder")
    if not stat.S_ISREG(status.st_mode):
        return Decision("", f"{path} is kept: it is not a regular file")
    try:
        with open_file(Path(target), max_bytes=MAX_BYTES) as file:
            found = digest_of(file)
    except OSError as error:
        if not overwrite:
            return Decision("", f"{path} is kept: it cannot be compared: {error.strerror}; --overwrite replaces it")
        found = ""
    if found != sha256 and not (status.st_mode & 0o222 and os.access(target, os.W_OK)):
        return Decision("", f"{path} is kept: it is read-only; make it writable to have it replaced")
    return _compared(path, target, found, sha256, known, overwrite=overwrite)


def _compared(path: str, target: str, found: str, sha256: str, known: Collection[str], *, overwrite: bool) -> Decision:
    if found == sha256:
        return Decision("")
    if overwrite or found in known:
        return Decision(target, replaces=found)
    return Decision("", f"{path} is kept: it {_CHANGED}")
