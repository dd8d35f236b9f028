"""The intake: every sample in one chunk, in constant memory; a second intake puts only missing objects."""

import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from chunk_job import crashpoint
from chunk_job.contract import ChunkTask, TranscribeOptions, sha256_hex
from chunk_job.errors import ExitCode, JobError
from chunk_job.store.files import FileStore
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import Plan, PlanOptions
from controller.errors import MediaProblem
from controller.intake import __main__ as intake
from controller.intake import cutter, source
from controller.intake.probe import probe
from controller.runs.run_requests import make_run_request
from tests import fakes, pipeline, speech
from tests.dry_runs import plan_only

pytestmark = pytest.mark.process

CUT = PlanOptions(threshold_ms=0, chunk_ms=20_000)


class Tapped(FileStore):
    """A real store; *after* is called with each key that was put."""

    after: Callable[[str], None] = staticmethod(lambda _: None)

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        self.after(key)

    def put_file(self, key: str, path: Path) -> None:
        super().put_file(key, path)
        self.after(key)


@dataclass(frozen=True, kw_only=True)
class Order:
    """A requested run: its record and request are in the store."""

    store: FileStore
    keys: RunKeys
    digest: str

    def run(self) -> None:
        """Cut, in this process."""
        intake.run_intake(self.store, self.keys.request, task_sha256=self.digest)

    def start(self, folder: Path, crash: str = "") -> subprocess.CompletedProcess[str]:
        """Cut, in a process."""
        kept = {name: value for name, value in os.environ.items() if name != crashpoint.VARIABLE}
        return subprocess.run(
            [
                *(sys.executable, "-P", "-m", "controller.intake", "--store", self.store.url),
                *("--task", self.keys.request, "--task-sha256", self.digest),
            ],
            env=kept | {crashpoint.VARIABLE: crash, "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=pipeline.PATIENCE_S,
        )

    def plan(self) -> Plan:
        return Plan.decode(self.store.get(self.keys.plan))

    def audio(self, span: int) -> speech.Pcm:
        pcm, _ = soundfile.read(io.BytesIO(self.store.get(self.keys.audio(span))), dtype="int16")
        return np.asarray(pcm, np.int16)

    def task(self, span: int) -> ChunkTask:
        return ChunkTask.decode(self.store.get(self.keys.task(span)))

    def objects(self) -> dict[str, bytes]:
        """The objects that the intake puts."""
        put = [*self.store.list(self.keys.work), *self.store.list(self.keys.plan.rpartition("/")[0] + "/")]
        return {entry.key: self.store.get(entry.key) for entry in put}


def order(
    store: FileStore, file: Path, plan: PlanOptions = CUT, *, track: int | None = None, rendition: bool = False
) -> Order:
    run_request = make_run_request(
        source.inspect(file),
        Output(base="file:///out/talk", formats=("txt",)),
        plan=plan,
        options=TranscribeOptions(model="m"),
        audio_track=track,
        on_chunk_failure="fail",
        keep_chunks=False,
        rendition=rendition,
    )
    keys = RunKeys(run_request.record.run)
    store.put(keys.record, run_request.record.encode())
    store.put(keys.request, run_request.request.encode())
    return Order(store=store, keys=keys, digest=sha256_hex(run_request.request.encode()))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, speech.Tape]:
    tape = speech.tape(seconds=64, seed=1)
    return speech.write_wav(tmp_path_factory.mktemp("talk") / "talk.wav", tape), tape


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, talk: tuple[Path, speech.Tape]) -> Order:
    ordered = order(FileStore(tmp_path_factory.mktemp("ended") / "store"), talk[0], rendition=True)
    ordered.run()
    return ordered


@pytest.fixture
def cut(tmp_path: Path, ended: Order) -> Order:
    """A copy of a store with all that an intake puts."""
    shutil.copytree(ended.store.root, tmp_path / "store")
    return replace(ended, store=Tapped(tmp_path / "store"))


# ---------------------------------------------------------------- what it puts


def test_the_chunks_are_the_recording_to_the_sample(cut: Order, talk: tuple[Path, speech.Tape]) -> None:
    _, tape = talk
    assert [span.cut for span in cut.plan().spans] == ["pause", "pause", "end"]
    assert np.array_equal(np.concatenate([cut.audio(span) for span in range(3)]), tape.pcm)
    for before, after in itertools.pairwise(cut.plan().spans):
        assert before.end_ms == after.start_ms == after.audio_start_ms
        assert not any(utterance.start_ms < before.end_ms < utterance.end_ms for utterance in tape.utterances), (
            "cut in a word"
        )


