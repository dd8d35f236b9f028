"""Blocks of decoded audio: parts of the stream, and the window that is still needed.

Touches: nothing itself; the blocks come from the decoder.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

import numpy as np

from controller.intake.decoder import Decoder
from controller.intake.flac import HOP_SAMPLES, FlacWriter, Pcm

_NOTHING: Pcm = np.zeros(0, dtype=np.int16)


class Stream:
    """The decoded audio, from which parts are taken in order."""

    def __init__(self, decoder: Decoder, tap: Callable[[Pcm], None] | None = None) -> None:
        """*tap* gets every block that is decoded, also what is before and between the parts."""
        self._decoder = decoder
        self._tap = tap
        self._blocks = decoder.blocks()
        self._left: Pcm | None = None
        self.end = 0
        """Samples read so far."""
        self.at_end = False
        """Whether there are no more samples."""

    @property
    def errors(self) -> str:
        """What ffmpeg reported so far."""
        return self._decoder.errors_so_far()

    def between(self, begin: int, end: int | None) -> Iterator[Pcm]:
        """Samples [begin, end) in blocks of whole hops, except for the last one. *begin* is not before earlier ends."""
        rest = _NOTHING
        while end is None or self.end < end:
            block = self._read()
            if block is None:
                break
            at = self.end - len(block)
            if end is not None and self.end > end:
                self._left = block[end - at :]
                self.end = end
            taken = block[max(0, begin - at) : self.end - at]
            if len(taken):
                taken = np.concatenate((rest, taken)) if len(rest) else taken
                whole = len(taken) - len(taken) % HOP_SAMPLES
                rest = taken[whole:]
                if whole:
                    yield taken[:whole]
        if len(rest):
            yield rest

    def _read(self) -> Pcm | None:
        """The next block; None at the end."""
        block, self._left = self._left, None
        if block is None:
            block = next(self._blocks, None)
            if block is not None and self._tap:
                self._tap(block)
        if block is None:
            self.at_end = True
            return None
        self.end += len(block)
        return block


class Window:
    """The decoded audio that may still be needed: a window that moves with the decoder."""

    def __init__(self) -> None:
        self._blocks: collections.deque[tuple[int, Pcm]] = collections.deque()
        self.end = 0
        """Samples decoded so far."""

    def append(self, block: Pcm) -> None:
        self._blocks.append((self.end, block))
        self.end += len(block)

    def copy(self, flac: FlacWriter, begin: int, end: int) -> None:
        """Write samples [begin, end) to *flac*."""
        for at, block in self._blocks:
            part = block[max(0, begin - at) : max(0, end - at)]
            if len(part):
                flac.write(part)

    def drop(self, before: int) -> None:
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= before:
            self._blocks.popleft()
