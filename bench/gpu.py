"""The chunk job on a GPU, at the sizes of real models, against faster-whisper alone.

    python -m bench.gpu [--models large-v3-turbo,large-v3] [--seconds 300,720,1800] [--budget SECONDS] [--out FOLDER]

Needs the chunk job's packages and ``nvidia-smi``, no network and no real model:
see docs/explanation/benchmarks.md. Each row is
written to the files as soon as it is measured. A measurement that does not fit into the budget is skipped or stopped.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from bench.chunk_jobs import ChunkJobs, Pcm
from bench.gpu_environment import about, has_gpu, library_folder
from bench.gpu_measurements import SECTIONS, Measurements, Settings
from bench.gpu_rows import Rows
from bench.rehearsal import SHAPES
from chunk_job.contract import SAMPLE_RATE
from chunk_job.cores import usable

DEFAULT_SECONDS = {"cuda": "300,720,1800", "cpu": "30,60,120"}
SPEECH_S = 300
"""Length of the recording that is made; longer chunks repeat it."""


def numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split(",")))


def batches(text: str) -> tuple[int | str, ...]:
    return tuple(part if part == "auto" else int(part) for part in text.split(","))


def shapes(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SHAPES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no shape {unknown[0]!r}: {', '.join(SHAPES)}")
    return names


def sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(SECTIONS):
        raise argparse.ArgumentTypeError(f"not of {', '.join(SECTIONS)}: {text}")
    return names


def read_speech(path: Path) -> Pcm:
    pcm, rate = soundfile.read(path, dtype="int16")
    if rate != SAMPLE_RATE or pcm.ndim != 1:
        sys.exit(f"bench: {path} is not mono of {SAMPLE_RATE} Hz")
    return np.asarray(pcm)


def make_speech() -> Pcm:
    if importlib.util.find_spec("espeakng_loader") is None:
        sys.exit("bench: without the package espeakng-loader, give a recording by --speech")
    from tests.speech import tape

    return tape(seconds=SPEECH_S, seed=5).pcm


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--models", type=shapes, default=shapes("large-v3-turbo,large-v3"), help=", ".join(SHAPES))
    made.add_argument("--seconds", type=numbers, help="lengths of chunks (default: 300,720,1800; on the CPU 30,60,120)")
    made.add_argument("--batches", type=batches, default=batches("1,8,16,32,64,auto"), help="sizes of the batch sweep")
    made.add_argument("--only", type=sections, default=SECTIONS, help=f"parts of it: {','.join(SECTIONS)}")
    made.add_argument("--rounds", type=int, default=2, help="runs of each whole job; the median counts (default: 2)")
    made.add_argument("--threads", type=int, default=min(4, usable()), help="CPU threads of a job (default: up to 4)")
    made.add_argument("--budget", type=float, default=480, help="seconds for all of it (default: 480)")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--speech", type=Path, help="speech, FLAC of 16 kHz, mono (default: it is made)")
    made.add_argument("--write-speech", type=Path, metavar="FLAC", help="make that recording, and end")
    made.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of rows.json and table.md")
    made.add_argument("--work", type=Path, help="folder of models and chunks, kept (default: a temporary one)")
    return made


def main() -> None:
    arguments = parser().parse_args()
    if arguments.write_speech:
        soundfile.write(arguments.write_speech, make_speech(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return
    if arguments.device == "cuda" and not has_gpu():
        sys.exit("bench: nvidia-smi finds no GPU; --device cpu shows that the measurements work")
    rows = Rows(arguments.out)
    with tempfile.TemporaryDirectory(prefix="stenofleet-gpu-") as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        measure(arguments, rows, work)
    print(f"\n{rows.table()}")


def measure(arguments: argparse.Namespace, rows: Rows, work: Path) -> None:
    speech = read_speech(arguments.speech) if arguments.speech else make_speech()
    source = arguments.speech.name if arguments.speech else "made by tests/speech.py"
    for what, value in about(arguments.device).items():
        rows.add("environment", what=what, value=value)
    rows.add("environment", what="speech", value=f"{source}, {len(speech) // SAMPLE_RATE} s, repeated")
    rows.add("environment", what="CPU threads of a job", value=arguments.threads)
    settings = Settings(
        device=arguments.device,
        models=arguments.models,
        seconds=arguments.seconds or numbers(DEFAULT_SECONDS[arguments.device]),
        batches=arguments.batches,
        rounds=arguments.rounds,
        threads=arguments.threads,
        budget_s=arguments.budget,
        only=arguments.only,
    )
    jobs_folder = work / "jobs"
    shutil.rmtree(jobs_folder, ignore_errors=True)
    jobs_folder.mkdir()
    path = os.pathsep.join(filter(None, [library_folder(), os.environ.get("LD_LIBRARY_PATH")]))
    environment = {"LD_LIBRARY_PATH": path} if path else {}
    Measurements(settings, rows, ChunkJobs(jobs_folder, speech), work, environment).run()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: {error}")