def test_a_task_describes_its_chunk(cut: Order) -> None:
    for span in cut.plan().spans:
        task, pcm = cut.task(span.index), cut.audio(span.index)
        assert (task.run, task.span, task.audio_key) == (cut.keys.run, span.index, cut.keys.audio(span.index))
        assert task.audio_ms == span.audio_end_ms - span.audio_start_ms == len(pcm) // speech.SAMPLES_PER_MS
        assert task.pcm_sha256 == sha256_hex(pcm.tobytes())
        assert task.result_prefix == cut.keys.results_of(span.index)
        assert (task.options.compute_type, task.language_min_speech_ms) == ("int8", 3000)
    assert len({cut.task(span).seed for span in range(3)}) == 3


def test_a_forced_cut_has_two_seconds_of_overlap_on_both_sides(tmp_path: Path) -> None:
    # Five syllables a second, with dips too short to be a pause.
    syllables = np.where(np.arange(45 * speech.RATE_HZ) % 3200 < 2080, 8000, 400)
    noise = (np.random.default_rng(1).uniform(-1, 1, len(syllables)) * syllables).astype(np.int16)
    forced = order(Tapped(tmp_path / "store"), speech.write_wav(tmp_path / "noise.wav", noise))
    forced.run()
    left, right = forced.plan().spans
    assert left.cut == "forced"
    assert (left.audio_end_ms, right.audio_start_ms) == (left.end_ms + 2000, left.end_ms - 2000)
    at = speech.SAMPLES_PER_MS
    assert np.array_equal(forced.audio(0), noise[: left.audio_end_ms * at])
    assert np.array_equal(forced.audio(1), noise[right.audio_start_ms * at :])


def test_a_short_file_is_one_chunk_that_decides_the_language_alone(tmp_path: Path, talk: tuple[Path, object]) -> None:
    direct = order(Tapped(tmp_path / "store"), talk[0], PlanOptions())
    direct.run()
    assert (direct.plan().direct, len(direct.plan().spans)) == (True, 1)
    assert (direct.task(0).options.compute_type, direct.task(0).language_min_speech_ms) == ("auto", 0)


def test_a_task_is_put_after_its_audio_and_the_plan_last(tmp_path: Path, talk: tuple[Path, object]) -> None:
    store = Tapped(tmp_path / "store")
    ordered, seen = order(store, talk[0], rendition=True), list[str]()
    store.after = seen.append
    ordered.run()
    keys = ordered.keys
    for_players = [keys.waveform, keys.rendition, keys.playback]
    assert seen == [*(put(span) for span in range(3) for put in (keys.audio, keys.task)), *for_players, keys.plan]


# ---------------------------------------------------------------- begun again


POINTS = [
    *(f"intake.{what}.0000{span}" for span in range(3) for what in ("audio", "task")),
    "intake.for_players",
    "intake.planned",
]


