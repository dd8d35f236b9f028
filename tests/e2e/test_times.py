"""Times are those of a player: the time of a click is that of the container's clock, minus its start.

The reference is ffmpeg with time stamps kept (``-copyts``): every decoded frame's time, and the position in it.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from controller.domain.plan import PlanOptions
from tests import clicks
from tests.clicks import ffmpeg

pytestmark = [pytest.mark.process, pytest.mark.e2e]

NEAR_S = 0.02
SECONDS = 14
FILM = ("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate=10:duration={SECONDS}")
HEAVY = ("-f", "lavfi", "-i", f"testsrc2=size=320x240:rate=25:duration={SECONDS},noise=alls=100:allf=t")
"""Three megabytes a second: the sound begins after the part of the file that ffprobe reads."""
HOLE = ("-af", "asetpts='if(gte(T,6),PTS+10/TB,PTS)'")
MPEG4 = ("-c:v", "mpeg4", "-c:a", "aac")
SHIFTED = ("-output_ts_offset", "5", "-avoid_negative_ts", "disabled")

Make = Callable[[Path, Path], None]
"""Makes the file at the second path from the sound at the first."""


def encoded(*options: str) -> Make:
    return lambda sound, path: ffmpeg("-i", sound, *options, path)


def film(*options: str, late_s: float = 0.0, picture: tuple[str, ...] = FILM) -> Make:
    return lambda sound, path: ffmpeg(*picture, "-itsoffset", str(late_s), "-i", sound, *options, path)


def skipping(sound: Path, path: Path) -> None:
    """An edit list that leaves out the first two seconds."""
    ffmpeg("-i", sound, whole := path.with_suffix(".whole.m4a"))
    ffmpeg("-ss", "2.013", "-i", whole, "-c", "copy", path)


def joined(codec: str, *more: str) -> Make:
    def make(sound: Path, path: Path) -> None:
        ffmpeg(
            *more, "-i", sound, "-c:v", "mpeg2video", "-c:a", codec, "-shortest", part := path.with_suffix(".part.ts")
        )
        path.write_bytes(part.read_bytes() * 3)

    return make


SHAPES: dict[str, tuple[int, Make]] = {
    "cbr.mp3": (44_100, encoded("-b:a", "96k")),
    "vbr.mp3": (44_100, encoded("-q:a", "5")),
    "vbr without header.mp3": (44_100, encoded("-q:a", "5", "-write_xing", "0", "-id3v2_version", "0")),
    "8 kHz.mp3": (8_000, encoded()),
    "22.05 kHz.mp3": (22_050, encoded()),
    "priming.m4a": (48_000, encoded()),
    "edit list skips.m4a": (44_100, skipping),
    "edit list waits.m4a": (44_100, film("-map", "1:a", "-avoid_negative_ts", "disabled", late_s=3)),
    "starts at 5.mp4": (44_100, film(*MPEG4, *SHIFTED)),
    "starts at 5.mkv": (44_100, film(*MPEG4, *SHIFTED)),
    "starts at 5.ts": (44_100, film(*MPEG4, *SHIFTED)),
    "sound alone starts at 5.mka": (44_100, encoded("-c:a", "aac", *SHIFTED)),
    "late.mp4": (44_100, film(*MPEG4, late_s=3)),
    "late.mkv": (44_100, film(*MPEG4, late_s=3)),
    "late.ts": (44_100, film(*MPEG4, late_s=3)),
    "a little late.webm": (48_000, film("-c:v", "libvpx", "-c:a", "libopus", late_s=0.04)),
    "late in a heavy film.mkv": (44_100, film("-c:v", "mjpeg", "-q:v", "1", "-c:a", "aac", late_s=6, picture=HEAVY)),
    "hole.mp4": (44_100, encoded(*HOLE, "-c:a", "aac")),
    "hole.mkv": (44_100, encoded(*HOLE, "-c:a", "aac")),
    "hole.ts": (44_100, encoded(*HOLE, "-c:a", "aac")),
    "hole.ogg": (44_100, encoded(*HOLE, "-c:a", "libvorbis")),
    "a.opus": (48_000, encoded()),
    "a.ogg": (44_100, encoded("-c:a", "libvorbis")),
    "a.webm": (48_000, encoded("-c:a", "libopus")),
    "a.flac": (44_100, encoded()),
    "a.wav": (22_050, encoded("-c:a", "adpcm_ima_wav")),
    "a.wma": (44_100, encoded()),
    "a.avi": (44_100, film("-c:v", "mpeg4", "-c:a", "libmp3lame")),
}
JOINED: dict[str, Make] = {"joined.ts": joined("mp2"), "joined films.ts": joined("aac", *FILM)}


def rate_changes(codec: str, *rates_hz: int) -> Make:
    """Streams of several sample rates, one after the other."""

    def make(sound: Path, path: Path) -> None:
        parts = [path.with_name(f"{rate_hz}.{path.name}") for rate_hz in rates_hz]
        for part, rate_hz in zip(parts, rates_hz, strict=True):
            ffmpeg("-i", sound, "-ar", str(rate_hz), "-c:a", codec, part)
        path.write_bytes(b"".join(part.read_bytes() for part in parts))

    return make


RATES: dict[str, Make] = {
    "up.aac": rate_changes("aac", 24_000, 48_000),
    "down.aac": rate_changes("aac", 48_000, 24_000),
    "and back.aac": rate_changes("aac", 24_000, 48_000, 24_000),
    "up.ts": rate_changes("aac", 24_000, 48_000),
    "down.ts": rate_changes("aac", 48_000, 24_000),
    "and back.ts": rate_changes("aac", 24_000, 48_000, 24_000),
    "mp2.ts": rate_changes("mp2", 32_000, 48_000),
    "up.mp3": rate_changes("libmp3lame", 22_050, 44_100),
    "several.mp3": rate_changes("libmp3lame", 44_100, 22_050, 48_000),
    "up.ogg": rate_changes("libvorbis", 22_050, 44_100),
    "down.ac3": rate_changes("ac3", 48_000, 32_000),
}


def player_times_s(path: Path, *, joints: bool = False) -> list[float]:
    """The times at which a player plays the clicks; at *joints* the clock jumps back, and the player continues."""
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-copyts", "-i", str(path), "-map", "0:a:0", "-af", "ashowinfo"]
    done = subprocess.run([*command, "-ac", "1", "-f", "s16le", "pipe:1"], capture_output=True, check=True)
    begun = re.search(rb"Duration: .*, start: ([-\d.]+)", done.stderr)
    begin_s = float(begun[1]) if begun else 0.0
    frames = re.findall(rb"pts_time:(\S+) .*?rate:(\d+) nb_samples:(\d+)", done.stderr)
    starts_s, rate_hz, lengths = [float(frame[0]) for frame in frames], int(frames[0][1]), [int(f[2]) for f in frames]
    firsts = np.cumsum([0, *lengths])
    pcm = np.frombuffer(done.stdout, "<i2")
    assert firsts[-1] == len(pcm)
    times_s = []
    for middle in clicks.middles(pcm, rate_hz):
        frame = int(np.searchsorted(firsts, middle, side="right")) - 1
        times_s.append(
            middle / rate_hz if joints else starts_s[frame] - begin_s + (middle - firsts[frame]) / rate_hz,
        )
    return times_s


def furthest(shown: clicks.CutResult, wanted_s: list[float]) -> float:
    """The largest error of a click, in seconds."""
    return max(abs(one - other) for one, other in zip(shown.times_s, wanted_s, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_times_are_those_of_a_player(tmp_path: Path, name: str) -> None:
    rate_hz, make = SHAPES[name]
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(rate_hz, seconds=SECONDS), rate_hz)
    make(sound, tmp_path / name)
    wanted_s = player_times_s(tmp_path / name)
    assert len(wanted_s) >= SECONDS // 2 - 1
    shown = clicks.cut(tmp_path / name, tmp_path)
    assert furthest(shown, wanted_s) < NEAR_S
    assert not shown.plan.warnings


@pytest.mark.parametrize("name", JOINED)
def test_time_continues_where_streams_are_joined(tmp_path: Path, name: str) -> None:
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(44_100, seconds=SECONDS), 44_100)
    JOINED[name](sound, tmp_path / name)
    wanted_s = player_times_s(tmp_path / name, joints=True)
    assert len(wanted_s) == 3 * SECONDS // 2
    assert furthest(clicks.cut(tmp_path / name, tmp_path), wanted_s) < NEAR_S


@pytest.mark.parametrize("name", ["a.flac", "a.mka", "a.mkv", "a.webm"])
def test_recordings_that_were_joined_byte_by_byte_keep_all_their_sound(tmp_path: Path, name: str) -> None:
    """Their time stamps begin again: what follows is no overlap, and is not dropped. ffmpeg reads two in Matroska."""
    count = 3 if name == "a.flac" else 2
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(48_000, seconds=SECONDS), 48_000)
    codec = {"a.flac": "flac", "a.webm": "libopus"}.get(name, "aac")
    ffmpeg("-i", sound, "-c:a", codec, part := tmp_path / f"part-{name}")
    (tmp_path / name).write_bytes(part.read_bytes() * count)
    one, all_of_them = (clicks.cut(path, tmp_path) for path in (part, tmp_path / name))
    assert all_of_them.plan.duration_ms == pytest.approx(count * one.plan.duration_ms, abs=100)
    assert len(all_of_them.times_s) == pytest.approx(count * len(one.times_s), abs=2)


@pytest.mark.parametrize("name", RATES)
def test_a_sample_rate_that_changes_midway_changes_no_time(tmp_path: Path, name: str) -> None:
    """As in the sound that ffmpeg writes to a WAV file."""
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(48_000, seconds=SECONDS), 48_000)
    RATES[name](sound, tmp_path / name)
    ffmpeg("-i", tmp_path / name, "-ac", "1", "-ar", "16000", whole := tmp_path / "whole.wav")
    wanted, rate_hz = soundfile.read(whole, dtype="int16")
    shown = clicks.cut(tmp_path / name, tmp_path)
    assert len(shown.times_s) >= SECONDS
    begin_s = shown.plan.offset_ms / 1000
    assert furthest(shown, [begin_s + middle / rate_hz for middle in clicks.middles(wanted, rate_hz)]) < NEAR_S
    assert abs(shown.plan.duration_ms - 1000 * len(wanted) // rate_hz) <= 20
    (warning,) = shown.plan.warnings
    assert warning.startswith("its sample rate changes midway (")


def test_a_gap_in_the_time_stamps_and_a_late_track_keep_their_times(tmp_path: Path) -> None:
    """The reference could have the same error as our code: here the times are known, except for a codec's priming."""
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(48_000, seconds=SECONDS), 48_000)
    film(*MPEG4, *HOLE, late_s=4)(sound, tmp_path / "film.mkv")
    wanted_s = [4.0 + at if 4 + at < 6 else 14.0 + at for at in range(1, SECONDS, 2)]
    assert furthest(clicks.cut(tmp_path / "film.mkv", tmp_path), wanted_s) < 0.03


