"""The tasks of intakes and chunks, and their jobs: made here, and compared here with the objects in the store.

Touches: nothing. Everything in the task of a chunk except its audio follows from the run's record and the span. So a
task that was changed in the store (another model folder, another key for its result) is detected.
"""

from __future__ import annotations

from chunk_job.contract import UNHASHED, ChunkTask, TranscribeOptions, sha256_hex
from controller.domain.actions import Submit
from controller.domain.degradation import apply_degradation
from controller.domain.documents import Request, RunRecord
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from controller.domain.plan import longest_chunk_ms

LANGUAGE_MIN_SPEECH_MS = 3_000
"""A span with less speech does not decide a run's language: Whisper reports high confidence even for a breath."""


def intake_task(request: Request) -> bytes:
    """Return the task of an intake: the request without the fields that differ between commands."""
    return request.model_copy(update={"outputs": (), "on_chunk_failure": "fail", "keep_chunks": False}).encode()


def intake_task_key(request: Request, digest: str) -> str:
    """Return the key of the task of an intake with this *digest*."""
    return RunKeys(request.run).intake_task(digest[:16])


def job_of(submit: Submit, request: Request, *, task_key: str, task_sha256: str, audio_ms: int = 0) -> Job:
    """Return the job for a submit action. *audio_ms*: of a chunk, the sum of its channels."""
    is_intake = submit.span is None
    return Job(
        run=request.run,
        span=submit.span,
        attempt=submit.attempt,
        task_key=task_key,
        task_sha256=task_sha256,
        audio_ms=audio_ms,
        media_uri=request.source.uri if is_intake else "",
        media_bytes=request.source.size_bytes if is_intake else 0,
        memory_factor=submit.memory_factor,
        avoid_nodes=submit.avoid_nodes,
        only_elsewhere=submit.only_elsewhere,
    )


def chunk_task(
    record: RunRecord, span: int, *, audio_ms: int, pcm_sha256: str, direct: bool, channels: int = 1
) -> ChunkTask:
    """Return the task of *span*. *direct*: its run was planned as a single chunk."""
    keys = RunKeys(record.run)
    return ChunkTask(
        run=record.run,
        span=span,
        audio_key=keys.audio(span),
        audio_ms=audio_ms,
        pcm_sha256=pcm_sha256,
        result_prefix=keys.results_of(span),
        language_key=keys.language,
        language_note_key=keys.language_candidate(span),
        # The only chunk of a run has to decide the language.
        language_min_speech_ms=0 if direct else LANGUAGE_MIN_SPEECH_MS,
        options=_chunk_options(record.options, direct=direct),
        seed=int(sha256_hex(f"{record.run}/{span}".encode())[:8], 16) >> 1,
        channels=channels,
    )


def degraded_task(task: ChunkTask, level: int) -> ChunkTask:
    """Return the same task with options degraded by *level* steps."""
    return task.model_copy(update={"options": apply_degradation(task.options, level)})


def belongs(task: ChunkTask, record: RunRecord, span: int) -> bool:
    """Whether *task* is what an intake of this run would have written for *span*."""
    if task.audio_ms > longest_chunk_ms(record.plan) or (task.channels > 1 and record.plan.channels != "split"):
        return False
    # The number of threads changes only the speed, and may come from another command.
    speed = {name: getattr(task.options, name) for name in UNHASHED}
    record = record.model_copy(update={"options": record.options.model_copy(update=speed)})
    return any(
        task
        == chunk_task(
            record,
            span,
            audio_ms=task.audio_ms,
            pcm_sha256=task.pcm_sha256,
            direct=direct,
            channels=task.channels,
        )
        for direct in (False, True)
    )


def _chunk_options(options: TranscribeOptions, *, direct: bool) -> TranscribeOptions:
    """Use int8 for chunks if the compute type is ``auto``, but not for a direct job: it has the device for itself."""
    if options.compute_type == "auto" and not direct:
        return options.model_copy(update={"compute_type": "int8"})
    return options
