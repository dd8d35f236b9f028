"""What a measurement on a GPU depends on: the GPU, its driver, CTranslate2, and the cuBLAS that it finds."""

import ctypes
import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

CUBLAS = "libcublas.so.12"
"""CTranslate2 opens the library by this name."""


def has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) and bool(_nvidia_smi("name"))


def about(device: str) -> dict[str, str]:
    """Names and values, as text."""
    versions = {name: importlib.metadata.version(name) for name in ("ctranslate2", "faster-whisper", "numpy")}
    if device == "cpu":
        return {"device": "CPU", **versions}
    fields = ("name", "driver_version", "memory.total", "compute_cap")
    return {"GPU": ", ".join(_nvidia_smi(*fields)), **versions, "cuBLAS": cublas()}


def _nvidia_smi(*fields: str) -> list[str]:
    """The values of the first GPU; empty if there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first = done.stdout.strip().partition("\n")[0]
    return [f"{name} {value.strip()}" for name, value in zip(fields, first.split(","), strict=False) if value.strip()]


def library_folder() -> str | None:
    """The folder of cuBLAS in its wheel, which is on no library path; None if the wheel is not installed."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        if (Path(folder) / "cublas" / "lib" / CUBLAS).is_file():
            return str(Path(folder) / "cublas" / "lib")
    return None


def cublas() -> str:
    """Which file the library is, with links followed: the name may be a link to another version."""
    wheel = library_folder()
    try:
        ctypes.CDLL(f"{wheel}/{CUBLAS}" if wheel else CUBLAS)
    except OSError as error:
        return f"not found: {error}"
    # The system lists the file itself, under the name of the file that a link points to.
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = sorted({line.split()[-1] for line in lines if "libcublas.so" in line or "libcublas-" in line})
    return f"{CUBLAS} is {', '.join(paths)}" if paths else f"{CUBLAS}, at an unknown path"
