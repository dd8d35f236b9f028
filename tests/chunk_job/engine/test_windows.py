"""Windows: at most 30 s, cut in pauses, without the long ones, and with all of the speech."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.contract import SAMPLE_RATE, TranscribeOptions
from chunk_job.engine.speech import SHORTEST_PAUSE_MS, Span, Speech, detect_speech
from chunk_job.engine.windows import Window, halves, plan_windows, rest_of
from tests import speech as voices

PAUSE = SHORTEST_PAUSE_MS * SAMPLE_RATE // 1000
LONGEST = 30 * SAMPLE_RATE


def found(*spans_s: tuple[float, float], length_s: float, skipped_s: float = 2.0) -> Speech:
    spans = tuple((round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in spans_s)
    return Speech(spans=spans, samples=round(length_s * SAMPLE_RATE), skipped_from=round(skipped_s * SAMPLE_RATE))


def noise(speech: Speech) -> Any:
    return np.random.default_rng(1).standard_normal(speech.samples, dtype=np.float32) / 100


def planned(speech: Speech, *, skip_silence: bool = True, audio: Any = None) -> list[tuple[float, float]]:
    """The windows of *speech*, in seconds."""
    windows = plan_windows(noise(speech) if audio is None else audio, speech, skip_silence=skip_silence)
    return [(window.start / SAMPLE_RATE, window.end / SAMPLE_RATE) for window in windows]


def test_speech_and_the_pauses_in_it_are_one_window_with_padding() -> None:
    assert planned(found((1, 3), (3.5, 9), (10, 12), length_s=20)) == [(0.6, 12.4)]


def test_a_long_pause_is_outside_all_windows() -> None:
    assert planned(found((1, 3), (5, 6), length_s=20)) == [(0.6, 3.4), (4.6, 6.4)]
    assert planned(found((1, 3), (5, 6), length_s=20, skipped_s=2.5)) == [(0.6, 6.4)]


def test_padding_ends_in_the_middle_of_a_pause_and_at_the_ends_of_the_audio() -> None:
    assert planned(found((0.1, 3), (3.5, 6), length_s=6.2, skipped_s=0.4)) == [(0, 3.25), (3.25, 6.2)]


def test_the_fewest_windows_are_cut_in_the_longest_pauses() -> None:
    short, long = 0.2, 0.8
    spans = []
    at = 0.0
    for index in range(10):  # 50 s of speech: two windows; the long pause after the fourth span is the better cut
        spans.append((at, at + 5.0))
        at += 5.0 + (long if index == 4 else short)
    windows = planned(found(*spans, length_s=at))
    assert [edge for window in windows for edge in window] == pytest.approx([0.0, 26.2, 26.2, at])


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    speech = found((0, 40), length_s=40)
    audio = noise(speech)
    audio[round(22.0 * SAMPLE_RATE) : round(22.2 * SAMPLE_RATE)] = 0
    (first, second) = planned(speech, audio=audio)
    assert first[1] == second[0] == pytest.approx(22.1, abs=0.06)


def test_without_skipped_silence_windows_cover_everything() -> None:
    speech = found((5, 6), (20, 24), (60, 61), length_s=100.5)
    windows = planned(speech, skip_silence=False)
    assert (windows[0][0], windows[-1][1]) == (0, 100.5)
    assert all(previous[1] == following[0] for previous, following in pairwise(windows))
    assert planned(found(length_s=1), skip_silence=False) == [(0, 1)]


def test_audio_without_speech_has_no_windows() -> None:
    assert planned(found(length_s=60)) == []


spans = st.lists(st.tuples(st.integers(PAUSE, 40 * SAMPLE_RATE), st.integers(1, 70 * SAMPLE_RATE)), max_size=12)


@given(spans, st.booleans(), st.integers(0, 10 * SAMPLE_RATE))
def test_every_window_fits_and_all_speech_is_in_one(parts: list[Span], skip_silence: bool, skipped_from: int) -> None:
    at, found_spans = 0, []
    for pause, length in parts:
        found_spans.append((at + pause, at + pause + length))
        at += pause + length
    speech = Speech(spans=tuple(found_spans), samples=at + 100, skipped_from=skipped_from)
    windows = plan_windows(np.zeros(speech.samples, np.float32), speech, skip_silence=skip_silence)
    assert all(0 < window.end - window.start <= LONGEST for window in windows)
    assert all(previous.end <= following.start for previous, following in pairwise(windows))
    heard = np.zeros(speech.samples, bool)
    for window in windows:
        heard[window.start : window.end] = True
    assert all(heard[start:end].all() for start, end in found_spans)
    if not skip_silence:
        assert heard.all()


def test_a_window_is_halved_in_the_longest_pause_near_its_middle() -> None:
    speech = found((0, 9), (9.2, 12), (12.5, 15), (20, 29), length_s=30)
    one, two = halves(noise(speech), Window(start=0, end=LONGEST), speech)
    assert (one.start, one.end, two.start, two.end) == (0, 17.5 * SAMPLE_RATE, 17.5 * SAMPLE_RATE, LONGEST)
    whole = found((0, 30), length_s=30)
    audio = noise(whole)
    audio[10 * SAMPLE_RATE : 11 * SAMPLE_RATE] = 0
    one, two = halves(audio, Window(start=0, end=LONGEST), whole)
    assert one.end == two.start
    assert 10 <= one.end / SAMPLE_RATE <= 11


# ---------------------------------------------------------------- the detector


def options(**changes: Any) -> TranscribeOptions:
    return TranscribeOptions(model="m", **changes)


@pytest.fixture(scope="module")
def long() -> voices.Tape:
    return voices.tape(seconds=150, seed=66)


def floats(pcm: voices.Pcm) -> Any:
    return pcm.astype("float32") / 32768


def test_speech_is_found_where_it_is(long: voices.Tape) -> None:
    speech = detect_speech(floats(long.pcm), options())
    for said in long.utterances:
        middle = (said.start_ms + said.end_ms) // 2 * voices.SAMPLES_PER_MS
        assert any(start <= middle < end for start, end in speech.spans)
    # No edge of a part (60 s) cuts speech in two: there is a pause between any two spans.
    assert all(following[0] - previous[1] >= PAUSE for previous, following in pairwise(speech.spans))
    said_ms = sum(one.end_ms - one.start_ms for one in long.utterances)
    assert 0.8 * said_ms < sum(end - start for start, end in speech.spans) / voices.SAMPLES_PER_MS < 1.3 * said_ms


def test_threads_change_nothing(long: voices.Tape) -> None:
    audio = floats(long.pcm)
    assert detect_speech(audio, options(cpu_threads=1)) == detect_speech(audio, options(cpu_threads=3))


def test_the_edges_of_parts_change_little(long: voices.Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = floats(long.pcm)
    in_parts = mask(detect_speech(audio, options()))
    monkeypatch.setattr("chunk_job.engine.speech._PART", 1 << 30)
    whole = mask(detect_speech(audio, options()))
    # Not equal: the detector's weights are quantised for each call by the loudest sound in it.
    assert (in_parts == whole).mean() > 0.98
    edge = slice(59 * SAMPLE_RATE, 61 * SAMPLE_RATE)
    assert (in_parts[edge] == whole[edge]).mean() > 0.95


def mask(speech: Speech) -> Any:
    """For each sample, whether it is speech."""
    said = np.zeros(speech.samples, bool)
    for start, end in speech.spans:
        said[start:end] = True
    return said


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 65])
def test_silence_of_any_length_has_no_speech(seconds: float) -> None:
    speech = detect_speech(np.zeros(round(seconds * SAMPLE_RATE), np.float32), options())
    assert (speech.spans, speech.ms) == ((), 0)


def test_a_threshold_of_one_finds_nothing(long: voices.Tape) -> None:
    assert detect_speech(floats(long.pcm[: 8 * SAMPLE_RATE]), options(vad_threshold=1.0)).spans == ()


def test_the_length_of_speech_counts_its_padding_and_short_pauses() -> None:
    assert found((1, 2), (3, 4), length_s=10).ms == 3800
    assert found((1, 2), (4.5, 5), length_s=5.2).ms == 1800 + 1100
    assert found((1, 2), (3, 4), length_s=10, skipped_s=0.5).ms == 3600


def test_the_rest_of_a_window_begins_with_the_speech_after_its_text() -> None:
    speech = found((0, 9), (12, 15), (20, 29), length_s=30)
    window = Window(start=0, end=LONGEST)

    def rest(after_s: float, until_s: float = 30, least_s: float = 1.5) -> tuple[float, float] | None:
        after, until, least = (round(one * SAMPLE_RATE) for one in (after_s, until_s, least_s))
        left = rest_of(window, after, speech, until=until, least=least)
        return (left.start / SAMPLE_RATE, left.end / SAMPLE_RATE) if left else None

    assert rest(9) == (11.6, 30)
    assert rest(13) == (13, 30)
    assert rest(27) == (27, 30)
    # Less than 1.5 s of speech is left: the end of a word is not known exactly.
    assert rest(27.5) is None
    assert rest(29) is None
    assert rest(9, until_s=20, least_s=3) == (11.6, 30)
    assert rest(9, until_s=14.9, least_s=3) is None
