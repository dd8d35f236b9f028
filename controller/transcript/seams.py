"""Joins two neighbouring chunks at a forced cut, which both overlap by up to two seconds.

Touches: nothing. They are joined at an anchor: a word that both have at the same time. Without an anchor, each word
belongs to the side of its middle; then a word that both sides have kept, or both have dropped, is corrected.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunk_job.segment import Segment, Word
from controller.domain.plan import Span

_ANCHOR_MS = 500
"""Largest time difference of the same word in both chunks."""
_ANCHOR_WORDS = 100
"""Most words per side that can be anchors: more than a speaker can say in an overlap of four seconds."""
_NEIGHBOUR_MS = 350


@dataclass
class Part:
    """A span's segments in chunk time. They are copied only once, when they are converted to media time."""

    span: Span
    segments: tuple[Segment, ...]
    shift_ms: int
    """Difference from chunk time to media time."""


class _Timed(NamedTuple):
    """A word of one side: the index of its segment, the word in chunk time, and the shift to media time."""

    segment: int
    word: Word
    shift_ms: int

    @property
    def start_ms(self) -> int:
        return self.word["start_ms"] + self.shift_ms

    @property
    def end_ms(self) -> int:
        return self.word["end_ms"] + self.shift_ms

    @property
    def middle(self) -> float:
        return (self.start_ms + self.end_ms) / 2

    @property
    def probability(self) -> float:
        return self.word["probability"]


def join(left: Part, right: Part, cut_ms: int) -> None:
    """Trim both sides of a forced cut so that every word in the overlap occurs once."""
    ours, theirs = _words(left), _words(right)
    keep_left, keep_right = _split(ours, theirs, cut_ms)
    _keep(left, ours, keep_left, cut_ms, before=True)
    _keep(right, theirs, keep_right, cut_ms, before=False)


def _split(ours: Sequence[_Timed], theirs: Sequence[_Timed], cut_ms: int) -> tuple[set[int], set[int]]:
    """The indexes of the words of each side that are kept."""
    anchor = _anchor(ours, theirs, cut_ms)
    if anchor is not None:
        return set(range(anchor[0] + 1)), set(range(anchor[1] + 1, len(theirs)))
    keep_left = {i for i, timed in enumerate(ours) if timed.middle < cut_ms}
    keep_right = {j for j, timed in enumerate(theirs) if timed.middle >= cut_ms}
    last = max(keep_left, default=-1)
    first = min(keep_right, default=len(theirs))
    if last >= 0 and first < len(theirs) and _same_moment(ours[last], theirs[first]):
        if ours[last].probability >= theirs[first].probability:
            keep_right.discard(first)
        else:
            keep_left.discard(last)
    elif last + 1 < len(ours) and first > 0 and _same_moment(ours[last + 1], theirs[first - 1]):
        if ours[last + 1].probability >= theirs[first - 1].probability:
            keep_left.add(last + 1)
        else:
            keep_right.add(first - 1)
    return keep_left, keep_right


def _anchor(ours: Sequence[_Timed], theirs: Sequence[_Timed], cut_ms: int) -> tuple[int, int] | None:
    """The pair of equal words at the same moment, in the longest common run, nearest to the cut."""
    others = [(j, theirs[j].middle, _normal(theirs[j].word)) for j in _nearest(theirs, cut_ms)]
    pairs = {
        (i, j)
        for i in _nearest(ours, cut_ms)
        if (word := _normal(ours[i].word))
        for j, middle, other in others
        if word == other and abs(ours[i].middle - middle) <= _ANCHOR_MS
    }
    if not pairs:
        return None

    def run_length(pair: tuple[int, int]) -> int:
        begin, end = pair, pair
        while (begin[0] - 1, begin[1] - 1) in pairs:
            begin = (begin[0] - 1, begin[1] - 1)
        while (end[0] + 1, end[1] + 1) in pairs:
            end = (end[0] + 1, end[1] + 1)
        return end[0] - begin[0]

    def distance(pair: tuple[int, int]) -> float:
        return abs((ours[pair[0]].middle + theirs[pair[1]].middle) / 2 - cut_ms)

    return min(pairs, key=lambda pair: (-run_length(pair), distance(pair), pair))


def _nearest(words: Sequence[_Timed], cut_ms: int) -> list[int]:
    """Indexes of the words around the cut. Only these can be in both chunks, and comparing all words takes minutes."""
    return heapq.nsmallest(_ANCHOR_WORDS, range(len(words)), key=lambda index: abs(words[index].middle - cut_ms))


def _same_moment(a: _Timed, b: _Timed) -> bool:
    """Whether two different words are transcriptions of the same sound."""
    shared = min(a.end_ms, b.end_ms) - max(a.start_ms, b.start_ms)
    shorter = min(a.end_ms - a.start_ms, b.end_ms - b.start_ms)
    return abs(a.middle - b.middle) <= _NEIGHBOUR_MS and shared * 2 > shorter


def _words(part: Part) -> list[_Timed]:
    return [_Timed(index, word, part.shift_ms) for index, segment in enumerate(part.segments) for word in segment.words]


def _keep(part: Part, words: Sequence[_Timed], keep: set[int], cut_ms: int, *, before: bool) -> None:
    """Rebuild the segments that lost words. A segment without word times belongs to the side of its middle."""
    staying: dict[int, list[Word]] = {}
    for number, timed in enumerate(words):
        if number in keep:
            staying.setdefault(timed.segment, []).append(timed.word)
    kept = []
    for index, segment in enumerate(part.segments):
        if not segment.words:
            if ((segment.start_ms + segment.end_ms) / 2 + part.shift_ms < cut_ms) == before:
                kept.append(segment)
        elif index in staying:
            kept.append(_trimmed(segment, staying[index]))
    part.segments = tuple(kept)


def _trimmed(segment: Segment, words: Sequence[Word]) -> Segment:
    if len(words) == len(segment.words):
        return segment
    return segment.model_copy(
        update={
            "text": "".join(word["word"] for word in words),
            "start_ms": words[0]["start_ms"],
            "end_ms": max(word["end_ms"] for word in words),
            "words": tuple(words),
            # The tokens of half a segment are not known without the tokenizer.
            "tokens": (),
        }
    )


def _normal(word: Word) -> str:
    """A word for comparison: without case and punctuation."""
    return "".join(character for character in word["word"].casefold() if character.isalnum())
