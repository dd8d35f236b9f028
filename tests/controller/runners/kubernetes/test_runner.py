"""The runner on a cluster, tick by tick, with a server that is slow, fails, lags behind or has a different clock."""

import http
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.domain.actions import Delete
from controller.domain.failures import FailureClass
from controller.domain.jobs import Job
from controller.errors import ClusterUnavailable
from controller.leadership import clock as lease_clock
from controller.leadership import kubernetes_lease
from controller.runners.kubernetes import exit_causes
from controller.runners.kubernetes.labels import job_name
from controller.runners.kubernetes.observed import DELETED_S
from controller.runners.kubernetes.runner import TICK_S, ClusterRunner
from tests import fakes
from tests.kube.cases import (
    OPTIONS,
    RUN,
    all_ended,
    chunk,
    clock,
    crashes,
    decided,
    has_pod,
    now_ms,
    runner,
    server,
    until,
)
from tests.kube.server import FakeApi, Server, Stopwatch
from tests.kube.wire import Refusal, Request, no_answer
from tests.leading import close, cluster_runner, leads

__all__ = ["clock", "runner", "server"]


# ---------------------------------------------------------------- why jobs ended


def test_the_ends_of_several_jobs_are_read_side_by_side(server: Server, runner: ClusterRunner) -> None:
    together = threading.Barrier(4, timeout=60)

    def meet(request: Request) -> None:
        if request.part == "log":
            try:
                together.wait()
            except threading.BrokenBarrierError:
                raise no_answer() from None

    for span in range(4):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = meet
    views = until(runner, all_ended)
    assert [view.diagnosis and view.diagnosis.details[-1] for view in views] == [
        f"Fatal Python error: of chunk {span}" for span in range(4)
    ]


def test_a_silent_node_blocks_no_tick_and_no_job_is_deleted_before_its_log_was_requested(
    server: Server, runner: ClusterRunner, clock: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_causes, "_WAIT_S", 0)
    answers = threading.Event()

    def wait(request: Request) -> None:
        if request.part == "log" and not answers.wait(5):
            raise no_answer()

    for span in range(20):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = wait
    views = runner.observe()
    assert {(view.phase, view.diagnosis) for view in views} == {("ending", None)}
    assert decided(*views, now_ms=now_ms(clock)) == [], "neither deleted nor tried again"
    assert [view.phase for view in runner.observe()] == ["ending"] * 20
    answers.set()
    views = until(runner, all_ended)
    assert {view.diagnosis.failure for view in views if view.diagnosis} == {FailureClass.NATIVE_CRASH}
    assert all(view.diagnosis and f"of chunk {view.span}" in view.diagnosis.summary for view in views)
    assert server.requests["log", "pods"] == 20, "each was read once"


def test_a_log_that_never_comes_is_given_up_after_some_tries(server: Server, runner: ClusterRunner) -> None:
    def time_out(request: Request) -> None:
        if request.part == "log":
            raise no_answer()

    runner.submit(chunk(0))
    crashes(server, chunk(0))
    server.before = time_out
    seen = [view.phase for _ in range(3) for view in runner.observe()]
    assert seen == ["ending", "ending", "ended"]
    assert server.requests["log", "pods"] == 3
    (view,) = runner.observe()
    assert view.diagnosis is not None
    assert "exit code 139" in view.diagnosis.summary
    assert view.diagnosis.node == "node-1"
    assert server.requests["log", "pods"] == 3, "and not requested again"


def test_events_that_the_server_cannot_serve_now_are_read_at_a_later_tick(
    server: Server, runner: ClusterRunner
) -> None:
    busy = [True, False]

    def overload(request: Request) -> None:
        if request.kind == "events" and busy and busy.pop(0):
            raise Refusal(http.HTTPStatus.SERVICE_UNAVAILABLE, "too busy")

    runner.submit(chunk(0))
    (job,) = server.objects("jobs")
    pod = f"{job_name(chunk(0))}-x7k2p"
    server.put(
        "events",
        {
            "metadata": {"name": "one"},
            "involvedObject": {"kind": "Pod", "name": pod},
            "reason": "Preempted",
            "type": "Normal",
            "message": "by another",
        },
    )
    server.put("jobs", job | {"status": {"conditions": [{"type": "FailureTarget", "status": "True"}]}})
    server.before = overload
    assert [view.phase for view in runner.observe()] == ["ending"]
    (view,) = runner.observe()
    assert view.diagnosis is not None
    assert view.diagnosis.failure is FailureClass.DISRUPTED_PREEMPTED


def test_an_unexpected_error_reaches_the_loop_and_the_next_end_is_still_read(
    server: Server, runner: ClusterRunner
) -> None:
    def break_off(request: Request) -> None:
        if request.kind == "events" and job_name(chunk(0)) in request.query["fieldSelector"]:
            raise ZeroDivisionError

    for span in range(2):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = break_off
    with pytest.raises(ZeroDivisionError):
        until(runner, all_ended)
    server.before = lambda request: None
    views = until(runner, all_ended)
    assert all(view.diagnosis and "Fatal Python error" in view.diagnosis.summary for view in views)


def test_a_job_with_a_result_needs_no_diagnosis(server: Server, runner: ClusterRunner) -> None:
    def time_out(request: Request) -> None:
        if request.part == "log":
            raise no_answer()

    runner.submit(chunk(0))
    crashes(server, chunk(0))
    server.before = time_out
    (view,) = runner.observe()
    assert view.phase == "ending"
    assert Delete(view=view) in decided(view, now_ms=0, answered=frozenset({0}))


# ---------------------------------------------------------------- lists that lag behind


