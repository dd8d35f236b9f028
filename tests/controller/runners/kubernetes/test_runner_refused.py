"""Jobs that the API server refuses: which are posted again and when, and the state of the others."""

import http

import pytest

from controller.domain.failures import FailureClass
from controller.runners.kubernetes.labels import job_name, lease_name
from controller.runners.kubernetes.runner import TICK_S, ClusterRunner
from tests.kube.cases import RUN, chunk, clock, runner, server
from tests.kube.server import Server, Stopwatch
from tests.kube.wire import Refusal, Request

__all__ = ["clock", "runner", "server"]

QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 2, limited: 2'
MINUTE_S = 60.0


def refuse_jobs(request: Request) -> None:
    if (request.verb, request.kind) == ("create", "jobs"):
        raise Refusal(http.HTTPStatus.FORBIDDEN, QUOTA)


def test_refused_jobs_are_posted_again_with_growing_pauses(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    posted = []
    for _ in range(400):  # twenty minutes
        before = server.requests["create", "jobs"]
        views = runner.observe()
        assert len(views) == 5
        assert all("quota" in view.waits_for for view in views)
        posted.append(server.requests["create", "jobs"] - before)
        clock.s += TICK_S
    assert max(posted) == 1, "one of them, to see whether it is accepted"
    assert sum(posted) <= 50
    assert all(any(posted[at : at + 21]) for at in range(380)), "but every minute"


def test_when_one_job_is_accepted_the_others_follow(server: Server, runner: ClusterRunner, clock: Stopwatch) -> None:
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    runner.observe()
    server.before = lambda request: None
    clock.s += MINUTE_S
    runner.observe()
    assert {view.name for view in runner.observe() if view.uid} == {job_name(chunk(span)) for span in range(5)}
    assert len(runner.observe()) == 5, "each once"


def test_the_number_of_jobs_posted_at_one_tick_is_limited(
    server: Server, runner: ClusterRunner, clock: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterRunner, "burst", 2)
    server.before = refuse_jobs
    for span in range(5):
        runner.submit(chunk(span))
    server.before = lambda request: None
    clock.s += MINUTE_S
    taken = []
    for _ in range(3):
        before = len(server.objects("jobs"))
        runner.observe()
        taken.append(len(server.objects("jobs")) - before)
    assert taken == [2, 2, 1]


def test_the_end_of_one_of_our_jobs_makes_the_next_tick_try_again(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    runner.submit(chunk(0))
    server.before = refuse_jobs
    runner.submit(chunk(1))
    for _ in range(100):
        runner.observe()
        clock.s += TICK_S
    first, _ = runner.observe()
    before = server.requests["create", "jobs"]
    while server.requests["create", "jobs"] == before:
        runner.observe()
        clock.s += TICK_S
    server.before = lambda request: None
    assert [view.uid for view in runner.observe()] == [first.uid, ""], "it was posted at this tick"
    runner.delete(first)
    runner.observe()
    (second,) = runner.observe()
    assert (second.span, bool(second.uid)) == (1, True)


def test_a_transient_refusal_is_retried_once_before_it_counts_as_a_failure(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    def lack_class(request: Request) -> None:
        if (request.verb, request.kind) == ("create", "jobs"):
            raise Refusal(http.HTTPStatus.FORBIDDEN, "no PriorityClass with name x was found")

    server.before = lack_class
    runner.submit(chunk(0))
    clock.s += MINUTE_S - 0.5
    runner.observe()
    before = server.requests["create", "jobs"]
    clock.s += 0.5
    (view,) = runner.observe()
    assert server.requests["create", "jobs"] == before + 1
    assert (view.phase, view.diagnosis and view.diagnosis.failure) == ("ended", FailureClass.CONFIG)


def test_nothing_is_posted_for_a_run_whose_lease_was_deleted(
    server: Server, runner: ClusterRunner, clock: Stopwatch
) -> None:
    server.before = refuse_jobs
    runner.submit(chunk(0))
    server.before = lambda request: None
    server.remove("leases", lease_name(RUN))
    clock.s += MINUTE_S
    runner._leases.recheck(RUN)
    before = server.requests["create", "jobs"]
    (view,) = runner.observe()
    assert runner.leadership.cancelled(RUN)
    assert server.requests["create", "jobs"] == before, "the server would delete it at once"
    runner.delete(view)
    assert runner.observe() == []
