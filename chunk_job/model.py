"""The model: a folder or a name → a loaded Whisper; audio → segments in ms.

Touches: the GPU, the CPU, the model folder, and the hub when a download is asked for. The only door to
faster-whisper, ctranslate2, soundfile and (chunk-side) numpy. One process loads one model for one transcription: the
random seed is taken when the model is created, so a second transcription would no longer be repeatable.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from chunk_job.contract import SAMPLE_RATE, Engine, ExitCode, JobError, Segment, TranscribeOptions, Word
from chunk_job.names import MODEL_FILES, MODELS, is_published, unknown_model

_FLAC_MAGIC = b"fLaC"
_SAMPLED_ABOVE = 64 << 20
_SAMPLES = 64
_SAMPLE_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the model knows before it writes a word."""

    language: str
    probability: float
    speech_ms: int


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """The model's answer for one chunk, times in chunk-local ms. ``language`` is None where nobody spoke."""

    segments: tuple[Segment, ...]
    language: str | None
    probability: float
    speech_ms: int


class WrongAudio(Exception):
    """Chunk audio that is not what its task says."""


class LoadedModel:
    """A model in memory, and what a result must say of it."""

    def __init__(self, whisper: Any, engine: Engine) -> None:
        self.whisper = whisper
        self.engine = engine


_CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
"""Where the hub's client keeps what it fetches; without any of them, below the home."""


def locate(reference: str, *, download: bool = False) -> Path:
    """The folder of the model called *reference*: a folder, a name of ``MODELS``, or a hub repository ``owner/name``.

    Raises :class:`JobError` (MODEL) where it is unknown, incomplete, or not on this machine and *download* is off.
    """
    folder = Path(os.path.expanduser(reference))  # noqa: PTH111 (without a home "~" stays as it is)
    if folder.is_dir():
        missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
        if missing:
            raise JobError(
                ExitCode.MODEL,
                f"{folder} is no faster-whisper model: it lacks {', '.join(missing)}",
                "name a folder with a model converted for CTranslate2",
            )
        return folder
    known = MODELS.get(reference)
    if not is_published(reference):
        raise JobError(ExitCode.MODEL, *unknown_model(reference))
    return _from_hub(known.repository if known else reference, reference, download=download)


def _from_hub(repository: str, reference: str, *, download: bool) -> Path:
    if os.path.expanduser("~") == "~" and not any(os.environ.get(name) for name in _CACHES):  # noqa: PTH111
        raise JobError(
            ExitCode.MODEL,
            f"model {reference}: this user has no home folder to keep models in",
            "set HF_HOME to a folder, or give a model folder to --model",
        )
    os.environ["HF_HUB_OFFLINE"] = "0" if download else "1"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from faster_whisper.utils import download_model

    try:
        folder = Path(download_model(repository, local_files_only=not download))
    except Exception as error:  # the hub's client raises its own, requests' and the operating system's errors
        size = f" ({MODELS[reference].size_mb / 1000:.1f} GB)" if reference in MODELS else ""
        if download:
            raise JobError(
                ExitCode.MODEL,
                f"model {reference}{size} could not be downloaded: {error}",
                "check the network, or copy the model's folder to this machine and give its path to --model",
            ) from error
        raise JobError(
            ExitCode.MODEL,
            f"model {reference}{size} is not on this machine",
            f"add --download to fetch it once from the hub ({repository}), or give a model folder to --model; on a"
            " cluster it must lie in the chunk image or on the volume that --model-claim names",
        ) from error
    return locate(str(folder))


def digest(folder: Path) -> str:
    """A digest of the model's files: merge refuses results of different models.

    Files above 64 MiB are sampled at 64 places and by their size, so that a 3 GB model costs milliseconds.
    """
    total = hashlib.sha256()
    for path in sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")):
        size = path.stat().st_size
        total.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _SAMPLED_ABOVE:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for place in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * place // (_SAMPLES - 1))
                total.update(file.read(_SAMPLE_BYTES))
    return total.hexdigest()


def load(folder: Path, options: TranscribeOptions, *, seed: int) -> LoadedModel:
    """Load the model in *folder* for one transcription.

    Raises :class:`JobError`: GPU_UNHEALTHY without the GPU asked for, CONFIG for a compute type the device lacks,
    CUDA_OOM, MODEL for anything else that goes wrong on the way.
    """
    _preload_cublas()
    import ctranslate2

    device = _device(options.device)
    compute_type = _compute_type(options.compute_type, device)
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
        raise _native_error(error, ExitCode.MODEL, f"model {options.model} could not be loaded") from error
    engine = Engine(
        faster_whisper=importlib.metadata.version("faster-whisper"),
        ctranslate2=ctranslate2.__version__,
        model=options.model,
        model_digest=digest(folder),
        device=device,
        compute_type=compute_type,
        isa=_isa(),
    )
    return LoadedModel(whisper, engine)


