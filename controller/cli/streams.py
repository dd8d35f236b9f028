"""Standard streams that never end the work: what they refuse is kept in mind and reported at the end.

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
    """A descriptor that takes everything; the first error is kept, and what comes after it goes nowhere."""

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
        # Whoever shares the descriptor may have made it one that does not wait.
        while (count := super().write(data)) is None:
            select.select([], [self], [])
        return count


class Streams:
    """The streams of this process, for the rest of it."""

    def __init__(self) -> None:
        closed = {name for name in _NAMES if getattr(sys, name) is None}
        # In this order each gets its own number: the next file that is opened would get it, and with it what is meant
        # for people.
        descriptors = {name: _nowhere() for name in _NAMES if name in closed}
        if "stdin" in closed:
            sys.stdin = open(descriptors["stdin"], encoding="utf-8", closefd=False)  # noqa: SIM115
        self._out = _kept("stdout", descriptors.get("stdout"))
        _kept("stderr", descriptors.get("stderr"))

    def lost(self) -> str:
        """Why something that was written to stdout has not arrived; empty where all has, or its reader has left."""
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
    """Replace the stream by one whose descriptor takes everything; None where it has no descriptor."""
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
