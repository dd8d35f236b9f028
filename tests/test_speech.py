"""The generator of test speech: its words, their times, and that it is deterministic."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import speech


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    speech._spoken.cache_clear()
    yield
    speech._spoken.cache_clear()


def rms_db(pcm: speech.Pcm) -> float:
    return float(20 * np.log10(np.sqrt(np.mean((pcm / 32768.0) ** 2)) + 1e-9))


def test_the_same_call_gives_the_same_samples_after_any_other_call() -> None:
    first = speech.say("one two three")
    speech.say("four hundred", voice="en-us+f2", speed=120, pitch=70)
    speech._spoken.cache_clear()
    assert np.array_equal(first, speech.say("one two three"))


def test_speech_has_no_silence_at_its_ends() -> None:
    pcm = speech.say("vinte e um", voice="pt-br")
    assert pcm.dtype == np.int16
    assert len(pcm) % speech.SAMPLES_PER_MS == 0
    assert np.abs(pcm[:160]).max() > 300
    assert np.abs(pcm[-160:]).max() > 300


def test_an_unknown_voice_is_an_error() -> None:
    with pytest.raises(ValueError, match="no voice 'xx-unknown'"):
        speech.say("one", voice="xx-unknown")


@pytest.mark.parametrize("kind", ["sentences", "counting", "dense"])
def test_utterances_are_at_the_times_of_the_script(kind: speech.Kind) -> None:
    tape = speech.tape(seconds=20, seed=3, kind=kind, noise_db=-70)
    assert tape.duration_ms == 20_000
    assert len(tape.pcm) == 20 * speech.RATE_HZ
    low, high = speech.PAUSES_MS[kind]
    speech_until = 0
    for utterance in tape.utterances:
        pause = tape.pcm[speech_until * speech.SAMPLES_PER_MS : utterance.start_ms * speech.SAMPLES_PER_MS]
        sound = tape.pcm[utterance.start_ms * speech.SAMPLES_PER_MS : utterance.end_ms * speech.SAMPLES_PER_MS]
        assert speech_until == 0 or low <= utterance.start_ms - speech_until <= high
        assert rms_db(pause) == pytest.approx(-70, abs=1)
        assert rms_db(sound) > -40
        speech_until = utterance.end_ms
    assert speech_until <= tape.duration_ms - speech.EDGE_MS


def test_counting_starts_at_the_given_number() -> None:
    tape = speech.tape(seconds=8, kind="counting", language="pt", first=100)
    assert tape.words[:7] == ("cem", "cento", "e", "um", "cento", "e", "dois")


def test_the_seed_changes_the_sentences() -> None:
    assert speech.tape(seconds=10, seed=1).words != speech.tape(seconds=10, seed=2).words


def test_a_tape_written_piece_by_piece_equals_one_made_in_memory(tmp_path: Path) -> None:
    tape = speech.tape(seconds=12, seed=5)
    script = speech.write_tape(tmp_path / "pieces.wav", seconds=12, seed=5)
    whole = speech.write_wav(tmp_path / "whole.wav", tape)
    assert (script.words, script.utterances) == (tape.words, tape.utterances)
    assert script.duration_ms == tape.duration_ms
    assert (tmp_path / "pieces.wav").read_bytes() == whole.read_bytes()


def test_words_share_the_time_of_their_utterance() -> None:
    utterance = speech.Utterance(start_ms=1000, end_ms=2000, words=("two", "hundred"))
    assert utterance.word_times() == [("two", 1000, 1300), ("hundred", 1300, 2000)]


def test_silence_is_silent_or_has_the_given_level() -> None:
    assert not speech.silence(0.5).any()
    assert rms_db(speech.silence(1, noise_db=-40)) == pytest.approx(-40, abs=0.5)


def test_resampling_keeps_a_tone() -> None:
    pure = (8000 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)).astype(np.int16)
    new = speech._resample(pure, 22_050)[: speech.RATE_HZ]
    expected = 8000 * np.sin(2 * np.pi * 1000 * np.arange(speech.RATE_HZ) / speech.RATE_HZ)
    assert np.abs(new - expected)[500:-500].max() < 20


@pytest.mark.process
def test_ffmpeg_encodes_samples_and_files(tmp_path: Path) -> None:
    mp3 = speech.encode(speech.say("one two three"), tmp_path / "a b.mp3", "-b:a", "64k")
    mkv = speech.encode(mp3, tmp_path / "-dash.mkv", "-c:a", "libopus")
    names = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", f"file:{mkv}"]
    assert subprocess.run(names, capture_output=True, check=True, text=True).stdout.strip() == "opus"


@pytest.mark.parametrize(
    "spoken,transcribed,expected",
    [
        ("one two three", "One, two three.", (0.0, 0, 0, 0)),
        ("one two three", "one too three three", (2 / 3, 1, 0, 1)),
        ("twenty six", "twenty-six", (0.0, 0, 0, 0)),
        ("é terça", "É terça.", (0.0, 0, 0, 0)),
        ("one two", "", (1.0, 0, 2, 0)),
        ("", "", (0.0, 0, 0, 0)),
    ],
)
def test_word_errors(spoken: str, transcribed: str, expected: tuple[float, int, int, int]) -> None:
    found = speech.word_errors(spoken.split(), transcribed)
    assert (found.wer, found.substitutions, found.deletions, found.insertions) == pytest.approx(expected)


def numbers(*texts: str) -> tuple[speech.Utterance, ...]:
    """Utterances of a second each, one every two seconds."""
    return tuple(
        speech.Utterance(start_ms=2000 * i, end_ms=2000 * i + 1000, words=tuple(text.split()))
        for i, text in enumerate(texts)
    )


TEN = numbers("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.mark.parametrize(
    "transcribed,lost,doubled",
    [
        ("one two three four five six seven eight nine ten", (), ()),
        ("one two three four six seven eight nine ten", ("five",), ()),
        ("one two three four five five six seven eight nine ten", (), ("five",)),
        ("one two three four five six five six seven eight nine ten", (), ("five", "six")),
        ("one two three four nine six seven eight nine ten", (), ()),  # a wrong word: not caused by the cut
        ("one two three four five up six seven eight nine ten", (), ()),  # an invented word: not caused by the cut
        ("two three four five six seven eight nine ten", (), ()),  # missing, but far from the cut
    ],
)
def test_seam_errors(transcribed: str, lost: tuple[str, ...], doubled: tuple[str, ...]) -> None:
    words = transcribed.split()
    times = [(f" {word}", 20_000 * i // len(words), 20_000 * (i + 1) // len(words)) for i, word in enumerate(words)]
    found = speech.seam_errors(TEN, [9500], times)
    assert (found.lost, sorted(found.doubled)) == (lost, sorted(doubled))
