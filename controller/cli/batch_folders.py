"""Remembers on this machine where the transcripts of a batch belong that a service works on.

Touches: the state folder of this user. The folder is not kept in the service: other clients of its tenant could choose
it then.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

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


def _store() -> FileStore:
    return FileStore(shared.state_home() / ".local")


def _key(batch: str) -> str:
    return f"batches/{batch}.folder"
