"""The device that runs the model: selects it, checks that it works, and classifies its errors.

Touches: the GPU, the CPU, the environment.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.compute_type import best_type
from chunk_job.errors import ExitCode, JobError

_FRAMES = 3_000
"""Frames of the encoder's input."""


def warm_up(whisper: Any) -> None:
    """Use the GPU once in each way that decoding does, so that its kernels are compiled; check the encoder's output.

    If the driver cannot run the kernels, a GPU gives wrong numbers without an error. Raises :class:`JobError`
    (GPU_UNHEALTHY).
    """
    import numpy as np

    # Any sound: a second of noise, always the same.
    features = whisper.feature_extractor(np.random.default_rng(0).standard_normal(SAMPLE_RATE, dtype=np.float32) / 100)
    features = np.pad(features, ((0, 0), (0, _FRAMES - features.shape[-1])))
    encoded = whisper.encode(features)
    output = np.asarray(encoded.to_device(_cpu_device()), dtype=np.float32)
    if not np.isfinite(output).all() or float(output.std()) < 1e-6:
        raise JobError(
            ExitCode.GPU_UNHEALTHY,
            "the GPU's encoder output is not finite or constant",
            "the driver is older than ctranslate2's kernels, or the GPU is broken: try another node",
        )
    tokens = whisper.hf_tokenizer
    prompt = [tokens.token_to_id("<|startoftranscript|>"), tokens.token_to_id("<|notimestamps|>")]
    whisper.model.generate(encoded, [prompt], max_length=len(prompt) + 2, return_no_speech_prob=True)
    whisper.model.align(encoded, prompt[:1], [[0]], 100)


def is_out_of_memory(error: Exception) -> bool:
    return "out of memory" in str(error).lower()


def _cpu_device() -> Any:
    import ctranslate2

    return ctranslate2.Device.cpu


def choose_device(wanted: str) -> str:
    import ctranslate2

    gpus = ctranslate2.get_cuda_device_count()
    if wanted == "cuda" and not gpus:
        raise JobError(
            ExitCode.GPU_UNHEALTHY,
            "no CUDA device is visible to this process",
            "check the NVIDIA driver (nvidia-smi) and the container's GPU request, or use --device cpu",
        )
    return ("cuda" if gpus else "cpu") if wanted == "auto" else wanted


def choose_compute_type(wanted: str, device: str, stored: str) -> str:
    """The compute type for *wanted* in the form that is fastest on *device*. *stored*: type of the model's file.

    Raises :class:`JobError` (CONFIG) if the device does not support it.
    """
    import ctranslate2

    supported = ctranslate2.get_supported_compute_types(device)
    chosen = best_type(wanted, device, stored, supported)
    if chosen != "default" and chosen not in supported:
        raise JobError(
            ExitCode.CONFIG,
            f"compute type {wanted} is not supported on this {device} device",
            f"use one of: {', '.join(sorted(supported))}",
        )
    return chosen


def native_error(error: Exception, otherwise: ExitCode, what: str) -> JobError:
    """The :class:`JobError` for a RuntimeError of ctranslate2. *otherwise*: the exit code if the cause is unknown."""
    text = str(error)
    if is_out_of_memory(error):
        return JobError(
            ExitCode.CUDA_OOM,
            f"{what}: {text}",
            "use a smaller model, --compute-type int8, or a GPU with more memory",
        )
    if "CUDA" in text or "libcu" in text:
        return JobError(
            ExitCode.GPU_UNHEALTHY,
            f"{what}: {text}",
            "check the driver and libcublas.so.12 (pip install 'stenofleet[gpu]' installs it), or use --device cpu",
        )
    return JobError(otherwise, f"{what}: {text}")


def preload_cublas() -> None:
    """Load libcublas.so.12 from its wheel: ctranslate2 opens it by name, but the wheel is on no library path."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        for library in ("libcublasLt.so.12", "libcublas.so.12"):
            path = Path(folder) / "cublas" / "lib" / library
            if path.is_file():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def instruction_set() -> str:
    """The instruction set that ctranslate2 uses on this CPU. Another set can give another text."""
    forced = os.environ.get("CT2_FORCE_CPU_ISA")
    if forced:
        return forced
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        flags = []
    for flag, name in (("avx512f", "AVX512"), ("avx2", "AVX2"), ("avx", "AVX")):
        if flag in flags:
            return name
    return platform.machine() or "unknown"
