"""What the intake makes for players: the waveform of all samples, a rendition with the times of the recording."""

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from controller.domain.plan import Clip, PlanOptions
from controller.domain.playback import Playback
from controller.domain.waveform import LONGEST_LEAD_MS, Level
from controller.errors import EnvironmentProblem
from controller.intake import rendition
from controller.intake.for_players import ForPlayers
from controller.intake.peaks import Peaks
from controller.intake.playable import media_type
from controller.intake.probe import probe
from controller.runs import waveforms
from tests import fakes, speech
from tests.controller.intake.test_intake import CUT, order

pytestmark = pytest.mark.process

STEP = 640
RUN = fakes.RUN
BLOCK = 480_000


def steps(store: Store, run: str, level: Level) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    found = waveforms.opened(store, run)
    assert found is not None
    with found.file:
        return np.frombuffer(found.steps(level), np.int8).reshape(-1, 2)


def clicks_ms(found: np.ndarray[tuple[int, int], np.dtype[np.int8]], step_ms: int) -> list[int]:
    return [int(at) * step_ms for at in np.flatnonzero(found[:, 1] > 40)]


def with_clicks(path: Path, seconds: int, *at_ms: int, channels: int = 1) -> Path:
    """Silence with a loud half of a wave of 25 ms at each time, in turns in each channel."""
    sound = np.zeros((seconds * speech.RATE_HZ, channels), np.int16)
    click = (20_000 * np.sin(np.linspace(0, np.pi, 400))).astype(np.int16)
    for number, ms in enumerate(at_ms):
        begin = ms * speech.SAMPLES_PER_MS
        sound[begin : begin + len(click), number % channels] = click
    soundfile.write(path, sound, speech.RATE_HZ, subtype="PCM_16")
    return path


# ---------------------------------------------------------------- the waveform


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50_000), min_size=1, max_size=4),
    lead=st.integers(0, 3_000),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_each_step_has_the_extremes_of_its_samples(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], lead: int, channels: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("peaks")
    rng = np.random.default_rng(seed)
    shape = (sum(lengths),) if channels == 1 else (sum(lengths), channels)
    sound = rng.integers(-32768, 32768, shape).astype(np.int16)
    peaks = Peaks(folder / "scratch", lead_samples=lead)
    for begin, end in itertools.pairwise([0, *np.cumsum(lengths)]):
        peaks.add(sound[begin:end])
    store = FileStore(folder / "store")
    peaks.finish(RUN, folder / "done")
    peaks.close()
    store.put_file(f"runs/{RUN}/waveform.bin", folder / "done")
    whole = np.concatenate((np.zeros((lead, *shape[1:]), np.int16), sound))
    for level, samples in (("detail", STEP), ("overview", 25 * STEP)):
        expected = [
            [int(part.min() / 256), int(part.max() / 256)]
            for part in (whole[at : at + samples] for at in range(0, len(whole), samples))
        ]
        assert steps(store, RUN, level).tolist() == expected, level  # type: ignore[arg-type]


def test_a_level_is_a_dat_file_that_other_programs_read(tmp_path: Path) -> None:
    ordered = order(FileStore(tmp_path / "store"), with_clicks(tmp_path / "a.wav", 70, 61_000))
    ordered.run()
    found = waveforms.opened(ordered.store, ordered.keys.run)
    assert found is not None
    with found.file:
        for level, samples, count in (("overview", 16_000, 70), ("detail", 640, 1_750)):
            place = found.places[level]  # type: ignore[index]
            found.file.seek(place.begin)
            head = np.frombuffer(found.file.read(24), "<i4").tolist()
            # Version, 8 bits, samples per second and step, steps, channels.
            assert head == [2, 1, 16_000, samples, count, 1]
            assert place.size_bytes == 24 + 2 * count
    assert clicks_ms(steps(ordered.store, ordered.keys.run, "overview"), 1_000) == [61_000]
    assert clicks_ms(steps(ordered.store, ordered.keys.run, "detail"), 40) == [61_000]
    assert ordered.store.stat(ordered.keys.rendition) is None, "it was not asked for"
    assert Playback.decode(ordered.store.get(ordered.keys.playback)) == Playback(
        run=ordered.keys.run, media_type="audio/wav", rendition=False
    )


def test_channels_that_are_transcribed_by_themselves_have_one_waveform(tmp_path: Path) -> None:
    call = with_clicks(tmp_path / "call.wav", 40, 8_000, 24_000, channels=2)
    ordered = order(FileStore(tmp_path / "store"), call, CUT.model_copy(update={"channels": "split"}), rendition=True)
    ordered.run()
    assert ordered.plan().channels == 2
    assert clicks_ms(steps(ordered.store, ordered.keys.run, "detail"), 40) == [8_000, 24_000]
    assert loud_ms(ordered.store.root / ordered.keys.rendition) == pytest.approx([8_000, 24_000], abs=5)


def test_the_waveform_of_clips_has_the_times_of_the_whole_recording(tmp_path: Path) -> None:
    talk = with_clicks(tmp_path / "talk.wav", 100, 10_000, 50_000)
    clips = (Clip(start_ms=40_000, end_ms=60_000),)
    ordered = order(FileStore(tmp_path / "store"), talk, PlanOptions(clips=clips))
    ordered.run()
    # What is before the clip is decoded anyway, and a player plays it.
    assert clicks_ms(steps(ordered.store, ordered.keys.run, "detail"), 40) == [10_000, 50_000]


