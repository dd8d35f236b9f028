"""Messages of ffmpeg: the errors, and the sample rates and channels that it has decoded.

Touches: nothing. ffmpeg says them only at its level *verbose*, among much else; only the last errors are kept.
"""

from __future__ import annotations

import re
from typing import TypeVar

MOST_BYTES = 4096
"""Of the errors, and of a line: a line may be as long as a tag in the file."""

_LEVEL = re.compile(
    rb"((?:\[[^\]]{0,200} @ 0x[0-9a-f]+\] )*)\[(quiet|panic|fatal|error|warning|info|verbose|debug|trace)\] "
)
_INPUT = re.compile(rb"tb:\S+ samplefmt:\S+ samplerate:(\d{2,7}) chlayout:([^\r\n]{1,40})")
_MOST_CHANGES = 100
_T = TypeVar("_T")
_ABOUT_OUTPUT = re.compile(rb"Application provided invalid, non monotonically increasing dts to muxer")
"""Messages about what ffmpeg itself writes, where times of the recording begin again."""
_ERRORS = frozenset({b"panic", b"fatal", b"error"})


class Messages:
    """Gets what ffmpeg writes with ``-v level+verbose``, in pieces of any size."""

    def __init__(self) -> None:
        self.errors = b""
        """The last lines about errors, without their level."""
        self.rates_hz: list[int] = []
        """Sample rates in order, with an entry for each change."""
        self.layouts: list[str] = []
        """Layouts of channels in order, with an entry for each change."""
        self._line = b""
        # Before the first message of ffmpeg, the tools that start it may say why they cannot.
        self._level = b"error"

    def add(self, data: bytes) -> None:
        """Add the next bytes; none at the end."""
        lines = (self._line + data).splitlines(keepends=True)
        self._line = lines.pop()[:MOST_BYTES] if data and lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        for line in lines:
            self._take(line[:MOST_BYTES])

    def _take(self, line: bytes) -> None:
        # A line without a level continues a message: a tag of the file may have several lines, with any text.
        if found := _LEVEL.match(line):
            self._level = found[2]
            line = found[1] + line[found.end() :]
            if found[1] and found[2] == b"verbose":
                self._note_input(line[len(found[1]) :])
        if self._level in _ERRORS and not _ABOUT_OUTPUT.search(line):
            self.errors = (self.errors + line)[-MOST_BYTES:]

    def _note_input(self, message: bytes) -> None:
        if found := _INPUT.match(message):
            _add_change(self.rates_hz, int(found[1]))
            _add_change(self.layouts, found[2].decode("ascii", "replace"))


def _add_change(found: list[_T], value: _T) -> None:
    if found[-1:] != [value] and len(found) < _MOST_CHANGES:
        found.append(value)
