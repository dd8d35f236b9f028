"""Long parts with sound and without words: they may be a mistake of the transcription.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chunk_job.segment import Segment
from controller.domain.plan import Span, Stretch

LONGEST_PAUSE_MS = 300_000
"""A shorter time without words is a pause."""
_LEAST_SOUND_MS = LONGEST_PAUSE_MS // 2
_LEAST_SOUND_OF_ALL_MS = 1_000


class Wordless:
    """Gets the segments of a transcript in order, and finds parts without words. Times are of the decoded audio."""

    def __init__(self) -> None:
        self._heard_ms = 0
        self._parts: list[tuple[int, int]] = []
        self.has_words = False

    def add(self, segments: Iterable[Segment], offset_ms: int) -> None:
        """Add segments in media time, which is *offset_ms* more."""
        for segment in segments:
            if not segment.text.strip():
                continue
            times = [(word["start_ms"], word["end_ms"]) for word in segment.words]
            for start_ms, end_ms in times or [(segment.start_ms, segment.end_ms)]:
                self._end_part(start_ms - offset_ms)
                self._heard_ms = max(self._heard_ms, end_ms - offset_ms)
            self.has_words = True

    def _end_part(self, at_ms: int) -> None:
        if at_ms - self._heard_ms >= LONGEST_PAUSE_MS:
            self._parts.append((self._heard_ms, at_ms))

    def with_sound(self, sound: Sequence[Stretch], lost: Sequence[Span], end_ms: int) -> Iterator[tuple[int, int]]:
        """The parts without words that have sound, but not in *lost* spans: start and end in ms.

        Call it after the last segment. *end_ms*: the end of the decoded audio. If there are no words at all, the whole
        recording is such a part, however short.
        """
        if not self.has_words:
            if _overlap(sound, lost, 0, end_ms) >= _LEAST_SOUND_OF_ALL_MS:
                yield 0, end_ms
            return
        self._end_part(end_ms)
        for start_ms, stop_ms in self._parts:
            if _overlap(sound, lost, start_ms, stop_ms) >= _LEAST_SOUND_MS:
                yield start_ms, stop_ms


def _overlap(sound: Sequence[Stretch], lost: Sequence[Span], start_ms: int, end_ms: int) -> int:
    """How much sound there is between two times, without that of lost spans, in ms."""
    total_ms = _length(sound, start_ms, end_ms)
    return total_ms - sum(_length(sound, max(start_ms, span.start_ms), min(end_ms, span.end_ms)) for span in lost)


def _length(sound: Sequence[Stretch], start_ms: int, end_ms: int) -> int:
    return sum(max(0, min(end_ms, one.end_ms) - max(start_ms, one.start_ms)) for one in sound)
