"""Processes one chunk: reads the task and the audio, transcribes it, writes the result and reads it back.

Touches: the store, and the device (through ``engine``).
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chunk_job.contract import (
    SAMPLE_RATE,
    ChunkResult,
    ChunkTask,
    TranscribeOptions,
    Usage,
    longest_result_bytes,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.engine.audio import WrongAudio, read_pcm
from chunk_job.engine.load import import_libraries, load
from chunk_job.engine.locate import locate
from chunk_job.engine.prepare import prepare
from chunk_job.engine.timings import Timings, since_process_start_s
from chunk_job.engine.transcribe import transcribe
from chunk_job.errors import DocumentInvalid, ExitCode, JobError, other_version
from chunk_job.kernel_store import KernelStore
from chunk_job.run_language import agree_on_language, frozen_language
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from chunk_job.stored_type import stored_type
from chunk_job.watchdog import Watchdog

log = logging.getLogger("stenofleet.chunk_job")

COMMIT_PATIENCE_S = 600
"""How long to retry writing a finished result to an unavailable store before the job fails."""

_KERNELS_PATIENCE_S = 5.0
"""How long a job that has written its result waits until the GPU's kernels are in the store."""

_FLAC_HEADER_BYTES = 1 << 20
"""Most bytes of a FLAC file in addition to its samples."""

_COMMIT_PAUSE_S = 2.0


def run_task(
    store: Store, key: str, *, task_sha256: str, attempt: int, uid: str, kernels_in_store: bool = False
) -> None:
    """Transcribe the chunk of the task under *key* and write the result. Logs counts, never text.

    The model is loaded while the audio is read and its speech is detected. *kernels_in_store*: compiled GPU kernels are
    taken from the store, and put there.
    """
    timings = Timings()
    timings.add("startup", since_process_start_s())
    started = time.monotonic()
    loader = ThreadPoolExecutor(1)
    loader.submit(import_libraries)
    task = _read_task(store, key, task_sha256)
    folder = locate(task.options.model)
    kernels = KernelStore(store, types=(task.options.compute_type, stored_type(folder))) if kernels_in_store else None
    loading = loader.submit(lambda: load(folder, task.options, seed=task.seed, timings=timings, kernels=kernels))
    point = f"{task.span:05d}.a{attempt}"
    with timings.measure("fetch"):
        audio = _read_audio(store, task)
        options, frozen = frozen_language(store, task)
    prepared = [prepare(channel, options, folder, timings) for channel in audio]
    loaded = loading.result()
    # Now, while nothing is compiled, and beside the decoding: once the result is there, the controller ends this job.
    first_use_ms = timings.ms("kernels")
    putting = kernels.keep(loaded.kernels, loaded.engine, first_use_ms=first_use_ms) if kernels else None
    reach(f"chunk.loaded.{point}")
    ready = time.monotonic()
    watchdog = Watchdog(task.audio_ms * task.channels)
    threading.Thread(target=watchdog.watch, daemon=True).start()
    outcome = transcribe(
        loaded,
        prepared,
        options,
        agree=lambda detected: agree_on_language(store, task, detected),
        progress=watchdog.progress,
        timings=timings,
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
        engine=loaded.engine.model_copy(update={"batch_size": outcome.batch_size}),
        usage=_usage(timings, options, transcribe_ms=_ms(ready, done)),
        windows=outcome.windows,
        glossary_terms=outcome.glossary_terms,
        channels=task.channels,
    )
    reach(f"chunk.transcribed.{point}")
    watchdog.stop()
    result = _checked(result, timings, started)
    begin = time.monotonic()
    _commit(store, f"{task.result_prefix}a{attempt}-{uid}.json", result.encode())
    log.info(
        "committed %d segments of %d ms, attempt %d, in %d ms",
        *(len(result.segments), task.audio_ms, attempt, _ms(begin, time.monotonic())),
    )
    reach(f"chunk.committed.{point}")
    if putting:
        putting.join(_KERNELS_PATIENCE_S)


def _usage(timings: Timings, options: TranscribeOptions, *, transcribe_ms: int) -> Usage:
    return Usage(
        fetch_ms=timings.ms("fetch"),
        load_ms=timings.ms("load"),
        transcribe_ms=transcribe_ms,
        cpu_threads=options.cpu_threads,
        startup_ms=timings.ms("startup"),
        kernels_ms=timings.ms("kernels"),
        speech_ms=timings.ms("speech"),
        features_ms=timings.ms("features"),
        decode_ms=timings.ms("decode"),
        align_ms=timings.ms("align"),
    )


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


def _read_audio(store: Store, task: ChunkTask) -> list[Any]:
    """The samples of each channel of the chunk.

    Raises :class:`JobError` (CHUNK_DAMAGED) if they are missing or do not match the task.
    """
    try:
        # A FLAC file is never much larger than its samples.
        limit = _FLAC_HEADER_BYTES + task.audio_ms * task.channels * SAMPLE_RATE * 3 // 1000
        with store.open(task.audio_key, max_bytes=limit) as file:
            return read_pcm(file, audio_ms=task.audio_ms, pcm_sha256=task.pcm_sha256, channels=task.channels)
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


def _checked(result: ChunkResult, timings: Timings, started_s: float) -> ChunkResult:
    """The result with its total time. Raises :class:`JobError` (DECODE) if the controller would refuse it."""
    try:
        with timings.measure("commit"):
            result.check()
            size = len(result.encode())
        if size > longest_result_bytes(result.audio_ms * result.channels):
            raise DocumentInvalid(f"{size} bytes of result")
    except DocumentInvalid as error:
        raise JobError(
            ExitCode.DECODE,
            f"the result cannot be used: {error.summary}",
            "try another model or --compute-type, or --condition-on-previous-text False",
        ) from error
    total_ms = timings.ms("startup") + _ms(started_s, time.monotonic())
    times = {"commit_ms": timings.ms("commit"), "total_ms": total_ms}
    return result.model_copy(update={"usage": result.usage.model_copy(update=times)})


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
