"""Joins two neighbouring chunks at a forced cut: both heard up to two seconds beyond it.

Touches: nothing. They are joined at an anchor, a word both heard at the same moment; where there is none, each word
goes to the side its middle lies on, and one word that both sides kept, or both left to the other, is put right.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunk_job.contract import Segment, Word
from controller.domain.plan import Span

_ANCHOR_MS = 500
"""Two hearings of one word differ by less than this."""
_ANCHOR_WORDS = 100
"""So many words a side may be anchors: more than are ever said in an overlap of four seconds."""
_NEIGHBOUR_MS = 350


@dataclass
class Part:
    """A span's segments, still in chunk time: they are copied once, when they are placed."""

    span: Span
    segments: tuple[Segment, ...]
    shift_ms: int
    """From chunk time to media time."""


class _Timed(NamedTuple):
    """A word of one side of a seam: its segment there, the word in chunk time, and how far that is from media time."""

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
    """Trim both sides of a forced cut so that every word in the overlap is there once."""
    ours, theirs = _words(left), _words(right)
    keep_left, keep_right = _split(ours, theirs, cut_ms)
    _keep(left, ours, keep_left, cut_ms, before=True)
    _keep(right, theirs, keep_right, cut_ms, before=False)


def _split(ours: Sequence[_Timed], theirs: Sequence[_Timed], cut_ms: int) -> tuple[set[int], set[int]]:
    """Which words of each side stay, by their places in the lists."""
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
    heard = [(j, theirs[j].middle, _normal(theirs[j].word)) for j in _nearest(theirs, cut_ms)]
    pairs = {
        (i, j)
        for i in _nearest(ours, cut_ms)
        if (word := _normal(ours[i].word))
        for j, middle, other in heard
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
    """The places of the words around the cut: no others were heard twice, and comparing all with all takes minutes."""
    return heapq.nsmallest(_ANCHOR_WORDS, range(len(words)), key=lambda place: abs(words[place].middle - cut_ms))


def _same_moment(a: _Timed, b: _Timed) -> bool:
    """Whether two unequal words are two hearings of one sound."""
    shared = min(a.end_ms, b.end_ms) - max(a.start_ms, b.start_ms)
    shorter = min(a.end_ms - a.start_ms, b.end_ms - b.start_ms)
    return abs(a.middle - b.middle) <= _NEIGHBOUR_MS and shared * 2 > shorter


def _words(part: Part) -> list[_Timed]:
    return [_Timed(index, word, part.shift_ms) for index, segment in enumerate(part.segments) for word in segment.words]


def _keep(part: Part, words: Sequence[_Timed], keep: set[int], cut_ms: int, *, before: bool) -> None:
    """Rebuild the segments that lost words; a segment without word times goes where its middle lies."""
    staying: dict[int, list[Word]] = {}
    for place, timed in enumerate(words):
        if place in keep:
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
    """A word as two hearings of it agree: case and punctuation aside."""
    return "".join(character for character in word["word"].casefold() if character.isalnum())
