"""Which differences between two texts are no errors: case, punctuation, and for English spelling and numbers.

Touches: nothing. The rules are those of Whisper's authors, in the package ``whisper-normalizer``. They work on a text
as a whole, because a number may continue in the next line; then each word of the result is found again in the text, so
that its time and its speaker are known.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Literal

from controller.evaluation.align import aligned
from controller.evaluation.words import Unit, Word, whole

Normalizer = Literal["none", "basic", "english"]
"""``basic``: case, punctuation, symbols and what is in brackets do not count. ``english``: also contractions, British
spelling, and numbers in words.
"""

MOST_WORDS = 500_000
"""Most words of a text: the time of an alignment grows with the square of their number."""

_NOTE = re.compile(r"<[^<>\[\]]*>|\[[^<>\[\]]*\]|\([^()]+\)")
_BRACKET = re.compile(r"[<>\[\]()]")
_INVISIBLE = str.maketrans(dict.fromkeys("\u00ad\u200b\u200e\u200f\u2060\ufeff"))
"""Hyphens and spaces that are not shown, and marks of direction, as captions have them."""


class NotComparable(Exception):
    """Two texts that cannot be compared. The message says why."""


def chosen(normalizer: Normalizer | Literal["auto"], language: str | None) -> Normalizer:
    """The rules for a language; None: it is not known."""
    if normalizer != "auto":
        return normalizer
    return "english" if language == "en" else "basic"


def normalized(words: Sequence[Word], normalizer: Normalizer, unit: Unit) -> list[Word]:
    """The words, or the characters, that are compared, each with the line, time and speaker of the word it comes from.

    Raises :class:`NotComparable`, without saying which text it is.
    """
    source = whole(words) if unit == "words" else words
    if normalizer == "none":
        return _checked([word._replace(text=part) for word in source for part in _parts(word.text, unit)])
    rules = _rules(normalizer)
    try:
        alone = [(part, word) for word in source for part in _parts(_one(normalizer, word.text), unit)]
        parts = _parts(rules(" ".join(_lines(source, unit))), unit)
    except (AssertionError, ValueError) as error:
        raise NotComparable("has numbers that the rules for English cannot read: use --normalize basic") from error
    if len(parts) > MOST_WORDS or len(alone) > 2 * MOST_WORDS:
        raise _too_long(max(len(parts), len(alone)))
    return _found_again(parts, alone)


def _checked(words: list[Word]) -> list[Word]:
    if len(words) > MOST_WORDS:
        raise _too_long(len(words))
    return words


def _too_long(count: int) -> NotComparable:
    return NotComparable(f"has {count:,} words or characters, and may have {MOST_WORDS:,}: divide it")


def _found_again(parts: Sequence[str], alone: Sequence[tuple[str, Word]]) -> list[Word]:
    """Each part with the word that it comes from. *alone*: the same text, with each word by itself."""
    texts = [text for text, _ in alone]
    if texts == list(parts):
        return [word._replace(text=text) for text, word in alone]
    found: list[Word] = []
    at = 0
    for kind, before, after in aligned(texts, parts):
        for number, text in enumerate(parts[after]):
            at = before.start + number if kind != "insert" else at
            found.append(alone[at][1]._replace(text=text))
    return found


def _lines(words: Sequence[Word], unit: Unit) -> list[str]:
    """The lines of a text, without what is in brackets. No bracket is left: it would be open for the next lines too."""
    space = " " if unit == "words" else ""
    lines = (space.join(word.text for word in line) for _, line in itertools.groupby(words, attrgetter("line")))
    return [_tidy(_NOTE.sub(" ", line)) for line in lines]


def _tidy(text: str) -> str:
    """A text in which the rules find no bracket, and no long space: they would take very long for many of them."""
    return " ".join(_BRACKET.sub(" ", text.translate(_INVISIBLE)).split())


def _parts(text: str, unit: Unit) -> list[str]:
    return text.split() if unit == "words" else list("".join(text.split()))


@cache
def _one(normalizer: Normalizer, word: str) -> str:
    return _rules(normalizer)(_tidy(word))


@cache
def _rules(normalizer: Normalizer) -> Callable[[str], str]:
    # Imported here: most commands compare nothing. Python warns about a docstring of the package when it compiles it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    # Without marks, the vowels of many scripts of Asia would be lost.
    rules: Callable[[str], str] = (
        EnglishTextNormalizer() if normalizer == "english" else BasicTextNormalizer(preserve_marks=True)
    )
    return rules