def read_pcm(file: BinaryIO, *, audio_ms: int, pcm_sha256: str) -> Any:
    """A chunk's FLAC as float32 mono samples at 16 kHz in [-1, 1).

    At most one sample more than *audio_ms* of audio is decoded, whatever the file holds. Raises :class:`WrongAudio`
    where the samples are not the ones whose digest is *pcm_sha256*.
    """
    import soundfile

    begin = file.read(len(_FLAC_MAGIC))
    file.seek(0)
    if begin != _FLAC_MAGIC:
        # libsndfile would try two dozen other formats on it.
        raise WrongAudio("not a FLAC file")
    try:
        with soundfile.SoundFile(file) as flac:
            if (flac.samplerate, flac.channels) != (SAMPLE_RATE, 1):
                raise WrongAudio(f"{flac.channels} channels of {flac.samplerate} Hz, not one of {SAMPLE_RATE} Hz")
            pcm = flac.read(audio_ms * SAMPLE_RATE // 1000 + 1, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise WrongAudio(f"not readable: {error}") from error
    if hashlib.sha256(pcm.tobytes()).hexdigest() != pcm_sha256:
        raise WrongAudio("other samples than the task says (pcm_sha256)")
    return pcm.astype("float32") / 32768.0


def read_media(path: Path) -> Any:
    """Any audio file as float32 mono samples at 16 kHz: for the chunk job by hand."""
    from faster_whisper import decode_audio

    try:
        return decode_audio(str(path), sampling_rate=SAMPLE_RATE)
    except Exception as error:  # PyAV raises dozens of types for bad media
        raise JobError(ExitCode.BAD_INPUT, f"{path} is not readable audio: {error}") from error


def transcribe(
    model: LoadedModel,
    audio: Any,
    options: TranscribeOptions,
    *,
    settle: Callable[[Heard], Heard],
    progress: Callable[[int], None],
) -> Transcription:
    """Transcribe *audio* (float32 mono, 16 kHz).

    With ``options.language`` None the language is detected on speech alone and *settle* has the last word on it (it may
    raise to leave). *progress* is called with the position in ms after each segment.
    """
    audio_ms = len(audio) * 1000 // SAMPLE_RATE
    try:
        if model.engine.device == "cuda":
            _check_encoder(model.whisper, audio)
        generator, heard = _begin(model.whisper, audio, options)
        if heard.speech_ms == 0:
            return Transcription(segments=(), language=None, probability=0.0, speech_ms=0)
        if options.language is None:
            settled = settle(heard)
            if settled.language != heard.language:
                generator, _ = _begin(model.whisper, audio, options.model_copy(update={"language": settled.language}))
            heard = settled
        segments = []
        for raw in generator:
            segments.append(_segment(raw, audio_ms))
            progress(segments[-1].end_ms)
    except (RuntimeError, ValueError) as error:
        raise _native_error(error, ExitCode.DECODE, "transcription failed") from error
    ordered = tuple(sorted(segments, key=lambda segment: (segment.start_ms, segment.id)))
    return Transcription(
        segments=ordered, language=heard.language, probability=heard.probability, speech_ms=heard.speech_ms
    )


def _begin(whisper: Any, audio: Any, options: TranscribeOptions) -> tuple[Iterable[Any], Heard]:
    """Voice detection and language now, words when the returned generator is read."""
    from faster_whisper import BatchedInferencePipeline

    arguments: dict[str, Any] = {
        "language": options.language,
        "task": options.task,
        "beam_size": options.beam_size,
        "temperature": list(options.temperature),
        "initial_prompt": options.initial_prompt,
        "hotwords": options.hotwords,
        # Without words, a segment across removed silence keeps the silence: words snap it to speech.
        "word_timestamps": True,
        "vad_filter": options.vad_filter,
        "condition_on_previous_text": options.condition_on_previous_text,
    }
    if options.language is None and not options.vad_filter:
        arguments["language"], probability, speech_ms = _detect_on_speech(whisper, audio)
        generator, info = whisper.transcribe(audio, **arguments)
        return generator, Heard(language=info.language, probability=probability, speech_ms=speech_ms)
    if options.batch_size:
        pipeline = BatchedInferencePipeline(whisper)
        # Its default is one segment per window of up to 30 s: useless as subtitles.
        generator, info = pipeline.transcribe(
            audio, batch_size=options.batch_size, without_timestamps=False, **arguments
        )
    else:
        generator, info = whisper.transcribe(audio, **arguments)
    return generator, Heard(
        language=info.language,
        probability=float(info.language_probability),
        speech_ms=round(info.duration_after_vad * 1000),
    )


def _detect_on_speech(whisper: Any, audio: Any) -> tuple[str, float, int]:
    """Language by the speech alone: leading silence reads as any language at 0.7."""
    from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

    chunks, _ = collect_chunks(audio, get_speech_timestamps(audio, VadOptions()))
    speech = max(chunks, key=len, default=audio[:0])
    if not len(speech):
        return "en", 0.0, 0
    language, probability, _ = whisper.detect_language(audio=speech)
    return language, float(probability), sum(map(len, chunks)) * 1000 // SAMPLE_RATE


def _segment(raw: Any, audio_ms: int) -> Segment:
    """faster-whisper's numpy floats as ms inside the chunk, words in order inside their segment."""

    def ms(seconds: float) -> int:
        return min(max(round(float(seconds) * 1000), 0), audio_ms)

    words: list[Word] = []
    for word in raw.words or ():
        start = max(ms(word.start), words[-1]["start_ms"] if words else 0)
        words.append(
            Word(
                word=word.word,
                start_ms=start,
                end_ms=max(ms(word.end), start),
                probability=_finite(word.probability),
            )
        )
    start = words[0]["start_ms"] if words else ms(raw.start)
    return Segment(
        id=raw.id,
        seek=raw.seek,
        start_ms=start,
        end_ms=max(ms(raw.end), start, words[-1]["end_ms"] if words else 0),
        text=raw.text,
        tokens=tuple(int(token) for token in raw.tokens),
        temperature=_finite(raw.temperature or 0.0),
        avg_logprob=_finite(raw.avg_logprob),
        compression_ratio=_finite(raw.compression_ratio),
        no_speech_prob=_finite(raw.no_speech_prob),
        words=tuple(words),
    )


def _finite(number: float) -> float:
    """JSON has no NaN; a score that is none says 0."""
    return float(number) if math.isfinite(number) else 0.0


def _check_encoder(whisper: Any, audio: Any) -> None:
    """A GPU whose driver cannot run the kernels answers with nonsense instead of an error: catch it here."""
    import numpy as np

    features = whisper.feature_extractor(audio[: 30 * SAMPLE_RATE])[..., :3000]
    features = np.pad(features, ((0, 0), (0, 3000 - features.shape[-1])))
    output = np.asarray(whisper.encode(features).to_device(_cpu_device()), dtype=np.float32)
    if not np.isfinite(output).all() or float(output.std()) < 1e-6:
        raise JobError(
            ExitCode.GPU_UNHEALTHY,
            "the GPU's encoder output is not finite or constant",
            "the driver is older than ctranslate2's kernels, or the GPU is broken: try another node",
        )


def _cpu_device() -> Any:
    import ctranslate2

    return ctranslate2.Device.cpu


def _device(wanted: str) -> str:
    import ctranslate2

    gpus = ctranslate2.get_cuda_device_count()
    if wanted == "cuda" and not gpus:
        raise JobError(
            ExitCode.GPU_UNHEALTHY,
            "no CUDA device is visible to this process",
            "check the NVIDIA driver (nvidia-smi) and the container's GPU request, or use --device cpu",
        )
    return ("cuda" if gpus else "cpu") if wanted == "auto" else wanted


def _compute_type(wanted: str, device: str) -> str:
    import ctranslate2

    if wanted == "auto":
        return "float16" if device == "cuda" else "int8"
    supported = ctranslate2.get_supported_compute_types(device)
    if wanted != "default" and wanted not in supported:
        raise JobError(
            ExitCode.CONFIG,
            f"compute type {wanted} is not supported on this {device} device",
            f"use one of: {', '.join(sorted(supported))}",
        )
    return wanted


def _native_error(error: Exception, otherwise: ExitCode, what: str) -> JobError:
    """ctranslate2 speaks in RuntimeErrors; the ones with another cure have another code."""
    text = str(error)
    if "out of memory" in text.lower():
        return JobError(
            ExitCode.CUDA_OOM,
            f"{what}: {text}",
            "use a smaller model, --compute-type int8, no --batch-size, or a GPU with more memory",
        )
    if "CUDA" in text or "libcu" in text:
        return JobError(
            ExitCode.GPU_UNHEALTHY,
            f"{what}: {text}",
            "check the driver and libcublas.so.12 (pip install 'stenofleet[gpu]' brings it), or give --device cpu",
        )
    return JobError(otherwise, f"{what}: {text}")


def _preload_cublas() -> None:
    """ctranslate2 opens libcublas.so.12 by name, and the wheel that brings it is on no library path."""
    found = importlib.util.find_spec("nvidia")
    for place in found.submodule_search_locations or () if found else ():
        for library in ("libcublasLt.so.12", "libcublas.so.12"):
            path = Path(place) / "cublas" / "lib" / library
            if path.is_file():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _isa() -> str:
    """The instruction set ctranslate2 picks on this CPU: other sets give other words."""
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