def test_a_job_of_an_old_round_is_not_seen_again_in_a_list_from_before_it_was_deleted(
    server: Server, runner: ClusterRunner
) -> None:
    runner.submit(chunk(0, sha256="1" * 64))
    runner.abandon(RUN)  # as if another controller had created it
    server.lag(behind=True)
    runner.submit(chunk(0))
    assert server.objects("jobs") == []
    assert runner.observe() == []
    runner.submit(chunk(0))
    (view,) = runner.observe()
    (job,) = server.objects("jobs")
    assert view.uid == job["metadata"]["uid"]


def test_a_job_that_the_cache_does_not_show_yet_is_not_missing(server: Server, runner: ClusterRunner) -> None:
    server.lag(behind=True)
    runner.submit(chunk(0))
    assert [view.phase for view in runner.observe()] == ["queued"]
    (job,) = server.objects("jobs")
    server.remove("jobs", job["metadata"]["name"])
    (view,) = until(runner, all_ended)
    assert view.diagnosis is not None
    assert view.diagnosis.failure is FailureClass.DISRUPTED_DELETED


def test_a_controller_that_may_have_lost_the_lease_deletes_nothing(
    server: Server, runner: ClusterRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.submit(chunk(0))
    (view,) = runner.observe()
    late_s = lease_clock.now_s() + kubernetes_lease.DURATION_S + 1
    monkeypatch.setattr(lease_clock, "now_s", lambda: late_s)
    with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
        runner.delete(view)
    assert len(server.objects("jobs")) == 1


def test_a_job_that_is_being_deleted_is_not_adopted(server: Server, runner: ClusterRunner) -> None:
    runner.submit(chunk(0))
    (job,) = server.objects("jobs")
    runner.abandon(RUN)  # as if another controller had created it
    server.put("jobs", job | {"metadata": job["metadata"] | {"deletionTimestamp": server.now()}})
    runner.submit(chunk(0))
    assert runner._known == {}


def test_a_deleted_job_is_dropped_from_memory_when_no_list_can_show_it(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    for span in range(5):
        runner.submit(chunk(span))
    server.lag(behind=True)
    for view in runner.observe():
        runner.delete(view)
    clock.s += DELETED_S
    assert runner.observe() == [], "it is still listed"
    assert len(runner._deleted) == 5
    server.lag(behind=False)
    clock.s += DELETED_S - 1
    assert runner.observe() == []
    assert len(runner._deleted) == 5
    clock.s += 1
    assert runner.observe() == []
    assert len(runner._deleted) == 0


def test_nothing_is_kept_of_deleted_jobs(server: Server, runner: ClusterRunner, clock: Stopwatch) -> None:
    for span in range(5):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    for view in until(runner, all_ended):
        runner.delete(view)
    runner.observe()
    kept = (runner._known, runner._pods, runner._problems, runner._ends._reads, runner._ages._seen)
    assert [len(one) for one in kept] == [0] * 5


# ---------------------------------------------------------------- clocks that differ


@pytest.mark.parametrize("ahead", [timedelta(minutes=-19), timedelta(), timedelta(minutes=19)])
def test_the_age_of_a_job_does_not_depend_on_the_clock_of_the_cluster(
    server: Server, runner: ClusterRunner, clock: Stopwatch, ahead: timedelta
) -> None:
    server.ahead = ahead
    runner.submit(chunk(0))
    runner.observe()
    clock.s += 600  # time in a queue is no work
    has_pod(server, chunk(0), {"running": {"startedAt": server.now()}}, "Running")
    (view,) = runner.observe()
    assert view.since_ms == now_ms(clock)
    assert decided(view, now_ms=now_ms(clock)) == []
    clock.s += 930
    (view,) = runner.observe()
    assert decided(view, now_ms=now_ms(clock)) == []
    clock.s += 1
    (view,) = runner.observe()
    (late,) = (it for it in decided(view, now_ms=now_ms(clock)) if isinstance(it, Delete))
    assert late.failure is not None
    assert late.failure.failure is FailureClass.DEADLINE


def test_reading_events_of_a_job_that_does_not_start_does_not_depend_on_the_clock_of_the_cluster(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    server.ahead = timedelta(days=36_500)
    runner.submit(chunk(0))
    server.put(
        "events",
        {
            "metadata": {"name": "one"},
            "involvedObject": {"kind": "Job", "name": job_name(chunk(0))},
            "reason": "FailedCreate",
            "type": "Warning",
            "message": "exceeded quota: gpus",
            "lastTimestamp": server.now(),
        },
    )
    assert [view.waits_for for view in runner.observe()] == [""]
    clock.s += 2 * TICK_S
    (view,) = runner.observe()
    assert "quota" in view.waits_for


def image_of(server: Server, job: Job) -> str:
    (document,) = (it for it in server.objects("jobs") if it["metadata"]["name"] == job_name(job))
    return str(document["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_controller_of_another_version_adopts_existing_jobs_and_uses_its_own_image_for_new_ones(
    tmp_path: Path, server: Server, runner: ClusterRunner
) -> None:
    runner.submit(chunk(0))
    close(runner, leave=True)
    assert runner.jobs_stay
    options = replace(OPTIONS, chunk_image="chunk:2", intake_image="intake:2", version="1")
    here = fakes.FakeRunner(FileStore(tmp_path), fakes.FakeClock())
    newer = cluster_runner(FakeApi(server), options, here=here)
    assert leads(newer.leadership, RUN)
    assert [view.name for view in newer.observe()] == [job_name(chunk(0))]
    newer.submit(chunk(0))
    newer.submit(chunk(1))
    assert [image_of(server, chunk(span)) for span in (0, 1)] == ["chunk:1", "chunk:2"]
    close(newer, leave=True)
