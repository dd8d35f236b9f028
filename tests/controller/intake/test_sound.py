"""Where a recording has sound."""

import pytest

from controller.intake.sound import SoundFinder

SECOND = 50
LOUD, QUIET = -20.0, -80.0


def found(*parts: tuple[float, float], start_ms: int = 0, block: int = 1_500) -> list[tuple[int, int]]:
    """The stretches in levels of these seconds and dB."""
    finder = SoundFinder()
    finder.begin(start_ms)
    levels = [level for seconds, level in parts for _ in range(round(seconds * SECOND))]
    for at in range(0, len(levels), block):
        finder.feed(levels[at : at + block])
    return [(one.start_ms, one.end_ms) for one in finder.finish()]


@pytest.mark.parametrize("block", [1, 7, 499, 500, 1_500])
def test_steps_of_ten_seconds_with_a_second_of_sound_are_joined(block: int) -> None:
    parts = [(20, LOUD), (25, QUIET), (1, LOUD), (14, QUIET), (0.9, LOUD), (29.1, QUIET), (12, LOUD)]
    assert found(*parts, block=block) == [(0, 20_000), (40_000, 50_000), (90_000, 102_000)]


def test_the_last_step_counts_by_its_share() -> None:
    assert found((10, QUIET), (0.5, LOUD)) == [(10_000, 10_500)]
    assert found((10, QUIET), (0.05, LOUD), (5, QUIET)) == []
    assert found() == []


def test_parts_begin_where_they_are() -> None:
    finder = SoundFinder()
    for start_ms in (5_000, 60_000, 63_000):
        finder.begin(start_ms)
        finder.feed([LOUD] * 3 * SECOND)
    assert [(one.start_ms, one.end_ms) for one in finder.finish()] == [(5_000, 8_000), (60_000, 66_000)]
