"""One chunk: the task is read, the audio fetched, transcribed, and the result committed and read back.

Touches: the store, and through ``engine`` the device.
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
"""How long a finished result waits for a store that is away, before the work is given up."""

_FLAC_HEADER_BYTES = 1 << 20
"""Room for what a FLAC file may hold besides its samples."""

_COMMIT_PAUSE_S = 2.0


def run_task(store: Store, key: str, *, task_sha256: str, attempt: int, uid: str) -> None:
    """Transcribe the chunk the task under *key* describes and commit the result. Logs counts, never text."""
    started = time.monotonic()
    task = _read_task(store, key, task_sha256)
    where = f"{task.span:05d}.a{attempt}"
    audio = _read_audio(store, task)
    fetched = time.monotonic()
    options, frozen = frozen_language(store, task)
    loaded = load(locate(options.model), options, seed=task.seed)
    reach(f"chunk.loaded.{where}")
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
        # Rounded from seconds.
        speech_ms=min(outcome.speech_ms, task.audio_ms),
        language=outcome.language,
        # As the run froze it: an attempt that finds the language decided says what the deciding one would have said.
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
    reach(f"chunk.transcribed.{where}")
    watchdog.stop()
    _commit(store, f"{task.result_prefix}a{attempt}-{uid}.json", _checked(result))
    log.info("committed %d segments of %d ms, attempt %d", len(result.segments), task.audio_ms, attempt)
    reach(f"chunk.committed.{where}")


def _read_task(store: Store, key: str, task_sha256: str) -> ChunkTask:
    """The task under *key*.

    Raises :class:`JobError`: CHUNK_DAMAGED where it is gone or another one, CONFIG where it is unknown to this version.
    """
    try:
        raw = store.get(key, max_bytes=ChunkTask.max_bytes)
    except (ObjectMissing, DocumentInvalid) as error:
        raise _damaged(error.summary) from error
    if sha256_hex(raw) != task_sha256:
        raise _damaged(f"task {key} is not the one this job was made for")
    try:
        return ChunkTask.decode(raw)
    except DocumentInvalid as error:
        raise other_version(f"task {key}: {error.summary}") from error


def _read_audio(store: Store, task: ChunkTask) -> Any:
    """The chunk's samples. Raises :class:`JobError` (CHUNK_DAMAGED) where they are gone or not what the task says."""
    try:
        # FLAC is never much longer than the samples in it.
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
        "the chunk is cut again; if it repeats, see who else writes to the store, and whether its disk is sound",
    )


def _checked(result: ChunkResult) -> bytes:
    """The result's bytes. Raises :class:`JobError` (DECODE) for one that the controller would refuse."""
    data = result.encode()
    try:
        result.check()
        if len(data) > longest_result_bytes(result.audio_ms):
            raise DocumentInvalid(f"{len(data)} bytes of result")
    except DocumentInvalid as error:
        raise JobError(
            ExitCode.DECODE,
            f"the model wrote more than speech can hold: {error.summary}",
            "try another model or --compute-type, or --condition-on-previous-text False",
        ) from error
    return data


def _commit(store: Store, key: str, data: bytes) -> None:
    """Put the result and read it back: what the store answers is what the controller will see."""
    until_s = time.monotonic() + (COMMIT_PATIENCE_S if store.remote else 0)
    while True:
        try:
            store.put(key, data)
            if _reads_back(store, key, data):
                return
            raise StoreUnavailable(f"{key} reads back different from what was written", "check the store")
        except StoreUnavailable as error:
            if time.monotonic() >= until_s:
                raise
            # Minutes of work are in this process and nowhere else: a server that restarts is worth the wait.
            log.warning("%s: trying again", error.summary)
            time.sleep(_COMMIT_PAUSE_S)


def _reads_back(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.get(key, max_bytes=len(data)) == data
    except (ObjectMissing, DocumentInvalid):
        return False


def _ms(start_s: float, end_s: float) -> int:
    return round((end_s - start_s) * 1000)
