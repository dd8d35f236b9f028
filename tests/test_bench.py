"""The benchmarks' own parts: the rehearsal model, and one pass of the GPU bench on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import captions, peer
from bench.rehearsal import SEGMENTS, WORDS, write
from bench.speed import _for_model
from chunk_job.contract import TranscribeOptions
from chunk_job.engine.load import load
from chunk_job.engine.prepare import prepare
from chunk_job.engine.timings import Timings
from chunk_job.engine.transcribe import Transcription, transcribe
from controller import demo
from tests.speech import tape

WITH_STAMPS = SEGMENTS * WORDS
WITHOUT_STAMPS = WITH_STAMPS + 2 * SEGMENTS - 1
"""Words replace the two time stamps between segments, and the last one."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("toy", tmp_path_factory.mktemp("models") / "toy", "int8")


def transcribed(model: Path, *, seconds: int, **options: object) -> Transcription:
    chosen = TranscribeOptions.model_validate(
        {"model": str(model), "device": "cpu", "compute_type": "int8", "cpu_threads": 1} | options
    )
    pcm = tape(seconds=seconds, seed=3).pcm.astype("float32") / 32768
    timings = Timings()
    prepared = prepare(pcm, chosen, model, timings)
    loaded = load(model, chosen, seed=1, timings=timings)
    return transcribe(
        loaded, [prepared], chosen, agree=lambda detected: detected, progress=lambda _: None, timings=timings
    )


def words(outcome: Transcription) -> list[str]:
    return [word["word"] for segment in outcome.segments for word in segment.words]


def probable(outcome: Transcription) -> bool:
    return all(
        segment.avg_logprob > -0.3
        and segment.compression_ratio < 2
        and segment.no_speech_prob < 0.01
        and segment.temperature == 0
        for segment in outcome.segments
    )


def test_in_a_batch_each_window_says_the_script_without_stamps_and_passes_at_the_first_try(toy: Path) -> None:
    outcome = transcribed(toy, seconds=75)
    assert [[one.failed for one in window.tries] for window in outcome.windows] == [[""]] * 3
    assert {window.outcome for window in outcome.windows} == {"text"}
    assert outcome.language == "en"
    assert probable(outcome)
    said = words(outcome)
    assert len(said) == 3 * WITHOUT_STAMPS == sum(len(segment.tokens) for segment in outcome.segments)
    assert sum(word.endswith(".") for word in said) == 3 * SEGMENTS
    first, second = said[:WITHOUT_STAMPS], said[WITHOUT_STAMPS : 2 * WITHOUT_STAMPS]
    assert 0 < sum(a != b for a, b in zip(first, second, strict=True)) < SEGMENTS * WORDS / 4


def test_with_stamps_each_window_has_the_segments_of_the_script(toy: Path) -> None:
    outcome = transcribed(toy, seconds=60, batch_size="sequential", vad_filter=False, language="en")
    assert len(outcome.segments) == 2 * SEGMENTS
    assert {len(segment.words) for segment in outcome.segments} == {WORDS}
    assert [segment.seek for segment in outcome.segments] == [0] * SEGMENTS + [3_000] * SEGMENTS
    assert probable(outcome)
    # The words are those of the other mode, without the ones in place of stamps.
    batched = transcribed(toy, seconds=60)
    assert words(outcome)[0] == words(batched)[0]
    assert words(outcome)[WORDS] == words(batched)[WORDS + 2]


