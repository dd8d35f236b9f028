"""What needs no model: speech detection, windows and their features. It runs while the model is loaded.

Touches: the CPU, the model folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.features import Features
from chunk_job.engine.speech import Speech, detect_speech
from chunk_job.engine.timings import Timings
from chunk_job.engine.windows import Window, plan_windows

LARGEST_AUTO_BATCH = 64
"""Features that are computed before the first batch is decoded: all windows of half an hour."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A chunk that is ready for the model."""

    audio: Any
    """float32 mono samples at 16 kHz."""
    speech: Speech
    windows: tuple[Window, ...]
    """Empty for sequential decoding, and if nothing is decoded."""
    features: Features
    is_left_out: bool
    """Nothing is decoded: there is no speech, and the filter is on or the language is not known."""


def prepare(audio: Any, options: TranscribeOptions, folder: Path, timings: Timings) -> Prepared:
    """Prepare *audio* (float32 mono, 16 kHz) for the model in *folder*."""
    with timings.measure("speech"):
        speech = detect_speech(audio, options)
    is_left_out = not speech.spans and (options.vad_filter or options.language is None)
    planned = not (is_left_out or options.sequential)
    windows = plan_windows(audio, speech, skip_silence=options.vad_filter) if planned else ()
    features = Features(folder, audio, windows, ahead=LARGEST_AUTO_BATCH, threads=options.cpu_threads, timings=timings)
    return Prepared(audio=audio, speech=speech, windows=windows, features=features, is_left_out=is_left_out)
