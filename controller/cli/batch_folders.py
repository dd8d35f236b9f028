"""Remembers on this machine the batches that were made on it: where names begin, and where transcripts belong.

Touches: the state folder of this user. A store or a service does not decide which files of a machine are read and
written: others can write to a bucket, or are clients of the same tenant.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.cli import options as shared
from controller.errors import EnvironmentProblem
from controller.intake.source import is_object

_MOST_BYTES = 16_384


def keep_folder(batch: str, folder: str) -> None:
    """Remember the output folder of a submission. Without a state folder, ``batch wait`` writes here by default."""
    place = folder if is_object(folder) else str(Path(folder).absolute())
    with contextlib.suppress(EnvironmentProblem, JobError):
        _store().put(_key(batch), os.fsencode(place))


def kept_folder(batch: str) -> str:
    """The output folder of a batch that was submitted on this machine; the current folder for another one."""
    try:
        return os.fsdecode(_store().get(_key(batch), max_bytes=_MOST_BYTES))
    except (EnvironmentProblem, JobError):
        return "."


def keep_submission(store_url: str, batch: str) -> None:
    """Remember that a batch of a store was made on this machine, in the current folder."""
    with contextlib.suppress(EnvironmentProblem, JobError):
        _store().put(_submission_key(store_url, batch), os.fsencode(Path.cwd()))


def kept_submission(store_url: str, batch: str) -> Path | None:
    """The folder in which a batch was made; None if that was not on this machine."""
    try:
        return Path(os.fsdecode(_store().get(_submission_key(store_url, batch), max_bytes=_MOST_BYTES)))
    except (EnvironmentProblem, JobError):
        return None


def _store() -> FileStore:
    return FileStore(shared.state_home() / ".local")


def _key(batch: str) -> str:
    return f"batches/{batch}.folder"


def _submission_key(store_url: str, batch: str) -> str:
    return f"batches/{sha256_hex(os.fsencode(store_url))[:16]}/{batch}.place"
