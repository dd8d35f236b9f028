"""Words → segments that read like sentences.

Touches: nothing. A segment ends at the end of a sentence and at a long pause. One that is longer than
:data:`LONGEST_MS` is cut where a reader would pause: at a pause or the end of a clause, else between any two words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chunk_job.engine.checks import Decoding
from chunk_job.engine.words import TimedWord
from chunk_job.segment import Segment, Word

PAUSE_MS = 800
"""A pause that ends a segment."""

LONGEST_MS = 12_000
"""Longest segment where a pause or the end of a clause allows to cut it."""

_SHORT_PAUSE_MS = 150
"""A pause that is audible, and allows to cut a long sentence."""

_SHORTEST_MS = 1_000
"""A long sentence is not cut into shorter parts than this."""

_SENTENCE_ENDS = frozenset(".?!…。？！．｡؟۔।॥။።՞՜։‼⁇⁈⁉")
_CLAUSE_ENDS = frozenset(",;:—–，；：、､،؛၊፣፤፥፦·")
_CLOSING = "\"'”’»)]}」』）】〉》›"
_KNOWN = (
    "mr mrs ms dr prof st sr sra jr vs etc nr fig vol ca bzw usw dra srta exmo exma mme mlle gen col capt lt sgt rev"
    " hon inc ltd corp co dept approx pp"
)
_ABBREVIATIONS = frozenset(_KNOWN.split())

_ORDINALS_WITH_POINT = "bs cs da de et fi fo hr hu is lb lv nn no pl sk sl sr tr"
_DOTTED_ORDINALS = frozenset(_ORDINALS_WITH_POINT.split())
"""Languages that write "3rd" as "3."."""
_ORDINAL_DIGITS = 2
"""Longer numbers are years more often than ordinals, and a sentence may end with one."""

_SECONDS_OF_SEEK = 100
"""Frames per second of Whisper's ``seek``."""


@dataclass(frozen=True, kw_only=True)
class SpokenWindow:
    """A window with text: its words, and the decoding they come from."""

    start_ms: int
    decoding: Decoding
    words: tuple[TimedWord, ...]


_Placed = tuple[TimedWord, SpokenWindow]


def segments_of(windows: Sequence[SpokenWindow], *, language: str) -> tuple[Segment, ...]:
    """The segments of a chunk. A sentence may continue in the next window. *language*: Whisper's code."""
    words = [(word, window) for window in windows for word in window.words]
    dotted = language in _DOTTED_ORDINALS
    parts = (part for sentence in _sentences(words, dotted_ordinals=dotted) for part in _short(sentence))
    return tuple(_segment(number, part) for number, part in enumerate(parts, 1))


def _sentences(words: Sequence[_Placed], *, dotted_ordinals: bool) -> Iterator[Sequence[_Placed]]:
    start = 0
    for index in range(1, len(words)):
        previous, following = words[index - 1][0], words[index][0]
        if following.start_ms - previous.end_ms >= PAUSE_MS or _ends_sentence(
            previous.text, following.text, dotted_ordinals=dotted_ordinals
        ):
            yield words[start:index]
            start = index
    if words:
        yield words[start:]


def _ends_sentence(word: str, following: str, *, dotted_ordinals: bool) -> bool:
    bare = word.rstrip().rstrip(_CLOSING)
    if not bare or bare[-1] not in _SENTENCE_ENDS:
        return False
    if bare[-1] != ".":
        return True
    stem = bare.strip(" \"'([{").rstrip(".")
    # "Dr. Who", "J. Smith", "e.g. this", "wait... what", "3." "5" of one number: no sentence ends there.
    is_initial = len(stem) == 1 and stem.isalpha() and stem.isupper()
    next_letter = following.strip(" \"'([{“‘«¿¡")[:1]
    is_number = stem[-1:].isdigit() and following[:1].isdigit()
    # "am 3. Mai"
    is_ordinal = dotted_ordinals and stem.isdigit() and len(stem) <= _ORDINAL_DIGITS
    return not (stem.casefold() in _ABBREVIATIONS or is_initial or is_number or is_ordinal or next_letter.islower())


def _short(words: Sequence[_Placed]) -> Iterator[Sequence[_Placed]]:
    """Cut a long sentence in two at the best place, and its halves again."""
    length = words[-1][0].end_ms - words[0][0].start_ms
    at = _best_cut(words) if length > LONGEST_MS else None
    if at is None:
        yield words
        return
    yield from _short(words[:at])
    yield from _short(words[at:])


def _best_cut(words: Sequence[_Placed]) -> int | None:
    """Where to cut: at a pause or the end of a clause, near the middle; else at the widest gap near the middle."""
    begin, end = words[0][0].start_ms, words[-1][0].end_ms
    places = [
        index
        for index in range(1, len(words))
        if words[index][0].start_ms - begin >= _SHORTEST_MS and end - words[index - 1][0].end_ms >= _SHORTEST_MS
    ]
    natural = [index for index in places if _is_natural(words, index)]
    return max(natural or places, key=lambda index: _merit(words, index), default=None)


def _is_natural(words: Sequence[_Placed], index: int) -> bool:
    previous, following = words[index - 1][0], words[index][0]
    return following.start_ms - previous.end_ms >= _SHORT_PAUSE_MS or _ends_clause(previous.text)


def _ends_clause(word: str) -> bool:
    bare = word.rstrip().rstrip(_CLOSING)
    return bool(bare) and bare[-1] in _CLAUSE_ENDS | _SENTENCE_ENDS


def _merit(words: Sequence[_Placed], index: int) -> float:
    previous, following = words[index - 1][0], words[index][0]
    begin, end = words[0][0].start_ms, words[-1][0].end_ms
    pause = min(following.start_ms - previous.end_ms, PAUSE_MS) / PAUSE_MS
    middle = 1 - abs(previous.end_ms + following.start_ms - begin - end) / (end - begin)
    return pause + 0.5 * _ends_clause(previous.text) + middle


def _segment(number: int, words: Sequence[_Placed]) -> Segment:
    decodings = list({id(window): window.decoding for _, window in words}.values())
    return Segment(
        id=number,
        seek=words[0][1].start_ms * _SECONDS_OF_SEEK // 1000,
        start_ms=words[0][0].start_ms,
        end_ms=max(word.end_ms for word, _ in words),
        text="".join(word.text for word, _ in words),
        tokens=tuple(token for word, _ in words for token in word.tokens),
        # Of a sentence in two windows, the worse value of both.
        temperature=max(one.temperature for one in decodings),
        avg_logprob=finite(min(one.avg_logprob for one in decodings)),
        compression_ratio=finite(max(one.compression_ratio for one in decodings)),
        no_speech_prob=finite(max(one.no_speech_prob for one in decodings)),
        words=tuple(_word(word) for word, _ in words),
    )


def _word(word: TimedWord) -> Word:
    return Word(word=word.text, start_ms=word.start_ms, end_ms=word.end_ms, probability=finite(word.probability))


def finite(number: float) -> float:
    """*number*, or 0 if it is not finite: JSON has no NaN."""
    return float(number) if math.isfinite(number) else 0.0
