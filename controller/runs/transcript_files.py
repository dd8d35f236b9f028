"""A transcript in every format, as temporary files: written a few segments at a time.

Touches: temporary files, the clock. The store and the outputs get copies of these files. They are in a private folder
that is removed when no object uses it, at the latest when the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from chunk_job import safe_files
from chunk_job.segment import Segment
from chunk_job.store.base import StoreUnavailable
from controller.domain.output import Format
from controller.transcript.formats import (
    FORMATS,
    JSON_SEGMENTS,
    JSON_START,
    JSON_SUMMARY,
    TEXT_FORMATS,
    Cue,
    CueStream,
    StrippedText,
    json_segments,
    json_summary,
    json_text,
)
from controller.transcript.model import Gap, TranscriptSummary

_PREFIX = "stenofleet-transcript-"
_NEW_NS = 60 * 10**9
_PIECE_BYTES = 1 << 20


class PrivateFolder:
    """A private folder for temporary files, which is removed with this object."""

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Not TemporaryDirectory: that warns unless it is closed, and the last user of a transcript is not known.
        weakref.finalize(self, _remove, self.path, descriptor)
        with contextlib.suppress(OSError):  # a file system that has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove files in *folder* of this user's killed processes. A pod keeps its folder when its container restarts."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            # A new folder may not be locked yet.
            if safe_files.is_own_folder(str(path)) and time.time_ns() - path.stat().st_mtime_ns > _NEW_NS:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class TranscriptFiles:
    """The written files of one transcript."""

    summary: TranscriptSummary
    sha256: Mapping[Format, str]
    """Digest of each file."""
    folder: PrivateFolder

    def path(self, extension: Format) -> Path:
        """Path of the file of one format."""
        return self.folder.path / extension


class _HashedFile:
    """A new file, and the digest of its content."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb")
        self._hash = hashlib.sha256()
        self._marked = (0, self._hash.copy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def mark(self) -> None:
        """Store the current end of the file for :meth:`cut`."""
        self._marked = (self._file.tell(), self._hash.copy())

    def cut(self) -> None:
        """Remove everything that was written since :meth:`mark`."""
        offset, self._hash = self._marked
        self._file.seek(offset)
        self._file.truncate()

    def close(self) -> str:
        """Close the file and return its digest."""
        self._file.close()
        return self._hash.hexdigest()


class TranscriptWriter:
    """Writes the files of one transcript. A context manager that closes the open files."""

    def __init__(self, gaps: Sequence[Gap], duration_ms: int) -> None:
        """*gaps*: all gaps of the transcript, in order.

        Raises :class:`StoreUnavailable` if the files cannot be created.
        """
        self._cues = CueStream(gaps, duration_ms)
        self._count = 0
        """Number of cues written so far."""
        self._stripped = StrippedText()
        self._between = b""
        """Separator before the next segment in the JSON."""
        with disk_errors(), contextlib.ExitStack() as opened:
            self._folder = PrivateFolder()
            self._files = {
                extension: opened.enter_context(_HashedFile(self._folder.path / extension)) for extension in FORMATS
            }
            # In the JSON, all text comes before all segments, but both arrive together.
            self._segments = opened.enter_context(tempfile.TemporaryFile(dir=self._folder.path))
            for extension, form in TEXT_FORMATS.items():
                self._files[extension].write(form.start.encode())
            self._json = self._files["json"]
            self._json.write(JSON_START)
            self._json.mark()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # After an error the files are not used, so a failed flush (disk full) does not matter.
        with contextlib.suppress(OSError):
            self._opened.close()

    def add(self, segments: Sequence[Segment]) -> None:
        """Write the next *segments*. Raises :class:`StoreUnavailable` if the disk is full."""
        if not segments:
            return
        with disk_errors():
            self._segments.write(self._between + json_segments(segments))
            self._between = b","
            certain, space = self._stripped.add(segments)
            if certain:
                self._json.write(json_text(certain))
                self._json.mark()
            self._json.write(json_text(space))
            self._add_lines(self._cues.add(segments))

    def finish(self, summary: TranscriptSummary) -> TranscriptFiles:
        """Write the rest and return the files. Raises the errors of :meth:`add`."""
        with disk_errors():
            self._add_lines(self._cues.finish())
            self._json.cut()
            self._json.write(JSON_SEGMENTS)
            self._segments.seek(0)
            while piece := self._segments.read(_PIECE_BYTES):
                self._json.write(piece)
            self._segments.close()
            self._json.write(JSON_SUMMARY)
            self._json.write(json_summary(summary))
            digests = {extension: file.close() for extension, file in self._files.items()}
        return TranscriptFiles(summary=summary, sha256=digests, folder=self._folder)

    def _add_lines(self, lines: Sequence[Cue]) -> None:
        for extension, form in TEXT_FORMATS.items():
            self._files[extension].write(form.body(lines, self._count + 1).encode())
        self._count += len(lines)


def written(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> TranscriptFiles:
    """Write the files of a transcript from its summary and its segments."""
    with TranscriptWriter(summary.gaps, summary.duration_ms) as writer:
        for some in segments:
            writer.add(some)
        return writer.finish(summary)


@contextlib.contextmanager
def disk_errors(what: str = "a transcript", kind: type[StoreUnavailable] = StoreUnavailable) -> Iterator[None]:
    """Turns errors of temporary files into :class:`StoreUnavailable`. *what* is written to them."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"cannot write {what} to {tempfile.gettempdir()}: {error.strerror}",
            "free space there or set TMPDIR to another folder",
        ) from error
