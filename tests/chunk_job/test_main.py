"""The chunk job as a process: one result or one reason, and no transcript text in its log."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile

from chunk_job import __main__ as main
from chunk_job import crashpoint
from chunk_job.contract import ChunkResult, ChunkTask, JobFailure, Language, TranscribeOptions, sha256_hex
from chunk_job.engine import gpu
from chunk_job.errors import ExitCode
from chunk_job.models.verification import described, write_manifest
from chunk_job.store.files import FileStore
from controller import demo
from tests import pipeline, speech

pytestmark = pytest.mark.process

TAPE = speech.tape(seconds=8, seed=70)
PREFIX = "results/00003/"


@dataclass(frozen=True, kw_only=True)
class Left:
    """The output of a job."""

    code: int
    out: str
    err: str
    message: JobFailure | None


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A store with one task, and the job that runs it."""

    folder: Path
    store: FileStore

    def task(self, pcm: speech.Pcm = TAPE.pcm, *, min_speech_ms: int = 3000, **options: Any) -> ChunkTask:
        """Put a chunk's audio and its task."""
        audio = io.BytesIO()
        soundfile.write(audio, pcm, speech.RATE_HZ, format="FLAC", subtype="PCM_16")
        self.store.put("audio/00003.flac", audio.getvalue())
        task = ChunkTask(
            run="0123456789abcdef",
            span=3,
            audio_key="audio/00003.flac",
            audio_ms=len(pcm) // speech.SAMPLES_PER_MS,
            pcm_sha256=hashlib.sha256(pcm.tobytes()).hexdigest(),
            result_prefix=PREFIX,
            language_key="language.json",
            language_note_key="language/00003.json",
            language_min_speech_ms=min_speech_ms,
            options=TranscribeOptions(**{"model": str(demo.MODEL), "device": "cpu", "compute_type": "int8", **options}),
            seed=5,
        )
        self.store.put("tasks/00003.json", task.encode())
        return task

    def start(self, *arguments: str, crash: str = "") -> subprocess.Popen[str]:
        """Start the program with these arguments."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STENOFLEET", "PYTHON"))}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "chunk_job", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=kept | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(self.folder), crashpoint.VARIABLE: crash},
        )

    def job(self, sha256: str = "", *, key: str = "tasks/00003.json", attempt: int = 1) -> list[str]:
        """The arguments of a job, as a runner gives them."""
        return [
            *("--store", self.store.url, "--task", key, "--attempt", str(attempt), "--uid", "u"),
            *("--task-sha256", sha256 or sha256_hex(self.store.get(key)), "--termination-log", "termination-message"),
        ]

    def left(self, process: subprocess.Popen[str]) -> Left:
        """Wait until the program has ended."""
        out, err = process.communicate(timeout=pipeline.PATIENCE_S)
        message = self.folder / "termination-message"
        return Left(
            code=process.returncode,
            out=out,
            err=err,
            message=JobFailure.decode(message.read_bytes()) if message.exists() else None,
        )

    def run(self, *arguments: str) -> Left:
        return self.left(self.start(*arguments))

    def result(self, task: ChunkTask) -> ChunkResult:
        """The only result."""
        (entry,) = self.store.list(PREFIX)
        digests = frozenset({sha256_hex(task.encode())})
        return ChunkResult.read(
            self.store.get(entry.key), run=task.run, span=task.span, task_sha256=digests, audio_ms=task.audio_ms
        )


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(folder=tmp_path, store=FileStore(tmp_path / "store"))


# ---------------------------------------------------------------- by hand


def test_a_single_file_gives_one_json_line(workplace: Workplace) -> None:
    speech.write_wav(workplace.folder / "chunk 001.wav", TAPE)
    left = workplace.run("chunk 001.wav", str(demo.MODEL))
    assert left.code == 0, left.err
    (line,) = left.out.splitlines()
    document = json.loads(line)
    assert (document["success"], document["language"]) == (True, "en")
    assert document["processing_time"] > 0
    assert speech.word_errors(TAPE.words, document["text"]).wer <= 0.15


@pytest.mark.parametrize(
    "audio,reference,code,error",
    [
        ("missing.wav", str(demo.MODEL), ExitCode.INPUT_MISSING, "no such file: missing.wav"),
        ("page.wav", str(demo.MODEL), ExitCode.BAD_INPUT, "page.wav is not readable audio"),
        ("page.wav", "largest", ExitCode.MODEL, "no model 'largest'"),
        ("page.wav", "medium", ExitCode.MODEL, "model medium (1.5 GB) is not on this machine"),
    ],
)
def test_a_failure_on_a_single_file_is_one_json_line_too(
    workplace: Workplace, audio: str, reference: str, code: ExitCode, error: str
) -> None:
    (workplace.folder / "page.wav").write_text("<html>")
    left = workplace.run(audio, reference)
    assert left.code == code
    (line,) = left.out.splitlines()
    assert json.loads(line)["success"] is False
    assert json.loads(line)["error"].startswith(error)


# ---------------------------------------------------------------- as a job


def test_a_job_leaves_a_valid_result_and_a_log_without_transcript_text(workplace: Workplace) -> None:
    task = workplace.task()
    left = workplace.run(*workplace.job(attempt=2))
    assert (left.code, left.out, left.message) == (0, "", None), left.err
    result = workplace.result(task)
    assert [entry.key for entry in workplace.store.list(PREFIX)] == [f"{PREFIX}a2-u.json"]
    assert (result.attempt, result.uid, result.quality, result.language) == (2, "u", "ok", "en")
    assert (result.audio_ms, result.engine.compute_type, result.usage.cpu_threads) == (8000, "int8", 1)
    assert speech.word_errors(TAPE.words, result.text).wer <= 0.15
    assert f"committed {len(result.segments)} segments of 8000 ms, attempt 2" in left.err
    assert not set(speech.normalise(result.text)) & set(speech.normalise(left.err)), "the log holds words"
    frozen = Language.decode(workplace.store.get("language.json"))
    assert (frozen.language, frozen.span, frozen.probability) == ("en", 3, result.language_probability)


def test_a_frozen_language_is_used(workplace: Workplace) -> None:
    task = workplace.task()
    frozen = Language(language="pt", probability=0.625, speech_ms=9000, span=0)
    workplace.store.put("language.json", frozen.encode())
    left = workplace.run(*workplace.job())
    assert left.code == 0, left.err
    assert (workplace.result(task).language, workplace.result(task).language_probability) == ("pt", 0.625)
    assert Language.decode(workplace.store.get("language.json")) == frozen


def test_a_chunk_with_little_speech_passes_the_language_on(workplace: Workplace) -> None:
    workplace.task(min_speech_ms=60_000)
    left = workplace.run(*workplace.job())
    assert (left.code, left.message) == (0, None)
    assert "too little to decide the language: left to other chunks" in left.err
    assert list(workplace.store.list(PREFIX)) == []
    assert workplace.store.stat("language.json") is None
    assert Language.decode(workplace.store.get("language/00003.json")).language == "en"


@pytest.mark.parametrize(
    "fault,code,summary",
    [
        ("no task", ExitCode.CHUNK_DAMAGED, "the store has no object tasks/00003.json"),
        ("other task", ExitCode.CHUNK_DAMAGED, "task tasks/00003.json is not the one that this job was started for"),
        ("endless task", ExitCode.CHUNK_DAMAGED, "object tasks/00003.json is larger than 1048576 bytes"),
        ("other version", ExitCode.CONFIG, "task tasks/00003.json: ChunkTask: "),
        ("no audio", ExitCode.CHUNK_DAMAGED, "the store has no object audio/00003.flac"),
        ("other audio", ExitCode.CHUNK_DAMAGED, "audio/00003.flac: the samples do not match the task (pcm_sha256)"),
        ("endless audio", ExitCode.CHUNK_DAMAGED, "object audio/00003.flac is larger than 1432576 bytes"),
        ("no model", ExitCode.MODEL, "no model 'largest'"),
        ("no store", ExitCode.USAGE, "'ftp://host' is not the URL of a store"),
        ("no digest", ExitCode.USAGE, "--task needs --store and --task-sha256"),
    ],
)
def test_a_job_that_fails_leaves_the_reason(workplace: Workplace, fault: str, code: ExitCode, summary: str) -> None:
    workplace.task(model="largest" if fault == "no model" else str(demo.MODEL))
    command = workplace.job()
    match fault:
        case "no task":
            workplace.store.delete("tasks/00003.json")
        case "other task":
            command = workplace.job("f" * 64)
        case "other version":
            newer = workplace.store.get("tasks/00003.json").replace(b"stenofleet.task/1", b"stenofleet.task/2")
            workplace.store.put("tasks/00003.json", newer)
            command = workplace.job()
        case "no audio":
            workplace.store.delete("audio/00003.flac")
        case "other audio":
            other = io.BytesIO()
            soundfile.write(other, TAPE.pcm[:-1], speech.RATE_HZ, format="FLAC", subtype="PCM_16")
            workplace.store.put("audio/00003.flac", other.getvalue())
        case "endless task":
            workplace.store.put("tasks/00003.json", b" " * (1 << 20) + b"{}")
        case "endless audio":
            workplace.store.put("audio/00003.flac", b"fLaC" + bytes(2 << 20))
        case "no store":
            command[1] = "ftp://host"
        case "no digest":
            command[command.index("--task-sha256") + 1] = ""
    left = workplace.run(*command)
    assert left.code == code, left.err
    assert left.out == ""
    assert left.message is not None
    assert (left.message.code, left.message.summary.startswith(summary)) == (code, True), left.message
    assert summary in left.err
    assert "Traceback" not in left.err
    assert list(workplace.store.list(PREFIX)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_job_at_once_and_without_a_result(workplace: Workplace, number: signal.Signals) -> None:
    workplace.task()
    here = workplace.folder / "here"
    with workplace.start(*workplace.job(), crash=f"chunk.loaded.00003.a1=hold:{here}") as process:
        pipeline.until(here.exists, "the model is loaded")
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    assert list(workplace.store.list(PREFIX)) == []


@pytest.mark.parametrize("reference,code", [(str(demo.MODEL), 0), ("largest", ExitCode.MODEL), ("medium", 82)])
def test_the_path_of_a_model_is_printed(workplace: Workplace, reference: str, code: int) -> None:
    left = workplace.run("--resolve-model", reference)
    assert (left.code, left.out) == (code, f"{demo.MODEL}\n" if code == 0 else "")


def test_a_job_refuses_a_model_that_does_not_match_its_manifest(workplace: Workplace) -> None:
    folder = shutil.copytree(demo.MODEL, workplace.folder / "model")
    write_manifest(folder, described(folder, source="demo"))
    (folder / "config.json").write_text("{}")
    workplace.task(model=str(folder))
    left = workplace.run(*workplace.job())
    assert (left.code, left.message and left.message.code) == (ExitCode.MODEL_DAMAGED, ExitCode.MODEL_DAMAGED)
    assert left.message
    assert "config.json is incomplete: 2 bytes instead of 189" in left.message.summary
    assert list(workplace.store.list(PREFIX)) == []


@pytest.mark.skipif(gpu.is_present(), reason="on a GPU it compiles")
def test_kernels_are_compiled_after_the_model_is_found_and_its_path_is_printed(workplace: Workplace) -> None:
    left = workplace.run("--compile-kernels", str(workplace.folder / "kernels"), str(demo.MODEL))
    assert (left.code, left.out) == (0, f"{demo.MODEL}\n")
    assert left.err == "no NVIDIA GPU here: no kernels to compile\n"
    assert not (workplace.folder / "kernels").exists()


def test_without_the_model_no_kernels_are_compiled(workplace: Workplace) -> None:
    left = workplace.run("--compile-kernels", "kernels", "medium")
    assert (left.code, left.out) == (ExitCode.MODEL, "")
    assert "model medium (1.5 GB) is not on this machine" in left.err


@pytest.mark.parametrize("end,why", [("kill -SEGV $$", "exit code -11"), ("exec sleep 60", "no end within 1 s")])
def test_a_crash_while_kernels_are_compiled_fails_nothing(
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    end: str,
    why: str,
) -> None:
    crashing = workplace.folder / "crashing"
    crashing.write_text(f"#!/bin/sh\n{end}\n", encoding="utf-8")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    monkeypatch.setattr(main, "_COMPILE_S", 1)
    main.compile_kernels(workplace.folder / "kernels", demo.MODEL)
    assert capfd.readouterr().out == f"{demo.MODEL}\n"
    assert f"no GPU kernels are kept ({why}): each job compiles them itself" in caplog.text