def test_a_track_that_begins_late_has_the_times_of_the_player(tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x32:r=5:d=30", "-itsoffset", "3.210"]
    sound = with_clicks(tmp_path / "a.wav", 20, 7_000)
    subprocess.run([*command, "-i", str(sound), "-c:v", "mpeg4", "-c:a", "flac", str(late)], check=True)
    ordered = order(FileStore(tmp_path / "store"), late, rendition=True)
    ordered.run()
    assert ordered.plan().offset_ms == 3_210
    assert clicks_ms(steps(ordered.store, ordered.keys.run, "detail"), 40) == [10_200]
    assert loud_ms(ordered.store.root / ordered.keys.rendition) == pytest.approx([10_210], abs=5)


def test_a_track_that_begins_hours_late_has_none(tmp_path: Path) -> None:
    ordered = order(FileStore(tmp_path / "store"), with_clicks(tmp_path / "a.wav", 20))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with ForPlayers(ordered.store, ordered.keys, scratch, offset_ms=LONGEST_LEAD_MS + 1, rendition=True) as players:
        players.add(np.zeros(BLOCK, np.int16))
        players.put("audio/wav", offset_ms=LONGEST_LEAD_MS + 1)
    assert list(scratch.iterdir()) == []
    assert {entry.key for entry in ordered.store.list(ordered.keys.home)} == {ordered.keys.record, ordered.keys.request}


# ---------------------------------------------------------------- the rendition


def loud_ms(path: Path) -> list[float]:
    """When each click begins."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", "16000", "pipe:1"]
    sound = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.int16)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 3_000)
    first = [at for number, at in enumerate(loud) if number == 0 or at - loud[number - 1] > 1_000]
    return [float(at) / 16 for at in first]


def test_the_rendition_is_small_and_has_the_times_of_the_recording(tmp_path: Path) -> None:
    times = [500, 31_000, 89_000]
    ordered = order(FileStore(tmp_path / "store"), with_clicks(tmp_path / "a.wav", 90, *times), rendition=True)
    ordered.run()
    path = ordered.store.root / ordered.keys.rendition
    entries = "stream=codec_name,sample_rate,channels,bit_rate:format=format_name"
    command = ["ffprobe", "-v", "error", "-show_entries", entries, "-of", "default=nw=1:nk=1", str(path)]
    assert subprocess.check_output(command, text=True).split() == ["mp3", "16000", "1", "32000", "mp3"]
    assert path.stat().st_size == pytest.approx(90 * 4_000, rel=0.01)
    # Every frame has 144 bytes: a player finds a time by its bytes.
    assert path.stat().st_size % 144 == 0
    assert loud_ms(path) == pytest.approx(times, abs=5)
    assert Playback.decode(ordered.store.get(ordered.keys.playback)).rendition


@pytest.mark.parametrize("most_bytes", [0, 20_000])
def test_a_rendition_that_cannot_be_written_whole_is_an_error_and_not_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(rendition, "_ANY_BYTES", most_bytes)
    ordered = order(FileStore(tmp_path / "store"), with_clicks(tmp_path / "a.wav", 90, 500), rendition=True)
    with pytest.raises(EnvironmentProblem, match="no rendition: ffmpeg: ") as failed:
        ordered.run()
    assert "leave out --rendition" in failed.value.advice
    assert ordered.store.stat(ordered.keys.rendition) is None
    assert ordered.store.stat(ordered.keys.plan) is None


# ---------------------------------------------------------------- what browsers play


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_clicks(tmp_path_factory.mktemp("sound") / "a.wav", 2, 500)


VIDEO = ("-f", "lavfi", "-i", "testsrc=s=32x32:r=5:d=2", "-map", "0:a", "-map", "1:v", "-c:v", "mpeg4")


@pytest.mark.parametrize(
    "name,options,found",
    [
        ("a.wav", ["-c:a", "pcm_s16le"], "audio/wav"),
        ("a.mp3", [], "audio/mpeg"),
        ("a.m4a", ["-c:a", "aac"], "audio/mp4"),
        ("a.mp4", [*VIDEO, "-c:a", "aac"], "video/mp4"),
        ("a.webm", ["-c:a", "libopus"], "audio/webm"),
        ("a.ogg", ["-c:a", "libvorbis"], "audio/ogg"),
        ("a.flac", [], "audio/flac"),
        ("a.aac", ["-c:a", "aac"], "audio/aac"),
        ("named.mp3", ["-c:a", "libopus", "-f", "webm"], "audio/webm"),
        ("a.mkv", ["-c:a", "libopus"], ""),
        ("a.m4a", ["-c:a", "alac"], ""),
        ("a.mp4", ["-c:a", "ac3"], ""),
        ("a.wav", ["-c:a", "adpcm_ima_wav"], ""),
        ("a.wma", ["-c:a", "wmav2"], ""),
        ("a.aiff", [], ""),
        ("a.avi", [*VIDEO, "-c:a", "libmp3lame"], ""),
    ],
)
def test_the_type_is_that_of_the_content(
    tmp_path: Path, sound: Path, name: str, options: list[str], found: str
) -> None:
    path = tmp_path / name
    given = ["-i", str(sound)]
    subprocess.run(["ffmpeg", "-v", "error", *given, *options, str(path)], check=True)
    media = probe(str(path))
    assert media_type(path, media, media.track(None)) == found


def test_a_track_that_browsers_would_not_choose_is_not_playable(tmp_path: Path, sound: Path) -> None:
    path = tmp_path / "two.mp4"
    maps = ["-map", "0:a", "-map", "0:a", "-c:a", "aac", "-disposition:a:0", "0", "-disposition:a:1", "default"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(sound), *maps, str(path)], check=True)
    media = probe(str(path))
    assert [media_type(path, media, track) for track in media.tracks] == ["", "audio/mp4"]
