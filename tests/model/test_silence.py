"""Silence, music and hum have no words, and the speech around them loses none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import sounds
from tests.chunks import transcribe
from tests.readings import compared, edits_by_utterance, joined, read_aloud, times_off_ms, with_faint_noise
from tests.speech import RATE_HZ, Pcm, Tape, normalise, silence

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

SILENCE_S = 300


def nothing(seconds: float) -> Tape:
    pcm = with_faint_noise(silence(seconds))
    return Tape(language="en", utterances=(), duration_ms=round(seconds * 1000), pcm=pcm)


def test_five_minutes_of_silence_in_the_middle_have_no_words_and_cost_none(base: Path, tmp_path: Path) -> None:
    before, after = read_aloud("en", lines=slice(0, 6)), read_aloud("en", lines=slice(6, 12), turn=1)
    whole = joined([before, nothing(SILENCE_S), after])
    done = transcribe(whole.pcm, base, tmp_path, language="en", batch_size=8)
    begin, end = before.duration_ms, before.duration_ms + SILENCE_S * 1000
    assert not [word for word in done.words if word[1] < end and word[2] > begin]
    edits = edits_by_utterance(whole, done.text)
    assert sum(edits) <= 0.06 * len(whole.words), edits
    # The sentences before and after the silence: base mishears a word, but none is lost.
    assert max(edits[5:7]) <= 1, edits
    assert max(map(abs, times_off_ms(whole, done.words))) < 1_000


@pytest.mark.parametrize(
    "sound",
    [lambda s: with_faint_noise(silence(s)), silence, sounds.chords, sounds.hum],
    ids=["faint noise", "digital silence", "music", "hum"],
)
def test_what_is_no_speech_has_no_words(sound: Callable[[float], Pcm], model: Path, tmp_path: Path) -> None:
    done = transcribe(sound(45), model, tmp_path, language="en", batch_size=8)
    assert (done.text, done.result.segments, done.result.quality) == ("", (), "silent")


@pytest.mark.parametrize("sound", [silence, sounds.hum])
def test_without_the_filter_silence_and_hum_have_no_words(
    sound: Callable[[float], Pcm], base: Path, tmp_path: Path
) -> None:
    done = transcribe(sound(45), base, tmp_path, language="en", batch_size=8, vad_filter=False)
    assert done.text == ""
    assert {window.outcome for window in done.result.windows} <= {"empty", "no_speech"}


@pytest.mark.parametrize("lines", [2, 5, 9])
def test_the_last_words_of_a_recording_are_there(lines: int, base: Path, tmp_path: Path) -> None:
    """Also if the recording ends with the last sound of the last word."""
    said = read_aloud("en", lines=slice(0, lines))
    end = said.utterances[-1].end_ms * RATE_HZ // 1000
    done = transcribe(said.pcm[:end], base, tmp_path, language="en", batch_size=8)
    assert normalise(done.text)[-3:] == normalise(" ".join(said.words))[-3:]
    assert done.words[-1][2] <= said.utterances[-1].end_ms


def test_music_between_two_readings_has_no_words(base: Path, tmp_path: Path) -> None:
    before, after = read_aloud("en", lines=slice(0, 3)), read_aloud("en", lines=slice(3, 6))
    music = sounds.chords(40)
    pcm = np.concatenate([before.pcm, music, after.pcm])
    done = transcribe(pcm, base, tmp_path, language="en", batch_size=8)
    begin, end = before.duration_ms, before.duration_ms + 40_000
    assert not [word for word in done.words if begin < (word[1] + word[2]) // 2 < end]
    between = Tape(language="en", utterances=(), duration_ms=40_000, pcm=music)
    found = compared([(joined([before, between, after]), done.text, done.text)])
    assert found.after <= 10, done.text
