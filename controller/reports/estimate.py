"""How long recordings would take, and what that would cost: from the lengths of their chunks and the speed of a job.

Touches: nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.domain.documents import Report


@dataclass(frozen=True, kw_only=True)
class JobSpeed:
    """What one job needs."""

    times_real_time: float
    """How many seconds of sound it decodes in a second."""
    overhead_s: float
    """For starting, the model, and the result."""

    def job_s(self, audio_ms: int) -> float:
        """Return the time of a job with this much sound."""
        return self.overhead_s + audio_ms / 1000 / self.times_real_time


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What recordings would take."""

    jobs: int
    job_s: float
    """Of all jobs together: what a GPU or a core is paid for."""
    gpu_s: float | None = None
    """Of all GPUs together; None: on CPUs."""
    wall_s: float
    """From the first job to the end of the last one, without cutting and queues."""
    cost: float | None = None


def speed_of(report: Report, *, channels: int = 1) -> JobSpeed | None:
    """Return what the jobs of an earlier run needed; None: it does not say so.

    *channels*: how many a chunk has: each is decoded by itself.
    """
    timed = [span for span in report.spans if span.total_s and span.transcribe_s]
    decoding_s = sum(span.transcribe_s for span in timed)
    audio_s = channels * sum(span.audio_s for span in timed)
    if not decoding_s or not audio_s:
        return None
    total_s = sum(span.total_s for span in timed)
    return JobSpeed(times_real_time=audio_s / decoding_s, overhead_s=max(0.0, total_s - decoding_s) / len(timed))


def estimate(
    chunks_ms: Iterable[int], speed: JobSpeed, *, at_once: int, hour_price: float | None = None, gpus: int = 0
) -> Estimate:
    """Return what chunks of these lengths would take with this many jobs *at_once*, in their order.

    *gpus*: of one job. *hour_price*: of one job.
    """
    lengths = list(chunks_ms)
    each = [speed.job_s(length) for length in lengths]
    job_s = sum(each)
    return Estimate(
        jobs=len(each),
        job_s=job_s,
        gpu_s=job_s * gpus if gpus else None,
        wall_s=_last_end(each, at_once),
        cost=None if hour_price is None else job_s / 3600 * hour_price,
    )


def _last_end(each_s: Sequence[float], at_once: int) -> float:
    """When the last job ends, if each begins as soon as one before it has ended."""
    slots = [0.0] * min(at_once, len(each_s))
    for took_s in each_s:
        heapq.heapreplace(slots, slots[0] + took_s)
    return max(slots, default=0.0)
