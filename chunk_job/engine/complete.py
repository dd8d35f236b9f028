"""Windows → complete texts: decodes them in batches, and what their texts leave out once more.

Touches: nothing itself; its decoder uses the device. A window whose text has too many tokens is cut in two. Speech
without words, at the end of a text or inside it, is the start of a *rest*, a window of its own. A window that only
repeats the one before is tried at the next temperatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.checks import repeats
from chunk_job.engine.prepare import Prepared
from chunk_job.engine.segments import SpokenWindow
from chunk_job.engine.window_state import WindowState
from chunk_job.engine.windows import SPOKEN_AFTER_TEXT, SPOKEN_IN_TEXT, Window, halves, rest_of
from chunk_job.segment import DecodedWindow

_MOST_RESTS = 3
"""How often the rest of a window is cut off from it."""


class Decoder(Protocol):
    """Decodes windows, several at a time."""

    batch_size: int
    """Windows that are decoded together. It may shrink."""
    temperatures: int
    """How many temperatures there are to decode at."""

    def decode(self, states: Sequence[WindowState], *, skip: int = 0) -> None:
        """Decode windows at each temperature in turn, until all pass. *skip*: temperatures that are left out."""


class WindowsOfAChunk:
    """Decodes the windows of one chunk completely."""

    def __init__(self, decoder: Decoder, prepared: Prepared, progress: Callable[[int], None]) -> None:
        """*progress* gets the position in ms after each batch of windows."""
        self._decoder, self._prepared, self._progress = decoder, prepared, progress

    def decode(self, windows: Sequence[Window]) -> tuple[list[SpokenWindow], list[DecodedWindow]]:
        """Decode *windows*, which are in order. Returns the ones with text, and what was tried for each.

        Raises the errors of the decoder.
        """
        states = list(self._decoded(windows))
        self._again_where_repeated(states)
        spoken = [
            SpokenWindow(start_ms=_ms(state.window.start), decoding=state.decoding, words=state.words)
            for state in states
            if state.decoding and state.words
        ]
        return spoken, [state.record() for state in states]

    def _decoded(self, windows: Sequence[Window]) -> Iterator[WindowState]:
        at = 0
        while at < len(windows):
            states = [WindowState(window=window) for window in windows[at : at + self._decoder.batch_size]]
            at += len(states)
            self._decoder.decode(states)
            yield from self._completed(states)
            self._progress(_ms(states[-1].window.end))

    def _completed(self, states: Sequence[WindowState]) -> list[WindowState]:
        """The states, each followed by those of the parts of its window that had to be decoded again."""
        parts = [self._parts(state) for state in states]
        self._decoder.decode([part for group in parts for part in group])
        completed = []
        for state, group in zip(states, parts, strict=True):
            again = self._completed(group) if group else []
            state.complete_with(again)
            completed += [state, *again]
        return completed

    def _parts(self, state: WindowState) -> list[WindowState]:
        """The halves of a window whose text was too long, or the rest of one from speech on that has no words."""
        if state.decoding is None:
            cut = halves(self._prepared.audio, state.window, self._prepared.speech)
            return [WindowState(window=part, depth=state.depth) for part in cut]
        # Of a doubtful text, what is missing is as doubtful; and each rest has a rest of its own.
        if state.doubtful or state.depth >= _MOST_RESTS:
            return []
        for number in range(1, len(state.words) + 1):
            rest = self._without_words(state, number)
            if rest:
                state.cut_before = number
                return [WindowState(window=rest, depth=state.depth + 1)]
        return []

    def _without_words(self, state: WindowState, number: int) -> Window | None:
        """The window from the end of word *number* on, if there is a lot of speech between it and the next word."""
        is_last = number == len(state.words)
        until = state.window.end if is_last else _samples(state.words[number].start_ms)
        least = SPOKEN_AFTER_TEXT if is_last else SPOKEN_IN_TEXT
        after = _samples(state.words[number - 1].end_ms)
        rest = rest_of(state.window, after, self._prepared.speech, until=until, least=least)
        return rest if rest and rest.start - state.window.start >= SAMPLE_RATE else None

    def _again_where_repeated(self, states: Sequence[WindowState]) -> None:
        """Decode windows again that say only what the one before said, at the next temperatures.

        In music and noise, Whisper often invents the same sentence for window after window.
        """
        used = [state for state in states if not state.unused]
        found = [
            (state, previous.text)
            for previous, state in itertools.pairwise(used)
            if state.cut_before is None and repeats(state.text, previous.text)
        ]
        if not found or self._decoder.temperatures == 1:
            return
        again = [WindowState(window=state.window) for state, _ in found]
        self._decoder.decode(again, skip=1)
        for (state, before), other in zip(found, again, strict=True):
            state.take_unless_worse(other, repeated=repeats(other.text, before))


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000
