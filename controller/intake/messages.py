"""Messages of ffmpeg: the errors, and the sample rates that it has decoded.

Touches: nothing. ffmpeg says a rate only at its level *verbose*, among much else; only the last errors are kept.
"""

from __future__ import annotations

import re

MOST_BYTES = 4096
"""Of the errors, and of a line: a line may be as long as a tag in the file."""

_LEVEL = re.compile(
    rb"((?:\[[^\]]{0,200} @ 0x[0-9a-f]+\] )*)\[(quiet|panic|fatal|error|warning|info|verbose|debug|trace)\] "
)
_RATE = re.compile(rb"tb:\S+ samplefmt:\S+ samplerate:(\d{2,7})\b")
_MOST_RATES = 100
_ERRORS = frozenset({b"panic", b"fatal", b"error"})


class Messages:
    """Gets what ffmpeg writes with ``-v level+verbose``, in pieces of any size."""

    def __init__(self) -> None:
        self.errors = b""
        """The last lines about errors, without their level."""
        self.rates_hz: list[int] = []
        """Sample rates in order, with an entry for each change."""
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
                self._note_rate(line[len(found[1]) :])
        if self._level in _ERRORS:
            self.errors = (self.errors + line)[-MOST_BYTES:]

    def _note_rate(self, message: bytes) -> None:
        if (found := _RATE.match(message)) and len(self.rates_hz) < _MOST_RATES:
            rate_hz = int(found[1])
            if self.rates_hz[-1:] != [rate_hz]:
                self.rates_hz.append(rate_hz)
