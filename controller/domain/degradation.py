"""Options that need less memory on the GPU, step by step.

Touches: nothing.
"""

from __future__ import annotations

from chunk_job.contract import TranscribeOptions


def apply_degradation(options: TranscribeOptions, level: int) -> TranscribeOptions:
    """Return *options* reduced by *level* steps, to need less GPU memory: first single windows, then 8-bit weights."""
    for step in _steps(options)[:level]:
        options = options.model_copy(update=step)
    return options


def degradation_levels(options: TranscribeOptions) -> int:
    """Return how many degradation steps these options allow."""
    return len(_steps(options))


def _steps(options: TranscribeOptions) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = []
    if not options.sequential and options.batch_size != 1:
        # A job halves its batches itself. This step helps where the failed allocation left it without a usable GPU.
        steps.append({"batch_size": 1})
    if not options.compute_type.startswith("int8"):
        steps.append({"compute_type": "int8"})
    return steps
