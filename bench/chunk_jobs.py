"""Chunk jobs as processes, without a controller: a folder as the store, one task for each job.

Imports nothing of the controller, so that it runs where only the chunk job's packages are.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from typing import Any

import numpy as np
import soundfile

from chunk_job.contract import SAMPLE_RATE, ChunkResult, ChunkTask, TranscribeOptions, sha256_hex
from chunk_job.store.files import FileStore

ROOT = Path(__file__).resolve().parents[1]
"""The checkout: programs that are started import the project from here."""

_POLL_S = 0.005

Pcm = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that has ended. *code* is None if it was stopped because the time was over."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    code: int | None
    output: str


@dataclass(frozen=True, kw_only=True)
class EndedJob(Ended):
    """A chunk job that has ended. *result* is None if it failed."""

    result: ChunkResult | None


class Process:
    """A program that runs, and the time since its start."""

    def __init__(self, command: list[str], environment: Mapping[str, str], output: Path) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._output = output
        self._begin_s = time.monotonic()
        with output.open("wb") as file:
            self._child = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | {"PYTHONPATH": path} | dict(environment)
            )

    def wait(self, timeout_s: float) -> Ended:
        """Wait for the end, and kill the process if it takes longer."""
        until_s = time.monotonic() + timeout_s
        usage = self._ended(os.WNOHANG)
        while usage is None and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            usage = self._ended(os.WNOHANG)
        stopped = usage is None
        if usage is None:
            self._child.kill()
            usage = self._ended(0)
            assert usage
        return Ended(
            wall_s=time.monotonic() - self._begin_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_mib=usage.ru_maxrss / 1024,
            code=None if stopped else self._child.returncode,
            output=self._output.read_text(encoding="utf-8", errors="replace"),
        )

    def _ended(self, flags: int) -> struct_rusage | None:
        """What the process has used; None if it runs."""
        # Popen.wait() does not give the usage.
        pid, status, usage = os.wait4(self._child.pid, flags)
        if not pid:
            return None
        self._child.returncode = os.waitstatus_to_exitcode(status)
        return usage


class ChunkJobs:
    """Starts chunk jobs on parts of one recording."""

    def __init__(self, folder: Path, speech: Pcm) -> None:
        self._store = FileStore(folder / "store")
        self._store.root.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._speech = speech

    def audio(self, seconds: int) -> Path:
        """The chunk of this length, as FLAC: the recording, repeated if it is shorter."""
        path = self._store.root / f"{seconds}.flac"
        if not path.exists():
            soundfile.write(path, self._pcm(seconds), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return path

    def start(self, seconds: int, options: TranscribeOptions, environment: Mapping[str, str]) -> "Job":
        """Start a job on a chunk of this length."""
        name = secrets.token_hex(8)
        task = ChunkTask(
            run=name,
            span=0,
            audio_key=self.audio(seconds).name,
            audio_ms=seconds * 1000,
            pcm_sha256=sha256_hex(self._pcm(seconds).tobytes()),
            result_prefix=f"{name}/results/",
            language_key=f"{name}/language.json",
            language_note_key=f"{name}/note.json",
            language_min_speech_ms=0,
            options=options,
            seed=1,
        )
        key = f"{name}/task.json"
        self._store.put(key, task.encode())
        command = [sys.executable, "-P", "-m", "chunk_job", "--store", self._store.url, "--task", key]
        command += ["--task-sha256", sha256_hex(task.encode()), "--uid", "bench"]
        process = Process(command, environment, self._folder / f"{name}.log")
        return Job(process, self._store, f"{task.result_prefix}a1-bench.json")

    def _pcm(self, seconds: int) -> Pcm:
        return np.resize(self._speech, seconds * SAMPLE_RATE)


class Job:
    """A chunk job that runs."""

    def __init__(self, process: Process, store: FileStore, key: str) -> None:
        self._process, self._store, self._key = process, store, key

    def wait(self, timeout_s: float) -> EndedJob:
        """Wait for the end of the job, and kill it if it takes longer."""
        ended = self._process.wait(timeout_s)
        result = ChunkResult.decode(self._store.get(self._key)) if ended.code == 0 else None
        return EndedJob(**vars(ended), result=result)
