"""The runner on a cluster, tick by tick, with a server that is slow, refuses, lags behind or has a clock of its own."""

import http
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.domain.actions import Delete
from controller.domain.failures import FailureClass
from controller.domain.jobs import Job, JobView
from controller.domain.policy import RetryPolicy
from controller.domain.state import RunState
from controller.leadership import kubernetes_lease
from controller.orchestrator.decide import decide
from controller.runners.kubernetes import exit_causes
from controller.runners.kubernetes import runner as runner_module
from controller.runners.kubernetes.labels import CONTAINER, job_name
from controller.runners.kubernetes.manifest import JobOptions
from controller.runners.kubernetes.observed import DELETED_S
from controller.runners.kubernetes.runner import TICK_S, ClusterRunner
from tests import fakes
from tests.controller.kube_fake import Answer, Asked, FakeApi, FakeServer, timed_out

RUN = fakes.RUN
QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 2, limited: 2'
MINUTE_S = 60.0


class Time:
    """The runner's two clocks, which only a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_s(self) -> float:
        return self.s

    def now_ms(self) -> int:
        return fakes.START_MS + round(1000 * self.s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(runner_module, "_now_s", clock.now_s)
    monkeypatch.setattr(runner_module, "_now_ms", clock.now_ms)
    return clock


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def runner(tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRunner]:
    """It leads the run."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(kubernetes_lease, "RENEW_S", 600)
    options = JobOptions(
        chunk_image="chunk:1", intake_image="intake:1", store_url="s3://bucket/x", version="0", namespace="stenofleet"
    )
    here = fakes.FakeRunner(FileStore(tmp_path), fakes.FakeClock())
    runner = ClusterRunner(FakeApi(server), options, here=here)
    assert runner.lead(RUN)
    yield runner
    server.before = lambda asked: None
    runner.close(leave=True)


def chunk(span: int, *, sha256: str = "0" * 64) -> Job:
    return Job(run=RUN, span=span, attempt=1, task_key=f"tasks/{span}", task_sha256=sha256, audio_ms=1_000)


def has_pod(server: FakeServer, job: Job, state: Mapping[str, Any], phase: str) -> None:
    """Give the Job a pod, as the controllers of a cluster would."""
    (document,) = (it for it in server.found("jobs") if it["metadata"]["name"] == job_name(job))
    uid = document["metadata"]["uid"]
    server.put(
        "pods",
        {
            "metadata": {
                "name": f"{job_name(job)}-x7k2p",
                "labels": document["metadata"]["labels"] | {"batch.kubernetes.io/controller-uid": uid},
                "ownerReferences": [{"uid": uid}],
            },
            "spec": {"nodeName": "node-1"},
            "status": {"phase": phase, "containerStatuses": [{"name": CONTAINER, "state": state}]},
        },
    )


def crashes(server: FakeServer, job: Job) -> None:
    """Its pod has ended with an exit code that only its log explains."""
    has_pod(server, job, {"terminated": {"exitCode": 139, "startedAt": server.now()}}, "Failed")
    server.logs[f"{job_name(job)}-x7k2p"] = [f"Fatal Python error: of chunk {job.span}"]


def refuse_jobs(asked: Asked) -> None:
    if (asked.method, asked.kind) == ("POST", "jobs"):
        raise Answer(http.HTTPStatus.FORBIDDEN, QUOTA)


def until(runner: ClusterRunner, there: Callable[[list[JobView]], bool]) -> list[JobView]:
    """Observe again and again, as the loop does, until *there* is true of the views."""
    for _ in range(500):
        views = runner.observe()
        if there(views):
            return views
        time.sleep(0.01)
    pytest.fail("it is never seen")


def all_ended(views: list[JobView]) -> bool:
    return all(view.phase == "ended" for view in views)


def decided(*views: JobView, now_ms: int, **more: Any) -> list[Any]:
    """What is done about these jobs of a run of one-second chunks."""
    state = RunState(
        run=RUN,
        tasks={view.span: 1_000 for view in views if view.span is not None},
        planned=True,
        answered=more.pop("answered", frozenset()),
        evidence=(),
        jobs=views,
        **more,
    )
    return decide(state, now_ms=now_ms, policy=RetryPolicy(), room=9, intake_room=1)


# ---------------------------------------------------------------- why jobs ended


def test_the_ends_of_several_jobs_are_read_side_by_side(server: FakeServer, runner: ClusterRunner) -> None:
    together = threading.Barrier(4, timeout=5)

    def meet(asked: Asked) -> None:
        if asked.part == "log":
            try:
                together.wait()
            except threading.BrokenBarrierError:
                raise timed_out() from None

    for span in range(4):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = meet
    views = until(runner, all_ended)
    assert [view.diagnosis and view.diagnosis.details[-1] for view in views] == [
        f"Fatal Python error: of chunk {span}" for span in range(4)
    ]


