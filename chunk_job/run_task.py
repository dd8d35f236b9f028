"""Processes one chunk: reads the task and the audio, transcribes it, writes the result and reads it back.

Touches: the store, and the device (through ``engine``).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from chunk_job.contract import SAMPLE_RATE, ChunkResult, ChunkTask, Usage, longest_result_bytes, sha256_hex
from chunk_job.crashpoint import reach
from chunk_job.engine.audio import WrongAudio, read_pcm
from chunk_job.engine.decode import transcribe
from chunk_job.engine.load import load
from chunk_job.engine.locate import locate
from chunk_job.errors import DocumentInvalid, ExitCode, JobError, other_version
from chunk_job.run_language import agree_on_language, frozen_language
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from chunk_job.watchdog import Watchdog

log = logging.getLogger("stenofleet.chunk_job")

COMMIT_PATIENCE_S = 600
"""How long to retry writing a finished result to an unavailable store before the job fails."""

_FLAC_HEADER_BYTES = 1 << 20
"""Most bytes of a FLAC file in addition to its samples."""

_COMMIT_PAUSE_S = 2.0


def run_task(store: Store, key: str, *, task_sha256: str, attempt: int, uid: str) -> None:
    """Transcribe the chunk of the task under *key* and write the result. Logs counts, never text."""
    started = time.monotonic()
    task = _read_task(store, key, task_sha256)
    point = f"{task.span:05d}.a{attempt}"
    audio = _read_audio(store, task)
    fetched = time.monotonic()
    options, frozen = frozen_language(store, task)
    loaded = load(locate(options.model), options, seed=task.seed)
    reach(f"chunk.loaded.{point}")
    ready = time.monotonic()
    watchdog = Watchdog(task.audio_ms)
    threading.Thread(target=watchdog.watch, daemon=True).start()
    outcome = transcribe(
        loaded,
        audio,
        options,
        agree=lambda detected: agree_on_language(store, task, detected),
        progress=watchdog.progress,
    )
    done = time.monotonic()
    text = "".join(segment.text for segment in outcome.segments)
    result = ChunkResult(
        text=text,
        processing_time=round(done - started, 3),
        run=task.run,
        span=task.span,
        attempt=attempt,
        uid=uid,
        task_sha256=task_sha256,
        audio_ms=task.audio_ms,
        # Rounded from seconds, so it could be a bit too long.
        speech_ms=min(outcome.speech_ms, task.audio_ms),
        language=outcome.language,
        # The frozen value: every attempt writes the same probability as the chunk that decided.
        language_probability=frozen.probability if frozen and outcome.language else outcome.probability,
        quality="silent" if outcome.speech_ms == 0 else "ok" if text.strip() else "empty",
        segments=outcome.segments,
        engine=loaded.engine,
        usage=Usage(
            fetch_ms=_ms(started, fetched),
            load_ms=_ms(fetched, ready),
            transcribe_ms=_ms(ready, done),
            cpu_threads=options.cpu_threads,
        ),
    )
    reach(f"chunk.transcribed.{point}")
    watchdog.stop()
    _commit(store, f"{task.result_prefix}a{attempt}-{uid}.json", _checked(result))
    log.info("committed %d segments of %d ms, attempt %d", len(result.segments), task.audio_ms, attempt)
    reach(f"chunk.committed.{point}")


def _read_task(store: Store, key: str, task_sha256: str) -> ChunkTask:
    """The task under *key*.

    Raises :class:`JobError`: CHUNK_DAMAGED if it is missing or changed, CONFIG if this version cannot parse it.
    """
    try:
        raw = store.get(key, max_bytes=ChunkTask.max_bytes)
    except (ObjectMissing, DocumentInvalid) as error:
        raise _damaged(error.summary) from error
    if sha256_hex(raw) != task_sha256:
        raise _damaged(f"task {key} is not the one that this job was started for")
    try:
        return ChunkTask.decode(raw)
    except DocumentInvalid as error:
        raise other_version(f"task {key}: {error.summary}") from error


def _read_audio(store: Store, task: ChunkTask) -> Any:
    """The chunk's samples. Raises :class:`JobError` (CHUNK_DAMAGED) if they are missing or do not match the task."""
    try:
        # A FLAC file is never much larger than its samples.
        limit = _FLAC_HEADER_BYTES + task.audio_ms * SAMPLE_RATE * 3 // 1000
        with store.open(task.audio_key, max_bytes=limit) as file:
            return read_pcm(file, audio_ms=task.audio_ms, pcm_sha256=task.pcm_sha256)
    except (ObjectMissing, DocumentInvalid) as error:
        raise _damaged(error.summary) from error
    except WrongAudio as error:
        raise _damaged(f"{task.audio_key}: {error}") from error


def _damaged(what: str) -> JobError:
    return JobError(
        ExitCode.CHUNK_DAMAGED,
        what,
        "the chunk is cut again; if it repeats, check what else writes to the store, and whether its disk is healthy",
    )


def _checked(result: ChunkResult) -> bytes:
    """The encoded result. Raises :class:`JobError` (DECODE) if the controller would refuse it."""
    data = result.encode()
    try:
        result.check()
        if len(data) > longest_result_bytes(result.audio_ms):
            raise DocumentInvalid(f"{len(data)} bytes of result")
    except DocumentInvalid as error:
        raise JobError(
            ExitCode.DECODE,
            f"the model wrote more than speech can have: {error.summary}",
            "try another model or --compute-type, or --condition-on-previous-text False",
        ) from error
    return data


def _commit(store: Store, key: str, data: bytes) -> None:
    """Write the result and read it back, to ensure that the controller can read it."""
    until_s = time.monotonic() + (COMMIT_PATIENCE_S if store.remote else 0)
    while True:
        try:
            store.put(key, data)
            if _reads_back(store, key, data):
                return
            raise StoreUnavailable(f"{key} has other content than was written", "check the store")
        except StoreUnavailable as error:
            if time.monotonic() >= until_s:
                raise
            # Only this process has the result of minutes of work, so it waits for a server that restarts.
            log.warning("%s: trying again", error.summary)
            time.sleep(_COMMIT_PAUSE_S)


def _reads_back(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.get(key, max_bytes=len(data)) == data
    except (ObjectMissing, DocumentInvalid):
        return False


def _ms(start_s: float, end_s: float) -> int:
    return round((end_s - start_s) * 1000)
