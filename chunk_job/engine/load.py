"""Loads a model for one transcription.

Touches: the GPU, the model folder. The random seed is set when the model is created, so a second transcription with the
same model would not be repeatable.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from chunk_job.contract import Engine, TranscribeOptions
from chunk_job.engine import kernel_cache
from chunk_job.engine.device import (
    choose_compute_type,
    choose_device,
    instruction_set,
    native_error,
    preload_cublas,
    warm_up,
)
from chunk_job.engine.digest import digest
from chunk_job.engine.kernel_cache import Elsewhere, KernelCache
from chunk_job.engine.timings import Timings
from chunk_job.errors import ExitCode
from chunk_job.models.verification import check_same, verified
from chunk_job.stored_type import stored_type


class LoadedModel:
    """A model in memory, its description for the result, and where its GPU kernels are."""

    def __init__(self, whisper: Any, engine: Engine, kernels: KernelCache) -> None:
        self.whisper = whisper
        self.engine = engine
        self.kernels = kernels


def import_libraries() -> None:
    """Import the model libraries, which takes a quarter of a second: call it while something else is waited for."""
    preload_cublas()
    importlib.import_module("faster_whisper")


def load(
    folder: Path, options: TranscribeOptions, *, seed: int, timings: Timings, kernels: Elsewhere | None = None
) -> LoadedModel:
    """Load the model in *folder* for one transcription, and on a GPU use it once, which compiles its kernels.

    If the folder has a manifest, its files are compared with it first, and again if they changed meanwhile.
    *kernels*: where compiled kernels may be, if no folder has them.
    Raises :class:`JobError`: GPU_UNHEALTHY if a GPU is requested but missing, CONFIG for an unsupported compute type,
    CUDA_OOM, MODEL_DAMAGED if its files do not match its manifest, or MODEL for any other error.
    """
    with timings.measure("load"):
        manifest, states = verified(folder)
        cache = kernel_cache.set_up(folder, elsewhere=kernels)
    preload_cublas()
    import ctranslate2

    device = choose_device(options.device)
    stored = stored_type(folder)
    compute_type = choose_compute_type(options.compute_type, device, stored)
    # Before the model is created: its worker threads copy the random generator when they start.
    ctranslate2.set_random_seed(seed)
    from faster_whisper import WhisperModel

    try:
        with timings.measure("load"):
            whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=options.cpu_threads,
                num_workers=1,
                local_files_only=True,
            )
        if device == "cuda":
            with timings.measure("kernels"):
                warm_up(whisper)
        model_digest = digest(folder)
        check_same(folder, manifest, states)
    except (RuntimeError, ValueError, OSError) as error:
        # If the files were changed meanwhile, that is the reason.
        check_same(folder, manifest, states)
        raise native_error(error, ExitCode.MODEL, f"model {options.model} could not be loaded") from error
    engine = Engine(
        faster_whisper=importlib.metadata.version("faster-whisper"),
        ctranslate2=ctranslate2.__version__,
        model=options.model,
        model_digest=model_digest,
        device=device,
        compute_type=compute_type,
        isa=instruction_set(),
        stored_type=stored,
    )
    return LoadedModel(whisper, engine, cache)
