"""Converts the segments of faster-whisper to segments with times in ms.

Touches: nothing.
"""

from __future__ import annotations

import math
from typing import Any

from chunk_job.contract import Segment, Word


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
    """*number*, or 0 if it is not finite: JSON has no NaN."""
    return float(number) if math.isfinite(number) else 0.0
