"""The checks of a window's text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.checks import Decoding, best, failed_check, is_silent, repeats, without_loop

OPTIONS = TranscribeOptions(model="m")


def decoding(**changes: Any) -> Decoding:
    fields: dict[str, Any] = {
        "tokens": (1, 2),
        "text": " a b",
        "temperature": 0.0,
        "avg_logprob": -0.3,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.1,
        "at_limit": False,
    }
    return Decoding(**(fields | changes))


@pytest.mark.parametrize(
    "changes,failed",
    [
        ({}, ""),
        ({"compression_ratio": 2.4}, ""),
        ({"compression_ratio": 2.41}, "repetitive"),
        ({"avg_logprob": -1.0}, ""),
        ({"avg_logprob": -1.01}, "improbable"),
        ({"avg_logprob": -1.01, "no_speech_prob": 0.61}, ""),
        ({"at_limit": True}, "token_limit"),
        ({"at_limit": True, "compression_ratio": 9.0}, "repetitive"),
    ],
    ids=str,
)
def test_whispers_thresholds(changes: dict[str, Any], failed: str) -> None:
    assert failed_check(decoding(**changes), OPTIONS, heard=True) == failed


@pytest.mark.parametrize(
    "no_speech,logprob,silent", [(0.7, -1.2, True), (0.7, -0.5, False), (0.5, -1.2, False), (0.6, -1.2, False)]
)
def test_a_window_is_silent_if_both_probabilities_say_so(no_speech: float, logprob: float, silent: bool) -> None:
    assert is_silent(decoding(no_speech_prob=no_speech, avg_logprob=logprob), OPTIONS, heard=True) is silent


def test_without_detected_speech_the_no_speech_probability_is_enough() -> None:
    digital_silence = decoding(text=" you", no_speech_prob=0.72, avg_logprob=-0.74)
    assert is_silent(digital_silence, OPTIONS, heard=False)
    assert failed_check(decoding(no_speech_prob=0.72, avg_logprob=-1.2), OPTIONS, heard=False) == ""
    assert not is_silent(decoding(no_speech_prob=0.6, avg_logprob=-2.0), OPTIONS, heard=False)


def test_the_options_move_the_thresholds() -> None:
    strict = TranscribeOptions(
        model="m", logprob_threshold=-0.2, compression_ratio_threshold=1.0, no_speech_threshold=0.05
    )
    assert failed_check(decoding(), strict, heard=True) == "repetitive"
    assert failed_check(decoding(compression_ratio=0.9, no_speech_prob=0.0), strict, heard=True) == "improbable"
    assert is_silent(decoding(), strict, heard=True)


def test_the_most_probable_text_is_used_and_a_repetitive_one_only_if_all_are() -> None:
    loop, poor, better = (
        decoding(avg_logprob=logprob, compression_ratio=ratio, text=text)
        for logprob, ratio, text in ((-0.1, 5.0, "loop"), (-2.0, 1.0, "poor"), (-1.5, 1.0, "better"))
    )
    assert best([loop, poor, better], OPTIONS) is better
    assert best([loop], OPTIONS) is loop


@pytest.mark.parametrize(
    "tokens,kept",
    [
        ("abcdefg", "abcdefg"),
        ("abxxx", "abxxx"),
        ("abxxxx", "abxx"),
        ("abcabcabcabc", "abcabc"),
        ("qabcabcabcabcab", "qabcabc"),
        ("nonono no", "nonono no"),
        ("", ""),
    ],
)
def test_a_loop_at_the_end_is_removed_except_for_two_occurrences(tokens: str, kept: str) -> None:
    assert without_loop([ord(letter) for letter in tokens]) == tuple(ord(letter) for letter in kept)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_only_an_end_is_ever_removed(tokens: list[int]) -> None:
    kept = without_loop(tokens)
    assert list(kept) == tokens[: len(kept)]
    assert len(kept) * 2 >= len(tokens) or len(tokens) > 4


@given(st.lists(st.integers(4, 9), max_size=5), st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(4, 30))
def test_any_loop_is_found(before: list[int], phrase: list[int], times: int) -> None:
    kept = without_loop([*before, *phrase * times])
    assert len(kept) <= len(before) + 2 * len(phrase)


@pytest.mark.parametrize(
    "text,previous,repeated",
    [
        (" Thanks for watching!", " Thanks for watching!", True),
        (" thanks FOR watching!", " And so on. Thanks for watching!", True),
        (" Thank you.", " Thank you.", False),
        (" And thanks for watching!", " Thanks for watching!", False),
        ("", "", False),
    ],
)
def test_a_window_that_says_only_what_the_one_before_said(text: str, previous: str, repeated: bool) -> None:
    assert repeats(text, previous) is repeated