def test_a_node_that_is_silent_stops_no_tick_and_nothing_is_deleted_before_its_log_was_tried(
    server: FakeServer, runner: ClusterRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_causes, "_WAIT_S", 0)
    answers = threading.Event()

    def wait(asked: Asked) -> None:
        if asked.part == "log" and not answers.wait(5):
            raise timed_out()

    for span in range(20):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = wait
    views = runner.observe()
    assert {(view.phase, view.diagnosis) for view in views} == {("ending", None)}
    assert decided(*views, now_ms=time.time_ns() // 1_000_000) == [], "neither deleted nor tried again"
    assert [view.phase for view in runner.observe()] == ["ending"] * 20
    answers.set()
    views = until(runner, all_ended)
    assert {view.diagnosis.failure for view in views if view.diagnosis} == {FailureClass.NATIVE_CRASH}
    assert all(view.diagnosis and f"of chunk {view.span}" in view.diagnosis.summary for view in views)
    assert server.asked["LOG", "pods"] == 20, "each was read once"


def test_a_log_that_never_comes_is_given_up_after_some_tries(server: FakeServer, runner: ClusterRunner) -> None:
    def time_out(asked: Asked) -> None:
        if asked.part == "log":
            raise timed_out()

    runner.submit(chunk(0))
    crashes(server, chunk(0))
    server.before = time_out
    seen = [view.phase for _ in range(3) for view in runner.observe()]
    assert seen == ["ending", "ending", "ended"]
    assert server.asked["LOG", "pods"] == 3
    (view,) = runner.observe()
    assert view.diagnosis is not None
    assert "exit code 139" in view.diagnosis.summary
    assert view.diagnosis.node == "node-1"
    assert server.asked["LOG", "pods"] == 3, "and not asked for again"


def test_events_that_the_server_cannot_serve_now_are_read_at_a_later_tick(
    server: FakeServer, runner: ClusterRunner
) -> None:
    busy = [True, False]

    def overload(asked: Asked) -> None:
        if asked.kind == "events" and busy and busy.pop(0):
            raise Answer(http.HTTPStatus.SERVICE_UNAVAILABLE, "too busy")

    runner.submit(chunk(0))
    (job,) = server.found("jobs")
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


def test_an_error_that_nobody_foresaw_reaches_the_loop_and_the_next_end_is_read_all_the_same(
    server: FakeServer, runner: ClusterRunner
) -> None:
    def break_off(asked: Asked) -> None:
        if asked.kind == "events" and job_name(chunk(0)) in asked.query["fieldSelector"]:
            raise ZeroDivisionError

    for span in range(2):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    server.before = break_off
    with pytest.raises(ZeroDivisionError):
        until(runner, all_ended)
    server.before = lambda asked: None
    views = until(runner, all_ended)
    assert all(view.diagnosis and "Fatal Python error" in view.diagnosis.summary for view in views)


def test_an_end_whose_result_is_there_needs_no_cause(server: FakeServer, runner: ClusterRunner) -> None:
    def time_out(asked: Asked) -> None:
        if asked.part == "log":
            raise timed_out()

    runner.submit(chunk(0))
    crashes(server, chunk(0))
    server.before = time_out
    (view,) = runner.observe()
    assert view.phase == "ending"
    assert Delete(view=view) in decided(view, now_ms=0, answered=frozenset({0}))


# ---------------------------------------------------------------- jobs that the server refuses


def test_refused_jobs_are_posted_again_less_and_less_often(
    server: FakeServer, runner: ClusterRunner, clock: Time
) -> None:
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    posted = []
    for _ in range(400):  # twenty minutes
        before = server.asked["POST", "jobs"]
        views = runner.observe()
        assert len(views) == 5
        assert all("quota" in view.waits_for for view in views)
        posted.append(server.asked["POST", "jobs"] - before)
        clock.s += TICK_S
    assert max(posted) == 1, "one of them, to see whether it is taken"
    assert sum(posted) <= 50
    assert all(any(posted[at : at + 21]) for at in range(380)), "but every minute"


def test_when_one_is_taken_the_others_follow(server: FakeServer, runner: ClusterRunner, clock: Time) -> None:
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    runner.observe()
    server.before = lambda asked: None
    clock.s += MINUTE_S
    runner.observe()
    assert {view.name for view in runner.observe() if view.uid} == {job_name(chunk(span)) for span in range(5)}
    assert len(runner.observe()) == 5, "each once"


def test_of_many_that_follow_so_many_are_posted_at_one_tick(
    server: FakeServer, runner: ClusterRunner, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterRunner, "burst", 2)
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    server.before = lambda asked: None
    clock.s += MINUTE_S
    taken = []
    for _ in range(3):
        before = len(server.found("jobs"))
        runner.observe()
        taken.append(len(server.found("jobs")) - before)
    assert taken == [2, 2, 1]


def test_a_job_of_ours_that_goes_makes_the_next_tick_try_again(
    server: FakeServer, runner: ClusterRunner, clock: Time
) -> None:
    runner.submit(chunk(0))
    server.before = refuse_jobs
    runner.submit(chunk(1))
    for _ in range(100):
        runner.observe()
        clock.s += TICK_S
    first, _ = runner.observe()
    before = server.asked["POST", "jobs"]
    while server.asked["POST", "jobs"] == before:
        runner.observe()
        clock.s += TICK_S
    server.before = lambda asked: None
    assert [view.uid for view in runner.observe()] == [first.uid, ""], "it has just been tried"
    runner.delete(first)
    runner.observe()
    (second,) = runner.observe()
    assert (second.span, bool(second.uid)) == (1, True)


def test_what_may_mend_itself_is_tried_once_more_before_it_counts_as_a_failure(
    server: FakeServer, runner: ClusterRunner, clock: Time
) -> None:
    def lack_class(asked: Asked) -> None:
        if (asked.method, asked.kind) == ("POST", "jobs"):
            raise Answer(http.HTTPStatus.FORBIDDEN, "no PriorityClass with name x was found")

    server.before = lack_class
    runner.submit(chunk(0))
    clock.s += MINUTE_S - 0.5
    runner.observe()
    before = server.asked["POST", "jobs"]
    clock.s += 0.5
    (view,) = runner.observe()
    assert server.asked["POST", "jobs"] == before + 1
    assert (view.phase, view.diagnosis and view.diagnosis.failure) == ("ended", FailureClass.CONFIG)


# ---------------------------------------------------------------- lists that lag behind


def test_a_job_of_an_old_round_is_not_seen_again_in_a_list_from_before_it_was_deleted(
    server: FakeServer, runner: ClusterRunner
) -> None:
    runner.submit(chunk(0, sha256="1" * 64))
    runner.forget(RUN)  # as if another controller had made it
    server.lag(behind=True)
    runner.submit(chunk(0))
    assert server.found("jobs") == []
    assert runner.observe() == []
    runner.submit(chunk(0))
    (view,) = runner.observe()
    (job,) = server.found("jobs")
    assert view.uid == job["metadata"]["uid"]


def test_what_was_deleted_is_forgotten_when_no_list_can_show_it_any_more(
    server: FakeServer, runner: ClusterRunner, clock: Time
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


def test_of_jobs_that_are_gone_nothing_is_kept(server: FakeServer, runner: ClusterRunner, clock: Time) -> None:
    for span in range(5):
        runner.submit(chunk(span))
        crashes(server, chunk(span))
    for view in until(runner, all_ended):
        runner.delete(view)
    runner.observe()
    kept = (runner._known, runner._pods, runner._stuck, runner._ends._reads, runner._ages._seen)
    assert [len(one) for one in kept] == [0] * 5


# ---------------------------------------------------------------- clocks that differ


@pytest.mark.parametrize("ahead", [timedelta(minutes=-19), timedelta(), timedelta(minutes=19)])
def test_a_job_is_as_old_as_it_has_been_known_whatever_the_time_is_in_the_cluster(
    server: FakeServer, runner: ClusterRunner, clock: Time, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    begun_ms = time.time_ns() // 1_000_000
    monkeypatch.setattr(runner_module, "_now_ms", lambda: begun_ms + round(1000 * (clock.s - 1000)))
    server.ahead = ahead
    runner.submit(chunk(0))
    runner.observe()
    clock.s += 600  # in a queue, which is no work
    has_pod(server, chunk(0), {"running": {"startedAt": server.now()}}, "Running")
    (view,) = runner.observe()
    assert view.since_ms == runner_module._now_ms()
    assert decided(view, now_ms=runner_module._now_ms()) == []
    clock.s += 930
    (view,) = runner.observe()
    assert decided(view, now_ms=runner_module._now_ms()) == []
    clock.s += 1
    (view,) = runner.observe()
    (late,) = (it for it in decided(view, now_ms=runner_module._now_ms()) if isinstance(it, Delete))
    assert late.failure is not None
    assert late.failure.failure is FailureClass.DEADLINE


def test_events_of_a_job_that_does_not_start_are_read_whatever_the_time_is_in_the_cluster(
    server: FakeServer, runner: ClusterRunner, clock: Time
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


def image_of(server: FakeServer, job: Job) -> str:
    (document,) = (it for it in server.found("jobs") if it["metadata"]["name"] == job_name(job))
    return str(document["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_controller_of_another_version_adopts_the_jobs_there_are_and_makes_new_ones_of_its_own_image(
    tmp_path: Path, server: FakeServer, runner: ClusterRunner
) -> None:
    runner.submit(chunk(0))
    runner.close(leave=True)
    options = JobOptions(
        chunk_image="chunk:2", intake_image="intake:2", store_url="s3://bucket/x", version="1", namespace="stenofleet"
    )
    here = fakes.FakeRunner(FileStore(tmp_path), fakes.FakeClock())
    newer = ClusterRunner(FakeApi(server), options, here=here)
    assert newer.lead(RUN)
    assert [view.name for view in newer.observe()] == [job_name(chunk(0))]
    newer.submit(chunk(0))
    newer.submit(chunk(1))
    assert [image_of(server, chunk(span)) for span in (0, 1)] == ["chunk:1", "chunk:2"]
    newer.close(leave=True)
