"""Commands on a real terminal: a pseudo terminal with a size, and what they draw on it."""

import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.pipeline import PATIENCE_S, until

ENTERED, LEFT, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"
"""What switches to a screen of its own, back, and where a picture of it begins."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal with one command."""

    def __init__(self, *arguments: str, columns: int, lines: int, env: Mapping[str, str]) -> None:
        self._master, terminal = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controller", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**_without_settings(), **env},
            start_new_session=True,
        )
        os.close(terminal)
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, lines: int) -> None:
        """Change its size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def raw(self) -> str:
        """All that was written to it, without the first bytes of a character whose last ones are not there yet."""
        return codecs.getincrementaldecoder("utf-8")().decode(self._data)

    @property
    def pictures(self) -> list[list[str]]:
        """The lines of each picture of a whole screen, without colours."""
        inside = self.raw.partition(ENTERED)[2].partition(LEFT)[0]
        return [_lines(one) for one in inside.split(HOME)[2:]]

    def picture(self, lines: int) -> list[str]:
        """Wait for a whole picture of so many lines."""
        until(lambda: len((self.pictures or [[]])[-1]) == lines, f"{lines} lines in {self.raw!r}")
        return self.pictures[-1]

    @property
    def left_behind(self) -> list[str]:
        """The lines that are there after its own screen was left, or that were written without one."""
        return _lines(self.raw.rpartition(LEFT)[2])

    def until(self, part: str) -> None:
        """Wait until its newest picture contains *part*."""
        until(lambda: any(part in line for line in (self.pictures or [[]])[-1]), f"{part!r} in {self.raw!r}")

    def ended(self) -> int:
        """Wait for the end of the command. Returns its exit code."""
        code = self.process.wait(timeout=PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def close(self) -> None:
        """Stop the command, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # nobody has it open any more
                return
            self._data += data


def _without_settings() -> dict[str, str]:
    chosen = ("STENOFLEET", "LC_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if not name.startswith(chosen)}


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in _CONTROL.sub("", text).replace("\r", "").split("\n")]


@contextmanager
def terminal(*arguments: str, columns: int = 100, lines: int = 30, **env: str) -> Iterator[Terminal]:
    """A terminal on which the command line runs with *arguments*."""
    opened = Terminal(*arguments, columns=columns, lines=lines, env={"TERM": "xterm-256color", **env})
    try:
        yield opened
    finally:
        opened.close()
