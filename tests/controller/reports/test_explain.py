"""Why a run waits, is slow, or failed: the cause that matters most comes first, with what to do next."""

from typing import Any

import pytest

from controller.domain.attempt_documents import AttemptPhase, Attempts, AttemptTimes
from controller.domain.documents import Evidence, StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.explain import Cause, explain
from tests import fakes
from tests.shown_runs import ShownRun

NOW_MS = fakes.START_MS + 3_600_000


def causes(of: RunDocuments) -> tuple[Cause, ...]:
    return explain(build(of), now_ms=NOW_MS)


def documents(shown: ShownRun, state: StoredState, **changes: Any) -> RunDocuments:
    known: dict[str, Any] = {
        "run": fakes.RUN,
        "state": state,
        "plan": shown.plan,
        "record": shown.record,
        "attempts": shown.attempts(),
        "evidence": tuple(shown.evidence()),
        "winners": dict.fromkeys(shown.done, 1),
    }
    if state in ("complete", "partial", "failed"):
        known |= {"outcome": shown.outcome(state), "report": shown.report(state)}
    return RunDocuments(**known | changes)


def live(*phases: AttemptPhase, waits_for: str = "", node: str = "") -> Attempts:
    times = tuple(
        AttemptTimes(span=span, attempt=1, phase=phase, waits_for="" if phase == "running" else waits_for, node=node)
        for span, phase in enumerate(phases)
    )
    return Attempts(run=fakes.RUN, began_ms=0, done_before_ms=0, attempts=times)


def test_a_run_that_failed_names_the_class_the_chunk_and_the_log() -> None:
    first, *_ = causes(documents(ShownRun(chunks=6, lost=[4], failed=[1]), "failed"))
    assert (first.kind, first.summary) == ("failed", "NATIVE_CRASH: native code crashed (SIGSEGV)")
    assert first.evidence[:2] == (
        "4 attempts of 2 chunks failed: 1, 4",
        "1 chunk has no result: 4",
    )
    assert "on gpu-2 (2)" in first.evidence
    assert "line 121 in decode" in first.evidence[-1]
    assert first.command == f"stenofleet logs {fakes.RUN}"


def test_one_bad_node_is_named() -> None:
    found = causes(documents(ShownRun(chunks=8, failed=[1, 3, 5]), "complete"))
    (crash,) = [cause for cause in found if cause.summary.startswith("NATIVE_CRASH")]
    assert (crash.kind, crash.command) == ("slow", "kubectl describe node gpu-2")
    assert crash.advice.startswith("all of them failed on gpu-2")


def test_a_recording_that_cannot_be_cut() -> None:
    cut = Evidence(
        run=fakes.RUN, round="0000cafe", span=None, attempt=1, failure="BAD_INPUT", summary="is not media",
        advice="check that it plays", details=("x",), ended_ms=1, node="",
    )  # fmt: skip
    shown = ShownRun()
    found = RunDocuments(run=fakes.RUN, state="failed", outcome=shown.outcome("failed"), evidence=(cut,))
    (only,) = causes(found)
    assert (only.kind, only.advice) == ("failed", "check that it plays")
    assert "could not be cut: is not media (BAD_INPUT)" in only.summary


@pytest.mark.parametrize(
    "state,kind,part",
    [
        ("interrupted", "pending", f"stenofleet resume {fakes.RUN}"),
        ("cancelled", "failed", "transcribe"),
        ("waiting", "pending", "stenofleet watch"),
        ("following", "pending", "stenofleet watch"),
    ],
)
def test_the_state_comes_first(state: StoredState, kind: str, part: str) -> None:
    first = causes(documents(ShownRun(done=2), state))[0]
    assert (first.kind, part in first.command) == (kind, True), first


@pytest.mark.parametrize("state", ["interrupted", "cancelled", "waiting"])
def test_a_chunk_that_failed_once_did_not_stop_a_run_that_can_be_resumed(state: StoredState) -> None:
    """It has attempts left, so it is no reason why the run has not ended well."""
    first, *others = causes(documents(ShownRun(chunks=6, failed=[4], done=2), state))
    assert "NATIVE_CRASH" not in first.summary
    crash = next(cause for cause in others if cause.summary.startswith("NATIVE_CRASH"))
    assert (crash.kind, crash.weight < 1) == ("slow", True)
    assert not any("no result" in line for line in crash.evidence)


def test_what_stopped_the_run_comes_before_chunks_that_failed() -> None:
    shown = ShownRun(chunks=6, failed=[4], done=2)
    outcome = shown.outcome("failed").model_copy(update={"summary": "the volume of OUT is full", "advice": "free it"})
    first, second, *_ = causes(documents(shown, "failed", outcome=outcome))
    assert (first.kind, first.summary, first.advice) == ("failed", "the volume of OUT is full", "free it")
    assert second.summary.startswith("NATIVE_CRASH")


def test_a_failed_run_is_never_right() -> None:
    (only,) = causes(documents(ShownRun(done=0), "failed", outcome=None, report=None))
    assert (only.kind, only.command.startswith("stenofleet transcribe")) == ("failed", True)
    assert "does not say why" in only.summary


def cut_failed() -> Evidence:
    return Evidence(
        run=fakes.RUN, round="0000cafe", span=None, attempt=1, failure="OOM_RAM", summary="too little memory",
        advice="", details=(), ended_ms=1, node="",
    )  # fmt: skip


def test_a_recording_that_was_cut_later_is_not_said_to_be_uncut() -> None:
    shown = ShownRun(chunks=6, lost=[4])
    first, *others = causes(documents(shown, "failed", evidence=(cut_failed(), *shown.evidence())))
    assert first.summary.startswith("NATIVE_CRASH")
    (cut,) = [cause for cause in others if "too little memory" in cause.summary]
    assert (cut.kind, cut.summary.partition(":")[0]) == ("slow", "the recording was cut only by a later attempt")


def test_what_the_cutting_waits_for() -> None:
    """On a cluster it is a job too: it may wait as long as any other."""
    waits = AttemptTimes(span=None, attempt=1, phase="queued", waits_for="the image cannot be pulled: not found")
    attempts = Attempts(run=fakes.RUN, began_ms=0, done_before_ms=0, attempts=(waits,))
    first, *_ = causes(documents(ShownRun(), "running", plan=None, winners={}, attempts=attempts))
    assert first.summary == "the job that cuts the recording waits: the image cannot be pulled: not found"
    assert first.command == f"kubectl get pods -l stenofleet.io/run={fakes.RUN} -o wide"


def test_what_jobs_wait_for() -> None:
    reason = "no node has a free GPU: Insufficient nvidia.com/gpu"
    shown = ShownRun(chunks=4, done=0)
    none_runs = causes(documents(shown, "running", attempts=live("queued", "queued", waits_for=reason)))[0]
    assert none_runs.summary == f"2 chunks wait: {reason}"
    assert none_runs.command.startswith("kubectl get pods -l stenofleet.io/run=")
    assert "nothing of this run works" in none_runs.advice
    one_runs = causes(documents(shown, "running", attempts=live("queued", "running", waits_for=reason)))
    assert [cause.summary for cause in one_runs if cause.kind == "pending"] == [f"1 chunk waits: {reason}"]
    assert one_runs[0].weight < none_runs.weight
    full = causes(documents(shown, "running", attempts=live("running", "running")))
    assert "--max-parallel" in full[0].advice
    # Without nodes, it works on this machine: kubectl knows nothing of it.
    assert full[0].command == f"stenofleet watch {fakes.RUN}"
    on_nodes = causes(documents(shown, "running", attempts=live("running", "running", node="gpu-1")))
    assert on_nodes[0].command.startswith("kubectl get nodes ")


def test_where_the_time_went() -> None:
    times = tuple(
        AttemptTimes(
            span=span, attempt=1, phase="ended", submitted_ms=0, starting_ms=400_000, running_ms=500_000,
            ended_ms=560_000, node="n",
        )
        for span in range(3)
    )  # fmt: skip
    attempts = Attempts(run=fakes.RUN, began_ms=0, done_before_ms=0, attempts=times)
    found = causes(documents(ShownRun(chunks=3), "complete", attempts=attempts))
    assert [cause.summary.partition(":")[0] for cause in found] == [
        "its jobs waited for a free GPU or slot",
        "its pods took long to start",
        "the model is stored as float32 and used as float16",
    ]
    assert [cause.evidence for cause in found[:2]] == [("71% of the critical path",), ("18% of the critical path",)]


def test_a_run_in_which_nothing_is_wrong() -> None:
    times = (
        AttemptTimes(span=0, attempt=1, phase="ended", submitted_ms=0, starting_ms=10, running_ms=20, ended_ms=60_000),
    )
    attempts = Attempts(run=fakes.RUN, began_ms=0, done_before_ms=0, attempts=times)
    shown = ShownRun(chunks=1)
    report = shown.report("complete")
    quick = report.model_copy(
        update={
            "spans": tuple(one.model_copy(update={"load_s": 0.1, "total_s": 39.0}) for one in report.spans),
            "advice": (),
        }
    )
    assert causes(documents(shown, "complete", attempts=attempts, report=quick)) == ()
