"""The transcript where the command wants it: files or objects, each whole or absent.

Touches: output folders, and S3 (through the store's door).
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from chunk_job.errors import ExitCode, JobError
from chunk_job.safe_files import write_whole
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.text import masked_name
from controller.domain.documents import Output, Request
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.source import is_object, local_path
from controller.transcript.formats import FORMATS, told_gaps_s
from controller.transcript.model import Transcript, longest_transcript_bytes


def base_of(folder: str, stem: str) -> str:
    """The URI of the files that *stem*'s transcript becomes in *folder* (a path or ``s3://…``), without extension.

    Raises :class:`UsageProblem` for a name that an object cannot have.
    """
    if not stem or stem in (".", "..") or "/" in stem or "\0" in stem:
        raise UsageProblem(f"{stem!r} is no name for a file", "rename the recording")
    if is_object(folder):
        if not folder.isprintable():
            raise UsageProblem(f"{folder}: no name for a folder of objects", "name another --output-dir")
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
        if "://" in folder and not Path(folder).exists():
            raise UsageProblem(
                f"{masked_name(folder)}: transcripts are not written to URLs of this kind",
                "name a folder, or s3://bucket/folder, for --output-dir",
            )
        if Path(folder).exists() and not Path(folder).is_dir():
            raise UsageProblem(f"{folder}: is no folder", "name a folder for --output-dir")
        _try_to_write(Path(folder).absolute())
        return
    if not folder.isprintable():
        raise UsageProblem(f"{folder}: no name for a folder of objects", "name another --output-dir")
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


def write_outputs(request: Request, transcript: Transcript) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Render every wanted format to where it was asked for; the places, and in sentences what was left as it was.

    A transcript with gaps never replaces one of the same run that has fewer. Raises as :func:`write_output` does.
    """
    written, kept = [], []
    for output in request.outputs:
        better = _better_there(output, transcript) if transcript.gaps else None
        if better:
            kept.append(f"{better} has fewer gaps: it and the files beside it are left as they are")
            continue
        for extension in output.formats:
            where = place(output.base, extension)
            try:
                write_output(where, FORMATS[extension](transcript).encode())
            except EnvironmentProblem as error:
                raise EnvironmentProblem(
                    error.summary,
                    f"the transcript is kept: stenofleet render {request.run} -o FOLDER writes it elsewhere, and"
                    f" stenofleet resume {request.run} here, once there is room and the right to",
                ) from error
            written.append(where)
    return tuple(written), tuple(kept)


def _better_there(output: Output, transcript: Transcript) -> str | None:
    """A file with a transcript of the same content and options that has fewer gaps, where *output* would go.

    The JSON tells. Where there is none, a text file tells by its lines about gaps: it may be another's, and is kept.
    """
    limit = longest_transcript_bytes(transcript.duration_ms)
    where = place(output.base, "json")
    data = _there(where, limit)
    if data is not None:
        try:
            there = Transcript.decode(data)
        except JobError:
            return None
        return where if there.same_run(transcript) and there.gaps_ms < transcript.gaps_ms else None
    for extension in output.formats:
        where = place(output.base, extension)
        data = _there(where, limit)
        if data is not None and told_gaps_s(data.decode(errors="replace")) < transcript.gaps_ms // 1000:
            return where
    return None


def _there(where: str, limit: int) -> bytes | None:
    """What is in a file or object, where it is there and no longer than a transcript."""
    try:
        if is_object(where):
            folder, _, name = where.rpartition("/")
            return open_store(folder).get(name, max_bytes=limit)
        return read_file(Path(where), max_bytes=limit)
    except StoreUnavailable:
        raise
    except (JobError, OSError):
        return None


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


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file of at most *max_bytes*. Raises :class:`OSError`, also for anything else."""
    # A pipe of that name would be waited for until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        return file.read(max_bytes)
