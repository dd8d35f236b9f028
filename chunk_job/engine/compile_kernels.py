"""Compiles the GPU's kernels once and leaves them in a folder, for pods that start with an empty cache.

Touches: the GPU, files, the environment. It runs in a process of its own: a driver that crashes must not fail the Job
that fetches the model.

    python -m chunk_job --compile-kernels FOLDER MODEL
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chunk_job.engine import gpu, kernel_cache, kernel_files
from chunk_job.engine.compute_type import best_type
from chunk_job.engine.device import native_error, preload_cublas
from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.kernels import CompiledKernels
from chunk_job.stored_type import stored_type

_WANTED = ("int8", "auto")
"""Compute types that jobs ask for: that of chunks, and that of recordings in one piece."""
_WINDOW_FRAMES = 3_000
_LANGUAGE = "en"

Use = Callable[[Path], tuple[Sequence[str], int]]
"""Uses a model on the GPU as jobs do. Returns the compute types and the ms that it took."""


def collect(
    folder: Path,
    model_folder: Path,
    *,
    root: Path = Path("/"),
    capability: Callable[[], tuple[int, int] | None] = gpu.compute_capability,
    use: Use | None = None,
) -> str:
    """Compile the kernels of this GPU and leave them in *folder*; returns what was done, in one line.

    Nothing is compiled without a GPU, for one that ctranslate2 has code for, and if *folder* has its kernels already.
    Raises :class:`JobError` if the model cannot be used or *folder* cannot be written.
    """
    if not gpu.is_present(root):
        return "no NVIDIA GPU here: no kernels to compile"
    found = gpu.installed(root)
    name = kernel_cache.key(found)
    trusted = kernel_files.owners(model_folder)
    if kernel_files.description(folder, (name,), trusted=trusted):
        return f"{folder / name} has the kernels of {found.name} already"
    work = Path(tempfile.mkdtemp(prefix="stenofleet-kernels-"))
    try:
        _use_cache(work)
        known = capability()
        if known and gpu.has_native_code(known):
            return (
                f"ctranslate2 has code for {found.name} (compute capability {known[0]}.{known[1]}): nothing to compile"
            )
        types, took_ms = (use or use_on_gpu)(model_folder)
        files = kernel_files.contents(work)
        if not files or not gpu.was_compiled(known, took_ms):
            return f"{found.name} needed {took_ms} ms for its first use: no kernels to keep"
        document = CompiledKernels(
            gpu=found.name,
            driver=found.driver,
            ctranslate2=_version(),
            compute_types=tuple(types),
            compiled_ms=took_ms,
            files=kernel_files.digests(files),
        )
        kernel_files.publish(files, folder / name, document)
    except (OSError, DocumentInvalid, ValueError) as error:
        raise JobError(
            ExitCode.CONFIG,
            f"the kernels of {found.name} are not kept: {error}",
            f"check that {folder} can be written and has free space",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return f"compiled the kernels of {found.name} in {took_ms / 1000:.1f} s: {folder / name}"


def use_on_gpu(model_folder: Path) -> tuple[Sequence[str], int]:
    """Use the model on the GPU in every compute type of jobs.

    Raises :class:`JobError` (GPU_UNHEALTHY, CUDA_OOM or MODEL).
    """
    preload_cublas()
    import ctranslate2

    try:
        supported = ctranslate2.get_supported_compute_types("cuda")
        stored = stored_type(model_folder)
        types = tuple(dict.fromkeys(best_type(wanted, "cuda", stored, supported) for wanted in _WANTED))
        took_ms = sum(exercise(model_folder, "cuda", kind) for kind in types)
    except (RuntimeError, ValueError) as error:
        raise native_error(error, ExitCode.MODEL, "the GPU's kernels could not be compiled") from error
    return types, took_ms


def exercise(model_folder: Path, device: str, compute_type: str) -> int:
    """Run everything of the model that jobs run: encoder, beam search, sampling, time stamps, language, word times.

    Returns the time in ms, without loading the model.
    """
    import ctranslate2
    import numpy as np
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    whisper = WhisperModel(str(model_folder), device=device, compute_type=compute_type, local_files_only=True)
    started = time.monotonic()
    model: Any = whisper.model
    tokens = Tokenizer(whisper.hf_tokenizer, model.is_multilingual, task="transcribe", language=_LANGUAGE)
    noise = np.random.default_rng(0).standard_normal((2, model.n_mels, _WINDOW_FRAMES), dtype=np.float32)
    encoded = model.encode(ctranslate2.StorageView.from_array(noise), to_cpu=False)
    untimed = [*tokens.sot_sequence, tokens.no_timestamps]
    asked: dict[str, Any] = {"max_length": 32, "return_scores": True, "return_no_speech_prob": True}
    for prompt in (untimed, list(tokens.sot_sequence)):
        model.generate(encoded, [prompt] * 2, beam_size=5, **asked)
        model.generate(encoded, [prompt] * 2, beam_size=1, **asked)
        model.generate(
            encoded, [prompt] * 2, beam_size=1, num_hypotheses=5, sampling_topk=0, sampling_temperature=0.4, **asked
        )
    if model.is_multilingual:
        model.detect_language(encoded)
    text = tokens.encode(" one two three")
    model.align(encoded, tokens.sot_sequence, [text] * 2, [_WINDOW_FRAMES] * 2)
    np.asarray(encoded.to_device(ctranslate2.Device.cpu).to(ctranslate2.DataType.float32))
    return round((time.monotonic() - started) * 1000)


def _use_cache(folder: Path) -> None:
    """Let CUDA keep what it compiles in *folder*, whatever the user has set."""
    os.environ.pop("CUDA_CACHE_DISABLE", None)
    os.environ[kernel_cache.CUDA_PATH] = str(folder)
    os.environ[kernel_cache.CUDA_SIZE] = kernel_cache.CUDA_BYTES


def _version() -> str:
    import ctranslate2

    return str(ctranslate2.__version__)
