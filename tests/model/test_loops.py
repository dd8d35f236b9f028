"""A decoder that repeats itself is caught, and the result says what was tried; results are repeatable."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chunks import Done, transcribe
from tests.readings import longest_run, read_aloud, with_faint_noise
from tests.speech import RATE_HZ, Pcm, say

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

LOOP = 8
"""As many repetitions in a row are a loop. Sequential decoding without other temperatures has dozens."""


def hiss(seconds: float) -> Pcm:
    """White noise."""
    return (np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)) * 1_500).astype(np.int16)


def stuck(seconds: float) -> Pcm:
    """A recording that repeats half a second of a sentence."""
    begin = 8 * RATE_HZ
    half = read_aloud("en", lines=slice(0, 3)).pcm[begin : begin + RATE_HZ // 2]
    return with_faint_noise(np.tile(half, round(2 * seconds)))


def syllable(seconds: float) -> Pcm:
    """The same syllable again and again."""
    once = np.concatenate([say("la"), np.zeros(RATE_HZ // 20, np.int16)])
    return with_faint_noise(np.tile(once, round(seconds * RATE_HZ / len(once))))


def decode(pcm: Pcm, model: Path, folder: Path, **options: Any) -> Done:
    """All of the sound, without speech detection: what is no speech must reach the decoder."""
    return transcribe(pcm, model, folder, **{"language": "en", "batch_size": 8, "vad_filter": False, **options})


def test_noise_that_sequential_decoding_makes_a_loop_of_has_no_words_in_batches(base: Path, tmp_path: Path) -> None:
    # With 8-bit weights it depends on the processor whether this is a loop: not all of them add products exactly.
    looped = decode(hiss(30), base, tmp_path, batch_size="sequential", temperature=(0.0,), compute_type="float32")
    assert longest_run(looped.text) >= LOOP, looped.text
    done = decode(hiss(30), base, tmp_path)
    assert done.text == ""
    assert {window.outcome for window in done.result.windows} == {"no_speech"}


def test_a_loop_is_tried_again_at_other_temperatures_and_the_result_says_so(base: Path, tmp_path: Path) -> None:
    done = decode(stuck(25), base, tmp_path)
    assert longest_run(done.text) < LOOP, done.text
    first = done.result.windows[0].tries
    assert (first[0].temperature, first[0].failed) in {(0.0, "repetitive"), (0.0, "token_limit")}
    assert len(first) > 1 or done.result.windows[0].outcome == "split"
    for window in done.result.windows:
        assert [one.temperature for one in window.tries] == sorted(one.temperature for one in window.tries)


def test_a_loop_is_cut_off_where_no_other_temperature_is_allowed(base: Path, tmp_path: Path) -> None:
    done = decode(syllable(20), base, tmp_path, temperature=(0.0,))
    assert longest_run(done.text) < LOOP, done.text
    assert {window.outcome for window in done.result.windows} <= {"split", "doubtful", "no_speech", "empty"}
    assert any(window.loop_removed for window in done.result.windows) or done.text == ""


def same_every_time(done: Done) -> dict[str, object]:
    """The result without what belongs to the process: times and identity."""
    return done.result.model_dump(exclude={"usage", "processing_time", "uid"})


def test_the_same_task_gives_the_same_result_again_also_after_a_fallback(base: Path, tmp_path: Path) -> None:
    said = read_aloud("en", lines=slice(0, 4))
    pcm = np.concatenate([said.pcm[: 8 * RATE_HZ], stuck(10)])
    first, second = (decode(pcm, base, tmp_path, seed=11, temperature=(0.0, 0.9)) for _ in range(2))
    assert any(len(window.tries) > 1 for window in first.result.windows)
    assert same_every_time(first) == same_every_time(second)


@pytest.mark.parametrize("language", ["en", "pt"])
def test_both_ways_of_decoding_detect_the_same_language(language: str, base: Path, tmp_path: Path) -> None:
    said = read_aloud(language, lines=slice(0, 3))  # type: ignore[arg-type]
    one, other = (transcribe(said.pcm, base, tmp_path, batch_size=size).result for size in ("sequential", 8))
    # Base takes the Portuguese of espeak-ng for Latin, so only that both ways agree can be tested with it.
    assert one.language == other.language
    assert language != "en" or one.language == "en"
    assert one.language_probability == other.language_probability
