"""Divides a run of words into cues and each cue into lines, at the best places.

Touches: nothing. Dynamic programming over all divisions; its time is in proportion to the number of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from controller.domain.captions import CaptionStyle
from controller.transcript.captions.breaks import INSIDE, break_cost, continues_name, continues_number, ends_sentence
from controller.transcript.captions.tokens import Token
from controller.transcript.captions.width import columns

LINGER_MS = 500
"""How long a cue may stay after its last word."""
DASH_COLUMNS = 2
"""Width of the dash before the words of each speaker, in a cue of two speakers."""

_CUE = 14.0
"""The cost of one more cue."""
_LINE = 3.0
_SENTENCE_INSIDE = 9.0
"""The cost of a sentence that ends inside a cue, and in the middle of a line."""
_UNBALANCED = 0.35
"""The cost of each column of difference between two lines."""
_TOO_SHORT = 300.0
"""The cost of a cue without time for its shortest display, or with words that take longer than the longest one."""
_TOO_FAST = 40.0
_TORN_TURN = 25.0
"""The cost of a cue of two speakers that begins or ends inside a sentence of one of them."""
_LONG_PAUSE_MS = 900
_NEVER = float("inf")

Line = tuple[Token, ...]


class _Cost(NamedTuple):
    cost: float
    ends: tuple[int, ...]
    """After which word each line ends."""


_IMPOSSIBLE = _Cost(_NEVER, ())


class Layout:
    """The divisions of one run of words."""

    def __init__(self, tokens: Sequence[Token], style: CaptionStyle, next_ms: int) -> None:
        """*next_ms*: when the words after this run start."""
        self._tokens = tokens
        self._style = style
        self._starts = [*(token.start_ms for token in tokens), next_ms]
        self._left: list[int] = []
        """The column at which each word starts, if all words were on one line."""
        self._right: list[int] = []
        at = 0
        for token in tokens:
            at += token.spaced and bool(self._left)
            self._left.append(at)
            at += columns(token.text)
            self._right.append(at)
        pairs = list(pairwise(tokens))
        self._breaks = [break_cost(before, after) for before, after in pairs]
        for at, three in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False)):
            if continues_name(*three):
                self._breaks[at + 1] = INSIDE
            if continues_number(*three):
                self._breaks[at] = self._breaks[at + 1] = INSIDE
        self._sentences = [ends_sentence(token.text) for token in tokens]
        self._changes = [before.speaker != after.speaker for before, after in pairs]
        self._pauses = [max(0, after.start_ms - before.end_ms - _LONG_PAUSE_MS) / 50 for before, after in pairs]

    def cues(self) -> list[tuple[Line, ...]]:
        """The best division: the lines of each cue."""
        count = len(self._tokens)
        best: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
        for end in range(1, count + 1):
            found: tuple[float, int, tuple[int, ...]] = (_NEVER, end - 1, (end,))
            for start in range(end - 1, -1, -1):
                if start < end - 1 and not self._may_fit(start, end):
                    break
                one = self._cue(start, end)
                total = best[start][0] + one.cost
                if total < found[0]:
                    found = (total, start, one.ends)
            best.append(found)
        cues: list[tuple[Line, ...]] = []
        end = count
        while end:
            _, start, ends = best[end]
            begins = (start, *ends[:-1])
            cues.append(tuple(tuple(self._tokens[a:b]) for a, b in zip(begins, ends, strict=True)))
            end = start
        return cues[::-1]

    def _width(self, start: int, end: int) -> int:
        return self._right[end - 1] - self._left[start]

    def _may_fit(self, start: int, end: int) -> bool:
        style = self._style
        most = style.max_line_width * style.max_line_count + style.max_line_count
        words = style.max_words_per_line
        return self._width(start, end) <= most and (words is None or end - start <= words * style.max_line_count)

    def _cue(self, start: int, end: int) -> _Cost:
        """The cost of one cue with these words, with its best lines."""
        changes = sum(self._changes[start : end - 1])
        lines = self._speakers(start, end) if changes else self._lines(start, end, self._style.max_line_count)
        if lines.cost == _NEVER:
            return lines
        cost = _CUE + lines.cost + sum(self._pauses[start : end - 1]) + self._timing(start, end)
        if changes:
            cost += 2 * sum(self._pauses[start : end - 1]) + _TORN_TURN * (self._is_torn(start) + self._is_torn(end))
        if end < len(self._tokens) and not self._changes[end - 1]:
            cost += 1.5 * self._breaks[end - 1]
        cost += _SENTENCE_INSIDE * sum(
            1 if index + 1 in lines.ends else 2 for index in range(start, end - 1) if self._sentences[index]
        )
        return lines._replace(cost=cost)

    def _is_torn(self, at: int) -> bool:
        """Whether a sentence of one speaker continues before word *at*."""
        inside = 0 < at < len(self._tokens)
        return inside and not self._changes[at - 1] and not self._sentences[at - 1]

    def _timing(self, start: int, end: int) -> float:
        """The cost of a display that is too short, too long, or too fast to read."""
        style = self._style
        begin_ms, last_ms = self._starts[start], self._tokens[end - 1].end_ms
        free_ms = self._starts[end] - style.min_gap_ms - begin_ms
        cost = 0.0
        if free_ms < style.min_cue_ms:
            cost += _TOO_SHORT * (2 - free_ms / style.min_cue_ms)
        if last_ms - begin_ms > style.max_cue_ms and end - start > 1:
            cost += _TOO_SHORT * (last_ms - begin_ms) / style.max_cue_ms
        if style.max_cps:
            shown_ms = max(style.min_cue_ms, min(last_ms + LINGER_MS - begin_ms, style.max_cue_ms, free_ms))
            speed = 1000 * self._width(start, end) / shown_ms / style.max_cps
            if speed > 1:
                cost += _TOO_FAST * (0.5 + speed)
        return cost

    def _speakers(self, start: int, end: int) -> _Cost:
        """Two speakers in one cue: each has one line, with a dash."""
        change = next(index for index in range(start, end - 1) if self._changes[index]) + 1
        if any(self._changes[change : end - 1]) or self._style.max_line_count < 2:
            return _IMPOSSIBLE
        if not all(self._fits(a, b, DASH_COLUMNS) for a, b in ((start, change), (change, end))):
            return _IMPOSSIBLE
        return _Cost(_LINE, (change, end))

    def _fits(self, start: int, end: int, more: int = 0) -> bool:
        style = self._style
        words = style.max_words_per_line
        return self._width(start, end) + more <= style.max_line_width and (words is None or end - start <= words)

    def _lines(self, start: int, end: int, most: int) -> _Cost:
        """The best lines, as few as possible."""
        if self._fits(start, end):
            return _Cost(0.0, (end,))
        if most == 2:
            return self._two_lines(start, end)
        found = _IMPOSSIBLE
        for most_after in range(1, most):
            for middle in range(start + 1, end):
                if not self._fits(start, middle):
                    break
                rest = self._lines(middle, end, most_after)
                cost = rest.cost + self._line_cost(start, middle, end) / most_after
                if cost < found.cost:
                    found = _Cost(cost, (middle, *rest.ends))
            if found.ends:
                break
        return found

    def _two_lines(self, start: int, end: int) -> _Cost:
        # Most of the time of all captions is spent here: no calls in the loop.
        most, left, right, breaks = self._style.max_line_width, self._left, self._right, self._breaks
        words = self._style.max_words_per_line or end
        first, last = left[start], right[end - 1]
        found, at = _NEVER, 0
        for middle in range(start + 1, min(end, start + words + 1)):
            before = right[middle - 1] - first
            if before > most:
                break
            after = last - left[middle]
            if after > most or end - middle > words:
                continue
            cost = _LINE + breaks[middle - 1] + _UNBALANCED * abs(before - after)
            if cost < found:
                found, at = cost, middle
        return _Cost(found, (at, end)) if at else _IMPOSSIBLE

    def _line_cost(self, start: int, middle: int, end: int) -> float:
        difference = abs(self._width(start, middle) - self._width(middle, end))
        return _LINE + self._breaks[middle - 1] + _UNBALANCED * difference
