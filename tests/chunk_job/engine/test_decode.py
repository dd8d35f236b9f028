"""Windows in batches: every window passes the checks or is tried again, whatever fits into memory."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.segments import LONGEST_MS, PAUSE_MS
from chunk_job.engine.timings import Timings
from chunk_job.engine.transcribe import Transcription
from chunk_job.errors import ExitCode, JobError
from chunk_job.segment import DecodedWindow
from tests import speech
from tests.chunk_job.engine.decoding import transcribed

SECONDS = 100


@pytest.fixture(scope="module")
def tape() -> speech.Tape:
    return speech.tape(seconds=SECONDS, seed=64)


def transcribe(pcm: speech.Pcm, **changes: Any) -> Transcription:
    given: dict[str, Any] = {"language": "en", "batch_size": 4} | changes
    return transcribed(pcm, **given)


@pytest.fixture(scope="module")
def plain(tape: speech.Tape) -> Transcription:
    """The tape with the defaults of this module."""
    return transcribe(tape.pcm)


@pytest.fixture(scope="module")
def single(tape: speech.Tape) -> Transcription:
    """The tape, one window after the other."""
    return transcribe(tape.pcm, batch_size=1)


def text(found: Transcription) -> str:
    return "".join(segment.text for segment in found.segments)


def failures(window: DecodedWindow) -> list[str]:
    return [one.failed for one in window.tries]


def repeated(times: int, gap_s: float = 3) -> speech.Pcm:
    """The same sentence several times, each in a window of its own."""
    sentence = speech.say("yellow seven tango green")
    silence = speech.silence(gap_s, noise_db=-60)
    return np.concatenate([silence, *[part for _ in range(times) for part in (sentence, silence)]])


# ---------------------------------------------------------------- what comes out


def test_words_and_segments_of_windows(tape: speech.Tape, plain: Transcription) -> None:
    found = plain
    assert (found.batch_size, len(found.windows) >= SECONDS // 30) == (4, True)
    assert {window.outcome for window in found.windows} == {"text"}
    assert all(one.end_ms <= two.start_ms for one, two in pairwise(found.windows))
    assert text(found).split()[-1].strip(".").casefold() == tape.words[-1]
    starts = [word["start_ms"] for segment in found.segments for word in segment.words]
    assert starts == sorted(starts)
    for one, two in pairwise(found.segments):
        assert one.end_ms <= two.start_ms + 50
    for segment in found.segments:
        assert segment.text == "".join(word["word"] for word in segment.words)
        assert segment.tokens
        gaps = [later["start_ms"] - earlier["end_ms"] for earlier, later in pairwise(segment.words)]
        assert max(gaps, default=0) < PAUSE_MS
        assert segment.end_ms - segment.start_ms <= LONGEST_MS


def test_a_word_starts_where_it_is_said(tape: speech.Tape, plain: Transcription) -> None:
    """Truth is known at the begin of each utterance."""
    starts = np.array([segment.words[0]["start_ms"] for segment in plain.segments])
    said = np.array([utterance.start_ms for utterance in tape.utterances])
    distances = np.abs(said[:, None] - starts[None, :]).min(axis=1)
    assert np.median(distances) < 120
    assert (distances < 400).mean() > 0.8


@pytest.mark.parametrize("batch_size", ["auto", 1, 2, 64])
def test_the_size_of_batches_is_recorded_and_changes_next_to_nothing(
    tape: speech.Tape, plain: Transcription, single: Transcription, batch_size: Any
) -> None:
    found = single if batch_size == 1 else transcribe(tape.pcm, batch_size=batch_size)
    assert found.batch_size == min(1 if batch_size == "auto" else batch_size, len(found.windows))
    assert speech.word_errors(text(plain).split(), text(found)).wer <= 0.02


def test_sequential_decoding_has_no_windows(tape: speech.Tape) -> None:
    found = transcribe(tape.pcm[: 20 * SAMPLE_RATE], batch_size="sequential")
    assert text(found)
    assert (found.windows, found.batch_size) == ((), 0)


def test_the_same_seed_gives_the_same_result_and_threads_change_nothing(tape: speech.Tape) -> None:
    """Every window is decoded at temperatures at which tokens are sampled."""
    hard: dict[str, Any] = {"logprob_threshold": -0.001, "temperature": (0.0, 0.6, 1.0)}
    start = tape.pcm[: 40 * SAMPLE_RATE]
    one, again, threads = (transcribe(start, cpu_threads=count, **hard) for count in (1, 1, 2))
    assert one == again == threads
    assert len(one.windows) > 1
    assert all(len(window.tries) == 3 for window in one.windows)
    sampled, other = (transcribe(start, seed=seed, temperature=(1.0,)) for seed in (1, 2))
    assert text(sampled) != text(other)


def test_a_prompt_and_hotwords_are_given_to_every_window(tape: speech.Tape) -> None:
    prompts: list[list[int]] = []

    def record(loaded: LoadedModel) -> None:
        watch(loaded, "generate", lambda _, given, **__: prompts.extend(given))

    transcribe(tape.pcm[: 40 * SAMPLE_RATE], initial_prompt="green", hotwords="tango", changed=record)
    assert len(prompts) >= 2
    assert all(prompt == prompts[0] for prompt in prompts)
    plain = len(prompts[0])
    prompts.clear()
    transcribe(tape.pcm[: 40 * SAMPLE_RATE], changed=record)
    assert len(prompts[0]) < plain


@pytest.mark.parametrize("hotwords", [None, "tango", "tango " * 2000])
def test_a_long_prompt_leaves_room_for_the_text(tape: speech.Tape, hotwords: str | None) -> None:
    prompts: list[int] = []

    def record(loaded: LoadedModel) -> None:
        watch(loaded, "generate", lambda _, given, **__: prompts.extend(map(len, given)))

    transcribe(tape.pcm[: 8 * SAMPLE_RATE], initial_prompt="green yellow " * 2000, hotwords=hotwords, changed=record)
    assert 200 < max(prompts) <= 228


# ---------------------------------------------------------------- checks


def test_windows_that_fail_are_decoded_again_at_the_next_temperatures(tape: speech.Tape, plain: Transcription) -> None:
    found = transcribe(tape.pcm, logprob_threshold=-0.02, temperature=(0.0, 0.2, 0.4))
    failing = [one for one, two in zip(found.windows, plain.windows, strict=True) if two.tries[0].avg_logprob < -0.02]
    assert failing
    for window in found.windows:
        assert [one.temperature for one in window.tries] == [0.0, 0.2, 0.4][: len(window.tries)]
        assert all(failed == "improbable" for failed in failures(window)[:-1])
        assert (len(window.tries) > 1) == (window in failing)
        if window.outcome == "text":
            assert not failures(window)[-1]
        else:
            assert (window.outcome, failures(window)[-1]) == ("doubtful", "improbable")


def test_a_window_without_any_good_decoding_is_doubtful_and_has_the_best_one(tape: speech.Tape) -> None:
    found = transcribe(tape.pcm[: 20 * SAMPLE_RATE], compression_ratio_threshold=0.1, temperature=(0.0, 0.2))
    (window,) = found.windows
    assert (window.outcome, failures(window)) == ("doubtful", ["repetitive", "repetitive"])
    chosen = max(one.avg_logprob for one in window.tries)
    assert found.segments[0].avg_logprob == chosen


def test_improbable_text_of_a_window_without_speech_is_left_out(tape: speech.Tape) -> None:
    found = transcribe(tape.pcm[: 20 * SAMPLE_RATE], logprob_threshold=-0.0001, no_speech_threshold=0.0)
    assert (found.segments, [window.outcome for window in found.windows]) == ((), ["no_speech"])


def test_a_window_with_too_many_tokens_is_cut_in_two_until_its_parts_fit(tape: speech.Tape) -> None:
    def short(loaded: LoadedModel) -> None:
        loaded.whisper.max_length = 48

    heard = [utterance for utterance in tape.utterances if utterance.end_ms < 55_000]
    words = [word for utterance in heard for word in utterance.words]
    found = transcribe(tape.pcm[: (heard[-1].end_ms + 200) * speech.SAMPLES_PER_MS], changed=short)
    split = [window for window in found.windows if window.outcome == "split"]
    assert split
    for window in split:
        assert failures(window) == ["token_limit"]
        at = found.windows.index(window)
        inside = [one for one in found.windows[at + 1 :] if one.start_ms < window.end_ms]
        assert (inside[0].start_ms, max(one.end_ms for one in inside)) == (window.start_ms, window.end_ms)
    assert speech.word_errors(words, text(found)).wer < 0.3
    assert len(text(found).split()) > 0.8 * len(words)


def test_a_window_that_repeats_the_one_before_is_tried_again_and_reported() -> None:
    found = transcribe(repeated(3))
    first, *others = found.windows
    assert (first.outcome, failures(first)) == ("text", [""])
    for window in others:
        assert failures(window)[0] == "repeats_previous"
        assert window.tries[1].temperature == 0.2
        assert window.outcome in ("text", "doubtful")
    # It was said three times, so nothing may be lost.
    assert len(text(found).split()) >= 9


def test_with_one_temperature_a_repetition_is_left_as_it_is() -> None:
    found = transcribe(repeated(2), temperature=(0.0,))
    assert [failures(window) for window in found.windows] == [[""], [""]]


# ---------------------------------------------------------------- memory


def watch(loaded: LoadedModel, name: str, before: Callable[..., object]) -> None:
    """Call *before* with the arguments of each call of a method of CTranslate2's model."""
    real = loaded.whisper.model

    class Watched:
        def __getattr__(self, attribute: str) -> Any:
            found = getattr(real, attribute)
            if attribute != name:
                return found

            def call(*arguments: Any, **named: Any) -> Any:
                before(*arguments, **named)
                return found(*arguments, **named)

            return call

    loaded.whisper.model = Watched()


