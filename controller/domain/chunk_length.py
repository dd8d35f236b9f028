"""How long chunks should be: from the length of the audio, the jobs at once, and how fast a job is.

Touches: nothing. A job costs its overhead (start, model, speech detection) whatever its chunk's length. Longer chunks
save overhead; shorter ones keep all jobs busy to the end, and a lost one costs less. With T seconds of audio, G jobs at
once, a speed of r and an overhead of o, w waves of jobs take

    (w + k) * (o + T / (w * G * r))

where the last wave ends unevenly by about k = 1/2 of a job (0 if G is 1). That is least for chunks of
sqrt(T * o * r / (k * G)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chunk_job.contract import TranscribeOptions
from controller.domain.plan import LONGEST_AUTO_MS, AutoLength, ChosenLength, PlanOptions

LEAST_S, MOST_S = 120, LONGEST_AUTO_MS // 1000
"""Bounds of the chosen length. Each chunk wastes up to one window of 30 s; long ones cost memory and may crash."""

_GIVEN_S = 720
"""The length without ``auto``. A chunk may always be that short."""

_LEAST_WORK = 0.25
"""Chunks below 720 s have at least this much work for their overhead: else many jobs would do next to nothing."""

_UNEVEN = 0.5
"""How much longer than the others the last jobs take, as a part of a job."""

Device = Literal["cuda", "cpu"]

# Seconds of audio a second, for one job. On CUDA measured on an H100 with a model of the size of large-v3-turbo: 396 to
# 535 in batches, 55 to 63 one window after the other; large-v3: 25 one by one. In batches, 150 is an estimate for it:
# the same encoder, and eight times as many layers in the decoder. On a CPU: faster-whisper's own table has 7.6 for
# small with int8 on eight threads; the work grows with the weights.
_CUDA_BATCHED: dict[str, float] = {"large": 150, "other": 400}
_CUDA_SEQUENTIAL: dict[str, float] = {"large": 25, "other": 60}
_CPU: dict[str, float] = {"large": 1, "medium": 2, "small": 6, "other": 2, "tiny": 20, "base": 12}

# Seconds beside the decoding. A cluster adds about 4 s to create, schedule, start and notice a job:
# docs/how-to/cluster.md.
# Measured on an H100: 0.6 start, 1.5 to 2.5 model, 1.5 to 2 speech detection. A CPU loads small models in a second.
_OVERHEAD_S: dict[tuple[Device, bool], float] = {
    ("cuda", True): 10,
    ("cuda", False): 5,
    ("cpu", True): 8,
    ("cpu", False): 3,
}


@dataclass(frozen=True, kw_only=True)
class _Costs:
    """A recording's length and the costs of its jobs, in seconds."""

    total_s: float
    jobs: int
    speed: float
    overhead_s: float

    def makespan_s(self, chunks: int) -> float:
        """Return how long all jobs take with this number of equal chunks."""
        waves = math.ceil(chunks / self.jobs)
        # A single wave ends unevenly too: chunks differ.
        return (waves + self.uneven) * (self.overhead_s + self.total_s / (chunks * self.speed))

    @property
    def uneven(self) -> float:
        """Return how much longer than the others the last jobs take. One job at once waits for no other."""
        return _UNEVEN if self.jobs > 1 else 0.0


def auto_length(options: TranscribeOptions, *, device: Device, jobs: int, cluster: bool) -> AutoLength:
    """Return what a run's intake needs to choose the length: *jobs* at once, on this kind of device."""
    size = _size(options.model)
    if device == "cpu":
        speed = _CPU[size]
    else:
        speeds = _CUDA_SEQUENTIAL if options.sequential else _CUDA_BATCHED
        speed = speeds["large" if size == "large" else "other"]
    return AutoLength(parallel_jobs=jobs, speed=speed, overhead_ms=round(1000 * _OVERHEAD_S[device, cluster]))


