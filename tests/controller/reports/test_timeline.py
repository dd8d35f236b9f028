"""When attempts waited and worked, and which of them decided how long the run took."""

from typing import Any

import pytest

from controller.domain.attempt_documents import AttemptTimes
from controller.domain.documents import SpanReport, WindowCounts
from controller.reports.run_view import Timeline
from controller.reports.timeline import MOST_ROWS, timeline

BEGIN = 1_700_000_000_000


def attempt(span: int | None, number: int, *marks_s: float | None, **changes: Any) -> AttemptTimes:
    """An attempt that was submitted, started, ran and ended at these seconds."""
    submitted, starting, running, ended = (None if at is None else BEGIN + round(1000 * at) for at in marks_s)
    times = AttemptTimes(
        span=span, attempt=number, phase="ended" if ended else "running", submitted_ms=submitted,
        starting_ms=starting, running_ms=running, ended_ms=ended,
    )  # fmt: skip
    return times.model_copy(update=changes)


def measured(span: int, **seconds: float) -> dict[int, SpanReport]:
    report = SpanReport(span=span, attempts=1, failures=(), audio_s=10, speech_s=5, windows=WindowCounts())
    return {span: report.model_copy(update=seconds)}


def of(*attempts: AttemptTimes, **known: Any) -> Timeline:
    arguments: dict[str, Any] = {"winners": {}, "reports": {}, "failed": (), "now_ms": None} | known
    found = timeline(attempts, **arguments)
    assert found is not None
    return found


def bars(found: Timeline) -> list[tuple[str, float, float]]:
    return [(bar.kind, bar.start_ms / 1000, bar.end_ms / 1000) for row in found.rows for bar in row.bars]


def critical(found: Timeline) -> set[tuple[int | None, int]]:
    return {(row.span, bar.attempt) for row in found.rows for bar in row.bars if bar.critical}


TIMES = measured(0, total_s=6.0, transcribe_s=3.0, commit_s=1.0)


@pytest.mark.parametrize(
    "one,known,expected",
    [
        (
            attempt(0, 1, 0, 2, 5, 12),
            {"winners": {0: 1}, "reports": TIMES},
            [("queued", 0, 2), ("starting", 2, 5), ("loading", 5, 7), ("decoding", 7, 10), ("committing", 10, 12)],
        ),
        (attempt(0, 1, 0, None, 0, 4), {}, [("running", 0, 4)]),
        (attempt(0, 1, None, None, 3, 4), {}, [("running", 0, 1)]),
        # Of another attempt than the one that was measured, the parts are not known.
        (attempt(0, 1, 0, 2, 5, 12), {"winners": {0: 2}, "reports": TIMES},
         [("queued", 0, 2), ("starting", 2, 5), ("running", 5, 12)]),
        # What was measured is made to fit in: clocks and notices differ.
        (attempt(0, 1, 0, None, 0, 4), {"winners": {0: 1}, "reports": TIMES},
         [("loading", 0, 2), ("decoding", 2, 4), ("committing", 4, 4)]),
        (attempt(0, 1, 0, None, 1, 4), {"failed": {(0, 1)}}, [("queued", 0, 1), ("failed", 1, 4)]),
        (attempt(0, 1, 0, 2, None, 4), {"failed": {(0, 1)}}, [("queued", 0, 2), ("starting", 2, 4), ("failed", 4, 4)]),
        (attempt(0, 1, 0, None, 1, None), {"now_ms": BEGIN + 9_000}, [("queued", 0, 1), ("running", 1, 9)]),
        (attempt(0, 1, 0, None, None, None, phase="queued"), {"now_ms": BEGIN + 9_000}, [("queued", 0, 9)]),
        (attempt(0, 1, 0, None, 1, None, phase="gone"), {"now_ms": BEGIN + 9_000},
         [("queued", 0, 1), ("unseen", 1, 1)]),
        (attempt(0, 1, 5, None, 1, 2), {}, [("running", 0, 4)]),
    ],
)  # fmt: skip
def test_the_parts_of_an_attempt(
    one: AttemptTimes, known: dict[str, Any], expected: list[tuple[str, float, float]]
) -> None:
    assert bars(of(one, **known)) == expected


