"""Tokens and alignment → words with times."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from chunk_job.engine.speech import Speech
from chunk_job.engine.words import TimedWord, pauses_of, words_of


@dataclass
class Alignment:
    """What CTranslate2 returns."""

    alignments: list[tuple[int, int]]
    text_token_probs: list[float] = field(default_factory=list)


class Tokenizer:
    """Every token is a word or a mark: its index in *words*."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def split_to_word_tokens(self, tokens: list[int]) -> tuple[list[str], list[list[int]]]:
        known = [token for token in tokens if token < len(self.words)]
        return [self.words[token] for token in known], [[token] for token in known]

    def decode(self, tokens: list[int]) -> str:
        return "\ufffd" * len(tokens)


def words(*said: tuple[str, int], pauses: list[tuple[int, int]] | None = None, start_ms: int = 0) -> list[TimedWord]:
    """Words whose alignment begins at these frames; the last entry is the end."""
    texts = [text for text, _ in said[:-1]]
    alignment = Alignment(
        alignments=[(index, frame) for index, (_, frame) in enumerate(said)],
        text_token_probs=[0.1 * index for index in range(len(texts))],
    )
    return list(
        words_of(
            range(len(texts)),
            alignment,
            Tokenizer(*texts),
            start_ms=start_ms,
            end_ms=start_ms + said[-1][1] * 20 + 1000,
            pauses=pauses or [],
        )
    )


def times(found: list[TimedWord]) -> list[tuple[str, int, int]]:
    return [(word.text, word.start_ms, word.end_ms) for word in found]


def test_a_frame_is_20_ms_after_the_start_of_the_window() -> None:
    found = words((" one", 5), (" two", 20), ("", 40), start_ms=1000)
    assert times(found) == [(" one", 1100, 1400), (" two", 1400, 1800)]
    assert [word.probability for word in found] == [0.0, pytest.approx(0.1)]


def test_punctuation_joins_its_word_and_has_no_time() -> None:
    found = words((' "', 0), ("one", 10), (",", 20), (" two", 30), (" (", 40), ("three", 50), (").", 60), ("", 70))
    assert times(found) == [(' "one,', 200, 400), (" two", 600, 800), (" (three).", 1000, 1200)]
    assert [word.tokens for word in found] == [(0, 1, 2), (3,), (4, 5, 6)]


@pytest.mark.parametrize("mark", [".", " .", " -", "¿"])
def test_no_punctuation_is_lost(mark: str) -> None:
    assert "".join(word.text for word in words((mark, 0), ("", 10))) == mark
    assert "".join(word.text for word in words((" a", 0), (mark, 5), ("", 10))) == f" a{mark}"


def test_words_are_taken_out_of_pauses() -> None:
    pause = [(1000, 3000)]
    assert times(words((" late", 0), (" next", 160), ("", 170), pauses=pause))[0] == (" late", 0, 1000)
    assert times(words((" early", 45), ("", 180), pauses=pause)) == [(" early", 3000, 3600)]
    assert times(words((" in", 60), ("", 140), pauses=pause)) == [(" in", 1200, 2800)]
    assert times(words((" both", 30), ("", 170), pauses=[(800, 900), *pause])) == [(" both", 3000, 3400)]


def test_a_word_that_contains_other_sound_is_shortened() -> None:
    assert times(words((" hm", 0), ("", 900))) == [(" hm", 0, 2300)]


def test_times_are_in_order_and_inside_the_window() -> None:
    found = words((" a", 20), (" b", 10), (" c", 30), ("", 500), pauses=[(0, 700)])
    assert all(one.start_ms <= two.start_ms and one.start_ms <= one.end_ms for one, two in pairwise(found))


def test_pauses_are_a_bit_shorter_than_detected_and_include_both_ends() -> None:
    speech = Speech(spans=((16_000, 32_000), (33_000, 48_000)), samples=80_000, skipped_from=32_000)
    assert pauses_of(speech) == [(50, 950), (3050, 4950)]
    assert pauses_of(Speech(spans=(), samples=16_000, skipped_from=1)) == [(50, 950)]


def test_a_letter_that_is_cut_off_at_the_end_is_kept() -> None:
    alignment = Alignment(alignments=[(0, 0), (1, 10), (2, 20)], text_token_probs=[1.0, 1.0])
    found = words_of([0, 7], alignment, Tokenizer(" a"), start_ms=0, end_ms=900, pauses=[])
    assert [(word.text, word.tokens) for word in found] == [(" a\ufffd", (0, 7))]
