"""A transcript as captions in a style, a few segments at a time.

Touches: nothing. Every cue starts with its first word. Only if words follow each other faster than the style can show
them, a cue starts later, when the one before it has had its shortest display.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chunk_job.segment import Segment
from controller.domain.captions import CaptionStyle
from controller.transcript.captions.layout import LINGER_MS, Layout, Line
from controller.transcript.captions.tokens import Token, tokens_of, tokens_of_text
from controller.transcript.captions.turns import Turns
from controller.transcript.captions.width import columns
from controller.transcript.formats import Cue, CueStream, gap_line
from controller.transcript.model import Gap

_MOST_TOKENS = 400
"""Words that are divided at once. Of a longer run, all cues but the last ones are final."""
_KEPT_CUES = 4
_RUN_PAUSE_MS = 2_000
"""No cue continues over such a pause."""
_NO_NEXT_MS = 1 << 50


class Caption(NamedTuple):
    """A cue with its words."""

    start_ms: int
    end_ms: int
    lines: tuple[Line, ...]


class CaptionStream:
    """The captions of a transcript in order, with one for each gap."""

    def __init__(self, gaps: Sequence[Gap], style: CaptionStyle) -> None:
        """*gaps*: all gaps, in order."""
        self._gaps = deque(gaps)
        self._style = style
        self._run: list[Token] = []
        """Words that are not in a cue yet."""
        self._last_ms = 0
        """The latest end of all words so far."""
        self._timing = _Timing(style)
        self._turns = Turns()

    def add(self, segments: Sequence[Segment]) -> list[Caption]:
        """Add the next *segments*, and return the captions that are complete now."""
        return [caption for segment in segments for caption in self._add(segment)]

    def finish(self) -> list[Caption]:
        """The remaining captions, after the last segment."""
        found = [caption for phrase in self._turns.finish() for caption in self._add_words(phrase, phrase[0].start_ms)]
        found += [*self._flush(_NO_NEXT_MS), *self._put_gaps(_NO_NEXT_MS)]
        return [*found, *self._timing.finish()]

    def _add(self, segment: Segment) -> Iterator[Caption]:
        if not self._style.joins_segments:
            yield from self._flush(segment.start_ms)
        words = tokens_of(segment, self._style.max_line_width)
        if not any(word.speaker for word in words):
            yield from self._add_words(words, segment.start_ms)
            return
        for phrase in self._turns.add(words, segment.start_ms):
            yield from self._add_words(phrase, phrase[0].start_ms)

    def _add_words(self, words: Sequence[Token], begin_ms: int) -> Iterator[Caption]:
        """Add words, which begin at *begin_ms*."""
        if self._gaps and self._gaps[0].start_ms <= begin_ms:
            yield from self._flush(begin_ms)
            yield from self._put_gaps(begin_ms)
        for token in words:
            # Segments of a damaged transcript, or of people who speak at the same time, overlap.
            after_ms = self._run[-1].start_ms if self._run else 0
            start_ms = max(after_ms, token.start_ms)
            timed = token._replace(start_ms=start_ms, end_ms=max(start_ms, token.end_ms))
            pause_ms = max(_RUN_PAUSE_MS, self._style.min_cue_ms + self._style.min_gap_ms)
            if self._run and start_ms - self._run[-1].end_ms >= pause_ms:
                yield from self._flush(start_ms)
            self._run.append(timed)
            self._last_ms = max(self._last_ms, timed.end_ms)
            if len(self._run) >= _MOST_TOKENS:
                yield from self._flush(start_ms, kept=_KEPT_CUES)

    def _flush(self, next_ms: int, kept: int = 0) -> Iterator[Caption]:
        """Divide the run into cues. The words of the *kept* last ones remain, to be divided again with their next."""
        if not self._run:
            return
        cues = Layout(self._run, self._style, next_ms).cues()
        final = cues[: max(1, len(cues) - kept)] if kept else cues
        for lines in final:
            yield from self._timing.put(lines)
        words = sum(len(line) for lines in final for line in lines)
        self._run = self._run[words:]

    def _put_gaps(self, next_ms: int) -> Iterator[Caption]:
        while self._gaps and self._gaps[0].start_ms <= next_ms:
            gap = self._gaps.popleft()
            cue = gap_line(gap, self._last_ms, min(gap.end_ms, next_ms))
            text = cue.text
            if columns(text) > self._style.max_line_width:
                text = text.replace(" from", "")
            if columns(text) <= self._style.max_line_width:
                cues: list[tuple[Line, ...]] = [((Token(text, cue.start_ms, cue.end_ms, spaced=True),),)]
            else:
                words = tokens_of_text(text, cue.start_ms, cue.end_ms, self._style.max_line_width)
                cues = Layout(words, self._style, next_ms).cues()
            for lines in cues:
                yield from self._timing.put(lines)


class SegmentCaptions:
    """The captions of a transcript without a style: one for each segment, without times of words."""

    def __init__(self, gaps: Sequence[Gap], duration_ms: int) -> None:
        """*gaps*: all gaps, in order."""
        self._cues = CueStream(gaps, duration_ms)

    def add(self, segments: Sequence[Segment]) -> list[Caption]:
        """Add the next *segments*, and return the captions that are complete now."""
        return list(map(_of_cue, self._cues.add(segments)))

    def finish(self) -> list[Caption]:
        """The remaining captions, after the last segment."""
        return list(map(_of_cue, self._cues.finish()))


def _of_cue(cue: Cue) -> Caption:
    return Caption(
        cue.start_ms, cue.end_ms, ((Token(cue.text, cue.start_ms, cue.end_ms, spaced=True, speaker=cue.speaker),),)
    )


class _Timing:
    """Gives each cue its time, which depends on the next one."""

    def __init__(self, style: CaptionStyle) -> None:
        self._style = style
        self._last: tuple[Line, ...] | None = None
        self._free_ms = 0
        """From when on the next cue may be shown."""

    def put(self, lines: tuple[Line, ...]) -> list[Caption]:
        """Add the next cue, and return the one before it."""
        found = self._ended(lines[0][0].start_ms)
        self._last = lines
        return found

    def finish(self) -> list[Caption]:
        return self._ended(_NO_NEXT_MS)

    def _ended(self, next_ms: int) -> list[Caption]:
        if self._last is None:
            return []
        style = self._style
        start_ms = max(self._last[0][0].start_ms, self._free_ms)
        last_ms = max(token.end_ms for line in self._last for token in line)
        linger_ms = LINGER_MS if style.joins_segments else 0
        end_ms = min(last_ms + linger_ms, start_ms + style.max_cue_ms, next_ms - style.min_gap_ms)
        end_ms = max(end_ms, start_ms + style.min_cue_ms)
        self._free_ms = end_ms + style.min_gap_ms
        found = Caption(start_ms, end_ms, self._last)
        self._last = None
        return [found]
