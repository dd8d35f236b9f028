"""One chunk through a real chunk job: a process of its own, so that each transcription has its own seed and model."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from chunk_job.contract import SAMPLE_RATE, ChunkResult, ChunkTask, TranscribeOptions, sha256_hex
from chunk_job.segment import Segment
from chunk_job.store.files import FileStore
from tests.speech import Pcm, TimedWord

RUN = "0123456789abcdef"
TASK = "task.json"


@dataclass(frozen=True, kw_only=True)
class Done:
    """A result as it was written, and the CPU seconds of the job."""

    result: ChunkResult
    cpu_s: float

    @property
    def text(self) -> str:
        return self.result.text

    @property
    def words(self) -> list[TimedWord]:
        """All words with their times."""
        return words_of(self.result.segments)


def words_of(segments: Iterable[Segment]) -> list[TimedWord]:
    """The words of some segments with their times."""
    return [(word["word"], word["start_ms"], word["end_ms"]) for each in segments for word in each.words]


def with_task(pcm: Pcm, model: Path, folder: Path, *, seed: int = 1, **options: Any) -> tuple[FileStore, ChunkTask]:
    """Put a task for *pcm* and its audio into a new store below *folder*. int8 on one CPU thread."""
    store = FileStore(folder / secrets.token_hex(8))
    task = ChunkTask(
        run=RUN,
        span=0,
        audio_key="audio.flac",
        audio_ms=len(pcm) * 1000 // SAMPLE_RATE,
        pcm_sha256=sha256_hex(pcm.tobytes()),
        result_prefix="results/",
        language_key="language.json",
        language_note_key="note.json",
        language_min_speech_ms=0,
        options=TranscribeOptions(model=str(model), device="cpu", **{"compute_type": "int8", **options}),
        seed=seed,
    )
    store.put(TASK, task.encode())
    soundfile.write(store.root / task.audio_key, pcm, SAMPLE_RATE)
    return store, task


def transcribe(pcm: Pcm, model: Path, folder: Path, *, seed: int = 1, **options: Any) -> Done:
    """Write a task for *pcm* to a new store below *folder*, run the job, and read the result.

    Raises :class:`RuntimeError` with the job's messages if it fails.
    """
    store, task = with_task(pcm, model, folder, seed=seed, **options)
    digest = sha256_hex(task.encode())
    cpu_s = _run(store.url, digest)
    (entry,) = store.list(task.result_prefix)
    result = ChunkResult.read(
        store.get(entry.key), run=RUN, span=0, task_sha256=frozenset({digest}), audio_ms=task.audio_ms
    )
    return Done(result=result, cpu_s=cpu_s)


def _run(url: str, task_sha256: str) -> float:
    """Run the job of the task to its end; its CPU seconds."""
    command = [sys.executable, "-P", "-m", "chunk_job", "--store", url, "--task", TASK]
    process = subprocess.Popen(
        [*command, "--task-sha256", task_sha256],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    with process.stderr as messages:
        said = messages.read()
    # wait4 instead of wait: it has the usage of this child alone.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the chunk job ended with {process.returncode}: {said[-2000:]}")
    return used.ru_utime + used.ru_stime