@pytest.mark.parametrize(
    "attempts,expected",
    [
        # Two slots: chunk 2 waited for the slot of chunk 0, chunk 3 for that of chunk 1.
        (
            [
                attempt(None, 1, 0, None, 0, 30),
                *(attempt(0, 1, 5, None, 5, 40), attempt(1, 1, 6, None, 6, 50)),
                *(attempt(2, 1, 41, None, 41, 60), attempt(3, 1, 51, None, 51, 80)),
            ],
            {(None, 1), (1, 1), (3, 1)},
        ),
        # A retry waited for the attempt before it.
        ([attempt(0, 1, 0, None, 0, 10), attempt(0, 2, 12, None, 12, 40), attempt(1, 1, 0, None, 0, 30)],
         {(0, 1), (0, 2)}),
        # Nothing else was done before: the cutting comes first, although it has not ended.
        ([attempt(None, 1, 0, None, 0, 90), attempt(0, 1, 20, None, 20, 95)], {(None, 1), (0, 1)}),
        # An earlier command has nothing to do with it.
        ([attempt(0, 1, 0, None, 0, 10), attempt(1, 1, 5_000, None, 5_000, 5_010)], {(1, 1)}),
        # One that worked beside it is no cause, one that ended in the same tick is.
        ([attempt(0, 1, 0, None, 0, 11), attempt(1, 1, 0, None, 0, 10), attempt(2, 1, 10, None, 10, 30)],
         {(1, 1), (2, 1)}),
        ([attempt(0, 1, 0, None, 0, 10), attempt(1, 1, 10, None, None, 10), attempt(2, 1, 10, None, 10, 30)],
         {(0, 1), (2, 1)}),
    ],
)  # fmt: skip
def test_the_critical_path(attempts: list[AttemptTimes], expected: set[tuple[int | None, int]]) -> None:
    assert critical(of(*attempts)) == expected


def test_a_long_time_without_any_attempt_is_left_out() -> None:
    found = of(attempt(0, 1, 0, None, 0, 100), attempt(1, 1, 86_400, None, 86_400, 86_500))
    assert bars(found) == [("running", 0, 100), ("running", 102, 202)]
    assert found.breaks == ((101_000, 86_300_000),)
    assert found.total_ms == 202_000


def test_a_short_pause_is_shown() -> None:
    assert of(attempt(0, 1, 0, None, 0, 100), attempt(0, 2, 125, None, 125, 200)).breaks == ()


def test_a_run_of_an_older_version_shows_how_long_each_job_took() -> None:
    old = measured(0, fetch_s=1.0, load_s=2.0, transcribe_s=7.0)
    found = of(reports=old)
    assert bars(found) == [("loading", 0, 3), ("decoding", 3, 10), ("committing", 10, 10)]
    assert not found.absolute


def test_nothing_is_known_of_a_run_that_was_not_begun() -> None:
    assert timeline((), winners={}, reports={}, failed=(), now_ms=None) is None


def test_an_attempt_that_ended_at_once_has_no_row() -> None:
    found = of(attempt(0, 1, 0, None, None, 0), attempt(1, 1, 0, None, 0, 5))
    assert [row.span for row in found.rows] == [1]
    assert timeline([attempt(0, 1, 0, None, None, 0)], winners={}, reports={}, failed=(), now_ms=None) is None


def test_of_many_rows_those_are_kept_that_matter() -> None:
    many = [attempt(span, 1, 0, None, 0, span + 1) for span in range(MOST_ROWS + 50)]
    found = of(*many, failed={(MOST_ROWS + 20, 1)})
    assert (len(found.rows), found.left_out) == (MOST_ROWS, 50)
    assert {MOST_ROWS + 20, MOST_ROWS + 49} <= {row.span for row in found.rows}
