"""Samples → segments: language detection, speech detection and decoding by faster-whisper.

Touches: the GPU or the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chunk_job.contract import SAMPLE_RATE, Segment, TranscribeOptions
from chunk_job.engine.device import check_encoder, native_error
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.segments import segment_of
from chunk_job.errors import ExitCode


@dataclass(frozen=True, kw_only=True)
class LanguageDetection:
    """The language and the amount of speech that were detected before decoding."""

    language: str
    probability: float
    speech_ms: int


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """The transcription of one chunk, with times in chunk-local ms. ``language`` is None if there is no speech."""

    segments: tuple[Segment, ...]
    language: str | None
    probability: float
    speech_ms: int


def transcribe(
    model: LoadedModel,
    audio: Any,
    options: TranscribeOptions,
    *,
    agree: Callable[[LanguageDetection], LanguageDetection],
    progress: Callable[[int], None],
) -> Transcription:
    """Transcribe *audio* (float32 mono, 16 kHz).

    If ``options.language`` is None, the language is detected on speech only. *agree* gets it and returns the language
    to use, or raises to stop. *progress* is called with the position in ms after each segment.
    """
    audio_ms = len(audio) * 1000 // SAMPLE_RATE
    try:
        if model.engine.device == "cuda":
            check_encoder(model.whisper, audio)
        generator, detected = _begin(model.whisper, audio, options)
        if detected.speech_ms == 0:
            return Transcription(segments=(), language=None, probability=0.0, speech_ms=0)
        if options.language is None:
            agreed = agree(detected)
            if agreed.language != detected.language:
                generator, _ = _begin(model.whisper, audio, options.model_copy(update={"language": agreed.language}))
            detected = agreed
        segments = []
        for raw in generator:
            segments.append(segment_of(raw, audio_ms))
            progress(segments[-1].end_ms)
    except (RuntimeError, ValueError) as error:
        raise native_error(error, ExitCode.DECODE, "transcription failed") from error
    ordered = tuple(sorted(segments, key=lambda segment: (segment.start_ms, segment.id)))
    return Transcription(
        segments=ordered, language=detected.language, probability=detected.probability, speech_ms=detected.speech_ms
    )


def _begin(whisper: Any, audio: Any, options: TranscribeOptions) -> tuple[Iterable[Any], LanguageDetection]:
    """Detect speech and language now; the segments are decoded when the returned generator is read."""
    from faster_whisper import BatchedInferencePipeline

    arguments: dict[str, Any] = {
        "language": options.language,
        "task": options.task,
        "beam_size": options.beam_size,
        "temperature": list(options.temperature),
        "initial_prompt": options.initial_prompt,
        "hotwords": options.hotwords,
        # Without word times, a segment that spans removed silence would include the silence.
        "word_timestamps": True,
        "vad_filter": options.vad_filter,
        "condition_on_previous_text": options.condition_on_previous_text,
    }
    if options.language is None and not options.vad_filter:
        arguments["language"], probability, speech_ms = _detect_on_speech(whisper, audio)
        generator, info = whisper.transcribe(audio, **arguments)
        return generator, LanguageDetection(language=info.language, probability=probability, speech_ms=speech_ms)
    if not options.sequential and isinstance(options.batch_size, int):
        pipeline = BatchedInferencePipeline(whisper)
        # The default is one segment per window of up to 30 s, which is too long for subtitles.
        generator, info = pipeline.transcribe(
            audio, batch_size=options.batch_size, without_timestamps=False, **arguments
        )
    else:
        generator, info = whisper.transcribe(audio, **arguments)
    return generator, LanguageDetection(
        language=info.language,
        probability=float(info.language_probability),
        speech_ms=round(info.duration_after_vad * 1000),
    )


def _detect_on_speech(whisper: Any, audio: Any) -> tuple[str, float, int]:
    """Detect the language on speech only: leading silence gives a wrong language with probability 0.7."""
    from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

    chunks, _ = collect_chunks(audio, get_speech_timestamps(audio, VadOptions()))
    speech = max(chunks, key=len, default=audio[:0])
    if not len(speech):
        return "en", 0.0, 0
    language, probability, _ = whisper.detect_language(audio=speech)
    return language, float(probability), sum(map(len, chunks)) * 1000 // SAMPLE_RATE
