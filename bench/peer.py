"""The alternative without this project, for the chunked rows: ``ffmpeg -f segment``, GNU parallel and
whisper-ctranslate2, with the same engine, model and options."""

import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path

from controller import demo

ENGINE = ("faster-whisper", "ctranslate2", "onnxruntime", "tokenizers", "numpy", "av")
OPTIONS = (
    *("--model_directory", str(demo.MODEL), "--language", "en", "--device", "cpu", "--compute_type", "int8"),
    *("--threads", "1", "--beam_size", "5", "--vad_filter", "True", "--word_timestamps", "True"),
    *("--condition_on_previous_text", "False", "--output_format", "json"),
)


class Missing(RuntimeError):
    """A program to compare with is not installed, and cannot be."""


def install(folder: Path) -> Path:
    """whisper-ctranslate2 in an environment of its own, on the very versions a chunk job runs on; its program.

    Installs GNU parallel too, where that is allowed. Raises :class:`Missing` if one of them is not to be had.
    """
    if subprocess.run(["sh", ".ci/need", "parallel"], check=False).returncode:
        raise Missing("GNU parallel is not installed")
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ENGINE]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    wanted = [*pip, "install", "whisper-ctranslate2", *pins]
    done = subprocess.run(wanted, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr[-500:], file=sys.stderr)
        raise Missing("whisper-ctranslate2 cannot be installed from the package index")
    return folder / "bin" / "whisper-ctranslate2"


def command(program: Path, media: Path, folder: Path, *, seconds: int, jobs: int) -> list[str]:
    """Cut *media* at fixed times into *folder* and transcribe the pieces, *jobs* in parallel."""
    cut = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(media), "-vn", "-ac", "1", "-ar", "16000", "-c:a", "flac"]
    cut += ["-f", "segment", "-segment_time", str(seconds), str(folder / "%03d.flac")]
    each = ["parallel", "--will-cite", "--halt", "now,fail=1", "-j", str(jobs), str(program), *OPTIONS]
    each += ["--output_dir", str(folder), ":::"]
    return ["sh", "-ec", f"{shlex.join(cut)}; {shlex.join(each)} {shlex.quote(str(folder))}/*.flac"]
