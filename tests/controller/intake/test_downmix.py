"""Stereo tracks whose channels cancel each other as a mix: one channel is heard, and all other tracks stay the same."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from controller.domain.plan import PlanOptions
from controller.intake import source
from controller.intake.decoder import decode
from controller.intake.downmix import Downmix
from controller.intake.flac import Pcm, Sound
from controller.intake.probe import probe
from tests import speech
from tests.clicks import ffmpeg
from tests.dry_runs import plan_only

RATE = 16_000
SECONDS = 15


def frames(left: npt.ArrayLike, right: npt.ArrayLike) -> Sound:
    """Frames of both channels and the mix, from channels between -1 and 1."""
    both = np.stack([np.asarray(left, np.float64), np.asarray(right, np.float64)])
    found: Sound = np.rint(np.stack([*both, both.mean(axis=0)], axis=1) * 32767).astype(np.float32)
    return found


def noise(seconds: float, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).clip(-1, 1)


def mixed(sound: Sound, block: int = 30 * RATE) -> tuple[Sound, list[tuple[int, int]], set[int]]:
    downmix = Downmix()
    mono = np.concatenate([downmix.mono(sound[at : at + block]) for at in range(0, len(sound), block)])
    return mono, list(downmix.parts_ms()), downmix.used


@pytest.mark.parametrize(
    "right",
    [
        noise(5),
        noise(5, seed=1),
        np.zeros(5 * RATE),
        -0.3 * noise(5),
        noise(5) * 1e-5,
        -0.5 * noise(5) + 0.5 * noise(5, seed=1),
    ],
    ids=["the same", "another", "nothing", "a third of it, reversed", "nearly nothing", "half of it, in a room"],
)
def test_channels_that_do_not_cancel_are_mixed(right: npt.NDArray[np.float64]) -> None:
    sound = frames(noise(5), right)
    mono, parts, used = mixed(sound)
    assert np.array_equal(mono, sound[:, 2])
    assert (parts, used) == ([], set())


@pytest.mark.parametrize("gain", [-1.0, -0.9, -1.1, -1.3, -0.5])
def test_of_reversed_channels_the_louder_one_is_heard(gain: float) -> None:
    sound = frames(noise(5.3), gain * noise(5.3))
    mono, parts, used = mixed(sound)
    louder = 2 if gain < -1.2 else 1
    assert np.array_equal(mono[RATE // 100 :], sound[RATE // 100 :, louder - 1])
    assert (parts, used) == ([(0, 6000)], {louder})


@pytest.mark.parametrize("block", [RATE, 7 * RATE, 30 * RATE])
def test_only_the_part_that_cancels_is_taken_from_a_channel(block: int) -> None:
    left, right = noise(60), noise(60)
    right[20 * RATE : 35 * RATE] *= -1
    # Silence decides nothing.
    left[30 * RATE : 32 * RATE] = right[30 * RATE : 32 * RATE] = 0
    sound = frames(left, right)
    mono, parts, used = mixed(sound, block)
    assert (parts, used) == ([(20_000, 35_000)], {1})
    assert np.array_equal(mono[: 20 * RATE], sound[: 20 * RATE, 2])
    assert np.array_equal(mono[35 * RATE + 160 :], sound[35 * RATE + 160 :, 2])
    inside = slice(20 * RATE + 160, 35 * RATE)
    assert np.array_equal(mono[inside], sound[inside, 0])


def test_a_change_does_not_click() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(4 * RATE) / RATE)
    right = tone.copy()
    right[2 * RATE :] *= -1
    mono, _, _ = mixed(frames(tone, right))
    assert np.abs(np.diff(mono.astype(int))).max() < 2 * np.abs(np.diff(tone * 32767)).max()


def test_the_channel_stays_unless_the_other_one_is_much_louder() -> None:
    level = np.repeat([1.0, 0.8, 1.0, 0.8], RATE)
    _, _, used = mixed(frames(noise(4) * level, -noise(4) * level[::-1]))
    assert used <= {1, 2}
    steady = noise(4)
    _, _, used = mixed(frames(steady, -steady * np.repeat([0.9, 1.1, 0.9, 1.1], RATE)))
    assert used == {1}


# ---------------------------------------------------------------- files


def decoded(path: Path) -> Pcm:
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        return np.concatenate(list(decoder.blocks()))


def plain(path: Path, *filters: str) -> Pcm:
    """The sound as ffmpeg alone mixes it."""
    chain = ",".join([*filters, "aformat=sample_fmts=s16:sample_rates=16000:channel_layouts=mono"])
    command: list[Any] = ["ffmpeg", "-v", "error", "-i", path, "-vn", "-af", chain, "-f", "s16le", "pipe:1"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<i2")


STEREO = {
    "a.wav": ("-ar", "44100"),
    "24 bits.wav": ("-ar", "48000", "-c:a", "pcm_s24le"),
    "at 16 kHz.wav": ("-ar", "16000"),
    "a.mp3": ("-ar", "44100", "-b:a", "96k"),
    "a.m4a": ("-ar", "48000", "-c:a", "aac"),
    "a.ogg": ("-ar", "48000", "-c:a", "libvorbis"),
    "a.flac": ("-ar", "32000"),
}


@pytest.mark.process
@pytest.mark.parametrize("name", STEREO)
def test_a_stereo_file_is_mixed_as_ffmpeg_alone_mixes_it(tmp_path: Path, name: str) -> None:
    """Sample by sample, so that runs of earlier versions are resumed with the same audio."""
    channels = frames(noise(35, seed=1), noise(35, seed=2))
    sounds = [speech.write_wav(tmp_path / f"{number}.wav", channels[:, number].astype(np.int16)) for number in (0, 1)]
    path = tmp_path / name
    ffmpeg("-i", sounds[0], "-i", sounds[1], "-filter_complex", "amerge", "-ac", "2", *STEREO[name], path)
    assert probe(str(path)).track(None).channels == 2
    assert np.array_equal(decoded(path), plain(path))


@pytest.fixture(scope="module")
def tape() -> speech.Tape:
    return speech.tape(seconds=SECONDS, seed=14)


REVERSED = "pan=stereo|c0=c0|c1=-1*c0"


@pytest.mark.process
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.mkv", "a.ts"])
def test_words_of_reversed_channels_are_heard(tmp_path: Path, tape: speech.Tape, name: str) -> None:
    mono = speech.write_wav(tmp_path / "mono.wav", tape)
    ffmpeg("-i", mono, "-af", REVERSED, path := tmp_path / name)
    heard, wanted, mix = (sound.astype(float) for sound in (decoded(path), plain(path, "pan=mono|c0=c0"), plain(path)))
    assert np.mean(mix**2) < np.mean(wanted**2) / 30, "the mix has no words"
    count = min(len(heard), len(wanted))
    assert abs(len(heard) - len(wanted)) < 2_000
    assert np.corrcoef(heard[:count], wanted[:count])[0, 1] > 0.99
    (warning,) = plan_only(source.inspect(str(path)), PlanOptions(), audio_track=None).warnings
    assert warning.startswith("its channels cancel each other as a mix in ")
    assert warning.endswith("the left one alone is transcribed")


@pytest.mark.process
@pytest.mark.parametrize("level_db", [-30, -50, -60])
def test_quiet_words_of_reversed_channels_are_heard(tmp_path: Path, tape: speech.Tape, level_db: int) -> None:
    mono = speech.write_wav(tmp_path / "mono.wav", tape)
    ffmpeg("-i", mono, "-af", f"volume={level_db}dB,{REVERSED}", "-c:a", "pcm_s24le", path := tmp_path / "quiet.wav")
    found, wanted = decoded(path).astype(float), tape.pcm.astype(float)
    assert np.corrcoef(found, wanted)[0, 1] > 0.95
    assert level_db == -30 or np.sqrt(np.mean(found**2)) > 300


@pytest.mark.process
def test_channels_that_change_midway(tmp_path: Path) -> None:
    """A mono part after a stereo one, in one stream."""
    for channels in (1, 2):
        ffmpeg("-f", "lavfi", "-i", "sine=440:d=10", "-ac", str(channels), "-c:a", "aac", tmp_path / f"{channels}.aac")
    for first, second in ((1, 2), (2, 1)):
        joined = tmp_path / "joined.aac"
        joined.write_bytes(b"".join((tmp_path / f"{number}.aac").read_bytes() for number in (first, second)))
        found = decoded(joined)
        assert len(found) == pytest.approx(20 * RATE, abs=0.2 * RATE)
        power = [np.sqrt(np.mean(part.astype(float) ** 2)) for part in np.array_split(found, 2)]
        assert power[0] == pytest.approx(power[1], rel=0.5)
