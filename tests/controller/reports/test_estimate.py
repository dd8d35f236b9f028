"""What recordings would take: by hand for some, by properties for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reports.estimate import JobSpeed, estimate, speed_of
from tests.shown_runs import ShownRun

SPEED = JobSpeed(times_real_time=60, overhead_s=10)


@pytest.mark.parametrize(
    "chunks_min,at_once,job_s,wall_s",
    [
        ((), 4, 0, 0),
        ((10,), 4, 20, 20),
        ((10, 10, 10), 1, 60, 60),
        ((10, 10, 10), 2, 60, 40),
        ((10, 10, 10), 8, 60, 20),
        ((10, 20, 10, 10), 2, 90, 50),
    ],
)
def test_by_hand(chunks_min: tuple[int, ...], at_once: int, job_s: float, wall_s: float) -> None:
    found = estimate((60_000 * length for length in chunks_min), SPEED, at_once=at_once, hour_price=3.6)
    assert (found.jobs, found.job_s, found.wall_s) == (len(chunks_min), job_s, wall_s)
    assert found.cost == pytest.approx(job_s / 1000)
    assert estimate([600_000], SPEED, at_once=1).cost is None


@given(st.lists(st.integers(1_000, 3_600_000), max_size=50), st.integers(1, 16))
def test_no_schedule_is_better_than_all_slots_full(chunks_ms: list[int], at_once: int) -> None:
    found = estimate(chunks_ms, SPEED, at_once=at_once)
    longest = max((SPEED.job_s(length) for length in chunks_ms), default=0.0)
    assert max(found.job_s / at_once, longest) - 1e-6 <= found.wall_s <= found.job_s / at_once + longest + 1e-6


def test_the_speed_of_an_earlier_run_gives_its_time_again() -> None:
    shown = ShownRun(chunks=5)
    report = shown.report("complete")
    speed = speed_of(report)
    assert speed is not None
    again = estimate((round(1000 * span.audio_s) for span in report.spans), speed, at_once=1)
    assert again.job_s == pytest.approx(sum(span.total_s for span in report.spans))
    assert speed_of(report.model_copy(update={"spans": ()})) is None
    # A chunk of two channels is twice its length of sound.
    both = speed_of(report, channels=2)
    assert both is not None
    assert both.times_real_time == pytest.approx(2 * speed.times_real_time)
