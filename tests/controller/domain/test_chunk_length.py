"""The automatic length of chunks: a table of cases, and what holds for all of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.contract import TranscribeOptions
from controller.domain import chunk_length
from controller.domain.chunk_length import (
    LEAST_S,
    MOST_S,
    Device,
    auto_length,
    choose,
    given_chunks,
    length_for,
    with_length,
)
from controller.domain.plan import AutoLength, PlanOptions, longest_chunk_ms
from controller.intake.planner import Planner

HOUR_MS = 3_600_000


def auto(jobs: int, speed: float, overhead_s: float) -> AutoLength:
    return AutoLength(parallel_jobs=jobs, speed=speed, overhead_ms=round(1000 * overhead_s))


def makespan_s(total_ms: int, chunks: int, of: AutoLength) -> float:
    """The formula of the module, written again."""
    waves = math.ceil(chunks / of.parallel_jobs)
    return (waves + (0.5 if of.parallel_jobs > 1 else 0)) * (
        of.overhead_ms / 1000 + total_ms / 1000 / chunks / of.speed
    )


@pytest.mark.parametrize(
    "hours,jobs,speed,overhead_s,chunks",
    [
        pytest.param(2, 1, 400, 10, 3, id="one fast GPU: as long as chunks may be"),
        pytest.param(2, 4, 400, 10, 4, id="one wave"),
        pytest.param(2, 16, 400, 10, 10, id="more GPUs than work: 720 s, and not less"),
        pytest.param(10, 16, 400, 10, 16, id="one wave on sixteen"),
        pytest.param(100, 16, 400, 10, 160, id="many waves of the longest chunks"),
        pytest.param(100, 16, 20, 3, 224, id="a slow GPU with little overhead: 1607 s"),
        pytest.param(1, 2, 2, 3, 24, id="a CPU: short chunks keep both busy to the end"),
        pytest.param(1, 100, 2, 3, 30, id="the shortest chunks"),
        pytest.param(10, 1, 1, 0, 300, id="without overhead the shortest chunks are best"),
    ],
)
def test_the_length_for(hours: int, jobs: int, speed: float, overhead_s: float, chunks: int) -> None:
    total_ms = hours * HOUR_MS
    chosen = choose(auto(jobs, speed, overhead_s), [total_ms])
    assert chosen.chunk_ms == -(-total_ms // chunks)
    assert chosen.reason.startswith(
        f"{chunks} chunks of {total_ms / chunks / 1000:.0f} s, {jobs} at once: at {speed:g}"
    )


def test_a_job_that_transcribes_two_channels_takes_twice_as_long() -> None:
    chosen = choose(auto(2, 4, 3), [HOUR_MS], channels=2)
    assert chosen.chunk_ms == choose(auto(2, 2, 3), [HOUR_MS]).chunk_ms < choose(auto(2, 4, 3), [HOUR_MS]).chunk_ms
    assert "at 4 times real time for each of 2 channels and 3 s beside it" in chosen.reason


LENGTHS = st.integers(720_000, 1000 * HOUR_MS)
COSTS = st.builds(
    auto, jobs=st.integers(1, 10_000) | st.integers(1, 32), speed=st.floats(0.1, 2000), overhead_s=st.floats(0, 300)
)


@given(total_ms=LENGTHS | st.integers(720_000, 10 * HOUR_MS), of=COSTS)
def test_chunks_are_within_bounds_fill_their_waves_and_are_never_slower_than_720_s(
    total_ms: int, of: AutoLength
) -> None:
    chosen = choose(of, [total_ms])
    chunks = round(total_ms / chosen.chunk_ms)
    assert chosen.chunk_ms >= LEAST_S * 1000
    assert total_ms / chunks <= MOST_S * 1000
    assert chunks < of.parallel_jobs or chunks % of.parallel_jobs == 0
    assert makespan_s(total_ms, chunks, of) <= makespan_s(total_ms, given_chunks(total_ms / 1000), of) * (1 + 1e-9)
    # No other number of full waves within the bounds is faster.
    if chunks >= of.parallel_jobs:
        for waves in (chunks // of.parallel_jobs - 1, chunks // of.parallel_jobs + 1):
            other = waves * of.parallel_jobs
            if other and LEAST_S <= total_ms / 1000 / other <= MOST_S:
                useful = total_ms / 1000 / other / of.speed >= 0.25 * of.overhead_ms / 1000
                slower = makespan_s(total_ms, chunks, of) <= makespan_s(total_ms, other, of) * (1 + 1e-9)
                assert slower or not useful


@given(total_ms=LENGTHS, of=COSTS)
def test_the_planner_makes_the_chosen_number_of_chunks_and_no_longer_ones(total_ms: int, of: AutoLength) -> None:
    options, chosen = with_length(PlanOptions(auto=of), [total_ms])
    assert chosen is not None
    planner = Planner(options, duration_ms=total_ms, direct=False)
    assert planner._parts == round(total_ms / chosen.chunk_ms)
    assert f"{planner._parts} chunk" in chosen.reason
    assert longest_chunk_ms(PlanOptions(auto=of)) > chosen.chunk_ms + 30_000 + 4_000


@given(parts_ms=st.lists(LENGTHS | st.integers(1, 4 * HOUR_MS), min_size=2, max_size=30), of=COSTS)
def test_clips_have_as_many_chunks_as_the_reason_says_and_no_longer_ones(parts_ms: list[int], of: AutoLength) -> None:
    options, chosen = with_length(PlanOptions(auto=of), parts_ms)
    if chosen is None:
        assert sum(parts_ms) < 720_000
        return
    lengths_ms = [length_for(part_ms, chosen.chunk_ms) for part_ms in parts_ms]
    # Whole chunks of a part: two thirds of the chosen length at the least.
    assert LEAST_S * 1000 * 2 // 3 <= min(lengths_ms) <= max(lengths_ms) <= MOST_S * 1000
    planners = [
        Planner(options.model_copy(update={"chunk_ms": length_ms}), duration_ms=part_ms, direct=False)
        for part_ms, length_ms in zip(parts_ms, lengths_ms, strict=True)
    ]
    chunks = sum(planner._parts or 1 for planner in planners)
    longest_s = max(min(*both) for both in zip(parts_ms, lengths_ms, strict=True)) / 1000
    assert chosen.reason.startswith(
        f"{chunks} chunks of at most {longest_s:.0f} s from {len(parts_ms)} clips, {of.parallel_jobs} at"
    )


@pytest.mark.parametrize("parts_ms", [[], [0], [719_999], [360_000, 359_999]])
def test_without_a_length_or_below_one_chunk_720_s_count(parts_ms: list[int]) -> None:
    options = PlanOptions(auto=auto(4, 400, 10))
    assert with_length(options, parts_ms) == (options, None)
    assert options.chunk_ms == 720_000


def test_a_given_length_is_kept() -> None:
    assert with_length(PlanOptions(), [HOUR_MS]) == (PlanOptions(), None)


@pytest.mark.parametrize(
    "model,device,batch_size,speed",
    [
        ("large-v3-turbo", "cuda", "auto", 400),
        ("distil-large-v3", "cuda", "auto", 400),
        ("large-v3", "cuda", "auto", 150),
        ("large-v3", "cuda", "sequential", 25),
        ("turbo", "cuda", "sequential", 60),
        ("/models/my-large", "cuda", "auto", 150),
        ("/models/own", "cuda", "auto", 400),
        ("medium", "cpu", "auto", 2),
        ("small.en", "cpu", "auto", 6),
        ("large-v2", "cpu", "auto", 1),
        ("owner/whisper-tiny/", "cpu", "auto", 20),
    ],
)
def test_the_speed_follows_from_model_device_and_decoding(
    model: str, device: Device, batch_size: str, speed: float
) -> None:
    options = TranscribeOptions.model_validate({"model": model, "batch_size": batch_size})
    assert auto_length(options, device=device, jobs=3, cluster=True).speed == speed


def test_a_job_on_a_cluster_costs_more_beside_its_words() -> None:
    options = TranscribeOptions()
    found = {
        (device, cluster): auto_length(options, device=device, jobs=3, cluster=cluster)
        for device in ("cuda", "cpu")
        for cluster in (False, True)
    }
    assert {one.parallel_jobs for one in found.values()} == {3}
    for device in ("cuda", "cpu"):
        assert found[device, True].overhead_ms > found[device, False].overhead_ms
    assert found["cuda", True].overhead_ms == 10_000
    assert chunk_length.MOST_S == 2400
