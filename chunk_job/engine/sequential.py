"""Sequential decoding by faster-whisper: one window after the other, with Whisper's time-stamp tokens.

Touches: the GPU or the CPU. For translations, with the text before as context, and for ``--batch-size 0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.load import LoadedModel
from chunk_job.engine.segments import finite
from chunk_job.segment import Segment, Word


def decode_sequentially(
    model: LoadedModel,
    audio: Any,
    options: TranscribeOptions,
    *,
    language: str,
    audio_ms: int,
    progress: Callable[[int], None],
) -> tuple[Segment, ...]:
    """The segments of *audio* (float32 mono, 16 kHz), in order. *progress* gets the end of each in ms."""
    generator, _ = model.whisper.transcribe(
        audio,
        language=language,
        task=options.task,
        beam_size=options.beam_size,
        temperature=list(options.temperature),
        initial_prompt=_initial_prompt(model.whisper, options),
        hotwords=options.hotwords,
        # Without word times, a segment that spans removed silence would include the silence.
        word_timestamps=True,
        vad_filter=options.vad_filter,
        vad_parameters={
            "threshold": options.vad_threshold,
            "min_silence_duration_ms": options.vad_min_silence_duration_ms,
        },
        condition_on_previous_text=options.condition_on_previous_text,
        no_speech_threshold=options.no_speech_threshold,
        log_prob_threshold=options.logprob_threshold,
        compression_ratio_threshold=options.compression_ratio_threshold,
    )
    segments = []
    for raw in generator:
        segments.append(segment_of(raw, audio_ms))
        progress(segments[-1].end_ms)
    return tuple(sorted(segments, key=lambda segment: (segment.start_ms, segment.id)))


def _initial_prompt(whisper: Any, options: TranscribeOptions) -> str | list[int] | None:
    """The prompt; with hotwords, as much of its end as leaves half of the context to the text."""
    if not (options.initial_prompt and options.hotwords):
        return options.initial_prompt
    prompt, hotwords = (
        whisper.hf_tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        for text in (options.initial_prompt, options.hotwords)
    )
    free = whisper.max_length // 2 - 1 - len(hotwords)
    return list(prompt[-free:]) if free > 0 else None


def segment_of(raw: Any, audio_ms: int) -> Segment:
    """Convert one segment: times in ms inside the chunk, words in order inside their segment."""

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
                probability=finite(word.probability),
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
        temperature=finite(raw.temperature or 0.0),
        avg_logprob=finite(raw.avg_logprob),
        compression_ratio=finite(raw.compression_ratio),
        no_speech_prob=finite(raw.no_speech_prob),
        words=tuple(words),
    )