def with_memory_for(windows: int, batches: list[int]) -> Callable[[LoadedModel], None]:
    """A device on which more windows than this are out of memory. *batches*: gets the size of each batch tried."""

    def allocate(_: Any, prompts: list[Any], **__: Any) -> None:
        batches.append(len(prompts))
        if len(prompts) > windows:
            raise RuntimeError("CUDA failed with error out of memory")

    return lambda loaded: watch(loaded, "generate", allocate)


def test_without_memory_the_batch_is_halved_and_nothing_changes(tape: speech.Tape, single: Transcription) -> None:
    batches: list[int] = []
    found = transcribe(tape.pcm, batch_size=8, changed=with_memory_for(1, batches))
    assert batches[:3] == [4, 2, 1]
    assert batches.count(2) == 2
    assert set(batches[3:]) <= {1, 2}
    assert found.batch_size == 1
    assert (found.segments, found.windows) == (single.segments, single.windows)


def test_without_memory_for_one_window_the_job_fails_with_advice(tape: speech.Tape) -> None:
    batches: list[int] = []
    with pytest.raises(JobError, match="out of memory") as failed:
        transcribe(tape.pcm[: 40 * SAMPLE_RATE], changed=with_memory_for(0, batches))
    assert batches == [2, 1]
    assert failed.value.code == ExitCode.CUDA_OOM
    assert "smaller model" in failed.value.advice


