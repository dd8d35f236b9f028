"""Lines for another program, written by a thread of their own: a reader that stops reading does not stop the command.

Touches: the file of the lines, which may be a pipe.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

MOST_WAITING_BYTES = 16 << 20
"""Of lines that the reader has not taken: hours of a large batch."""
PATIENCE_S = 10.0
"""How long the end of a command waits until its reader has taken all lines."""


class LineWriter(threading.Thread):
    """Writes lines in order, each as soon as the file takes it. If one is lost, no others are written after it."""

    def __init__(self, path: str) -> None:
        """Replace the file *path*; a named pipe without a reader gets its lines when it has one.

        Raises :class:`OSError`.
        """
        super().__init__(name="lines", daemon=True)
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _opened(self._path)
        self._changed = threading.Condition()
        """Protects all fields below."""
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_complete = False
        self._has_ended = False
        self._lost = ""
        self.start()

    def add(self, line: bytes) -> None:
        """Write *line* after those that wait."""
        with self._changed:
            if self._lost:
                return
            if self._waiting_bytes + len(line) > MOST_WAITING_BYTES:
                self._lost = f"its reader has left {MOST_WAITING_BYTES >> 20} MiB unread"
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def finish(self) -> str:
        """Wait until all lines are written. Returns why some are not; empty if all are."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._has_ended, PATIENCE_S):
                return self._lost or f"its reader has not taken all lines within {PATIENCE_S:.0f} s"
            return self._lost

    def run(self) -> None:
        """Write the lines, until there are no more or one is lost."""
        lost = ""
        try:
            with self._file or self._path.open("wb", buffering=0) as file:
                while line := self._next():
                    rest = line
                    while rest:
                        rest = rest[file.write(rest) :]
                    with self._changed:
                        self._waiting_bytes -= len(line)
        except OSError as error:
            lost = error.strerror or str(error)
        with self._changed:
            self._lost = self._lost or lost
            self._has_ended = True
            self._changed.notify_all()

    def _next(self) -> bytes:
        """The next line; empty after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_complete)
            return self._lines.popleft() if self._lines else b""


def _opened(path: Path) -> BinaryIO | None:
    """The file, empty; None for a named pipe that nobody reads yet: to open it, one waits for a reader."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(path.stat().st_mode):
            return None
        raise
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb", buffering=0)
