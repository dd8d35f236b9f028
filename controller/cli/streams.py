"""Standard streams whose errors do not stop the work: the first error is kept and reported at the end.

Touches: the descriptors 0, 1 and 2, ``sys.stdin``, ``sys.stdout`` and ``sys.stderr``.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

_NAMES = ("stdin", "stdout", "stderr")


class _Kept(io.FileIO):
    """A descriptor that accepts every write; the first error is kept, and later data is dropped."""

    def __init__(self, descriptor: int, *, closed: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._is_closed = closed
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        if self.lost is None:
            try:
                return self._write(data)
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes

    def _write(self, data: Any) -> int:
        if self._is_closed:
            raise OSError(errno.EBADF, "it is closed")
        # Another process that shares the descriptor may have made it non-blocking.
        while (count := super().write(data)) is None:
            select.select([], [self], [])
        return count


class Streams:
    """Replaces the standard streams of this process."""

    def __init__(self) -> None:
        closed = {name for name in _NAMES if getattr(sys, name) is None}
        # In this order each gets its own number. Otherwise the next opened file would get it, and the output for people
        # would be written into that file.
        descriptors = {name: _nowhere() for name in _NAMES if name in closed}
        if "stdin" in closed:
            sys.stdin = open(descriptors["stdin"], encoding="utf-8", closefd=False)  # noqa: SIM115
        self._out = _kept("stdout", descriptors.get("stdout"))
        _kept("stderr", descriptors.get("stderr"))

    def lost(self) -> str:
        """Return why output to stdout was lost; empty if none was lost or the reader closed the pipe."""
        sys.stdout.flush()
        error = self._out and self._out.lost
        if not error or isinstance(error, BrokenPipeError):
            return ""
        return error.strerror or str(error)


def _nowhere() -> int:
    descriptor = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    return descriptor


def _kept(name: str, nowhere: int | None) -> _Kept | None:
    """Replace the stream by one whose descriptor accepts every write; None if it has no descriptor."""
    before: TextIO | None = getattr(sys, name)
    try:
        descriptor = before.fileno() if before is not None else nowhere
    except (OSError, ValueError):
        return None
    assert descriptor is not None
    raw = _Kept(descriptor, closed=before is None)
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors=before.errors if before is not None else "backslashreplace",
        line_buffering=True,
    )
    setattr(sys, name, stream)
    return raw
