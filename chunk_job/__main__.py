"""The chunk job: reads a task, fetches the audio, transcribes it, writes the result and reads it back.

Touches: arguments, environment, standard streams, exit. Start-up time matters, so only modules that every job needs are
imported at once. The main thread only waits for signals, because a Python signal handler cannot run while native code
blocks the main thread; a second thread does the work. The process always ends with ``os._exit`` after an explicit
flush: the result is already written, and the normal shutdown of the interpreter with CUDA and decoder threads can
crash.

    python -m chunk_job --store URL --task KEY --task-sha256 HEX --attempt N     one chunk of a run
    python -m chunk_job AUDIO [MODEL]                                            by hand: one JSON line on stdout
    python -m chunk_job --resolve-model REFERENCE [--download]                   print the folder of a model
    python -m chunk_job --compile-kernels FOLDER MODEL [--download]              and keep the GPU's compiled kernels
    python -m chunk_job --convert-model SOURCE FOLDER [--download]               write a model for a device
"""

from __future__ import annotations

import os

# numpy's BLAS would start one unused thread per core, which costs a tenth of a second in every job.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import contextlib
import faulthandler
import logging
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from chunk_job import cores, kernels, lazy, process
from chunk_job.contract import TranscribeOptions
from chunk_job.engine.audio import read_media
from chunk_job.engine.load import load
from chunk_job.engine.locate import locate
from chunk_job.engine.prepare import prepare
from chunk_job.engine.timings import Timings
from chunk_job.engine.transcribe import transcribe
from chunk_job.errors import ExitCode, JobError
from chunk_job.run_language import LanguageDeferred
from chunk_job.run_task import run_task
from chunk_job.store.open_store import open_store
from chunk_job.text import json_line

log = logging.getLogger("stenofleet.chunk_job")

_COMPILE_S = 1_800
"""Longest time to compile the GPU's kernels: it takes half a minute, so a GPU that needs more is broken."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command of the arguments and exit."""
    process.start_logging()
    arguments = _parser().parse_args(argv)
    faulthandler.enable()
    # faster-whisper's audio decoder takes a tenth of the start-up time, and only `by_hand` uses it: soundfile reads the
    # FLAC files of chunks.
    lazy.defer("av")
    signals = {signal.SIGTERM, signal.SIGINT}
    # Before any thread starts: all threads inherit the mask, so only sigwait below receives these signals.
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
    parser.add_argument("--resolve-model", metavar="REFERENCE", help="print the folder of a model and exit")
    parser.add_argument(
        "--compile-kernels",
        nargs=2,
        metavar=("FOLDER", "MODEL"),
        help="print the folder of a model, compile the GPU's kernels, and keep them in FOLDER for other jobs",
    )
    parser.add_argument(
        "--convert-model", nargs=2, metavar=("SOURCE", "FOLDER"), help="write a model to the new FOLDER, and exit"
    )
    parser.add_argument("--quantization", default="auto", help="type of the weights, for --convert-model")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu, for --convert-model")
    parser.add_argument("--revision", default="", help="of the model on the hub, with --download")
    parser.add_argument(kernels.IN_STORE, action="store_true", help="share compiled GPU kernels in the store")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--download", action="store_true", help="download the model from the hub if it is missing")
    return parser


def _dispatch(arguments: argparse.Namespace) -> None:
    if arguments.resolve_model:
        folder = locate(arguments.resolve_model, download=arguments.download, revision=arguments.revision)
        process.print_data(str(folder))
    elif arguments.convert_model:
        from chunk_job.engine.convert import convert

        source, written = arguments.convert_model
        convert(
            source,
            Path(written),
            quantization=arguments.quantization,
            device=arguments.device,
            download=arguments.download,
            revision=arguments.revision,
        )
    elif arguments.compile_kernels:
        kernels_folder, reference = arguments.compile_kernels
        if arguments.in_this_process:
            from chunk_job.engine.compile_kernels import collect

            log.info("%s", collect(Path(kernels_folder), Path(reference)))
        else:
            compile_kernels(Path(kernels_folder), locate(reference, download=arguments.download))
    elif arguments.task:
        if not (arguments.store and arguments.task_sha256):
            raise JobError(ExitCode.USAGE, "--task needs --store and --task-sha256")
        with contextlib.suppress(LanguageDeferred):
            run_task(
                open_store(arguments.store),
                arguments.task,
                task_sha256=arguments.task_sha256,
                attempt=arguments.attempt,
                uid=arguments.uid or secrets.token_hex(6),
                kernels_in_store=arguments.kernels_in_store,
            )
    elif arguments.audio:
        by_hand(arguments.audio, arguments.model, download=arguments.download)
    else:
        raise JobError(ExitCode.USAGE, "nothing to do", "give an audio file, or --task with --store and --task-sha256")


def compile_kernels(folder: Path, model_folder: Path) -> None:
    """Print the model's folder, and compile the GPU's kernels in a process of its own.

    A GPU that fails or crashes there is logged and fails nothing: the model is here, and jobs compile for themselves.
    """
    import subprocess

    process.print_data(str(model_folder))
    # The pipe closes when this process ends for any reason; then the other one exits too.
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-P", "-m", "chunk_job", "--in-this-process", "--lifeline", str(reading)]
        command += ["--compile-kernels", str(folder.absolute()), str(model_folder.absolute())]
        subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=(reading,), check=True, timeout=_COMPILE_S)
    except subprocess.CalledProcessError as error:
        log.warning("no GPU kernels are kept (exit code %d): each job compiles them itself", error.returncode)
    except subprocess.TimeoutExpired:
        log.warning("no GPU kernels are kept (no end within %d s): each job compiles them itself", _COMPILE_S)
    finally:
        os.close(reading)
        os.close(writing)


def by_hand(audio: Path, reference: str, *, download: bool) -> None:
    """Transcribe a file without a cluster, a store or a task, and print one line of JSON."""
    started = time.monotonic()
    try:
        if not audio.is_file():
            raise JobError(ExitCode.INPUT_MISSING, f"no such file: {audio}")
        options = TranscribeOptions(model=reference, cpu_threads=cores.usable())
        folder = locate(reference, download=download)
        timings = Timings()
        prepared = prepare(read_media(audio), options, folder, timings)
        loaded = load(folder, options, seed=0, timings=timings)
        outcome = transcribe(
            loaded, [prepared], options, agree=lambda detected: detected, progress=lambda _: None, timings=timings
        )
    except JobError as error:
        failed = {"success": False, "error": error.summary, "advice": error.advice}
        process.print_data(json_line(failed, ensure_ascii=False))
        raise
    line = {
        "success": True,
        "text": "".join(segment.text for segment in outcome.segments).strip(),
        "language": outcome.language,
        "processing_time": round(time.monotonic() - started, 3),
    }
    process.print_data(json_line(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
