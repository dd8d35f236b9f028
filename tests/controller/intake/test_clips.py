"""Clips: their samples are exactly those of the whole recording, at the times of the whole recording."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.domain.plan import AutoLength, Clip, Plan, PlanOptions, Span
from controller.errors import MediaProblem
from controller.intake.blocks import Stream
from controller.intake.cutter import Cutter
from controller.intake.probe import probe
from controller.intake.source import inspect
from tests import clicks, speech
from tests.controller.intake.test_intake import order
from tests.dry_runs import plan_only

RATE = 16_000
NOISE = np.random.default_rng(1).integers(-20_000, 20_000, 130 * RATE, dtype=np.int16)


def clips_of(*times_ms: int | None) -> tuple[Clip, ...]:
    pairs = itertools.zip_longest(times_ms[::2], times_ms[1::2])
    return tuple(Clip(start_ms=start or 0, end_ms=end) for start, end in pairs)


def options(*times_ms: int | None, threshold_ms: int = 0, chunk_ms: int = 20_000, **changes: Any) -> PlanOptions:
    return PlanOptions(threshold_ms=threshold_ms, chunk_ms=chunk_ms, clips=clips_of(*times_ms), **changes)


def cut(path: Path, folder: Path, wanted: PlanOptions) -> tuple[list[tuple[Span, speech.Pcm]], Plan]:
    """Spans with their samples, and the plan."""
    cutter = Cutter(path, probe(str(path)), wanted, audio_track=None)
    found = []
    for chunk in cutter.chunks(folder, skip=frozenset()):
        assert chunk.audio
        pcm, _ = soundfile.read(chunk.audio, dtype="int16")
        found.append((chunk.span, np.asarray(pcm, np.int16)))
    plan = cutter.plan("0" * 16, [span for span, _ in found])
    return found, Plan.decode(plan.encode())


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 s of samples that are all different."""
    return speech.write_wav(tmp_path_factory.mktemp("noise") / "noise.wav", NOISE)


# ---------------------------------------------------------------- samples


@pytest.mark.process
@pytest.mark.parametrize(
    "times_ms",
    [
        (0, 45_000),
        (10_001, 70_003),
        (30_000, 60_000),
        (29_999, 30_001, 59_990, 90_017, 120_000, None),
        (1, 2, 3, 4),
        (100_000, None),
        (129_999, None),
        (5_000, 500_000),
    ],
    ids=str,
)
def test_chunks_hold_exactly_the_samples_of_their_times(noise: Path, tmp_path: Path, times_ms: Any) -> None:
    found, plan = cut(noise, tmp_path, options(*times_ms))
    for span, pcm in found:
        assert np.array_equal(pcm, NOISE[16 * span.audio_start_ms : 16 * span.audio_end_ms]), span
    ends_ms = [130_000 if clip.end_ms is None else min(clip.end_ms, 130_000) for clip in plan.clips]
    for clip, end_ms in zip(plan.clips, ends_ms, strict=True):
        inside = [span for span, _ in found if clip.start_ms <= span.start_ms < end_ms]
        assert (inside[0].audio_start_ms, inside[-1].audio_end_ms) == (clip.start_ms, end_ms)
        assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(inside))
    covered_ms = sum(span.end_ms - span.start_ms for span, _ in found)
    assert covered_ms == sum(end - clip.start_ms for clip, end in zip(plan.clips, ends_ms, strict=True))
    assert (plan.duration_ms, plan.offset_ms) == (ends_ms[-1], 0)
    assert [span.index for span, _ in found] == list(range(len(found)))


@pytest.mark.process
@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "late.mkv"])
def test_clicks_in_clips_have_the_times_that_they_have_in_the_whole_recording(tmp_path: Path, name: str) -> None:
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(44_100, seconds=60), 44_100)
    late = ("-itsoffset", "3") if name == "late.mkv" else ()
    picture = ("-f", "lavfi", "-i", "color=size=16x16:rate=5:duration=66", "-map", "0:v", "-map", "1:a")
    films = (*picture[:4], *late, "-i", sound, *picture[4:], "-c:v", "mpeg4", "-c:a", "aac")
    clicks.ffmpeg(*(films if late else ("-i", sound)), tmp_path / name)
    whole = clicks.cut(tmp_path / name, tmp_path)
    assert (whole.plan.offset_ms > 2_900) is bool(late)
    wanted = options(2_500, 20_250, 40_500, 52_345, chunk_ms=10_000)
    clipped = clicks.cut(tmp_path / name, tmp_path, wanted)
    inside = [time for time in whole.times_s if 2.5 < time < 20.25 or 40.5 < time < 52.345]
    assert len(inside) >= 14
    # The same samples, so the same centres.
    assert clipped.times_s == pytest.approx(inside, abs=1e-6)
    assert clipped.plan.duration_ms + clipped.plan.offset_ms == 52_345
    assert clipped.plan.warnings == ()


@given(
    lengths=st.lists(st.integers(1, 2_000), max_size=8),
    ends=st.lists(st.integers(0, 9_000), min_size=1, max_size=6, unique=True),
    open_end=st.booleans(),
)
def test_a_stream_gives_every_sample_of_its_parts_once_in_whole_hops(
    lengths: list[int], ends: list[int], open_end: bool
) -> None:
    everything = np.arange(sum(lengths), dtype=np.int16)

    class Blocks:
        errors = ""

        def blocks(self) -> Iterator[Any]:
            at = 0
            for length in lengths:
                yield everything[at : at + length]
                at += length

    stream = Stream(Blocks())  # type: ignore[arg-type]
    times: Sequence[int | None] = sorted(ends)
    if len(times) % 2:
        times = [*times, None] if open_end else times[:-1]
    for begin, end in zip(times[::2], times[1::2], strict=True):
        assert begin is not None
        blocks = list(stream.between(begin, end))
        assert all(len(block) % 320 == 0 for block in blocks[:-1])
        found = np.concatenate(blocks) if blocks else everything[:0]
        assert np.array_equal(found, everything[begin:end])