@pytest.mark.e2e
@pytest.mark.parametrize("point", POINTS)
def test_an_intake_killed_anywhere_starts_again_and_puts_the_same(
    tmp_path: Path, cut: Order, talk: tuple[Path, object], point: str
) -> None:
    again = order(FileStore(tmp_path / "again"), talk[0], rendition=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert again.start(scratch, f"{point}=kill").returncode == -signal.SIGKILL
    done = {path: path.stat() for path in again.store.root.rglob("*.*") if path.parent.name in ("tasks", "audio")}
    assert (again.store.stat(again.keys.plan) is None) == (point != "intake.planned")
    again.run()
    assert again.objects() == cut.objects()
    tasks = {path: status for path, status in done.items() if path.parent.name == "tasks"}
    assert all(path.stat().st_ino == status.st_ino for path, status in tasks.items()), "a stored task is kept"


def test_missing_audio_is_put_again_unless_its_result_exists(cut: Order) -> None:
    before = cut.objects()
    for span in range(3):
        cut.store.delete(cut.keys.audio(span))
    cut.run()
    assert cut.objects() == before


@pytest.mark.parametrize("changes", [{"pcm_sha256": "0" * 64}, {"audio_ms": 9_999}, {"result_prefix": "work/x/"}])
@pytest.mark.parametrize("audio", ["there", "gone", "other"])
def test_a_task_without_a_result_that_is_not_of_this_cut_is_written_again(
    cut: Order, changes: dict[str, Any], audio: str
) -> None:
    right, chunk = cut.task(1), cut.store.get(cut.keys.audio(1))
    cut.store.delete(cut.keys.plan)
    cut.store.put(cut.keys.task(1), right.model_copy(update=changes).encode())
    if audio == "gone":
        cut.store.delete(cut.keys.audio(1))
    elif audio == "other":
        cut.store.put(cut.keys.audio(1), b"fLaC")
    cut.run()
    assert cut.task(1) == right
    assert cut.store.get(cut.keys.audio(1)) == chunk
    assert len(cut.plan().spans) == 3


def test_tasks_beyond_the_plan_are_removed(cut: Order) -> None:
    cut.store.delete(cut.keys.plan)
    for span in (3, 7, 100_000):
        cut.store.put(cut.keys.task(span), cut.task(1).model_copy(update={"span": span}).encode())
        cut.store.put(cut.keys.audio(span), b"fLaC")
    cut.run()
    found = [entry.key for entry in cut.store.list(cut.keys.work)]
    assert [key for key in found if "/tasks/" in key or "/audio/" in key] == [
        *(cut.keys.audio(span) for span in range(3)),
        *(cut.keys.task(span) for span in range(3)),
    ]


def test_a_task_with_a_result_whose_audio_has_changed_is_refused(cut: Order) -> None:
    cut.store.delete(cut.keys.plan)
    other = cut.task(1).model_copy(update={"pcm_sha256": "0" * 64})
    cut.store.put(cut.keys.task(1), other.encode())
    cut.store.put(f"{cut.keys.results_of(1)}a1-u.json", fakes.result(other).encode())
    with pytest.raises(JobError, match="span 1 decodes to other audio than when this run started") as refused:
        cut.run()
    assert refused.value.code == ExitCode.CONFIG
    assert cut.store.stat(cut.keys.plan) is None


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("change", ["append", "remove", "replace"])
def test_a_file_that_changes_in_the_middle_is_noticed_before_the_next_task(
    tmp_path: Path, talk: tuple[Path, speech.Tape], change: str
) -> None:
    file = speech.write_wav(tmp_path / "live.wav", talk[1])
    store = Tapped(tmp_path / "store")
    ordered = order(store, file)

    def touch(key: str) -> None:
        if key != ordered.keys.task(0):
            return
        if change == "append":
            with file.open("ab") as more:
                more.write(b"more")
        elif change == "remove":
            file.unlink()
        else:
            speech.write_wav(tmp_path / "new.wav", speech.silence(64)).replace(file)

    store.after = touch
    with pytest.raises(
        MediaProblem, match="cannot be found" if change == "remove" else "changed while it was being read"
    ):
        ordered.run()
    assert [entry.key for entry in store.list(ordered.keys.tasks)] == [ordered.keys.task(0)]
    assert store.stat(ordered.keys.plan) is None


@pytest.mark.parametrize("which", ["request", "record"])
def test_a_request_or_record_of_another_run_is_refused(tmp_path: Path, talk: tuple[Path, object], which: str) -> None:
    ordered = order(FileStore(tmp_path / "store"), talk[0])
    key = getattr(ordered.keys, which)
    ordered.store.put(key, ordered.store.get(key) + b"\n")
    with pytest.raises(JobError, match=r"does not match|is not the one") as refused:
        ordered.run()
    assert refused.value.code == ExitCode.STORE_UNAVAILABLE, "it is no problem of the recording"


def test_a_request_of_another_version_is_an_image_problem(tmp_path: Path, talk: tuple[Path, object]) -> None:
    ordered = order(FileStore(tmp_path / "store"), talk[0])
    newer = ordered.store.get(ordered.keys.request).replace(b"stenofleet.request/1", b"stenofleet.request/2")
    ordered.store.put(ordered.keys.request, newer)
    with pytest.raises(JobError, match="written by another version of stenofleet") as refused:
        replace(ordered, digest=sha256_hex(newer)).run()
    assert refused.value.code == ExitCode.CONFIG
    assert "--intake-image" in refused.value.advice


def test_a_missing_track_is_reported_with_the_name_of_the_file(tmp_path: Path, talk: tuple[Path, object]) -> None:
    ordered = order(FileStore(tmp_path / "store"), talk[0], track=1)
    with pytest.raises(MediaProblem, match="has no audio track 1") as missing:
        ordered.run()
    assert missing.value.summary.startswith(f"{talk[0]}: ")


def test_noise_with_the_name_of_a_recording_says_nothing_of_filters(tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(random.Random(1).randbytes(300_000))
    with pytest.raises(MediaProblem) as found:
        plan_only(source.inspect(noise), CUT, audio_track=None)
    assert found.value.summary.endswith("no audio could be decoded: its audio data is not valid")


def test_a_file_shorter_than_its_header_gives_a_warning(tmp_path: Path, talk: tuple[Path, object]) -> None:
    whole = speech.encode(talk[0], tmp_path / "whole.mkv", "-c:a", "libopus", "-b:a", "32k")
    part = tmp_path / "part.mkv"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    plan = plan_only(source.inspect(part), CUT, audio_track=None)
    assert any("before the end in its header: check that it is complete" in warning for warning in plan.warnings)
    assert 35_000 < plan.duration_ms < 50_000


def test_a_plan_without_a_store_is_the_same_plan(cut: Order, talk: tuple[Path, object]) -> None:
    dry = plan_only(source.inspect(talk[0]), CUT, audio_track=None)
    assert dry.model_copy(update={"run": cut.keys.run}) == cut.plan()


# ---------------------------------------------------------------- long recordings


def long_recording(path: Path, minutes: int) -> Path:
    """Noise with pauses in a small file: only the decoded amount matters."""
    pieces = "volume='if(lt(mod(t,7),6),1,0.001)':eval=frame"
    graph = f"anoisesrc=r=16000:a=0.2:d={60 * minutes}:seed=1,{pieces}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, "-c:a", "adpcm_ima_wav", f"file:{path}"]
    subprocess.run(command, check=True)
    return path


PEAK = """\
import resource, sys
from pathlib import Path
from chunk_job.store.files import FileStore
from controller.intake import __main__ as intake
intake.run_intake(FileStore(Path(sys.argv[1])), sys.argv[2], task_sha256=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("lengths,rendition", [((1, 18), False), ((1, 8), True)], ids=["plain", "rendition"])
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, lengths: tuple[int, int], rendition: bool) -> None:
    peaks = []
    for minutes in lengths:
        ordered = order(
            FileStore(tmp_path / f"store{minutes}"),
            long_recording(tmp_path / f"{minutes}.wav", minutes),
            PlanOptions(threshold_ms=0, chunk_ms=120_000),
            rendition=rendition,
        )
        peak = subprocess.run(
            [sys.executable, "-P", "-c", PEAK, str(ordered.store.root), ordered.keys.request, ordered.digest],
            capture_output=True,
            check=True,
            timeout=pipeline.PATIENCE_S,
        ).stdout
        # Kilobytes, except on macOS.
        peaks.append(int(peak) // (1024 if sys.platform == "darwin" else 1))
        assert abs(ordered.plan().duration_ms - 60_000 * minutes) < 100
    assert peaks[1] - peaks[0] < 20_000, f"{peaks} kB"


def test_an_hour_is_planned_without_drift(tmp_path: Path) -> None:
    """Every chunk of a recording of more than an hour has exactly the samples of its times."""
    seconds = 3700
    samples = np.zeros(seconds * speech.RATE_HZ, np.int16)
    for start in range(30 * speech.RATE_HZ, len(samples), 61 * speech.RATE_HZ):
        samples[start : start + speech.RATE_HZ // 4] = 9000
    flac = tmp_path / "hours.flac"
    soundfile.write(flac, samples, speech.RATE_HZ, subtype="PCM_16")
    plan = plan_only(source.inspect(flac), PlanOptions(), audio_track=None)
    assert (plan.duration_ms, plan.warnings) == (1000 * seconds, ())
    assert len(plan.spans) == round(seconds / 720)
    at = 0
    one_pass = cutter.Cutter(flac, probe(str(flac)), PlanOptions(), audio_track=None)
    for chunk in one_pass.chunks(tmp_path, skip=frozenset(range(len(plan.spans)))):
        end = chunk.span.end_ms * speech.SAMPLES_PER_MS
        assert chunk.pcm_sha256 == sha256_hex(samples[at:end].tobytes())
        at = end
    assert at == len(samples)


def test_the_audio_of_a_chunk_with_a_result_of_all_channels_is_not_written_again(tmp_path: Path) -> None:
    call = tmp_path / "call.wav"
    channels = [speech.tape(seconds=50, seed=seed).pcm for seed in (1, 2)]
    soundfile.write(call, np.column_stack(channels), speech.RATE_HZ, subtype="PCM_16")
    ordered = order(FileStore(tmp_path / "store"), call, CUT.model_copy(update={"channels": "split"}))
    ordered.run()
    task = ordered.task(0)
    assert task.channels == ordered.plan().channels == 2
    result = fakes.result(task, fakes.segment((" a", 0, 500), channel=2), channels=2)
    ordered.store.put(f"{task.result_prefix}a1-u.json", result.encode())
    ordered.store.delete(task.audio_key)
    ordered.run()
    kept = {entry.key for entry in ordered.store.list(ordered.keys.audios)}
    assert (task.audio_key in kept, ordered.keys.audio(1) in kept) == (False, True)
