"""The transcript where the command wants it: files or objects, each whole or absent.

Touches: output folders, and S3 (through the store's door).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.safe_files import write_whole
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.text import masked_name
from controller.domain.documents import Output, Request
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.source import is_object, local_path
from controller.runs.stored_transcript import MOST_WHOLE_BYTES, summary_of
from controller.runs.transcript_files import TranscriptFiles
from controller.transcript.formats import stated_gaps_s
from controller.transcript.model import TranscriptSummary, longest_transcript_bytes

_PIECE_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16


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


def write_outputs(request: Request, transcript: TranscriptFiles) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy every wanted format to where it was asked for; the places, and in sentences what was left as it was.

    A transcript with gaps never replaces one of the same run that has fewer. Raises as :func:`write_output` does.
    """
    written, kept = [], []
    for output in request.outputs:
        better = _better_there(output, transcript.summary) if transcript.summary.gaps else None
        if better:
            kept.append(f"{better}: it and the files beside it are left as they are")
            continue
        for extension in output.formats:
            where = place(output.base, extension)
            try:
                write_output(where, transcript.path(extension))
            except EnvironmentProblem as error:
                raise EnvironmentProblem(
                    error.summary,
                    f"the transcript is kept: stenofleet render {request.run} -o FOLDER writes it elsewhere, and"
                    f" stenofleet resume {request.run} here, once there is room and the right to",
                ) from error
            written.append(where)
    return tuple(written), tuple(kept)


def _better_there(output: Output, transcript: TranscriptSummary) -> str | None:
    """Why a transcript that is where *output* would go may be better than this one, which has gaps; None: it is not.

    The JSON says it. Where there is none, a text file does by its lines about gaps: it may be another's, and is kept.
    """
    limit = longest_transcript_bytes(transcript.duration_ms)
    where = place(output.base, "json")
    with _there(where, limit) as file:
        if file is not None:
            return _better_json(where, file, transcript)
    for extension in output.formats:
        where = place(output.base, extension)
        with _there(where, limit) as file:
            if file is not None and _gaps_in(file) < transcript.gaps_ms // 1000:
                return f"{where} has fewer gaps"
    return None


def _better_json(where: str, file: BinaryIO, transcript: TranscriptSummary) -> str | None:
    try:
        there = summary_of(file)
    except StoreUnavailable:
        raise
    except (DocumentInvalid, OSError):
        # Perhaps a good one that somebody has written anew, with other white space.
        if file.seek(0, os.SEEK_END) > MOST_WHOLE_BYTES:
            return f"{where} is too large to be compared in the layout that it has"
        return None
    return f"{where} has fewer gaps" if there.same_run(transcript) and there.gaps_ms < transcript.gaps_ms else None


def _gaps_in(file: BinaryIO) -> int:
    """How many seconds the lines about gaps add up to, in a file of any text format."""
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace") as text:
        return sum(map(stated_gaps_s, iter(lambda: text.readline(_LONGEST_LINE), "")))


@contextlib.contextmanager
def _there(where: str, limit: int) -> Iterator[BinaryIO | None]:
    """A file or object, where it is there and no longer than a transcript; else None."""
    file: BinaryIO | None = None
    try:
        if is_object(where):
            folder, _, name = where.rpartition("/")
            file = open_store(folder).open(name, max_bytes=limit)
        else:
            file = open_file(Path(where), max_bytes=limit)
    except StoreUnavailable:
        raise
    except (JobError, OSError):
        yield None
        return
    with file:
        yield file


def write_output(where: str, source: Path) -> None:
    """One file or object with the content of the file at *source*, whole or as it was before.

    Raises :class:`EnvironmentProblem` where it cannot be written, and :class:`StoreUnavailable` for an S3 that may come
    back.
    """
    try:
        if is_object(where):
            folder, _, name = where.rpartition("/")
            open_store(folder).put_file(name, source)
        else:
            path = Path(where)
            path.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as data:
                write_whole(path, lambda file: shutil.copyfileobj(data, file, _PIECE_BYTES))
    except StoreUnavailable:
        raise
    except JobError as error:
        raise EnvironmentProblem(f"{where}: cannot be written: {error.summary}", error.advice) from error
    except OSError as error:
        raise EnvironmentProblem(f"{where}: cannot be written: {error.strerror}", "name another folder") from error


def open_file(path: Path, *, max_bytes: int) -> BinaryIO:
    """A regular file of at most *max_bytes*, to read. Raises :class:`OSError`, also for anything else."""
    # A pipe of that name would be waited for until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.ExitStack() as failing:
        file = failing.enter_context(os.fdopen(descriptor, "rb"))
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        failing.pop_all()
    return file
