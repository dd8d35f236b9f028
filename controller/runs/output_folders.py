"""Checks before any work whether transcripts can be written to a folder.

Touches: output folders, and S3 (through ``chunk_job.store``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from chunk_job.errors import ExitCode, JobError
from chunk_job.store.open_store import open_store
from chunk_job.text import masked_name
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.source import is_object


def check_folder(folder: str) -> None:
    """Check before any work whether outputs can be written to *folder*.

    Raises :class:`UsageProblem` if it is not a folder, and :class:`EnvironmentProblem` if S3 or the operating system
    refuses access.
    """
    if not is_object(folder):
        if "://" in folder and not Path(folder).exists():
            raise UsageProblem(
                f"{masked_name(folder)}: transcripts are not written to URLs of this kind",
                "use a folder, or s3://bucket/folder, for --output-dir",
            )
        if Path(folder).exists() and not Path(folder).is_dir():
            raise UsageProblem(f"{folder}: is not a folder", "use a folder for --output-dir")
        _try_to_write(Path(folder).absolute())
        return
    if not folder.isprintable():
        raise UsageProblem(f"{folder}: not a valid prefix for objects", "choose another --output-dir")
    try:
        open_store(folder).stat("stenofleet")
    except JobError as error:
        if error.code is ExitCode.USAGE:
            # The folder is not repeated: it may contain a secret.
            raise UsageProblem(f"--output-dir: {error.summary}", error.advice) from error
        raise EnvironmentProblem(f"{folder}: {error.summary}", error.advice) from error


def _try_to_write(folder: Path) -> None:
    """Create and remove a file in *folder*, or in its nearest existing parent."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            return
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written to: {error.strerror}", "choose another folder: --output-dir"
        ) from error
