"""Opens output files and transcripts for reading, whatever is at their path.

Touches: files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 1 << 20


def open_file(path: Path, *, max_bytes: int) -> BinaryIO:
    """Open a regular file of at most *max_bytes* for reading. Raises :class:`OSError`, also for any other file type."""
    # O_NONBLOCK: opening a named pipe would wait until another process writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.ExitStack() as failing:
        file = failing.enter_context(os.fdopen(descriptor, "rb"))
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        failing.pop_all()
    return file


def digest_of(file: BinaryIO) -> str:
    """Return the sha256 of the rest of *file*, read in small pieces."""
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
