"""The transcript where the command wants it: files or objects, each whole or absent.

Touches: output folders, and S3 (through the store's door).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from chunk_job.contract import ExitCode, JobError
from chunk_job.store import StoreUnavailable, open_store, write_whole
from controller.errors import EnvironmentProblem, UsageProblem
from controller.records import Request
from controller.source import is_object, local_path


def base_of(folder: str, stem: str) -> str:
    """The URI of the files that *stem*'s transcript becomes in *folder* (a path or ``s3://…``), without extension.

    Raises :class:`UsageProblem` for a name that an object cannot have.
    """
    if is_object(folder):
        if stem.startswith(".") or not stem.isprintable():
            raise UsageProblem(f"{stem!r} is no name for an object here", "rename the recording, or write to a folder")
        return f"{folder.rstrip('/')}/{stem}"
    return (Path(folder).absolute() / stem).as_uri()


def place(base: str, extension: str) -> str:
    """Where one format goes: a path, or an object's URL."""
    if is_object(base):
        return f"{base}.{extension}"
    path = local_path(base)
    return str(path.with_name(f"{path.name}.{extension}"))


def check_folder(folder: str) -> None:
    """See before any work whether *folder* can take outputs.

    Raises :class:`UsageProblem` for what is none, and :class:`EnvironmentProblem` where S3 or the system says no.
    """
    if not is_object(folder):
        if Path(folder).exists() and not Path(folder).is_dir():
            raise UsageProblem(f"{folder}: is no folder", "name a folder for --output-dir")
        _try_to_write(Path(folder).absolute())
        return
    try:
        open_store(folder).stat("stenofleet")
    except JobError as error:
        if error.code is ExitCode.USAGE:
            # Not repeated: it may hold a secret.
            raise UsageProblem(f"--output-dir: {error.summary}", error.advice) from error
        raise EnvironmentProblem(f"{folder}: {error.summary}", error.advice) from error


def _try_to_write(folder: Path) -> None:
    """Put a file into *folder*, or into where it will be made, and take it away again."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written to: {error.strerror}", "name another folder: --output-dir"
        ) from error


def write_outputs(request: Request, read: Callable[[str], bytes]) -> list[str]:
    """Every wanted format to where it was asked for; the places. Raises as :func:`write_output` does."""
    written = []
    for output in request.outputs:
        for extension in output.formats:
            where = place(output.base, extension)
            try:
                write_output(where, read(extension))
            except EnvironmentProblem as error:
                raise EnvironmentProblem(
                    error.summary,
                    f"the transcript is kept: stenofleet render {request.run} -o FOLDER writes it elsewhere, and"
                    f" stenofleet resume {request.run} here, once there is room and the right to",
                ) from error
            written.append(where)
    return written


def write_output(where: str, data: bytes) -> None:
    """One file or object, whole or as it was before.

    Raises :class:`EnvironmentProblem` where it cannot be written, and :class:`StoreUnavailable` for an S3 that may come
    back.
    """
    try:
        if is_object(where):
            folder, _, name = where.rpartition("/")
            open_store(folder).put(name, data)
        else:
            path = Path(where)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: file.write(data))
    except StoreUnavailable:
        raise
    except JobError as error:
        raise EnvironmentProblem(f"{where}: cannot be written: {error.summary}", error.advice) from error
    except OSError as error:
        raise EnvironmentProblem(f"{where}: cannot be written: {error.strerror}", "name another folder") from error
