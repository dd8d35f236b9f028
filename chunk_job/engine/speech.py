"""Where a chunk has speech: Silero's detector of faster-whisper, run on parts of the audio in several threads.

Touches: the CPU.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chunk_job.contract import SAMPLE_RATE, TranscribeOptions

Span = tuple[int, int]
"""A half-open interval, in samples."""

SHORTEST_PAUSE_MS = 160
"""Shortest silence between two spans of speech: a shorter one may be a stop consonant."""

PAD_MS = 400
"""Audio that is kept on both sides of speech, as in faster-whisper: the detector is late at soft sounds."""

# The parts are the same for any number of threads, so that threads never change a transcript. The detector has a memory
# of about a second: with audio before and after a part, it decides at its edges as it does inside. All lengths are
# multiples of its step, else it would see other pieces than without parts.
_STEP = 512
_PART = 1_875 * _STEP
"""One minute."""
_BEFORE = 96 * _STEP
_AFTER = 32 * _STEP


@dataclass(frozen=True, kw_only=True)
class Speech:
    """The parts of a chunk with speech, without padding, in order; between them are pauses."""

    spans: tuple[Span, ...]
    samples: int
    """Length of the audio."""
    skipped_from: int
    """Shortest pause, in samples, that is skipped with the speech around it padded."""

    @property
    def padded(self) -> tuple[Span, ...]:
        """What is left of the audio if long pauses are skipped."""
        pad = PAD_MS * SAMPLE_RATE // 1000
        merged: list[list[int]] = []
        for start, end in self.spans:
            if merged and start - merged[-1][1] < max(self.skipped_from, 2 * pad):
                merged[-1][1] = end
            else:
                merged.append([start, end])
        return tuple((max(0, start - pad), min(self.samples, end + pad)) for start, end in merged)

    @property
    def ms(self) -> int:
        """Length of the padded speech."""
        return sum(end - start for start, end in self.padded) * 1000 // SAMPLE_RATE


def speech_ms(channels: Iterable[Speech]) -> int:
    """Time in which there is speech in any channel, with its padding."""
    total = until = 0
    for start, end in heapq.merge(*(speech.padded for speech in channels)):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total * 1000 // SAMPLE_RATE


def detect_speech(audio: Any, options: TranscribeOptions) -> Speech:
    """Find the speech in *audio* (float32 mono, 16 kHz) with up to ``options.cpu_threads`` threads."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    wanted = VadOptions(threshold=options.vad_threshold, min_silence_duration_ms=SHORTEST_PAUSE_MS, speech_pad_ms=0)

    def detect(part: Span) -> list[Span]:
        begin = max(0, part[0] - _BEFORE)
        found = get_speech_timestamps(audio[begin : part[1] + _AFTER], wanted)
        spans = ((max(part[0], begin + one["start"]), min(part[1], begin + one["end"])) for one in found)
        return [(start, end) for start, end in spans if start < end]

    parts = _parts(len(audio))
    if options.cpu_threads > 1 and len(parts) > 1:
        with ThreadPoolExecutor(options.cpu_threads) as pool:
            found = list(pool.map(detect, parts))
    else:
        found = [detect(part) for part in parts]
    return Speech(
        spans=_joined(span for spans in found for span in spans),
        samples=len(audio),
        skipped_from=options.vad_min_silence_duration_ms * SAMPLE_RATE // 1000,
    )


def _parts(samples: int) -> list[Span]:
    return [(start, min(start + _PART, samples)) for start in range(0, samples, _PART)]


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join spans that touch or have less than a pause between them: those that an edge of a part cuts in two."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] < SHORTEST_PAUSE_MS * SAMPLE_RATE // 1000:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
