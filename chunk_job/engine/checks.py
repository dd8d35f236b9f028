"""Checks of a window's text: Whisper's thresholds, repetition loops, and the same text in neighbouring windows.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chunk_job.contract import TranscribeOptions
from chunk_job.segment import Try

Failed = Literal["", "repetitive", "improbable", "token_limit", "repeats_previous"]

_MOST_REPEATS = 2
"""Occurrences of a phrase that are kept from a loop."""

_LOOP_REPEATS = 4
"""As many occurrences of a phrase at the end of a window are a loop, not a refrain."""

_REPEATED_WORDS = 3
"""As many words are not said in two neighbouring windows, and nothing else in the second, by chance."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """One decoding of one window."""

    tokens: tuple[int, ...]
    """Without the prompt and the end token."""
    text: str
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    at_limit: bool
    """It has as many tokens as the decoder may give, so its end may be missing."""

    def as_try(self, failed: Failed) -> Try:
        """The record of this decoding. *failed*: why it was not used."""
        return Try(
            temperature=self.temperature,
            avg_logprob=self.avg_logprob,
            compression_ratio=self.compression_ratio,
            no_speech_prob=self.no_speech_prob,
            failed=failed,
        )


def is_silent(decoding: Decoding, options: TranscribeOptions, *, heard: bool) -> bool:
    """Whether the window has no speech: the model says so, and its text is improbable too.

    *heard*: whether speech detection found some. Without it the model's word is enough: for digital silence, its text
    " you" is not improbable.
    """
    if decoding.no_speech_prob <= options.no_speech_threshold:
        return False
    return not heard or decoding.avg_logprob <= options.logprob_threshold


def failed_check(decoding: Decoding, options: TranscribeOptions, *, heard: bool) -> Failed:
    """The first check that fails; empty if the text can be used. *heard*: as for :func:`is_silent`."""
    if not heard and is_silent(decoding, options, heard=False):
        # Whatever its text is, it is not used.
        return ""
    if decoding.compression_ratio > options.compression_ratio_threshold:
        return "repetitive"
    if decoding.at_limit:
        return "token_limit"
    if decoding.avg_logprob < options.logprob_threshold and not is_silent(decoding, options, heard=heard):
        return "improbable"
    return ""


def best(decodings: Sequence[Decoding], options: TranscribeOptions) -> Decoding:
    """The most probable of the decodings that failed; a repetitive one only if all are."""
    usable = [one for one in decodings if one.compression_ratio <= options.compression_ratio_threshold]
    return max(usable or decodings, key=lambda one: one.avg_logprob)


def without_loop(tokens: Sequence[int]) -> tuple[int, ...]:
    """*tokens* without the repetitions of a phrase at their end, except for the first two; equal if there is no loop.

    The last repetition may be incomplete.
    """
    return min(
        (_cut_loop(tokens, period) for period in range(1, len(tokens) // _LOOP_REPEATS + 1)),
        key=len,
        default=tuple(tokens),
    )


def _cut_loop(tokens: Sequence[int], period: int) -> tuple[int, ...]:
    """*tokens* without a loop whose phrase has *period* tokens."""
    start = len(tokens) - period
    while start > 0 and tokens[start - 1] == tokens[start - 1 + period]:
        start -= 1
    is_loop = len(tokens) - start >= _LOOP_REPEATS * period
    return tuple(tokens[: start + _MOST_REPEATS * period] if is_loop else tokens)


def repeats(text: str, previous: str) -> bool:
    """Whether *text* says nothing but what the window before said."""
    words, before = text.casefold().split(), previous.casefold().split()
    return len(words) >= _REPEATED_WORDS and (words == before or words == before[-len(words) :])
