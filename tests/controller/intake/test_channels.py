"""Which channels of a track are transcribed: each by itself, one, or their mix."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from controller.domain.chunk_length import choose
from controller.domain.plan import AutoLength, ChannelChoice, Plan, PlanOptions
from controller.errors import MediaProblem
from controller.intake import sandbox, source
from controller.intake.cutter import Cutter
from controller.intake.decoder import decode
from controller.intake.flac import levels
from controller.intake.probe import probe
from tests.clicks import ffmpeg
from tests.dry_runs import plan_only

pytestmark = pytest.mark.process

RATE = 16_000
SECONDS = 10


def noise(seed: int, seconds: float = SECONDS, level: float = 0.05) -> npt.NDArray[np.int16]:
    sound = np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).clip(-1, 1)
    found: npt.NDArray[np.int16] = np.rint(sound * 32767).astype(np.int16)
    return found


def write(path: Path, *channels: npt.NDArray[np.int16]) -> Path:
    soundfile.write(path, np.column_stack(channels), RATE, subtype="PCM_16")
    return path


def decoded(path: Path, choice: ChannelChoice) -> npt.NDArray[np.int16]:
    with decode(str(path), probe(str(path)).track(None), choice) as decoder:
        return np.concatenate(list(decoder.blocks()))


def plain(path: Path) -> npt.NDArray[np.int16]:
    """The sound as ffmpeg alone decodes it."""
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-vn", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "pipe:1"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<i2")


def planned(path: Path, choice: ChannelChoice) -> Plan:
    return plan_only(source.inspect(path), PlanOptions(channels=choice), audio_track=None)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
def test_each_channel_is_decoded_to_the_sample(tmp_path: Path, count: int) -> None:
    sounds = [noise(seed) for seed in range(count)]
    path = write(tmp_path / "a.wav", *sounds)
    assert np.array_equal(decoded(path, "split"), np.column_stack(sounds))
    plan = planned(path, "split")
    assert (plan.channels, plan.duration_ms, plan.warnings) == (count, 1000 * SECONDS, ())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_channel_is_decoded_alone(tmp_path: Path, number: int) -> None:
    sounds = [noise(seed) for seed in range(3)]
    path = write(tmp_path / "a.wav", *sounds)
    assert np.array_equal(decoded(path, number), sounds[number - 1])
    assert planned(path, number).channels == 1


def test_the_chunks_of_split_channels_are_one_file_with_all_of_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0, 60), noise(1, 60))
    options = PlanOptions(channels="split", threshold_ms=0, chunk_ms=20_000)
    cutter = Cutter(path, probe(str(path)), options, audio_track=None)
    whole, at = decoded(path, "split"), 0
    for chunk in cutter.chunks(tmp_path, skip=frozenset()):
        assert chunk.audio is not None
        begin, end = (16 * ms for ms in (chunk.span.audio_start_ms, chunk.span.audio_end_ms))
        pcm, _ = soundfile.read(chunk.audio, dtype="int16")
        assert np.array_equal(pcm, whole[begin:end])
        assert hashlib.sha256(pcm.tobytes()).hexdigest() == chunk.pcm_sha256
        at = chunk.span.end_ms
    assert at == 60_000


def test_an_automatic_length_counts_every_channel_that_is_transcribed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((1000 * 1440, 2), np.int16), 1000, subtype="PCM_16")
    auto = AutoLength(parallel_jobs=2, speed=4, overhead_ms=3000)
    choices: tuple[ChannelChoice, ...] = ("mix", "split")
    of: dict[ChannelChoice, int] = {}
    for choice in choices:
        options = PlanOptions(channels=choice, threshold_ms=0, auto=auto)
        chosen = Cutter(path, probe(str(path)), options, audio_track=None).chosen
        assert chosen is not None
        of[choice] = chosen.chunk_ms
    assert of == {"mix": choose(auto, [1_440_000]).chunk_ms, "split": choose(auto, [1_440_000], channels=2).chunk_ms}
    assert of["split"] < of["mix"]


def test_a_pause_is_where_every_channel_is_quiet() -> None:
    quiet, loud = np.zeros(RATE, np.int16), noise(0, 1)
    both = np.column_stack([np.concatenate([loud, quiet, quiet]), np.concatenate([quiet, loud, quiet])])
    found = levels(both)
    assert [round(found[hop]) for hop in (10, 60, 110)] == [-26, -26, -90]


def test_quiet_channels_are_amplified_each_by_itself(tmp_path: Path) -> None:
    # Bursts, because only what sounds like speech is amplified.
    burst = np.tile(np.concatenate([np.ones(RATE // 2), np.full(RATE // 2, 0.01)]), SECONDS)
    loud, quiet = ((noise(seed) * burst * gain).astype(np.int16) for seed, gain in ((0, 1.0), (1, 0.02)))
    found = decoded(write(tmp_path / "a.wav", loud, quiet), "split").astype(np.float64)
    levels_db = 20 * np.log10(np.sqrt((found**2).mean(axis=0)) / 32768)
    assert abs(levels_db[0] - levels_db[1]) < 6
    assert np.array_equal(found[:, 0], loud)


@pytest.mark.parametrize("choice,warning", [("split", True), (1, False), ("mix", False)])
def test_one_channel_cannot_be_split(tmp_path: Path, choice: ChannelChoice, *, warning: bool) -> None:
    plan = planned(write(tmp_path / "a.wav", noise(0)), choice)
    assert plan.channels == 1
    assert any("one channel only" in one for one in plan.warnings) == warning


@pytest.mark.parametrize(
    "channels,choice,message,advice",
    [
        (1, 2, "audio track 0 has one channel, and no channel 2", "use --channels with 1, or mix"),
        (2, 3, "audio track 0 has 2 channels, and no channel 3", "a number from 1 to 2, or mix"),
        (9, "split", "has 9 channels, and at most 8 are transcribed one by one", "choose one with --channels N"),
    ],
)
def test_channels_that_a_track_does_not_have_are_an_error(
    tmp_path: Path, channels: int, choice: ChannelChoice, message: str, advice: str
) -> None:
    path = write(tmp_path / "a.wav", *(noise(seed, 1) for seed in range(channels)))
    with pytest.raises(MediaProblem, match=message) as raised:
        planned(path, choice)
    assert advice in raised.value.advice
    assert str(path) in raised.value.summary


@pytest.mark.parametrize("gain", [1.0, 0.3, -0.8])
def test_channels_with_the_same_sound_give_a_warning(tmp_path: Path, gain: float) -> None:
    other = (noise(0) * gain).astype(np.int16)
    path = tmp_path / "a.m4a"
    ffmpeg("-i", write(tmp_path / "a.wav", noise(0), other), "-b:a", "128k", path)
    (warning,) = planned(path, "split").warnings
    assert "channels 1 and 2 have the same sound" in warning
    assert not any("same sound" in one for one in planned(path, "mix").warnings)


def test_people_who_hear_each_other_faintly_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    one, other = noise(0).astype(np.float64), noise(1).astype(np.float64)
    bleeding = [(a + 0.2 * b).astype(np.int16) for a, b in ((one, other), (other, one))]
    assert planned(write(tmp_path / "a.wav", *bleeding), "split").warnings == ()


@pytest.mark.parametrize("choice", ["split", 2])
def test_where_a_channel_is_missing_it_is_silent_and_a_warning_says_so(tmp_path: Path, choice: ChannelChoice) -> None:
    for name, channels in (("two", 2), ("one", 1)):
        wav = write(tmp_path / f"{name}.wav", *(noise(seed) for seed in range(channels)))
        ffmpeg("-i", wav, "-b:a", "192k", tmp_path / f"{name}.aac")
    joined = tmp_path / "joined.aac"
    joined.write_bytes((tmp_path / "two.aac").read_bytes() + (tmp_path / "one.aac").read_bytes())
    found = decoded(joined, choice)
    second = found[:, 1] if choice == "split" else found
    assert np.abs(second[2 * RATE : (SECONDS - 2) * RATE]).max() > 500
    assert np.abs(second[(SECONDS + 2) * RATE : (2 * SECONDS - 2) * RATE]).max() == 0
    (warning,) = (one for one in planned(joined, choice).warnings if "channels change" in one)
    assert "stereo → mono" in warning


@pytest.mark.parametrize("choice", ["mix", "split", 1])
def test_a_gap_in_a_stereo_track_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: ChannelChoice
) -> None:
    """An hour is eight times this gap, and the limit is an eighth of the real one."""
    wav = write(tmp_path / "a.wav", noise(0, 20), noise(1, 20))
    path = tmp_path / "gap.mkv"
    ffmpeg("-i", wav, "-af", "asetpts='if(lt(T,10),PTS,PTS+450/TB)'", "-c:a", "aac", path)
    monkeypatch.setattr(sandbox, "_ALLOCATION_BYTES", sandbox._ALLOCATION_BYTES // 8)
    assert len(decoded(path, choice)) == pytest.approx((450 + 20) * RATE, abs=RATE // 10)


@pytest.mark.parametrize("count", [3, 4, 6, 8, 9, 10, 16])
def test_the_mix_of_many_channels_is_their_sound(tmp_path: Path, count: int) -> None:
    """Also where ffmpeg knows no layout for their number."""
    path = write(tmp_path / "a.wav", *[noise(0)] * count)
    found = decoded(path, "mix")
    assert len(found) == SECONDS * RATE
    assert np.abs(found.astype(int) - noise(0)).max() <= 3
    assert planned(path, "mix").warnings == ()


@pytest.mark.parametrize("count", [3, 9, 10])
def test_many_channels_whose_sides_cancel_are_heard_on_one_side(tmp_path: Path, count: int) -> None:
    left = [noise(0) if channel % 2 == 0 else -noise(0) for channel in range(count - count % 2)]
    path = write(tmp_path / "a.wav", *left, *[np.zeros_like(noise(0))] * (count % 2))
    found = decoded(path, "mix").astype(float)
    assert np.sqrt((found**2).mean()) > 0.3 * np.sqrt((noise(0).astype(float) ** 2).mean())
    (warning,) = planned(path, "mix").warnings
    assert "its channels cancel each other as a mix" in warning


@pytest.mark.parametrize("name", ["a.aac", "a.ac3", "a.ts"])
def test_changes_of_channels_lose_no_sound(tmp_path: Path, name: str) -> None:
    """Stereo and more channels in turn, as television sends them."""
    codec = "aac" if name == "a.aac" else "ac3"
    parts = []
    for count in (2, 6):
        wav = write(tmp_path / f"{count}.wav", *(noise(seed, 4.096) for seed in range(count)))
        ffmpeg("-i", wav, "-c:a", codec, "-ar", "48000", part := tmp_path / f"{count}-{name}")
        parts.append(part.read_bytes())
    joined = tmp_path / name
    joined.write_bytes(b"".join(parts * 4))
    wanted = len(plain(joined))
    assert len(decoded(joined, "mix")) == wanted
    assert len(decoded(joined, "split")) == pytest.approx(wanted, abs=RATE // 50)