@pytest.mark.e2e
@pytest.mark.process
@pytest.mark.timeout(600)  # fifteen seconds, but twenty times as long where others use all cores
def test_the_gpu_bench_measures_everything_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--models", "toy", "--device", "cpu", "--seconds", "10"]
    command += ["--batches", "1,8", "--rounds", "1", "--threads", "1", "--budget", "570", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == rows

    def of(section: str) -> list[dict[str, object]]:
        return [row for row in rows if row["section"] == section]

    assert [row["kernel cache"] for row in of("start")] == ["empty", "warm", "warm"]
    assert [row["stored"] for row in of("start")] == ["int8_float16", "int8_float16", "float16"]
    assert all(row["total"] and row["load"] and row["decode"] for row in of("start"))
    (job,) = of("jobs")
    assert (job["words"], job["tried again"]) == (WITHOUT_STAMPS, 0)
    assert job["RTFx"]
    small, large = of("batches")
    assert small["decoding RTFx"]
    assert large["remark"] == "skipped: there are only 1 windows"
    assert [row["words"] for row in of("peers")] == [WITH_STAMPS, WITHOUT_STAMPS]
    assert all(row["ratio"] for row in of("peers"))
    (together,) = of("together")
    assert together["gain"]
    assert [row.get("met") for row in of("behaviour")] == [True, None]
    assert {row["remark"] for row in of("bars")} == {"not measured"}
    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    assert "| toy | int8_float16 | int8 | empty |" in table


@pytest.mark.process
def test_a_gpu_bench_without_time_writes_what_it_skipped(toy: Path, tmp_path: Path) -> None:
    for stored in ("float16", "int8_float16"):
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / f"toy-{stored}").symlink_to(toy)
    command = [sys.executable, "-m", "bench.gpu", "--models", "toy", "--device", "cpu", "--budget", "1"]
    command += ["--only", "jobs", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    subprocess.run(command, capture_output=True, check=True)
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    skipped = [row["remark"] for row in rows if row["section"] == "jobs"]
    assert skipped == ["skipped: no time left"] * 3


@pytest.mark.process
def test_the_gpu_bench_needs_only_the_packages_of_a_chunk_job() -> None:
    script = (
        "import sys, bench.gpu, bench.bare, bench.hold_gpu; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"bench", "chunk_job", "numpy", "soundfile"} <= loaded
    assert not loaded & {
        "av",
        "click",
        "controller",
        "espeakng_loader",
        "jiwer",
        "kubernetes",
        "minio",
        "rich",
        "tests",
    }


@pytest.mark.process
def test_without_a_gpu_the_gpu_bench_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--out", str(tmp_path)]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "nvidia-smi finds no GPU" in done.stderr


def test_the_peer_is_measured_with_the_real_model() -> None:
    command = peer.command(Path("/bin/peer"), Path("/talk.wav"), Path("/out"), seconds=60, jobs=2)
    made = " ".join(_for_model(command, Path("/models/base")))
    assert "--model_directory /models/base" in made
    assert str(demo.MODEL) not in made


SOUND = "1\n00:00:01,000 --> 00:00:03,000\nOne two,\nthree four.\n\n2\n00:00:03,200 --> 00:00:05,000\nFive.\n\n"
HEARD = [
    captions.Spoken(" One two,", 1000, 1900),
    captions.Spoken(" three four.", 2000, 2800),
    captions.Spoken(" Five.", 3100, 4600),
]


def examined(text: str, folder: Path, listed: list[dict[str, object]]) -> captions.Found:
    path = folder / "talk.srt"
    path.write_text(text, encoding="utf-8")
    found = captions.Found()
    captions.examine(path, HEARD, captions.PROFILES["netflix"], listed, found)
    return found


def test_captions_within_the_limits_break_nothing(tmp_path: Path) -> None:
    found = examined(SOUND, tmp_path, [])
    assert (found.cues, dict(found.broken), found.fast, found.differ) == (2, {}, [], [])
    # The second cue starts 0.1 s after its word.
    assert found.late_ms == [100]


@pytest.mark.parametrize(
    "before,after,rule",
    [
        ("One two,\n", "One" + " " * 37 + "two,\n", "width"),
        ("One two,\n", "One\ntwo,\n", "lines"),
        ("00:00:05,000", "00:00:04,000", "shortest"),
        ("00:00:05,000", "00:00:11,000", "longest"),
        ("00:00:03,200", "00:00:02,900", "overlap"),
        ("00:00:03,200", "00:00:03,050", "gap"),
    ],
)
def test_each_broken_limit_of_captions_is_counted(before: str, after: str, rule: str, tmp_path: Path) -> None:
    assert examined(SOUND.replace(before, after), tmp_path, []).broken == {rule: 1}


@pytest.mark.parametrize("text", [SOUND.replace("Five.", "Six."), SOUND.replace("One two,", "two One,"), SOUND + SOUND])
def test_captions_without_each_word_once_and_in_order_are_named(text: str, tmp_path: Path) -> None:
    assert "talk.srt: its words are not those" in examined(text, tmp_path, []).differ[0]


def test_the_dashes_of_two_people_in_a_cue_are_no_words(tmp_path: Path) -> None:
    assert examined(SOUND.replace("One", "- One").replace("three", "- three"), tmp_path, []).differ == []


def test_invisible_marks_have_no_width_and_are_no_words() -> None:
    assert captions.columns("\u200fab\u0301漢\u200f") == 4
    assert captions.squeezed("\u200fab c\u200f") == "abc"


def test_a_cue_that_is_too_fast_is_listed_and_must_be_in_the_list_of_captions_check(tmp_path: Path) -> None:
    text = SOUND.replace("00:00:03,000", "00:00:01,900")
    found = examined(text, tmp_path, [{"cue": 1}])
    assert found.fast == ["talk.srt: cue 1: 21.1 columns/s: One two, | three four."]
    assert found.differ == []
    assert examined(text, tmp_path, []).differ == ["talk.srt: captions check lists other cues"]