# ---------------------------------------------------------------- plans


@pytest.mark.process
def test_what_is_between_clips_becomes_no_chunk(noise: Path, tmp_path: Path) -> None:
    found, plan = cut(noise, tmp_path, options(10_000, 11_000, 100_000, 101_000))
    assert [(span.start_ms, span.end_ms, span.cut) for span, _ in found] == [
        (10_000, 11_000, "end"),
        (100_000, 101_000, "end"),
    ]
    assert not plan.direct


@pytest.mark.process
@pytest.mark.parametrize(
    "times_ms,direct", [((10_000, 30_000), True), ((10_000, 50_000), False), ((0, 1, 2, 3), False)]
)
def test_one_short_clip_is_one_span_whatever_the_length_of_the_recording(
    noise: Path, tmp_path: Path, times_ms: Any, direct: bool
) -> None:
    size = noise.stat().st_size
    wanted = options(*times_ms, threshold_ms=30_000, threshold_bytes=size // 3)
    assert cut(noise, tmp_path, wanted)[1].direct is direct
    tight = wanted.model_copy(update={"threshold_bytes": size // 10})
    assert not cut(noise, tmp_path, tight)[1].direct, "20 s of 130 s are more than a tenth of the file"


@pytest.mark.process
def test_a_clip_behind_the_end_is_refused_with_its_time(noise: Path, tmp_path: Path) -> None:
    for times_ms, start in (((130_000, None), "130.000"), ((0, 1000, 200_500, 201_000), "200.500")):
        with pytest.raises(
            MediaProblem, match=rf"ends at 130\.000 s, before the clip that starts at {start} s"
        ) as seen:
            cut(noise, tmp_path, options(*times_ms))
        assert seen.value.advice == "correct --clip-timestamps"


@pytest.mark.process
def test_a_clip_behind_the_end_is_bad_input_of_the_intake(noise: Path, store: FileStore) -> None:
    ordered = order(store, noise, options(130_001, None))
    with pytest.raises(MediaProblem, match=r"noise\.wav: ends at 130\.000 s"):
        ordered.run()
    assert store.stat(ordered.keys.plan) is None
    assert ordered.start(noise.parent).returncode == ExitCode.BAD_INPUT


@pytest.mark.process
def test_a_clip_before_a_late_sound_is_refused(tmp_path: Path) -> None:
    sound = clicks.write(tmp_path / "sound.wav", clicks.clicks(44_100, seconds=8), 44_100)
    picture = ("-f", "lavfi", "-i", "color=size=16x16:rate=5:duration=11")
    encoding = ("-map", "0:v", "-map", "1:a", "-c:v", "mpeg4", "-c:a", "aac")
    clicks.ffmpeg(*picture, "-itsoffset", "3", "-i", sound, *encoding, tmp_path / "late.mkv")
    with pytest.raises(MediaProblem, match=r"its sound begins at 2\.9\d\d s, after the end of a clip"):
        cut(tmp_path / "late.mkv", tmp_path, options(0, 2_000, 5_000, 6_000))
    found, plan = cut(tmp_path / "late.mkv", tmp_path, options(2_000, 4_000))
    assert [(span.start_ms, span.end_ms + plan.offset_ms) for span, _ in found] == [(0, 4_000)]


@pytest.mark.process
def test_an_end_behind_the_end_is_a_warning(noise: Path, tmp_path: Path) -> None:
    plan = cut(noise, tmp_path, options(100_000, 130_001))[1]
    assert plan.warnings == ("the recording ends at 130.000 s, before the last clip does",)
    assert cut(noise, tmp_path, options(100_000, 130_000))[1].warnings == ()


@pytest.mark.process
def test_decoding_stops_after_the_last_clip(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = Stream._read

    def counted(self: Stream) -> Any:
        block = real(self)
        read.append(0 if block is None else len(block))
        return block

    monkeypatch.setattr(Stream, "_read", counted)
    cut(noise, tmp_path, options(1_000, 29_000))
    assert read == [30 * RATE]


@pytest.mark.process
def test_a_second_intake_keeps_the_chunks_of_clips(noise: Path, store: FileStore) -> None:
    ordered = order(store, noise, options(10_000, 60_000, 90_000, None))
    ordered.run()
    before = ordered.objects()
    store.delete(ordered.keys.audio(2))
    store.delete(ordered.keys.plan)
    ordered.run()
    assert ordered.objects() == before


@pytest.mark.process
def test_the_automatic_length_counts_the_audio_of_the_clips(tmp_path: Path) -> None:
    long = clicks.silence(tmp_path / "long.flac", 1500)
    auto = AutoLength(parallel_jobs=2, speed=400, overhead_ms=10_000)
    whole = plan_only(inspect(long), PlanOptions(auto=auto, threshold_ms=0), audio_track=None)
    assert len(whole.spans) == 2
    assert whole.chosen
    assert whole.chosen.reason.startswith("2 chunks of 750 s, 2 at once: at 400 times real time and 10 s beside it")
    wanted = PlanOptions(auto=auto, clips=clips_of(0, 1_300_000), threshold_ms=0)
    clipped = plan_only(inspect(long), wanted, audio_track=None)
    assert clipped.chosen
    assert [round(span.end_ms, -4) for span in clipped.spans] == [650_000, 1_300_000]
    direct = plan_only(inspect(long), PlanOptions(auto=auto, clips=clips_of(0, 60_000)), audio_track=None)
    assert (direct.direct, direct.chosen) == (True, None)
