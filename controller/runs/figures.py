"""What is kept of a winning result: figures of a few hundred bytes, instead of a result of megabytes.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chunk_job.contract import ChunkResult, Usage
from controller.domain.documents import WindowCounts


@dataclass(frozen=True, kw_only=True)
class ResultFigures:
    """The parts of a winning result that are needed later. The result may have megabytes and is not read again."""

    speech_ms: int
    language: str | None
    language_probability: float
    usage: Usage
    batch_size: int
    stored_type: str
    """Type of the weights in the model's file; empty: not known."""
    compute_type: str
    device: str
    windows: WindowCounts


def figures_of(result: ChunkResult) -> ResultFigures:
    """Return the figures of *result*."""
    windows = result.windows
    return ResultFigures(
        speech_ms=result.speech_ms,
        language=result.language,
        language_probability=result.language_probability,
        usage=result.usage,
        batch_size=result.engine.batch_size,
        stored_type=result.engine.stored_type,
        compute_type=result.engine.compute_type,
        device=result.engine.device,
        windows=WindowCounts(
            # The halves of a window that was cut in two are windows of their own.
            decoded=sum(window.outcome not in ("split", "unused") for window in windows),
            decoded_again=sum(
                len(window.tries) > 1 or window.outcome in ("split", "unused") or window.incomplete
                for window in windows
            ),
            doubtful=sum(window.outcome == "doubtful" for window in windows),
            without_speech=sum(window.outcome == "no_speech" for window in windows),
            loops_removed=sum(window.loop_removed for window in windows),
        ),
    )


def counted_ms(usage: Usage) -> int:
    """Return the time of a job. Versions before 0.3 did not measure all of it: the sum of what they measured."""
    return usage.total_ms or usage.fetch_ms + usage.load_ms + usage.transcribe_ms


def useful_ms(usage: Usage) -> tuple[int, int]:
    """Return the time of decoding and word times, and the total time; both 0 if the total was not measured."""
    # Never more than the total: a result is untrusted input.
    return min(usage.decode_ms + usage.align_ms, usage.total_ms), usage.total_ms


def useful_share(usages: Iterable[Usage]) -> float | None:
    """Return decoding and word times as a part of the total time; None if no job has measured it."""
    useful, total = map(sum, zip(*map(useful_ms, usages), strict=True)) if (usages := list(usages)) else (0, 0)
    return share(useful, total)


def share(useful: int, total: int) -> float | None:
    """Return *useful* as a part of *total*, rounded; None without a total."""
    return round(useful / total, 3) if total else None


def conversion(figures: ResultFigures) -> tuple[str, str] | None:
    """Return the stored and the used type of the weights if each load converts them; None if it does not.

    Only the quantized weights count: the rest (``_float16`` of ``int8_float16``) is small.
    """
    stored, used = figures.stored_type, figures.compute_type
    if not stored or used in ("", "auto", "default") or stored.partition("_")[0] == used.partition("_")[0]:
        return None
    return stored, used