def hour_of_frames(path: Path) -> list[float]:
    """An hour of m4a at *path*: five minutes of frames, encoded once. Returns the times of its clicks."""
    rate_hz, frame = 22_050, 1024
    count = 300 * rate_hz // frame
    sound = clicks.clicks(rate_hz, seconds=count * frame / rate_hz, first_s=5, every_s=300)
    part = path.with_suffix(".aac")
    ffmpeg("-i", clicks.write(path.with_suffix(".wav"), sound, rate_hz), part)
    path.with_suffix(".12.aac").write_bytes(part.read_bytes() * 12)
    ffmpeg("-i", path.with_suffix(".12.aac"), "-c", "copy", path)
    # The encoder puts one frame before the sound.
    return [5 + (frame + i * (count + 1) * frame) / rate_hz for i in range(12)]


def test_an_hour_does_not_drift_at_any_border(tmp_path: Path) -> None:
    """Half of the bar in half of two hours: the same drift is seen."""
    wanted_s = hour_of_frames(tmp_path / "long.m4a")
    shown = clicks.cut(tmp_path / "long.m4a", tmp_path, PlanOptions(threshold_ms=0, chunk_ms=360_000))
    spans = shown.plan.spans
    assert len(spans) == 10
    # Every span contains a click, so that every border is checked.
    assert {next(s.index for s in spans if s.end_ms > 1000 * at) for at in shown.times_s} == set(range(10))
    assert furthest(shown, wanted_s) < NEAR_S / 2
    assert [span.start_ms for span in spans] == [0, *(span.end_ms for span in spans[:-1])]
    assert -(-shown.samples // 16) == shown.plan.duration_ms == spans[-1].end_ms
