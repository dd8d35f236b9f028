"""Tokens and their alignment with the audio → words with times.

Touches: nothing. CTranslate2 aligns tokens and frames of 20 ms by the model's cross-attention. Such an alignment has no
pauses: the time of a pause belongs to the word before or after it. The speech detector knows the pauses, so words are
taken out of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.speech import Speech

_FRAME_MS = 20

_LATE_MS = 50
"""The detector reports the start of speech late and its end early, by about this much."""

_LONGEST_WORD_MS, _LONGEST_LETTER_MS = 2_000, 100
"""A longer word contains sound that is not speech. Numbers have few letters: "2026" takes two seconds."""


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word with its leading space and its punctuation. Times in ms in the chunk."""

    text: str
    tokens: tuple[int, ...]
    start_ms: int
    end_ms: int
    probability: float


Pause = tuple[int, int]
"""A half-open interval without speech, in ms in the chunk."""


def pauses_of(speech: Speech) -> list[Pause]:
    """The parts of a chunk without speech, a bit shorter than the detector reports them."""
    edges = [(0, 0), *speech.spans, (speech.samples, speech.samples)]
    gaps = ((_ms(previous[1]) + _LATE_MS, _ms(following[0]) - _LATE_MS) for previous, following in pairwise(edges))
    return [(start, end) for start, end in gaps if end > start]


def words_of(
    tokens: Sequence[int], alignment: Any, tokenizer: Any, *, start_ms: int, end_ms: int, pauses: Sequence[Pause]
) -> tuple[TimedWord, ...]:
    """The words of *tokens*, which were said in the window from *start_ms* to *end_ms*.

    *alignment*: CTranslate2's alignment result. *tokenizer*: faster-whisper's. *pauses*: those of the chunk.
    """
    times = _first_times(alignment.alignments, len(tokens) + 1)
    words = []
    at = 0
    for text, group in _split(tokens, tokenizer):
        probabilities = alignment.text_token_probs[at : at + len(group)]
        words.append(
            TimedWord(
                text=text,
                tokens=tuple(group),
                start_ms=min(start_ms + times[at], end_ms),
                end_ms=min(start_ms + times[at + len(group)], end_ms),
                probability=sum(probabilities) / max(1, len(probabilities)),
            )
        )
        at += len(group)
    return tuple(_in_order(_outside_pauses(_with_punctuation(words), pauses), start_ms))


def _split(tokens: Sequence[int], tokenizer: Any) -> Iterator[tuple[str, list[int]]]:
    """The words of *tokens*, and the tokens of each. An incomplete letter at the end becomes a word too."""
    texts, groups = tokenizer.split_to_word_tokens(list(tokens))
    yield from zip(texts, groups, strict=True)
    left = list(tokens[sum(map(len, groups)) :])
    if left:
        yield tokenizer.decode(left), left


def _first_times(pairs: Iterable[tuple[int, int]], tokens: int) -> list[int]:
    """For each token, the first time that is aligned with it, in ms. A token without one gets that of the next one."""
    first: dict[int, int] = {}
    last = 0
    for token, frame in pairs:
        first.setdefault(token, frame * _FRAME_MS)
        last = frame * _FRAME_MS
    times = [0] * tokens
    for token in range(tokens - 1, -1, -1):
        last = times[token] = first.get(token, last)
    return times


def _with_punctuation(words: Iterable[TimedWord]) -> Iterator[TimedWord]:
    """Join punctuation with the word it belongs to. Its alignment is arbitrary, so only the word's time counts."""
    opening: TimedWord | None = None
    current: TimedWord | None = None
    for word in words:
        if not _is_punctuation(word.text):
            if current:
                yield current
            current, opening = (_joined(opening, word, timed=word) if opening else word), None
        elif current and not _opens(word.text):
            current = _joined(current, word, timed=current)
        else:
            opening = _joined(opening, word, timed=word) if opening else word
    if current:
        yield _joined(current, opening, timed=current) if opening else current
    elif opening:
        yield opening


def _joined(first: TimedWord, second: TimedWord, *, timed: TimedWord) -> TimedWord:
    return TimedWord(
        text=first.text + second.text,
        tokens=first.tokens + second.tokens,
        start_ms=timed.start_ms,
        end_ms=timed.end_ms,
        probability=timed.probability,
    )


def _is_punctuation(text: str) -> bool:
    return all(unicodedata.category(letter)[0] in "PZSC" for letter in text)


def _opens(text: str) -> bool:
    """Whether punctuation belongs to the next word: an opening bracket or quote, or a mark after a space."""
    return text[:1].isspace() or unicodedata.category(text[:1] or " ") in ("Ps", "Pi")


def _outside_pauses(words: Iterable[TimedWord], pauses: Sequence[Pause]) -> Iterator[TimedWord]:
    first = 0
    for word in words:
        start, end = word.start_ms, word.end_ms
        while first < len(pauses) and pauses[first][1] <= start:
            first += 1
        for pause_start, pause_end in pauses[first:]:
            if pause_start >= end:
                break
            before, after = pause_start - start, end - pause_end
            if before <= 0 and after <= 0:
                break  # all of it: the detector has missed a word
            if after > before:
                start = pause_end
            else:
                end = pause_start
                break
        end = min(end, start + _LONGEST_WORD_MS + _LONGEST_LETTER_MS * len(word.text))
        yield _timed(word, start, end)


def _in_order(words: Iterable[TimedWord], start_ms: int) -> Iterator[TimedWord]:
    """Each word starts no earlier than the one before it, and ends no earlier than it starts."""
    last = start_ms
    for word in words:
        start = max(word.start_ms, last)
        yield _timed(word, start, max(word.end_ms, start))
        last = start


def _timed(word: TimedWord, start_ms: int, end_ms: int) -> TimedWord:
    if (start_ms, end_ms) == (word.start_ms, word.end_ms):
        return word
    return TimedWord(text=word.text, tokens=word.tokens, start_ms=start_ms, end_ms=end_ms, probability=word.probability)


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE
