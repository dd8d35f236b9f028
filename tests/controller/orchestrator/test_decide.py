"""The decisions of the loop: budgets, pauses, order and outcomes, from states of a run."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.contract import Language, TranscribeOptions
from controller.domain import failures
from controller.domain.actions import Action, Delete, Finish, PinLanguage, Submit
from controller.domain.budgets import BUDGETS, ENVIRONMENT
from controller.domain.degradation import apply_degradation, degradation_levels
from controller.domain.documents import Evidence
from controller.domain.failures import Diagnosis, FailureClass
from controller.domain.jobs import JobView, Phase
from controller.domain.policy import RetryPolicy, patient
from controller.domain.progress import done_ms, percent, progress, waiting
from controller.domain.state import RunState
from controller.orchestrator.decide import decide
from tests import handbook

RUN = "0123456789abcdef"
NOW = 1_700_000_000_000
POLICY = RetryPolicy()
DOCUMENTED = handbook.budgets()
NEVER, CLUSTER, CHUNK = (
    [failure for failure in FailureClass if DOCUMENTED[failure] == payer] for payer in ("never", "cluster", "chunk")
)


def state(**changes: Any) -> RunState:
    """The state of a run with three cut spans and nothing else."""
    usual: dict[str, Any] = {
        "run": RUN,
        "tasks": {0: 10_000, 1: 10_000, 2: 10_000},
        "planned": True,
        "answered": frozenset(),
        "evidence": (),
    }
    return RunState(**{**usual, **changes})


def failed(
    span: int | None, failure: FailureClass, *, times: int = 1, ago_ms: int = 10**7, node: str = ""
) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            round="0000cafe",
            span=span,
            attempt=attempt,
            failure=failure,
            summary=f"summary of {failure}",
            advice=f"advice on {failure}",
            details=(),
            ended_ms=NOW - ago_ms,
            node=node,
        )
        for attempt in range(1, times + 1)
    )


def job(span: int | None, phase: Phase = "running", *, attempt: int = 1, age_ms: int = 0, **changes: Any) -> JobView:
    """A job as its runner sees it; one that has ended has crashed by default."""
    crashed = Diagnosis(failure=FailureClass.NATIVE_CRASH, summary="it crashed") if phase == "ended" else None
    usual: dict[str, Any] = {"diagnosis": crashed}
    return JobView(
        run=RUN,
        span=span,
        attempt=attempt,
        name=f"{span}-{attempt}",
        uid="u",
        phase=phase,
        since_ms=NOW - age_ms,
        **{**usual, **changes},
    )


def note(span: int, speech_ms: int, language: str = "pt") -> Language:
    return Language(language=language, probability=0.5, speech_ms=speech_ms, span=span)


def act(of: RunState, *, policy: RetryPolicy = POLICY, free_slots: int = 8, free_intake_slots: int = 1) -> list[Action]:
    return decide(of, now_ms=NOW, policy=policy, free_slots=free_slots, free_intake_slots=free_intake_slots)


def submitted(actions: Sequence[Action]) -> list[int | None]:
    return [action.span for action in actions if isinstance(action, Submit)]


def end_of(actions: Sequence[Action]) -> Finish | None:
    ends = [action for action in actions if isinstance(action, Finish)]
    assert len(ends) <= 1
    return ends[0] if ends else None


def span_0_and_others_done(*evidence: Evidence, **changes: Any) -> RunState:
    return state(answered=frozenset({1, 2}), evidence=evidence, used_attempts={0: len(evidence)}, **changes)


# ---------------------------------------------------------------- budgets


def test_every_class_has_its_documented_budget() -> None:
    assert DOCUMENTED == BUDGETS


def test_every_disruption_is_paid_by_the_cluster() -> None:
    disruptions = {failure for failure in FailureClass if failure.startswith("DISRUPTED.")}
    assert disruptions < set(CLUSTER)


def test_every_failure_that_media_cannot_cause_is_an_environment_failure() -> None:
    assert set(FailureClass) - ENVIRONMENT == {
        FailureClass.BAD_INPUT,
        *set(CHUNK)
        - {
            FailureClass.GPU_UNHEALTHY,
            FailureClass.IMAGE_PULL,
            FailureClass.UNSCHEDULABLE_VOLUME,
            FailureClass.CHUNK_DAMAGED,
            FailureClass.STORE_FULL,
        },
    }


@pytest.mark.parametrize("failure", CHUNK)
def test_a_chunks_own_failure_is_tried_three_times(failure: FailureClass) -> None:
    for times in (1, 2):
        assert submitted(act(span_0_and_others_done(*failed(0, failure, times=times)))) == [0]
    end = end_of(act(span_0_and_others_done(*failed(0, failure, times=3))))
    assert end is not None
    assert (end.verdict, end.lost) == ("failed", (0,))
    assert end.summary == f"chunk 0 failed 3 times, last {failure}: summary of {failure}"
    assert end.advice == f"advice on {failure}"


@pytest.mark.parametrize("failure", NEVER)
def test_a_failure_that_can_never_succeed_is_not_tried_again(failure: FailureClass) -> None:
    end = end_of(act(span_0_and_others_done(*failed(0, failure))))
    assert end is not None
    assert (end.verdict, end.lost) == ("failed", (0,))
    assert end.summary.startswith(f"chunk 0 failed 1 time, last {failure}: ")


@pytest.mark.parametrize("failure", CLUSTER)
def test_disruptions_have_a_budget_of_their_own(failure: FailureClass) -> None:
    assert submitted(act(span_0_and_others_done(*failed(0, failure, times=20)))) == [0]
    assert end_of(act(span_0_and_others_done(*failed(0, failure, times=21)))) is not None


def test_the_budgets_do_not_pay_for_each_other() -> None:
    both = (*failed(0, FailureClass.NO_RESULT, times=2), *failed(0, FailureClass.DISRUPTED_DELETED, times=20))
    assert submitted(act(span_0_and_others_done(*both))) == [0]
    assert end_of(act(span_0_and_others_done(*both, *failed(0, FailureClass.UNKNOWN)))) is not None


def test_one_span_does_not_pay_for_another() -> None:
    several = (*failed(0, FailureClass.NO_RESULT, times=2), *failed(1, FailureClass.UNKNOWN, times=2))
    assert submitted(act(state(evidence=several, answered=frozenset({2})))) == [0, 1]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_budget_is_the_policys(attempts: int) -> None:
    policy = RetryPolicy(max_attempts=attempts, breaker=0)
    enough = span_0_and_others_done(*failed(0, FailureClass.NO_RESULT, times=attempts))
    assert end_of(act(enough, policy=policy)) is not None
    one_less = span_0_and_others_done(*failed(0, FailureClass.NO_RESULT, times=attempts - 1))
    assert submitted(act(one_less, policy=policy)) == [0]


# ---------------------------------------------------------------- pauses


@pytest.mark.parametrize(
    "times,pause_ms", [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (6, 32_000), (7, 60_000), (20, 60_000)]
)
def test_the_pause_doubles_up_to_a_minute(times: int, pause_ms: int) -> None:
    policy = RetryPolicy(max_attempts=99)
    too_soon = failed(0, FailureClass.NO_RESULT, times=times, ago_ms=pause_ms - 1)
    rested = failed(0, FailureClass.NO_RESULT, times=times, ago_ms=pause_ms)
    assert act(span_0_and_others_done(*too_soon), policy=policy) == []
    assert submitted(act(span_0_and_others_done(*rested), policy=policy)) == [0]


def test_a_clock_that_was_set_back_causes_no_wait() -> None:
    ahead = failed(0, FailureClass.NO_RESULT, ago_ms=-3_600_000)
    assert submitted(act(span_0_and_others_done(*ahead))) == [0]


def test_without_a_pause_the_next_attempt_begins_at_once() -> None:
    just_now = failed(0, FailureClass.NO_RESULT, ago_ms=0)
    assert submitted(act(span_0_and_others_done(*just_now), policy=RetryPolicy(backoff_ms=0))) == [0]


def test_one_span_backs_off_and_the_others_continue() -> None:
    assert submitted(act(state(evidence=failed(1, FailureClass.NO_RESULT, ago_ms=0)))) == [0, 2]


# ---------------------------------------------------------------- the breaker


def test_five_equal_failures_without_a_success_stop_the_run() -> None:
    evidence = tuple(item for span in range(5) for item in failed(span, FailureClass.GPU_UNHEALTHY))
    many = state(tasks=dict.fromkeys(range(9), 10_000), evidence=evidence)
    end = end_of(act(many))
    assert end is not None
    assert end.verdict == "failed"
    assert end.summary.startswith("5 jobs failed in the same way and none succeeded (GPU_UNHEALTHY): ")
    assert end.advice == "advice on GPU_UNHEALTHY"


@pytest.mark.parametrize(
    "failures,changes,policy",
    [
        pytest.param([FailureClass.UNKNOWN] * 4, {}, {}, id="four"),
        pytest.param([FailureClass.UNKNOWN] * 5, {"answered": frozenset({8})}, {}, id="one success"),
        pytest.param([FailureClass.UNKNOWN] * 4 + [FailureClass.NO_RESULT], {}, {}, id="not alike"),
        pytest.param([FailureClass.STORE_UNAVAILABLE] * 5, {}, {}, id="of the infrastructure"),
        pytest.param([FailureClass.CHUNK_DAMAGED] * 5, {}, {}, id="chunks that are cut again"),
        pytest.param([FailureClass.UNKNOWN] * 5, {}, {"breaker": 0}, id="no breaker"),
    ],
)
def test_the_circuit_breaker_stays_open(
    failures: list[FailureClass], changes: dict[str, Any], policy: dict[str, int]
) -> None:
    evidence = tuple(item for span, failure in enumerate(failures) for item in failed(span, failure))
    many = state(tasks=dict.fromkeys(range(9), 10_000), evidence=evidence, **changes)
    assert end_of(act(many, policy=RetryPolicy(**policy))) is None


def test_the_intakes_failures_do_not_trip_the_breaker() -> None:
    evidence = failed(None, FailureClass.UNKNOWN, times=5)
    assert end_of(act(state(planned=False, evidence=evidence), policy=RetryPolicy(max_attempts=9))) is None


# ---------------------------------------------------------------- degraded options


@pytest.mark.parametrize("ooms,others,level", [(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1), (2, 0, 2)])
def test_each_full_gpu_is_one_level_more(ooms: int, others: int, level: int) -> None:
    evidence = failed(0, FailureClass.CUDA_OOM, times=ooms) + failed(0, FailureClass.NATIVE_CRASH, times=others)
    assert act(span_0_and_others_done(*evidence)) == [
        Submit(span=0, attempt=1 + ooms + others, degradation_level=level)
    ]


@pytest.mark.parametrize(
    "batch_size,compute_type,stairs",
    [
        (8, "float16", [(8, "float16"), (1, "float16"), (1, "int8"), (1, "int8")]),
        ("auto", "float16", [("auto", "float16"), (1, "float16"), (1, "int8"), (1, "int8")]),
        ("sequential", "float16", [("sequential", "float16"), ("sequential", "int8"), ("sequential", "int8")]),
        (0, "auto", [(0, "auto"), (0, "int8")]),
        (8, "int8_float16", [(8, "int8_float16"), (1, "int8_float16"), (1, "int8_float16")]),
        (1, "int8", [(1, "int8"), (1, "int8")]),
    ],
)
def test_first_one_window_at_a_time_then_with_8_bit_weights(
    batch_size: Any, compute_type: str, stairs: list[tuple[Any, str]]
) -> None:
    options = TranscribeOptions(batch_size=batch_size, compute_type=compute_type, beam_size=7)
    steps = [apply_degradation(options, level) for level in range(len(stairs))]
    assert [(step.batch_size, step.compute_type) for step in steps] == stairs
    assert all(step.beam_size == 7 for step in steps)


@pytest.mark.parametrize(
    "batch_size,compute_type,steps",
    [("auto", "float16", 2), (8, "float16", 2), (0, "float16", 1), (8, "int8", 1), ("sequential", "int8_float16", 0)],
)
def test_there_are_as_many_steps_down_as_change_something(batch_size: Any, compute_type: str, steps: int) -> None:
    options = TranscribeOptions(batch_size=batch_size, compute_type=compute_type)
    assert degradation_levels(options) == steps
    assert apply_degradation(options, steps - 1) != apply_degradation(options, steps) or steps == 0
    assert apply_degradation(options, steps) == apply_degradation(options, steps + 1)


# ---------------------------------------------------------------- nodes


SICK = failed(0, FailureClass.GPU_UNHEALTHY, node="sick")


def placed(of: RunState) -> tuple[tuple[str, ...], bool]:
    """The nodes that span 0's next attempt avoids, and whether that is required."""
    [submit] = [action for action in act(of) if isinstance(action, Submit) and action.span == 0]
    return submit.avoid_nodes, submit.only_elsewhere


def test_an_unhealthy_node_is_avoided_if_possible_until_another_is_known_to_work() -> None:
    assert placed(state(evidence=SICK)) == (("sick",), False)
    assert placed(state(evidence=SICK, jobs=(job(1, node="sick"),))) == (("sick",), False)
    assert placed(state(evidence=SICK, jobs=(job(1, "starting", node="other"),))) == (("sick",), False)
    assert placed(state(evidence=SICK, jobs=(job(1, node="other", lost=True),))) == (("sick",), False)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"jobs": (job(1, node="other"),)}, id="a job runs there"),
        pytest.param({"evidence": SICK + failed(1, FailureClass.NATIVE_CRASH, node="other")}, id="one got that far"),
    ],
)
def test_an_unhealthy_node_is_excluded_when_another_is_known_to_work(
    changes: dict[str, Any],
) -> None:
    assert placed(state(**{"evidence": SICK, **changes})) == (("sick",), True)


def test_a_node_is_avoided_only_by_the_span_that_failed_there_and_only_for_node_failures() -> None:
    [one, other] = [
        action for action in act(state(evidence=SICK, answered=frozenset({2}))) if isinstance(action, Submit)
    ]
    assert (one.avoid_nodes, other.avoid_nodes) == (("sick",), ())
    assert placed(state(evidence=failed(0, FailureClass.NATIVE_CRASH, node="other"))) == ((), False)


def test_every_unhealthy_node_is_avoided() -> None:
    (later,) = failed(0, FailureClass.GPU_UNHEALTHY, node="too")
    both = (*SICK, later.model_copy(update={"attempt": 2}))
    assert placed(state(evidence=both, used_attempts={0: 2})) == (("sick", "too"), False)


@pytest.mark.parametrize("times,steps,avoided", [(1, 2, ()), (2, 2, ()), (3, 2, ("full",)), (1, 0, ("full",))])
def test_a_full_gpu_gets_less_work_before_another_node_is_tried(
    times: int, steps: int, avoided: tuple[str, ...]
) -> None:
    evidence = failed(0, FailureClass.CUDA_OOM, times=times, node="full")
    of = state(evidence=evidence, used_attempts={0: times}, degradation_levels=steps)
    [submit] = [
        action
        for action in act(of, policy=RetryPolicy(max_attempts=9))
        if isinstance(action, Submit) and not action.span
    ]
    assert submit.avoid_nodes == avoided


# ---------------------------------------------------------------- language


def test_one_span_at_a_time_decides_an_open_language() -> None:
    assert submitted(act(state(language_open=True))) == [0]
    assert act(state(language_open=True, jobs=(job(0),))) == []
    assert act(state(language_open=True, jobs=(job(0),), language_candidates={0: note(0, 500)})) == [], "it still runs"
    assert submitted(act(state(language_open=False, jobs=(job(0),)))) == [1, 2]


def test_a_span_with_too_little_speech_passes_the_decision_on() -> None:
    candidates = {0: note(0, 500)}
    left = job(0, "ended", diagnosis=Diagnosis(failure=FailureClass.NO_RESULT, summary="left nothing"))
    assert act(state(language_open=True, language_candidates=candidates, jobs=(left,))) == [
        Delete(view=left, failure=None),
        Submit(span=1, attempt=1),
    ]
    assert submitted(act(state(language_open=True, language_candidates=candidates))) == [1]


def test_a_job_that_crashes_after_its_language_candidate_has_failed() -> None:
    crashed = job(0, "ended")
    assert act(state(language_open=True, language_candidates={0: note(0, 500)}, jobs=(crashed,)))[0] == Delete(
        view=crashed, failure=crashed.diagnosis
    )


def test_ending_without_a_language_candidate_is_a_failure() -> None:
    left = job(0, "ended", diagnosis=Diagnosis(failure=FailureClass.NO_RESULT, summary="left nothing"))
    assert act(state(language_open=True, jobs=(left,)))[0] == Delete(view=left, failure=left.diagnosis)


def test_when_no_span_had_enough_speech_the_best_candidate_is_pinned() -> None:
    notes = {0: note(0, 500), 1: note(1, 900, "en"), 2: note(2, 900, "fr")}
    assert act(state(language_open=True, language_candidates=notes)) == [PinLanguage(language=notes[1])]


def test_no_candidate_is_pinned_while_more_may_be_cut() -> None:
    notes = {span: note(span, 500) for span in range(3)}
    assert submitted(act(state(language_open=True, planned=False, language_candidates=notes))) == [None]


def test_a_lost_span_decides_no_language() -> None:
    lost = failed(0, FailureClass.BAD_INPUT)
    assert submitted(act(state(language_open=True, evidence=lost, gaps_allowed=True))) == [1]
    notes = {1: note(1, 500), 2: note(2, 100)}
    actions = act(state(language_open=True, evidence=lost, gaps_allowed=True, language_candidates=notes))
    assert actions == [PinLanguage(language=notes[1])]


# ---------------------------------------------------------------- the jobs that are there


def test_a_chunk_that_crashed_after_its_commit_costs_nothing() -> None:
    crashed = job(0, "ended")
    assert act(state(answered=frozenset({0, 1, 2}), jobs=(crashed,))) == [Delete(view=crashed, failure=None)]


def test_a_chunk_that_crashed_without_a_result_leaves_evidence() -> None:
    crashed = job(0, "ended")
    assert act(state(answered=frozenset({1, 2}), jobs=(crashed,))) == [Delete(view=crashed, failure=crashed.diagnosis)]


def test_an_intake_that_crashed_after_its_plan_costs_nothing() -> None:
    crashed = job(None, "ended")
    assert act(state(jobs=(crashed,)), free_slots=0) == [Delete(view=crashed, failure=None)]
    assert act(state(planned=False, jobs=(crashed,)), free_slots=0) == [Delete(view=crashed, failure=crashed.diagnosis)]


def test_a_span_whose_job_is_being_deleted_waits_one_tick() -> None:
    assert submitted(act(state(jobs=(job(0, "ended"),)))) == [1, 2]


@pytest.mark.parametrize("phase", ["queued", "starting", "running", "ending"])
def test_a_job_that_lives_is_left_alone(phase: Phase) -> None:
    assert act(state(answered=frozenset({1, 2}), jobs=(job(0, phase),))) == []


