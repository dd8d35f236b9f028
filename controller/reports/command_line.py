"""The command line that transcribes a recording in the same way.

Touches: nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from chunk_job.contract import TranscribeOptions
from chunk_job.text import masked, printable
from controller.domain.documents import Request, RunRecord
from controller.domain.plan import PlanOptions

GLOSSARY_FILE = "glossary.txt"
"""Stands for the file with the terms, whose name is not stored."""

_SAME = {
    "model": "--model",
    "language": "--language",
    "task": "--task",
    "device": "--device",
    "compute_type": "--compute-type",
    "beam_size": "--beam-size",
    "no_speech_threshold": "--no-speech-threshold",
    "logprob_threshold": "--logprob-threshold",
    "compression_ratio_threshold": "--compression-ratio-threshold",
    "vad_filter": "--vad-filter",
    "vad_threshold": "--vad-threshold",
    "vad_min_silence_duration_ms": "--vad-min-silence-duration-ms",
    "condition_on_previous_text": "--condition-on-previous-text",
    "initial_prompt": "--initial-prompt",
    "hotwords": "--hotwords",
}
"""Options whose value is that of the field."""
_DEFAULT, _DEFAULT_PLAN = TranscribeOptions(), PlanOptions()


def command_line(record: RunRecord, source: str, request: Request | None) -> str:
    """The command for the recording *source* as a line for a shell, without secrets.

    Options with their default are left out, and those that change only the speed.
    """
    arguments = ["stenofleet", "transcribe", source, *_model(record.options), *_cuts(record)]
    if request and request.on_chunk_failure != "fail":
        arguments += ["--on-chunk-failure", request.on_chunk_failure]
    if request and request.keep_chunks:
        arguments.append("--keep-chunks")
    return masked(printable(shlex.join(arguments)))


def _model(options: TranscribeOptions) -> Iterator[str]:
    for name, option in _SAME.items():
        if (value := getattr(options, name)) != getattr(_DEFAULT, name):
            yield from (option, str(value))
    first, *rest = options.temperature
    if first != _DEFAULT.temperature[0]:
        yield from ("--temperature", f"{first:g}")
    step = round(rest[0] - first, 6) if rest else 0
    if step != _DEFAULT.temperature[1]:
        yield from ("--temperature-increment-on-fallback", f"{step:g}")
    # A translation and a context are decoded one by one anyway.
    if options.batch_size != "auto":
        yield from ("--batch-size", "0" if options.batch_size == "sequential" else str(options.batch_size))
    if options.glossary:
        yield from ("--glossary", GLOSSARY_FILE)


def _cuts(record: RunRecord) -> Iterator[str]:
    plan = record.plan
    if plan.auto:
        yield from ("--chunk-duration", "auto")
    elif plan.chunk_ms != _DEFAULT_PLAN.chunk_ms:
        yield from ("--chunk-duration", _seconds(plan.chunk_ms))
    if plan.threshold_ms != _DEFAULT_PLAN.threshold_ms:
        yield from ("--chunking-threshold", _seconds(plan.threshold_ms))
    if plan.clips:
        times = [at for clip in plan.clips for at in (clip.start_ms, clip.end_ms) if at is not None]
        yield from ("--clip-timestamps", ",".join(map(_seconds, times)))
    if record.audio_track is not None:
        yield from ("--audio-track", str(record.audio_track))
    if plan.channels != "mix":
        yield from ("--channels", str(plan.channels))


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.15g}"
