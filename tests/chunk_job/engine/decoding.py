"""A transcription by a new model in this process: the seed is used when the model is created."""

from collections.abc import Callable
from typing import Any

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.load import LoadedModel, load
from chunk_job.engine.prepare import prepare
from chunk_job.engine.timings import Timings
from chunk_job.engine.transcribe import LanguageDetection, Transcription, transcribe
from controller import demo
from tests import speech

Agree = Callable[[LanguageDetection], LanguageDetection]


def options(**changes: Any) -> TranscribeOptions:
    """Options with the demo model on the CPU."""
    return TranscribeOptions(model=str(demo.MODEL), device="cpu", compute_type="int8", **changes)


def floats(pcm: speech.Pcm) -> Any:
    """Samples as the model takes them."""
    return pcm.astype("float32") / 32768


def as_detected(found: LanguageDetection) -> LanguageDetection:
    """Agree to any language."""
    return found


def transcribed(
    pcm: speech.Pcm,
    *,
    seed: int = 1,
    agree: Agree = as_detected,
    progress: Callable[[int], None] = lambda _: None,
    changed: Callable[[LoadedModel], None] | None = None,
    timings: Timings | None = None,
    **changes: Any,
) -> Transcription:
    """Transcribe *pcm* with these options. *changed*: changes the loaded model first."""
    wanted, times = options(**changes), timings or Timings()
    prepared = prepare(floats(pcm), wanted, demo.MODEL, times)
    loaded = load(demo.MODEL, wanted, seed=seed, timings=times)
    if changed:
        changed(loaded)
    return transcribe(loaded, [prepared], wanted, agree=agree, progress=progress, timings=times)
