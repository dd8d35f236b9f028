"""Quiet recordings: speech is raised to a usual level, with all its bits; other recordings stay as they are."""

from pathlib import Path

import numpy as np
import pytest

from controller.intake.amplifier import Amplifier
from controller.intake.decoder import BLOCK_SAMPLES, decode
from controller.intake.flac import Pcm, Sound
from controller.intake.probe import probe
from tests import speech
from tests.clicks import ffmpeg

RATE = 16_000


@pytest.fixture(scope="module")
def tape() -> speech.Tape:
    return speech.tape(seconds=100, seed=15)


def scaled(sound: Pcm, gain_db: float) -> Sound:
    return (sound * np.float32(10 ** (gain_db / 20))).astype(np.float32)


def amplified(sound: Sound) -> Pcm:
    amplifier = Amplifier()
    return np.concatenate(
        [amplifier.to_pcm(sound[at : at + BLOCK_SAMPLES]) for at in range(0, len(sound), BLOCK_SAMPLES)]
    )


def level_db(sound: Pcm) -> float:
    """The level of the loud parts."""
    hops = sound[: len(sound) // 320 * 320].reshape(-1, 320).astype(float) / 32768
    return float(np.percentile(10 * np.log10(np.maximum(np.mean(hops**2, axis=1), 1e-15)), 95))


@pytest.mark.parametrize("gain_db", [0, -10, -20])
def test_a_recording_of_a_usual_level_stays_as_it_is(tape: speech.Tape, gain_db: float) -> None:
    sound = scaled(tape.pcm, gain_db)
    assert level_db(np.rint(sound).astype(np.int16)) > -46
    assert np.array_equal(amplified(sound), np.rint(sound).astype(np.int16))


@pytest.mark.parametrize("gain_db", [-40, -60, -80])
def test_quiet_speech_is_raised_with_all_its_bits(tape: speech.Tape, gain_db: float) -> None:
    found = amplified(scaled(tape.pcm, gain_db))
    assert level_db(found) == pytest.approx(-26, abs=6)
    assert np.abs(found.astype(int)).max() < 32_000
    for at in range(0, len(found), BLOCK_SAMPLES):
        part = slice(at + RATE, at + BLOCK_SAMPLES)
        assert np.corrcoef(found[part], tape.pcm[part])[0, 1] > 0.999


def test_a_click_does_not_keep_the_speech_after_it_quiet(tape: speech.Tape) -> None:
    sound = scaled(tape.pcm, -60)
    sound[RATE : RATE + 40] = 29_000
    found = amplified(sound)
    assert level_db(found[2 * RATE :]) == pytest.approx(-26, abs=6)


def test_a_quiet_part_after_speech_stays_quiet(tape: speech.Tape) -> None:
    loud, quiet = tape.pcm[: 2 * BLOCK_SAMPLES], scaled(tape.pcm[2 * BLOCK_SAMPLES :], -50)
    sound = np.concatenate([loud.astype(np.float32), quiet])
    assert np.array_equal(amplified(sound), np.rint(sound).astype(np.int16))


def test_the_gain_becomes_lower_when_louder_speech_comes(tape: speech.Tape) -> None:
    parts = np.split(tape.pcm, [BLOCK_SAMPLES, 2 * BLOCK_SAMPLES])
    sound = np.concatenate([scaled(part, gain_db) for part, gain_db in zip(parts, (-50, -36, 0), strict=True)])
    found = amplified(sound)
    levels = [level_db(found[at : at + BLOCK_SAMPLES]) for at in range(0, len(found), BLOCK_SAMPLES)]
    assert levels[:2] == pytest.approx([-26, -26], abs=7)
    assert np.array_equal(found[2 * BLOCK_SAMPLES + RATE :], np.rint(sound[2 * BLOCK_SAMPLES + RATE :]))


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0, 30.0])
def test_steady_noise_and_silence_are_not_raised(level: float) -> None:
    noise = np.random.default_rng(1).normal(0, level, 3 * BLOCK_SAMPLES).astype(np.float32)
    assert np.array_equal(amplified(noise), np.rint(noise).astype(np.int16))


def test_short_recordings() -> None:
    for samples in (0, 1, 319, 320, 500):
        assert len(Amplifier().to_pcm(np.zeros(samples, np.float32))) == samples


# ---------------------------------------------------------------- files

QUIET = {
    "24 bits.wav": ("-c:a", "pcm_s24le"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "24 bits.flac": ("-sample_fmt", "s32"),
    "a.m4a": ("-c:a", "aac", "-b:a", "128k"),
    "a.ogg": ("-c:a", "libvorbis", "-q:a", "6"),
}


@pytest.mark.process
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", QUIET)
def test_quiet_files_keep_their_words(tmp_path: Path, tape: speech.Tape, name: str, channels: int) -> None:
    """80 dB below a usual level: in 16 bits, only zeros would be left."""
    wav = speech.write_wav(tmp_path / "a.wav", tape.pcm[: 12 * RATE])
    ffmpeg("-i", wav, "-af", "volume=-75dB:precision=double", "-ac", str(channels), *QUIET[name], tmp_path / name)
    path = tmp_path / name
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        found = np.concatenate(list(decoder.blocks()))
    assert level_db(found) == pytest.approx(-26, abs=6)
    part = slice(RATE, 11 * RATE)
    assert np.corrcoef(found[part], tape.pcm[part])[0, 1] > (0.9 if name.endswith((".wav", ".flac")) else 0.5)
