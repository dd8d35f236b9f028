"""Loads a model for one transcription.

Touches: the GPU, the model folder. The random seed is taken when the model is created, so a second transcription by the
same model would not be repeatable.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from chunk_job.contract import Engine, TranscribeOptions
from chunk_job.engine.device import choose_compute_type, choose_device, instruction_set, native_error, preload_cublas
from chunk_job.engine.digest import digest
from chunk_job.errors import ExitCode


class LoadedModel:
    """A model in memory, and what a result must say of it."""

    def __init__(self, whisper: Any, engine: Engine) -> None:
        self.whisper = whisper
        self.engine = engine


def load(folder: Path, options: TranscribeOptions, *, seed: int) -> LoadedModel:
    """Load the model in *folder* for one transcription.

    Raises :class:`JobError`: GPU_UNHEALTHY without the GPU asked for, CONFIG for a compute type the device lacks,
    CUDA_OOM, MODEL for anything else that goes wrong on the way.
    """
    preload_cublas()
    import ctranslate2

    device = choose_device(options.device)
    compute_type = choose_compute_type(options.compute_type, device)
    # Before the model exists: its worker threads copy the generator when they start and are never seeded again.
    ctranslate2.set_random_seed(seed)
    from faster_whisper import WhisperModel

    try:
        whisper = WhisperModel(
            str(folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=options.cpu_threads,
            num_workers=1,
            local_files_only=True,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise native_error(error, ExitCode.MODEL, f"model {options.model} could not be loaded") from error
    engine = Engine(
        faster_whisper=importlib.metadata.version("faster-whisper"),
        ctranslate2=ctranslate2.__version__,
        model=options.model,
        model_digest=digest(folder),
        device=device,
        compute_type=compute_type,
        isa=instruction_set(),
    )
    return LoadedModel(whisper, engine)