def test_other_errors_are_not_tried_again(tape: speech.Tape) -> None:
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise RuntimeError("CUDA failed with error an illegal memory access was encountered")

    with pytest.raises(JobError, match="illegal memory access") as failed:
        transcribe(tape.pcm[: 20 * SAMPLE_RATE], changed=lambda loaded: watch(loaded, "generate", fail))
    assert (failed.value.code, len(calls)) == (ExitCode.GPU_UNHEALTHY, 1)


# ---------------------------------------------------------------- time


def test_the_time_of_each_part_is_measured(tape: speech.Tape) -> None:
    timings = Timings()
    transcribe(tape.pcm[: 20 * SAMPLE_RATE], timings=timings)
    assert all(timings.ms(part) > 0 for part in ("load", "speech", "features", "decode", "align"))
    assert timings.ms("kernels") == 0


# ---------------------------------------------------------------- speech without words


def test_the_rest_of_a_window_whose_text_is_incomplete_is_decoded_too(tape: speech.Tape) -> None:
    """The decoder ends after twelve tokens without saying so."""
    start = tape.pcm[: 25 * SAMPLE_RATE]
    plain = transcribe(start, batch_size=1)

    def shorten(loaded: LoadedModel) -> None:
        real = loaded.whisper.model

        class Short:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def generate(self, *arguments: Any, **named: Any) -> Any:
                return real.generate(*arguments, **(named | {"max_length": 24}))

        loaded.whisper.model = Short()

    found = transcribe(start, batch_size=1, changed=shorten)
    assert any(window.incomplete for window in found.windows)
    assert not any(window.incomplete for window in plain.windows)
    # A rest is cut off at most three times.
    assert len(found.windows) <= 4 * len(plain.windows)
    for window, following in pairwise(found.windows):
        if window.incomplete:
            assert window.start_ms < following.start_ms < window.end_ms == following.end_ms
    assert speech.word_errors(text(plain).split(), text(found)).wer < 0.35
