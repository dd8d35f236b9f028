"""Confidence intervals of error rates, by bootstrap.

Touches: nothing. The parts of a text are drawn again and again, each time as many as there are, with repetition; the
interval has the middle 95 % of the rates of these samples. The draws begin from a fixed seed, so results repeat.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from controller.evaluation.documents import Interval

SAMPLES = 1_000
FEWEST_PARTS = 8
"""With fewer parts, an interval says nothing."""
MOST_PARTS = 500
"""More parts are joined with their neighbours: the errors of neighbours are not independent."""
ENOUGH_RECORDINGS = 20
"""Of so many recordings, whole recordings are drawn: their rates differ more than those of the parts of one."""

_SEED = 1
_OUTSIDE = 0.025


class Part(NamedTuple):
    """A part of a text: what it has, and what is wrong in it."""

    words: int
    word_errors: int
    characters: int
    character_errors: int


def added(parts: Sequence[Part]) -> Part:
    """Several parts as one."""
    return Part(*map(sum, zip(*parts, strict=True))) if parts else Part(0, 0, 0, 0)


def intervals(parts: Sequence[Part]) -> tuple[Interval | None, Interval | None]:
    """The intervals of the rates of words and of characters; None if there are too few parts."""
    parts = [part for part in joined(parts) if part.words]
    if len(parts) < FEWEST_PARTS:
        return None, None
    draw = random.Random(_SEED)
    words, characters = [], []
    for _ in range(SAMPLES):
        sample = added(draw.choices(parts, k=len(parts)))
        words.append(sample.word_errors / sample.words)
        characters.append(sample.character_errors / sample.characters)
    return _middle(words), _middle(characters)


def joined(parts: Sequence[Part]) -> list[Part]:
    """At most 500 parts, each of as many neighbours."""
    each = max(1, -(-len(parts) // MOST_PARTS))
    return [added(parts[at : at + each]) for at in range(0, len(parts), each)]


def _middle(rates: list[float]) -> Interval:
    rates.sort()
    outside = int(_OUTSIDE * len(rates))
    return Interval(low=round(rates[outside], 6), high=round(rates[-1 - outside], 6))
