"""The chunk job: a task in, audio fetched, words out, a result committed and read back, the process gone.

Touches: arguments, environment, standard streams, exit. Start-up time is this program's price, so only what every job
needs is imported up front. The main thread does nothing but wait for signals, because a Python signal handler cannot
run while native code holds the main thread; the work is done in a second thread. Every path leaves by ``os._exit``
after an explicit flush: the result is already committed, and an interpreter that tears down CUDA and decoder threads
is where processes like this one used to crash.

    python -m chunk_job --store URL --task KEY --task-sha256 HEX --attempt N     one chunk of a run
    python -m chunk_job AUDIO [MODEL]                                            by hand: one JSON line on stdout
    python -m chunk_job --resolve-model REFERENCE [--download]                   where a model lies on this machine
"""

from __future__ import annotations

import os

# numpy's BLAS would start a thread a core that nobody uses here: a tenth of a second of every job.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import contextlib
import faulthandler
import logging
import math
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from chunk_job import cores, lazy, model, process
from chunk_job.contract import (
    SAMPLE_RATE,
    ChunkResult,
    ChunkTask,
    DocumentInvalid,
    ExitCode,
    JobError,
    Language,
    TranscribeOptions,
    Usage,
    longest_result_bytes,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.text import json_line

log = logging.getLogger("stenofleet.chunk_job")

STALL_S = 600
"""No segment for so long: the process is stuck in native code. It leaves its stacks in the log and exits."""

COMMIT_PATIENCE_S = 600
"""How long a finished result waits for a store that is away, before the work is given up."""

_FLAC_HEADER_BYTES = 1 << 20
"""Room for what a FLAC file may hold besides its samples."""

_COMMIT_PAUSE_S = 2.0
_PROGRESS_EVERY_S = 1.0


class _Deferred(Exception):
    """This chunk has too little speech to decide the run's language, and has said so in a note."""


class _Pulse:
    """The last sign of life, read by the watchdog; also writes progress lines, at most one a second."""

    def __init__(self, audio_ms: int) -> None:
        self.audio_ms = audio_ms
        self.last_s = time.monotonic()
        self._said_s = 0.0

    def beat(self, position_ms: int) -> None:
        self.last_s = time.monotonic()
        if self.last_s - self._said_s >= _PROGRESS_EVERY_S:
            self._said_s = self.last_s
            log.info("progress %d of %d ms", position_ms, self.audio_ms)

    def rest(self) -> None:
        """Native code is left behind: nothing to watch over any more."""
        self.last_s = math.inf

    def watch(self) -> NoReturn:
        while True:
            time.sleep(5)
            if time.monotonic() - self.last_s > STALL_S:
                log.error("no segment for %d s: giving up", STALL_S)
                faulthandler.dump_traceback(all_threads=True)
                process.leave(ExitCode.TEMPORARY)


def main(argv: list[str] | None = None) -> NoReturn:
    """Do what the arguments say and leave the process."""
    process.start_logging()
    arguments = _parser().parse_args(argv)
    faulthandler.enable()
    # faster-whisper's decoder: a tenth of the start, and only used by hand; a chunk's FLAC is read by soundfile.
    lazy.defer("av")
    signals = {signal.SIGTERM, signal.SIGINT}
    # Before any thread exists, so that all of them inherit it and only sigwait below ever sees these signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    process.hold_lifeline(arguments.lifeline)
    worker = threading.Thread(
        target=lambda: process.leave(process.work(lambda: _dispatch(arguments), arguments.termination_log)),
        daemon=True,
    )
    worker.start()
    process.leave(128 + signal.sigwait(signals))


def _parser() -> argparse.ArgumentParser:
    parser = process.JobArgumentParser(prog="python -m chunk_job", description="Transcribe one chunk.")
    parser.add_argument("audio", nargs="?", type=Path, help="an audio file, to transcribe it by hand")
    parser.add_argument("model", nargs="?", default="medium", help="model name or folder (default: medium)")
    process.add_arguments(parser)
    parser.add_argument("--attempt", type=int, default=1, metavar="N")
    parser.add_argument("--uid", default=None, help="identity of this process in the result's key (default: random)")
    parser.add_argument("--resolve-model", metavar="REFERENCE", help="print where a model lies and leave")
    parser.add_argument("--download", action="store_true", help="fetch the model from the hub where it is missing")
    return parser


def _dispatch(arguments: argparse.Namespace) -> None:
    if arguments.resolve_model:
        process.tell(str(model.locate(arguments.resolve_model, download=arguments.download)))
    elif arguments.task:
        if not (arguments.store and arguments.task_sha256):
            raise JobError(ExitCode.USAGE, "--task needs --store and --task-sha256")
        with contextlib.suppress(_Deferred):
            run_task(
                open_store(arguments.store),
                arguments.task,
                task_sha256=arguments.task_sha256,
                attempt=arguments.attempt,
                uid=arguments.uid or secrets.token_hex(6),
            )
    elif arguments.audio:
        by_hand(arguments.audio, arguments.model, download=arguments.download)
    else:
        raise JobError(ExitCode.USAGE, "nothing to do", "name an audio file, or --task with --store and --task-sha256")


def run_task(store: Store, key: str, *, task_sha256: str, attempt: int, uid: str) -> None:
    """Transcribe the chunk the task under *key* describes and commit the result. Logs counts, never text."""
    started = time.monotonic()
    task = _read_task(store, key, task_sha256)
    where = f"{task.span:05d}.a{attempt}"
    audio = _read_audio(store, task)
    fetched = time.monotonic()
    options, frozen = _pinned(store, task)
    loaded = model.load(model.locate(options.model), options, seed=task.seed)
    reach(f"chunk.loaded.{where}")
    ready = time.monotonic()
    pulse = _Pulse(task.audio_ms)
    threading.Thread(target=pulse.watch, daemon=True).start()
    outcome = model.transcribe(
        loaded, audio, options, settle=lambda heard: _settle(store, task, heard), progress=pulse.beat
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
    pulse.rest()
    _commit(store, f"{task.result_prefix}a{attempt}-{uid}.json", _checked(result))
    log.info("committed %d segments of %d ms, attempt %d", len(result.segments), task.audio_ms, attempt)
    reach(f"chunk.committed.{where}")


def _read_task(store: Store, key: str, task_sha256: str) -> ChunkTask:
    """The task under *key*. Raises :class:`JobError` (CHUNK_DAMAGED) where it is gone or another one."""
    try:
        raw = store.get(key, max_bytes=ChunkTask.max_bytes)
    except (ObjectMissing, DocumentInvalid) as error:
        raise _damaged(error.summary) from error
    if sha256_hex(raw) != task_sha256:
        raise _damaged(f"task {key} is not the one this job was made for")
    return ChunkTask.decode(raw)


def _read_audio(store: Store, task: ChunkTask) -> Any:
    """The chunk's samples. Raises :class:`JobError` (CHUNK_DAMAGED) where they are gone or not what the task says."""
    try:
        # FLAC is never much longer than the samples in it.
        limit = _FLAC_HEADER_BYTES + task.audio_ms * SAMPLE_RATE * 3 // 1000
        with store.open(task.audio_key, max_bytes=limit) as file:
            return model.read_pcm(file, audio_ms=task.audio_ms, pcm_sha256=task.pcm_sha256)
    except (ObjectMissing, DocumentInvalid) as error:
        raise _damaged(error.summary) from error
    except model.WrongAudio as error:
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


def by_hand(audio: Path, reference: str, *, download: bool) -> None:
    """Transcribe a file and print one JSON line: the chunk job without a cluster, a store or a task."""
    started = time.monotonic()
    try:
        if not audio.is_file():
            raise JobError(ExitCode.INPUT_MISSING, f"no such file: {audio}")
        options = TranscribeOptions(model=reference, cpu_threads=cores.usable())
        folder = model.locate(reference, download=download)
        samples = model.read_media(audio)
        loaded = model.load(folder, options, seed=0)
        outcome = model.transcribe(loaded, samples, options, settle=lambda heard: heard, progress=lambda _: None)
    except JobError as error:
        failed = {"success": False, "error": error.summary, "advice": error.advice}
        process.tell(json_line(failed, ensure_ascii=False))
        raise
    line = {
        "success": True,
        "text": "".join(segment.text for segment in outcome.segments).strip(),
        "language": outcome.language,
        "processing_time": round(time.monotonic() - started, 3),
    }
    process.tell(json_line(line, ensure_ascii=False))


def _pinned(store: Store, task: ChunkTask) -> tuple[TranscribeOptions, Language | None]:
    """The task's options with the run's language, and that decision, where it is already frozen."""
    if task.options.language is not None:
        return task.options, None
    frozen = _language(store, task)
    if frozen is None:
        return task.options, None
    return task.options.model_copy(update={"language": frozen.language}), frozen


def _settle(store: Store, task: ChunkTask, heard: model.Heard) -> model.Heard:
    """Freeze the run's language, or leave a note and pass the decision on. First write wins, by reading back."""
    document = Language(
        language=heard.language, probability=heard.probability, speech_ms=heard.speech_ms, span=task.span
    )
    if heard.speech_ms < task.language_min_speech_ms:
        store.put(task.language_note_key, document.encode())
        log.info("%d ms of speech are too little to decide the language: passed on", heard.speech_ms)
        raise _Deferred
    if _language(store, task) is None:
        store.put(task.language_key, document.encode())
        reach(f"chunk.language.{task.span:05d}")
    frozen = _language(store, task) or document
    return model.Heard(language=frozen.language, probability=frozen.probability, speech_ms=heard.speech_ms)


def _language(store: Store, task: ChunkTask) -> Language | None:
    """The run's language, where it is frozen. What is no such document decides nothing."""
    try:
        return Language.decode(store.get(task.language_key, max_bytes=Language.max_bytes))
    except (ObjectMissing, DocumentInvalid):
        return None


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


if __name__ == "__main__":
    main()
