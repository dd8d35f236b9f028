"""Plan options and plans: what is part of a run's id, and which clips and spans are valid."""

import json
from typing import Any

import pytest

from chunk_job.errors import DocumentInvalid
from controller.domain.plan import AutoLength, ChannelChoice, Clip, Plan, PlanOptions, Span
from tests import fakes

AUTO = AutoLength(parallel_jobs=4, speed=400, overhead_ms=10_000)


def clip(start_ms: int, end_ms: int | None) -> Clip:
    return Clip(start_ms=start_ms, end_ms=end_ms)


def test_options_without_the_fields_of_this_version_have_the_text_of_earlier_versions() -> None:
    assert PlanOptions().identity() == (
        '{"threshold_ms":2400000,"threshold_bytes":500000000,"chunk_ms":720000,"window_ms":30000,"pause_ms":300,'
        '"dip_ms":150,"pad_ms":2000}'
    )


def test_an_automatic_length_is_one_run_whatever_it_is_chosen_from() -> None:
    first = PlanOptions(auto=AUTO)
    for changes in ({"parallel_jobs": 5}, {"speed": 1.0}, {"overhead_ms": 0}):
        assert PlanOptions(auto=AUTO.model_copy(update=changes)).identity() == first.identity()
    assert first.identity() != PlanOptions().identity()


def test_records_of_one_run_may_differ_in_what_an_automatic_length_is_chosen_from() -> None:
    base = fakes.record()
    one = base.model_copy(update={"plan": PlanOptions(auto=AUTO)})
    other = base.model_copy(update={"plan": PlanOptions(auto=AUTO.model_copy(update={"parallel_jobs": 9}))})
    assert one.hashed() == other.hashed() != base.hashed()
    assert one.same_run(other)
    assert not one.same_run(base)


def test_clips_are_part_of_the_runs_id() -> None:
    found = {
        PlanOptions(clips=clips).identity()
        for clips in ((), (clip(0, 1000),), (clip(0, None),), (clip(0, 1000), clip(2000, None)), (clip(1, 1000),))
    }
    assert len(found) == 5


def test_the_choice_of_channels_is_part_of_the_runs_id() -> None:
    choices: tuple[ChannelChoice, ...] = ("mix", "split", 1, 2)
    assert len({PlanOptions(channels=channels).identity() for channels in choices}) == 4
    assert PlanOptions(channels="mix").identity() == PlanOptions().identity()


@pytest.mark.parametrize(
    "clips",
    [
        ((1000, 1000),),
        ((1000, 500),),
        ((0, 1000), (999, 2000)),
        ((0, None), (5000, 6000)),
        ((5000, 6000), (0, 1000)),
        ((-1, 1000),),
    ],
)
def test_clips_that_are_empty_or_overlap_are_refused(clips: Any) -> None:
    raw = json.loads(PlanOptions().encode()) | {"clips": [{"start_ms": a, "end_ms": b} for a, b in clips]}
    with pytest.raises(DocumentInvalid):
        PlanOptions.decode(json.dumps(raw).encode())


def plan(*spans: tuple[int, int], clips: tuple[Clip, ...], offset_ms: int = 0) -> Plan:
    return Plan(
        run=fakes.RUN,
        spans=tuple(
            Span(index=index, start_ms=a, end_ms=b, audio_start_ms=a, audio_end_ms=b, cut="end")
            for index, (a, b) in enumerate(spans)
        ),
        duration_ms=spans[-1][1],
        offset_ms=offset_ms,
        direct=False,
        warnings=(),
        clips=clips,
    )


CLIPS = (clip(1000, 5000), clip(8000, None))


def test_spans_of_a_plan_with_clips_lie_in_them() -> None:
    assert Plan.decode(plan((1000, 3000), (3000, 5000), (8000, 9000), clips=CLIPS).encode()).clips == CLIPS
    moved = plan((500, 4500), (7500, 9000), clips=CLIPS, offset_ms=500)
    assert Plan.decode(moved.encode()) == moved


@pytest.mark.parametrize(
    "spans,clips",
    [
        (((0, 1000),), CLIPS),
        (((1000, 6000),), CLIPS),
        (((1000, 5000), (7999, 9000)), CLIPS),
        (((8000, 9000), (1000, 5000)), CLIPS),
        (((1000, 4000), (3000, 5000)), CLIPS),
        (((1000, 5000), (8000, 9000)), ()),
        (((1000, 5000),), ()),
    ],
)
def test_spans_outside_their_clips_or_with_holes_elsewhere_are_refused(spans: Any, clips: Any) -> None:
    with pytest.raises(ValueError, match=r"does not follow|not around it"):
        plan(*spans, clips=clips)
