"""A chunk's channels → its segments: language detection, then decoding in batches or window by window.

Touches: the GPU or the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chunk_job.contract import SAMPLE_RATE, TranscribeOptions
from chunk_job.engine.channels import segments_in_order, windows_in_order
from chunk_job.engine.complete import WindowsOfAChunk
from chunk_job.engine.decode import BatchDecoder
from chunk_job.engine.device import native_error
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.prepare import Prepared
from chunk_job.engine.prompt import with_glossary
from chunk_job.engine.segments import segments_of
from chunk_job.engine.sequential import decode_sequentially
from chunk_job.engine.speech import speech_ms
from chunk_job.engine.timings import Timings
from chunk_job.errors import ExitCode
from chunk_job.glossary import corrected
from chunk_job.segment import DecodedWindow, Segment

_DETECTION_S = 30
"""Seconds of speech from which the language is detected."""


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
    windows: tuple[DecodedWindow, ...] = ()
    """What was tried for each window. Empty after sequential decoding."""
    batch_size: int = 0
    """Most windows that were decoded together. 0: sequential decoding."""
    glossary_terms: int = 0
    """Terms of the glossary that the prompt could hold."""


def transcribe(
    model: LoadedModel,
    channels: Sequence[Prepared],
    options: TranscribeOptions,
    *,
    agree: Callable[[LanguageDetection], LanguageDetection],
    progress: Callable[[int], None],
    timings: Timings,
) -> Transcription:
    """Transcribe the channels of a chunk, each by itself, that were prepared with the same options.

    If ``options.language`` is None, the language is detected on speech only. *agree* gets it and returns the language
    to use, or raises to stop. *progress* is called after each segment or batch, with the position in ms in the channels
    one after the other.
    """
    spoken = {number: prepared for number, prepared in enumerate(channels, 1) if not prepared.is_left_out}
    if not spoken:
        return Transcription(segments=(), language=None, probability=0.0, speech_ms=0)
    try:
        detected = _language(model, list(spoken.values()), options, agree=agree, timings=timings)
        found = Transcription(
            segments=(),
            language=detected.language,
            probability=detected.probability,
            speech_ms=detected.speech_ms,
        )
        expecting, count = with_glossary(options, model.whisper)
        decode = _sequentially if options.sequential else _in_batches
        parts = {
            number: decode(
                model, prepared, expecting, found, timings=timings, progress=_behind(progress, number, prepared)
            )
            for number, prepared in spoken.items()
        }
        joined = replace(next(iter(parts.values())), glossary_terms=count)
        if len(channels) > 1:
            joined = replace(
                joined,
                segments=segments_in_order({number: part.segments for number, part in parts.items()}),
                windows=windows_in_order({number: part.windows for number, part in parts.items()}),
                batch_size=max(part.batch_size for part in parts.values()),
            )
        return replace(joined, segments=corrected(joined.segments, options.glossary))
    except (RuntimeError, ValueError) as error:
        raise native_error(error, ExitCode.DECODE, "transcription failed") from error


def _behind(progress: Callable[[int], None], channel: int, prepared: Prepared) -> Callable[[int], None]:
    """*progress* of a channel, behind those before it."""
    return lambda position_ms: progress((channel - 1) * _length_ms(prepared) + position_ms)


def _language(
    model: LoadedModel,
    spoken: Sequence[Prepared],
    options: TranscribeOptions,
    *,
    agree: Callable[[LanguageDetection], LanguageDetection],
    timings: Timings,
) -> LanguageDetection:
    """The language of all channels: as given, or detected in the one with the most speech."""
    if options.language is None:
        with timings.measure("decode"):
            detected = _detect_language(model.whisper, max(spoken, key=lambda prepared: prepared.speech.ms))
        return agree(replace(detected, speech_ms=speech_ms(prepared.speech for prepared in spoken)))
    return LanguageDetection(
        # A model for English alone writes English, whatever the language.
        language=options.language if model.whisper.model.is_multilingual else "en",
        probability=1.0,
        speech_ms=speech_ms(one.speech for one in spoken) if options.vad_filter else _length_ms(spoken[0]),
    )


def _sequentially(
    model: LoadedModel,
    prepared: Prepared,
    options: TranscribeOptions,
    found: Transcription,
    *,
    timings: Timings,
    progress: Callable[[int], None],
) -> Transcription:
    """*found* with the segments of sequential decoding."""
    with timings.measure("decode"):
        segments = decode_sequentially(
            model,
            prepared.audio,
            options,
            language=str(found.language),
            audio_ms=_length_ms(prepared),
            progress=progress,
        )
    return replace(found, segments=segments)


def _in_batches(
    model: LoadedModel,
    prepared: Prepared,
    options: TranscribeOptions,
    found: Transcription,
    *,
    timings: Timings,
    progress: Callable[[int], None],
) -> Transcription:
    """*found* with the segments of windows that were decoded in batches."""
    reached_ms = 0

    def reached(position_ms: int) -> None:
        nonlocal reached_ms
        reached_ms = position_ms
        progress(reached_ms)

    decoder = BatchDecoder(
        model,
        prepared,
        options,
        language=str(found.language),
        timings=timings,
        # Also without a new position: a batch may be decoded many times, and the job must not look as if it was stuck.
        alive=lambda: progress(reached_ms),
    )
    spoken, windows = WindowsOfAChunk(decoder, prepared, reached).decode(prepared.windows)
    return replace(
        found,
        segments=segments_of(spoken, language=str(found.language)),
        windows=tuple(windows),
        batch_size=max(1, min(decoder.batch_size, len(prepared.windows))),
    )


def _length_ms(prepared: Prepared) -> int:
    return len(prepared.audio) * 1000 // SAMPLE_RATE


def _detect_language(whisper: Any, prepared: Prepared) -> LanguageDetection:
    """Detect the language on the first 30 s of speech: leading silence gives a wrong one with probability 0.7."""
    import numpy as np

    audio, speech = prepared.audio, prepared.speech
    if not whisper.model.is_multilingual:
        return LanguageDetection(language="en", probability=1.0, speech_ms=speech.ms)
    collected = np.concatenate([audio[start:end] for start, end in speech.padded])[: _DETECTION_S * SAMPLE_RATE]
    language, probability, _ = whisper.detect_language(audio=collected)
    return LanguageDetection(language=language, probability=float(probability), speech_ms=speech.ms)