@pytest.mark.parametrize("span,limit_ms", [(0, 900_000 + 30 * 10_000), (None, 6 * 3_600_000)])
def test_the_deadline_counts_from_the_start_of_the_work(span: int | None, limit_ms: int) -> None:
    planned, answered = span is not None, frozenset({1, 2})
    in_time = job(span, age_ms=limit_ms)
    late = job(span, age_ms=limit_ms + 1)
    queued = job(span, "queued", age_ms=10 * limit_ms)
    for fine in (in_time, queued):
        assert act(state(planned=planned, answered=answered, jobs=(fine,)), free_slots=0) == []
    assert act(state(planned=planned, answered=answered, jobs=(late,)), free_slots=0) == [
        Delete(view=late, failure=failures.deadline(limit_ms // 1000))
    ]


def test_a_job_of_a_span_with_a_result_is_stopped_and_has_not_failed() -> None:
    late = job(0, age_ms=10**9)
    assert act(state(answered=frozenset({0, 1, 2}), jobs=(late,))) == [Delete(view=late, failure=None)]


def test_a_job_on_a_silent_node_gets_a_second_job_beside_it() -> None:
    silent = replace(job(0), lost=True)
    assert submitted(act(state(tasks={0: 1000}, jobs=(silent,)))) == [0]
    assert submitted(act(state(tasks={0: 1000}, jobs=(silent, job(0, attempt=2))))) == []


@pytest.mark.parametrize(
    "silent,expected",
    [
        pytest.param(replace(job(0, node="gone"), lost=True), "DISRUPTED.node_lost", id="its node is silent"),
        pytest.param(
            job(0, "ended", diagnosis=Diagnosis(failure=FailureClass.DISRUPTED_NODE_LOST, summary="evicted")),
            "DISRUPTED.node_lost",
            id="its pod was evicted meanwhile",
        ),
        pytest.param(job(0), None, id="its node is back"),
        pytest.param(job(0, "ended"), None, id="it ended by itself"),
        pytest.param(replace(job(0, attempt=2), lost=True), None, id="it has answered itself"),
    ],
)
def test_an_attempt_on_a_lost_node_leaves_evidence_although_another_has_a_result(
    silent: JobView, expected: str | None
) -> None:
    [delete] = act(state(answered=frozenset({0}), answered_by={0: 2}, jobs=(silent,)))[:1]
    assert isinstance(delete, Delete)
    assert (delete.failure.failure if delete.failure else None) == expected
    if expected and silent.lost:
        assert delete.failure is not None
        assert delete.failure.node == "gone"


# ---------------------------------------------------------------- windows and numbers


@pytest.mark.parametrize("free_slots,expected", [(-3, []), (0, []), (1, [0]), (2, [0, 1]), (9, [0, 1, 2])])
def test_no_more_jobs_than_free_slots(free_slots: int, expected: list[int]) -> None:
    assert submitted(act(state(), free_slots=free_slots)) == expected


@pytest.mark.parametrize("free_intake_slots,expected", [(-1, []), (0, []), (1, [None])])
def test_no_more_intakes_than_free_slots(free_intake_slots: int, expected: list[None]) -> None:
    assert submitted(act(state(planned=False, tasks={}), free_intake_slots=free_intake_slots)) == expected


def test_chunks_start_while_the_rest_is_being_cut() -> None:
    cutting = state(planned=False, jobs=(job(None),), answered=frozenset({0}))
    assert submitted(act(cutting)) == [1, 2]


@pytest.mark.parametrize("used,live,attempt", [({}, (), 1), ({0: 4}, (), 5), ({0: 2, 1: 9}, (), 3), ({None: 7}, (), 1)])
def test_an_attempts_number_is_never_used_again(
    used: Mapping[int | None, int], live: tuple[JobView, ...], attempt: int
) -> None:
    assert act(state(used_attempts=used), free_slots=1) == [Submit(span=0, attempt=attempt)]


def test_the_intake_is_tried_again_with_a_number_of_its_own() -> None:
    broken = state(tasks={}, planned=False, evidence=failed(None, FailureClass.UNKNOWN), used_attempts={None: 1, 0: 9})
    assert act(broken) == [Submit(span=None, attempt=2)]


@pytest.mark.parametrize(
    "evidence",
    [failed(None, FailureClass.BAD_INPUT), failed(None, FailureClass.UNKNOWN, times=3)],
    ids=["never", "three times"],
)
def test_media_that_cannot_be_cut_fail_the_run(evidence: tuple[Evidence, ...]) -> None:
    why = evidence[-1]
    for gaps_allowed in (False, True):
        assert act(state(tasks={}, planned=False, evidence=evidence, gaps_allowed=gaps_allowed)) == [
            Finish(verdict="failed", summary=why.summary, advice=why.advice, failure=why.failure)
        ]


def test_an_intake_that_has_just_failed_is_not_started_again_in_the_same_tick() -> None:
    failed_now = job(None, phase="ended")
    assert act(state(tasks={}, planned=False, jobs=(failed_now,))) == [
        Delete(view=failed_now, failure=failed_now.diagnosis)
    ]


def test_a_class_of_another_version_is_the_chunks_own() -> None:
    foreign = failed(0, FailureClass.UNKNOWN, times=3)
    strange = tuple(item.model_copy(update={"failure": "IMAGE_PULL"}) for item in foreign)
    (finish,) = act(state(evidence=strange))
    assert isinstance(finish, Finish)
    assert (finish.verdict, finish.failure) == ("failed", "IMAGE_PULL")


# ---------------------------------------------------------------- ends


def test_a_run_with_all_results_is_complete() -> None:
    assert act(state(answered=frozenset({0, 1, 2}))) == [Finish(verdict="complete")]


def test_all_that_is_cut_so_far_is_not_all() -> None:
    assert end_of(act(state(answered=frozenset({0, 1, 2}), planned=False))) is None


def test_a_lost_span_is_a_gap_when_gaps_are_allowed() -> None:
    lost = span_0_and_others_done(*failed(0, FailureClass.NO_RESULT, times=3), gaps_allowed=True)
    assert act(lost) == [Finish(verdict="partial", lost=(0,))]


def test_with_gaps_allowed_the_others_are_finished_first() -> None:
    lost = state(evidence=failed(0, FailureClass.BAD_INPUT), gaps_allowed=True, answered=frozenset({1}))
    assert submitted(act(lost)) == [2]


def test_without_gaps_a_lost_span_ends_the_run_at_once() -> None:
    end = end_of(act(state(evidence=failed(1, FailureClass.BAD_INPUT), answered=frozenset({0}))))
    assert end is not None
    assert (end.verdict, end.lost) == ("failed", (1,))


def test_a_run_with_only_gaps_is_a_failure() -> None:
    evidence = tuple(item for span in range(3) for item in failed(span, FailureClass.BAD_INPUT))
    end = end_of(act(state(evidence=evidence, gaps_allowed=True)))
    assert end is not None
    assert (end.verdict, end.lost) == ("failed", (0, 1, 2))


def test_a_verdict_waits_for_the_jobs_that_still_run() -> None:
    done = state(evidence=failed(0, FailureClass.BAD_INPUT))
    alive = RunState(**{**done.__dict__, "jobs": (job(1),)})
    assert act(alive) == []
    ended = RunState(**{**done.__dict__, "jobs": (job(1, "ended"),)})
    assert [type(action) for action in act(ended)] == [Delete]


@pytest.mark.parametrize("phase", ["queued", "starting"])
def test_a_failed_run_waits_for_nothing_that_has_not_begun(phase: Phase) -> None:
    waiting = job(1, phase)
    lost = state(evidence=failed(0, FailureClass.BAD_INPUT), jobs=(waiting,))
    assert act(lost) == [Delete(view=waiting, failure=None)]


def test_a_failure_without_advice_still_gets_advice() -> None:
    bare = failed(0, FailureClass.BAD_INPUT)[0].model_copy(update={"advice": ""})
    end = end_of(act(span_0_and_others_done(bare)))
    assert end is not None
    assert "--on-chunk-failure gap" in end.advice


def test_a_cancel_stops_every_job_and_then_ends_the_run() -> None:
    jobs = (job(0), job(1, "ended"), job(None))
    assert act(state(cancelled=True, jobs=jobs)) == [Delete(view=view, failure=None) for view in jobs]
    assert act(state(cancelled=True)) == [Finish(verdict="cancelled", summary="cancelled")]


# ---------------------------------------------------------------- progress


@pytest.mark.parametrize(
    "changes,expected",
    [
        ({"tasks": {}, "planned": False}, 5.0),
        ({"planned": False, "answered": frozenset({0, 1})}, 5.0),
        ({}, 10.0),
        ({"answered": frozenset({0})}, 10 + 80 / 3),
        ({"jobs": (job(0, progress_ms=5000),)}, 10 + 80 / 6),
        ({"jobs": (job(0, progress_ms=99_000),)}, 10 + 80 / 3),
        ({"jobs": (job(0, progress_ms=5000),), "answered": frozenset({0})}, 10 + 80 / 3),
        ({"jobs": (job(None, progress_ms=5000),)}, 10.0),
        ({"answered": frozenset({0, 1, 2})}, 90.0),
    ],
)
def test_the_percentage_counts_audio(changes: dict[str, Any], expected: float) -> None:
    assert percent(state(**changes)) == pytest.approx(expected)


def test_the_percentage_never_goes_back_and_ends_at_a_hundred() -> None:
    def seen(of: RunState | None, **more: Any) -> float:
        usual: dict[str, Any] = {"name": "n", "run": RUN, "size_bytes": 1, "seen": "running", "floor": 0.0}
        return progress(of, **{**usual, **more}).percent

    assert seen(None) == 0.0
    assert seen(None, floor=42.0) == 42.0
    assert seen(state(), floor=42.0) == 42.0
    assert seen(state(answered=frozenset({0, 1})), floor=42.0) == pytest.approx(10 + 160 / 3)
    assert seen(state(answered=frozenset({0, 1, 2}))) == 90.0
    assert seen(state(answered=frozenset({0, 1, 2})), seen="complete") == 100.0
    assert seen(state(), seen="failed", floor=30.0) == 30.0


def test_progress_counts_what_there_is() -> None:
    busy = state(
        answered=frozenset({0}), jobs=(job(1, progress_ms=2000), job(2, "queued")), evidence=failed(1, CHUNK[0])
    )
    shown = progress(busy, name="talk", run=RUN, size_bytes=7, seen="running", floor=0.0)
    assert (shown.spans_done, shown.spans_known, shown.running, shown.failures) == (1, 3, 1, 1)
    assert (shown.done_ms, shown.total_ms, shown.planned) == (12_000, 30_000, True)
    assert done_ms(busy) == 12_000


def test_spans_that_wait_for_a_worker_are_counted() -> None:
    assert waiting(state(answered=frozenset({0}), jobs=(job(1),))) == 1
    assert waiting(state()) == 3


@pytest.mark.parametrize("away_ms,waited_for", [(0, True), (599_999, True), (600_000, False)])
def test_a_store_is_waited_for_as_long_as_the_policy_says(away_ms: int, waited_for: bool) -> None:
    policy = RetryPolicy(store_patience_ms=600_000)
    assert patient(policy, since_ms=NOW - away_ms, now_ms=NOW) is waited_for
    assert not patient(RetryPolicy(), since_ms=NOW, now_ms=NOW)


# ---------------------------------------------------------------- for any picture


@st.composite
def pictures(draw: st.DrawFn) -> RunState:
    """Any state of a run, also unlikely ones."""
    count = draw(st.integers(0, 6))
    spans = list(range(count))
    evidence = tuple(
        Evidence(
            round="0000cafe",
            span=span,
            attempt=number,
            failure=draw(st.sampled_from(FailureClass)),
            summary="s",
            advice="",
            details=(),
            ended_ms=NOW - draw(st.sampled_from([-5000, 0, 500, 10**6])),
        )
        for span in [None, *spans]
        for number in range(1, 1 + draw(st.integers(0, 4)))
    )
    jobs = tuple(
        job(
            span,
            draw(st.sampled_from(["queued", "starting", "running", "ending", "ended"])),
            age_ms=draw(st.integers(0, 10**7)),
        )
        for span in [None, *spans]
        if draw(st.booleans())
    )
    return state(
        tasks=dict.fromkeys(spans, 10_000),
        planned=draw(st.booleans()),
        answered=frozenset(draw(st.sets(st.sampled_from(spans)))) if spans else frozenset(),
        evidence=evidence,
        used_attempts=dict.fromkeys([None, *spans], 4),
        jobs=jobs,
        language_open=draw(st.booleans()),
        language_candidates={span: note(span, 100 * span) for span in spans if draw(st.booleans())},
        gaps_allowed=draw(st.booleans()),
        cancelled=draw(st.integers(0, 9)) == 0,
    )


@settings(max_examples=300)
@given(picture=pictures(), free_slots=st.integers(-1, 4), free_intake_slots=st.integers(-1, 2))
def test_no_span_is_submitted_that_has_a_result_is_busy_or_lost(
    picture: RunState, free_slots: int, free_intake_slots: int
) -> None:
    actions = act(picture, free_slots=free_slots, free_intake_slots=free_intake_slots)
    chunks = [span for span in submitted(actions) if span is not None]
    assert len(chunks) <= max(0, free_slots)
    assert len(chunks) == len(set(chunks))
    assert len(submitted(actions)) - len(chunks) <= max(0, min(1, free_intake_slots))
    for span in chunks:
        own = [BUDGETS[FailureClass(item.failure)] for item in picture.failures_of(span)]
        assert span in picture.tasks
        assert span not in picture.answered
        assert span not in {view.span for view in picture.jobs}
        assert "never" not in own
        assert own.count("chunk") < POLICY.max_attempts
    assert all(action.attempt == 5 for action in actions if isinstance(action, Submit))


@settings(max_examples=300)
@given(picture=pictures(), free_slots=st.integers(-1, 4), free_intake_slots=st.integers(-1, 2))
def test_a_finish_is_the_only_action_and_the_same_state_gives_the_same_actions(
    picture: RunState, free_slots: int, free_intake_slots: int
) -> None:
    actions = act(picture, free_slots=free_slots, free_intake_slots=free_intake_slots)
    assert actions == act(picture, free_slots=free_slots, free_intake_slots=free_intake_slots)
    if end_of(actions):
        assert len(actions) == 1
        assert not picture.jobs
    deleted = [action.view for action in actions if isinstance(action, Delete)]
    assert all(view in picture.jobs for view in deleted)
    assert all(view in deleted for view in picture.jobs if view.phase == "ended")


class Simulation:
    """A run whose jobs fail at random, simulated in memory until its verdict."""

    def __init__(self, seed: int, *, gaps_allowed: bool, language_open: bool) -> None:
        self.chance = random.Random(seed)
        self.now_ms = NOW
        self.gaps_allowed = gaps_allowed
        self.language_open = language_open
        self.spans = self.chance.randint(1, 6)
        self.bad = self.chance.choice([0.0, 0.3, 0.7, 1.0])
        self.tasks: dict[int, int] = {}
        self.planned = False
        self.answered: set[int] = set()
        self.evidence: list[Evidence] = []
        self.used: dict[int | None, int] = {}
        self.jobs: list[JobView] = []
        self.candidates: dict[int, Language] = {}

    def picture(self) -> RunState:
        return RunState(
            run=RUN,
            tasks=dict(self.tasks),
            planned=self.planned,
            answered=frozenset(self.answered),
            evidence=tuple(self.evidence),
            used_attempts=dict(self.used),
            jobs=tuple(self.jobs),
            language_open=self.language_open,
            language_candidates=dict(self.candidates),
            gaps_allowed=self.gaps_allowed,
        )

    def play(self) -> Finish:
        names: set[str] = set()
        for _ in range(5000):
            self.work()
            free_slots = 2 - sum(1 for view in self.jobs if view.span is not None)
            for action in decide(
                self.picture(), now_ms=self.now_ms, policy=POLICY, free_slots=free_slots, free_intake_slots=1
            ):
                match action:
                    case Submit():
                        started = job(action.span, attempt=action.attempt)
                        assert started.name not in names
                        names.add(started.name)
                        self.jobs.append(started)
                    case Delete():
                        self.delete(action)
                    case PinLanguage():
                        self.language_open = False
                    case Finish():
                        return action
            self.now_ms += 500
        raise AssertionError("this run does not end")

    def work(self) -> None:
        for index, view in enumerate(self.jobs):
            if self.chance.random() < 0.5:
                failure = None if self.chance.random() > self.bad else self.chance.choice(list(FailureClass))
                if self.chance.random() < 0.8 and failure is None:
                    self.succeed(view)
                diagnosis = Diagnosis(failure=failure or FailureClass.NO_RESULT, summary="s")
                self.jobs[index] = job(view.span, "ended", attempt=view.attempt, diagnosis=diagnosis)

    def succeed(self, view: JobView) -> None:
        if view.span is None:
            self.tasks, self.planned = dict.fromkeys(range(self.spans), 10_000), True
        elif self.language_open and self.chance.random() < 0.5:
            self.candidates[view.span] = note(view.span, 100)
        else:
            self.language_open = False
            self.answered.add(view.span)

    def delete(self, action: Delete) -> None:
        view = action.view
        self.jobs.remove(view)
        self.used[view.span] = max(self.used.get(view.span, 0), view.attempt)
        if action.failure:
            self.evidence += [
                item.model_copy(update={"ended_ms": self.now_ms, "attempt": view.attempt})
                for item in failed(view.span, action.failure.failure)
            ]


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6), gaps_allowed=st.booleans(), language_open=st.booleans())
def test_a_run_whose_jobs_fail_at_random_always_ends(seed: int, gaps_allowed: bool, language_open: bool) -> None:
    played = Simulation(seed, gaps_allowed=gaps_allowed, language_open=language_open)
    end = played.play()
    assert not played.jobs
    match end.verdict:
        case "complete":
            assert played.answered == set(range(played.spans))
        case "partial":
            assert gaps_allowed
            assert set(end.lost) == set(range(played.spans)) - played.answered
            assert played.answered
        case _:
            assert played.evidence
    if not played.bad:
        assert end.verdict in ("complete", "failed")


def test_evidence_is_read_a_few_times_for_any_number_of_tasks() -> None:
    passes = []

    class Counted(tuple[Evidence, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Evidence]:
            passes.append(len(self))
            return super().__iter__()

    many = tuple(item for span in range(0, 1000, 2) for item in failed(span, FailureClass.NATIVE_CRASH))
    wide = state(tasks=dict.fromkeys(range(1000), 10_000), evidence=Counted(many), answered=frozenset({999}))
    assert act(wide)
    assert sum(passes) <= 8 * len(many)


@pytest.mark.parametrize("removed", [frozenset(), frozenset({1})], ids=["nothing", "a chunk"])
def test_an_intake_has_not_failed_when_a_chunk_was_removed_after_its_check(removed: frozenset[int]) -> None:
    nothing = Diagnosis(failure=FailureClass.NO_RESULT, summary="no plan")
    intake = replace(job(0), span=None, phase="ended", diagnosis=nothing)
    (deleted,) = [
        action for action in act(state(planned=False, jobs=(intake,), removed=removed)) if isinstance(action, Delete)
    ]
    assert (deleted.failure is None) == bool(removed)
