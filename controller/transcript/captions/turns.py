"""Words of people who speak at the same time → one order, phrase by phrase.

Touches: nothing. Captions show one thing after the other: what one person says meanwhile comes at the next end of a
phrase, not after the whole segment of the other one, and not in the middle of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from controller.transcript.captions.tokens import Token

Phrase = Sequence[Token]

_ENDS = tuple(".!?…؟。！？")
_PARTS = tuple(",;:،؛、，；：")
_LONG_MS = 1_500
"""A phrase of this length also ends at a comma: a sentence may be much longer than what is said meanwhile."""
_PAUSE_MS = 300
_LONGEST_MS = 4_000


class Turns:
    """Gets the words of segments in the order of their start, and returns phrases in the order of theirs."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Phrase]] = []
        """A heap: a later segment may start before these phrases."""
        self._count = 0

    def add(self, words: Sequence[Token], start_ms: int) -> Iterator[Phrase]:
        """Add the words of a segment. Returns the phrases that start before all later segments."""
        for phrase in _phrases(words):
            heapq.heappush(self._waiting, (phrase[0].start_ms, self._count, phrase))
            self._count += 1
        while self._waiting and self._waiting[0][0] <= start_ms:
            yield heapq.heappop(self._waiting)[2]

    def finish(self) -> Iterator[Phrase]:
        """The remaining phrases."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]


def _phrases(words: Sequence[Token]) -> Iterator[Phrase]:
    """The words of one segment, divided at punctuation, at pauses, and where a speaker changes."""
    begin = 0
    for end in range(1, len(words) + 1):
        last = words[end - 1]
        if end < len(words):
            after = words[end]
            length_ms = last.end_ms - words[begin].start_ms
            ends = last.text.endswith(_ENDS) or (length_ms >= _LONG_MS and last.text.endswith(_PARTS))
            follows = after.start_ms - last.end_ms < _PAUSE_MS and last.speaker == after.speaker
            if follows and not ends and length_ms < _LONGEST_MS:
                continue
        yield words[begin:end]
        begin = end