def choose(auto: AutoLength, parts_ms: Sequence[int], *, channels: int = 1) -> ChosenLength:
    """Return the best length of chunks for a recording, or for some *parts* of it by their lengths.

    *channels*: how many a job transcribes, one after the other.
    """
    total_ms = sum(parts_ms)
    costs = _Costs(
        total_s=total_ms / 1000,
        jobs=auto.parallel_jobs,
        speed=auto.speed / channels,
        overhead_s=auto.overhead_ms / 1000,
    )
    # Rounded up: the planner divides by it, and must not get one chunk more.
    chunk_ms = -(-total_ms // _chunks(costs))
    chunks = sum(_chunks_of(part_ms, chunk_ms) for part_ms in parts_ms)
    longest_s = max(_longest_ms(part_ms, chunk_ms) for part_ms in parts_ms) / 1000
    at_most = "at most " if len(parts_ms) > 1 else ""
    of_clips = f" from {len(parts_ms)} clips" if len(parts_ms) > 1 else ""
    of_channels = f" for each of {channels} channels" if channels > 1 else ""
    reason = (
        f"{chunks} chunk{'s' if chunks > 1 else ''} of {at_most}{longest_s:.0f} s{of_clips},"
        f" {auto.parallel_jobs} at once: at {auto.speed:g} times real time{of_channels}"
        f" and {auto.overhead_ms / 1000:g} s beside it, jobs take about {costs.makespan_s(chunks):.0f} s in all"
    )
    given = sum(given_chunks(part_ms / 1000) for part_ms in parts_ms)
    if given != chunks:
        longest_s = max(part_ms / given_chunks(part_ms / 1000) for part_ms in parts_ms) / 1000
        reason += f" ({costs.makespan_s(given):.0f} s with {given} of {at_most}{longest_s:.0f} s)"
    return ChosenLength(chunk_ms=chunk_ms, reason=reason)


def with_length(
    options: PlanOptions, parts_ms: Sequence[int], *, channels: int = 1
) -> tuple[PlanOptions, ChosenLength | None]:
    """Return the options with the chosen length for a recording or some parts of it, and the choice.

    *channels*: how many a job transcribes, one after the other. None: a length is given, or the length of the audio is
    not known or below that of one chunk.
    """
    if options.auto is None or not parts_ms or sum(parts_ms) < options.chunk_ms:
        return options, None
    chosen = choose(options.auto, parts_ms, channels=channels)
    return options.model_copy(update={"chunk_ms": chosen.chunk_ms}), chosen


def length_for(part_ms: int, chunk_ms: int) -> int:
    """Return the length for the planner of one part of a recording: about *chunk_ms*, and no longer than allowed."""
    # A part may be longer than its header says, and must not be cut into chunks of seconds then.
    return chunk_ms if part_ms < chunk_ms else _longest_ms(part_ms, chunk_ms)


def _longest_ms(part_ms: int, chunk_ms: int) -> int:
    return -(-part_ms // _chunks_of(part_ms, chunk_ms))


def _chunks_of(part_ms: int, chunk_ms: int) -> int:
    return max(1, round(part_ms / chunk_ms), -(-part_ms // LONGEST_AUTO_MS))


def given_chunks(total_s: float) -> int:
    """Return how many chunks the planner makes with the default length."""
    return max(1, round(total_s / _GIVEN_S))


def _chunks(costs: _Costs) -> int:
    """Return the number of chunks: a multiple of the jobs at once if there are as many."""
    least = math.ceil(costs.total_s / MOST_S)
    useful_s = max(LEAST_S, _LEAST_WORK * costs.overhead_s * costs.speed)
    most = max(1, int(costs.total_s / useful_s), given_chunks(costs.total_s))
    if most < costs.jobs:
        # One wave on some of the jobs: the shorter, the sooner.
        return most
    fewest, largest = math.ceil(least / costs.jobs), most // costs.jobs
    lost = costs.overhead_s * costs.speed * costs.jobs
    waves = math.sqrt(costs.total_s * costs.uneven / lost) if lost else largest
    near = sorted({min(max(fewest, whole), largest) for whole in (math.floor(waves), math.ceil(waves))})
    return min((costs.jobs * whole for whole in near), key=costs.makespan_s)


def _size(model: str) -> str:
    """Return the class of a model by its name: a folder of a model often contains it."""
    name = model.lower().rstrip("/").rpartition("/")[2]
    if "turbo" in name or "distil" in name:
        return "medium" if "large" in name or "turbo" in name else "small"
    return next((size for size in ("large", "medium", "small", "base", "tiny") if size in name), "other")
