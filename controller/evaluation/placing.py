"""Where in a recording each error is, and of whom.

Touches: nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from controller.domain.plan import Cut
from controller.evaluation.align import Step
from controller.evaluation.words import Word
from controller.transcript.model import Chunk

NEAR_MS = 3_000
"""How near a word is to a seam that counts as at the seam."""


class Placed(NamedTuple):
    """A step of an alignment, with its place."""

    step: Step
    line: int
    """Line of the reference. An added word is in the line of the word before it."""
    start_ms: int | None
    """None: no word has times."""
    end_ms: int | None
    speaker: str | None
    """Of the reference if that names speakers, else of the transcript; None: not known."""


class Seam(NamedTuple):
    """The end of a chunk where the next one begins."""

    at_ms: int
    cut: Cut


def placed(
    steps: Sequence[Step],
    reference: Sequence[Word],
    transcript: Sequence[Word],
    *,
    by_reference: bool,
    end_ms: int | None,
) -> list[Placed]:
    """The places of all steps of an alignment. *by_reference*: whether the speakers are those of the reference.
    *end_ms*: the length of the recording, if it is known.

    A word that is missing has the time that the reference gives it; without one, missing words share the time between
    the words around them. A word of nobody is of the speaker of the word before it.
    """
    times = _times(steps, reference, transcript, end_ms)
    speakers = _speakers(steps, reference if by_reference else transcript, by_reference=by_reference)
    found: list[Placed] = []
    line = 0
    for step, (begins_ms, ends_ms), speaker in zip(steps, times, speakers, strict=True):
        if step.reference is not None:
            line = reference[step.reference].line
        elif not found:
            line = reference[0].line if reference else 0
        found.append(Placed(step, line, begins_ms, ends_ms, speaker))
    return found


def seams(chunks: Sequence[Chunk]) -> list[Seam]:
    """The seams between chunks; parts of clips that do not touch have none between them."""
    return [Seam(one.end_ms, one.cut) for one, after in pairwise(chunks) if one.end_ms == after.start_ms]


def chunk_of(one: Placed, chunks: Sequence[Chunk]) -> int | None:
    """The index of the chunk that a word is in; None: no time is known."""
    if one.start_ms is None or one.end_ms is None or not chunks:
        return None
    middle_ms = (one.start_ms + one.end_ms) // 2
    return max(0, bisect_right(chunks, middle_ms, key=lambda chunk: chunk.start_ms) - 1)


def seam_of(one: Placed, every: Sequence[Seam]) -> Seam | None:
    """The nearest seam, if a word is near to it."""
    if one.start_ms is None or one.end_ms is None:
        return None
    start_ms, end_ms = one.start_ms, one.end_ms
    after = bisect_left(every, start_ms, key=lambda seam: seam.at_ms)

    def distance_ms(seam: Seam) -> int:
        return max(0, start_ms - seam.at_ms, seam.at_ms - end_ms)

    near = min(every[max(0, after - 1) : after + 1], key=distance_ms, default=None)
    return near if near and distance_ms(near) <= NEAR_MS else None


_Times = tuple[int | None, int | None]
_UNKNOWN: _Times = (None, None)


def _times(
    steps: Sequence[Step], reference: Sequence[Word], transcript: Sequence[Word], end_ms: int | None
) -> list[_Times]:
    found: list[_Times] = []
    missing: list[int] = []
    """Steps that have no time yet."""
    before_ms = 0
    for number, step in enumerate(steps):
        heard = _time(transcript, step.transcript)
        found.append(_time(reference, step.reference) if heard == _UNKNOWN else heard)
        start_ms, stop_ms = heard
        if start_ms is not None and stop_ms is not None:
            _share(found, missing, before_ms, start_ms)
            before_ms = stop_ms
        elif found[-1] == _UNKNOWN:
            missing.append(number)
    if end_ms is not None:
        _share(found, missing, before_ms, end_ms)
    return found


def _time(words: Sequence[Word], at: int | None) -> _Times:
    return _UNKNOWN if at is None else (words[at].start_ms, words[at].end_ms)


def _share(found: list[_Times], missing: list[int], start_ms: int, end_ms: int) -> None:
    """Give the time between two words to those that are *missing* between them."""
    span_ms = max(0, end_ms - start_ms)
    for number, at in enumerate(missing):
        share = span_ms * number // len(missing), span_ms * (number + 1) // len(missing)
        found[at] = (start_ms + share[0], start_ms + share[1])
    missing.clear()


def _speakers(steps: Sequence[Step], words: Sequence[Word], *, by_reference: bool) -> Iterator[str | None]:
    speaker = next((word.speaker for word in words if word.speaker), None)
    for step in steps:
        at = step.reference if by_reference else step.transcript
        if at is not None:
            speaker = words[at].speaker
        yield speaker
