"""Faults of the server in memory that a real server cannot produce on request, and how the client handles them."""

import http

import pytest

from controller.errors import ClusterUnavailable, EnvironmentProblem
from tests.kube.conftest import FakeNamespace, status_of
from tests.kube.wire import Refusal, Request, no_answer


@pytest.mark.parametrize(
    "status", [http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.BAD_GATEWAY, http.HTTPStatus.UNAUTHORIZED]
)
def test_a_server_that_cannot_serve_now_is_waited_for_as_long_as_it_asks(
    fake: FakeNamespace, status: http.HTTPStatus
) -> None:
    def busy(request: Request) -> None:
        raise Refusal(status, "not now", retry_after_s=7)

    fake.server.before = busy
    with pytest.raises(ClusterUnavailable, match=f"HTTP {status.value} .*not now") as caught:
        fake.lease()
    assert caught.value.retry_after_s == 7
    assert caught.value.answered == (status != http.HTTPStatus.UNAUTHORIZED)
    assert fake.server.objects("leases") == []


def test_a_lost_request_changes_nothing_and_a_request_with_a_lost_answer_was_done(fake: FakeNamespace) -> None:
    def lose(request: Request) -> None:
        raise no_answer()

    fake.server.before = lose
    with pytest.raises(ClusterUnavailable, match="does not answer") as caught:
        fake.lease()
    assert not caught.value.answered
    fake.server.before = lambda request: None
    assert fake.names("leases") == []
    fake.server.after = lose
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        fake.lease()
    fake.server.after = lambda request: None
    assert status_of(fake.lease) == (409, "AlreadyExists")


def test_a_missing_right_is_no_outage(fake: FakeNamespace) -> None:
    def forbid(request: Request) -> None:
        raise Refusal(http.HTTPStatus.FORBIDDEN, f"cannot {request.verb} resource {request.kind}")

    fake.server.before = forbid
    assert status_of(fake.lease) == (403, "Forbidden")
    with pytest.raises(EnvironmentProblem, match="cannot list resource leases") as caught:
        fake.names("leases")
    assert not isinstance(caught.value, ClusterUnavailable)


def test_what_was_allowed_before_and_is_refused_now_may_be_allowed_again(fake: FakeNamespace) -> None:
    """As an API server refuses everything for a moment after its start, until it knows the roles."""

    def forbid(request: Request) -> None:
        text = f'{request.kind} is forbidden: User "system:serviceaccount:a:b" cannot {request.verb} resource'
        raise Refusal(http.HTTPStatus.FORBIDDEN, text)

    def full(request: Request) -> None:
        raise Refusal(http.HTTPStatus.FORBIDDEN, f"{request.kind} is forbidden: exceeded quota")

    fake.names("leases")
    fake.server.before = forbid
    with pytest.raises(ClusterUnavailable, match="refuses what it allowed before: ") as caught:
        fake.names("leases")
    assert caught.value.answered
    assert "doctor" in caught.value.advice
    assert status_of(fake.lease) == (403, "Forbidden"), "this was never allowed"
    fake.server.before = lambda request: None
    fake.lease()
    fake.server.before = full
    assert status_of(lambda: fake.lease("other")) == (403, "Forbidden"), "a quota is no missing permission"


def test_a_cached_list_may_be_old_and_a_watch_from_it_gives_the_rest(fake: FakeNamespace) -> None:
    fake.lease("before")
    fake.server.lag(behind=True)
    fake.lease("lease")
    found = fake.api.find("leases")
    assert [item["metadata"]["name"] for item in found["items"]] == ["before"]
    assert fake.names("leases") == ["before", "lease"]
    (event,) = fake.api.watch("leases", seconds=1, resourceVersion=found["metadata"]["resourceVersion"])
    assert event["object"]["metadata"]["name"] == "lease"
    fake.server.lag(behind=False)
    assert len(fake.api.find("leases")["items"]) == 2


def test_events_come_late_or_never_and_a_watch_that_breaks_off_just_ends(fake: FakeNamespace) -> None:
    for name in ("one", "other"):
        fake.lease(name)
    asked = {"resourceVersion": "1"}
    fake.server.delay_s = lambda event: float("inf") if event.object["metadata"]["name"] == "one" else 0
    assert [event["object"]["metadata"]["name"] for event in fake.api.watch("leases", seconds=2, **asked)] == ["other"]
    fake.server.delay_s = lambda event: 3.0
    assert list(fake.api.watch("leases", seconds=2, **asked)) == []
    begun_s = fake.server.clock.s
    watch = fake.api.watch("leases", seconds=10, **asked)
    assert next(watch)["object"]["metadata"]["name"] == "one"
    assert fake.server.clock.s - begun_s == 3

    def break_off(event: object) -> float:
        raise no_answer()

    fake.server.delay_s = break_off
    assert list(watch) == []


def test_a_pod_on_a_lost_node_stays_until_the_node_is_back(fake: FakeNamespace) -> None:
    owner = fake.lease()
    job = fake.job(owner)
    fake.until(lambda: fake.names("pods"), "it has a pod")
    (pod,) = fake.server.objects("pods")
    fake.server.put("pods", pod | {"spec": {"nodeName": "node-1"}})
    fake.kubelet.lose("node-1")
    fake.api.delete("jobs", job["metadata"]["name"], uid=job["metadata"]["uid"])
    assert fake.names("jobs") == []
    (pod,) = fake.server.objects("pods")
    assert pod["metadata"]["deletionTimestamp"]
    fake.kubelet.recover("node-1")
    assert fake.names("pods") == []
