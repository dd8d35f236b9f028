"""Leases and their thread, with a server that raises unexpected errors."""

import socket
import threading
from collections.abc import Iterator

import pytest

from controller.errors import ClusterUnavailable
from controller.leadership import clock as lease_clock
from controller.leadership import kubernetes_lease
from controller.leadership.kubernetes_lease import KubernetesLeases
from controller.runners.kubernetes.labels import lease_name
from tests import fakes
from tests.kube.server import FakeApi, Server
from tests.kube.wire import Request
from tests.leading import leads
from tests.pipeline import PATIENCE_S

RUN = fakes.RUN


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def leases(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesLeases]:
    """It leads the run."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(kubernetes_lease, "RENEW_S", 0.01)
    leases = KubernetesLeases(FakeApi(server))
    assert leads(leases, RUN)
    yield leases
    server.before = lambda request: None
    leases.close()


def test_a_lease_that_was_observed_is_taken_as_soon_as_it_has_expired(
    server: Server, leases: KubernetesLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(lease_clock, "now_s", lambda: now_s)
    other = KubernetesLeases(FakeApi(server))
    leases._over.set()  # the holder is gone
    other.observe([RUN])
    now_s += kubernetes_lease.DURATION_S - 1
    other.observe([RUN])
    assert not leads(other, RUN)
    now_s += 2
    assert leads(other, RUN)


def test_an_observed_lease_that_is_missing_later_is_no_cancel(server: Server, leases: KubernetesLeases) -> None:
    other = KubernetesLeases(FakeApi(server))
    other.observe([RUN])
    leases.release(RUN, ended=True)
    assert leads(other, RUN)
    assert not other.cancelled(RUN)


class Failing:
    """Renewals that raise an unexpected error a number of times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.failed, self.renewed = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> None:
        if request.verb != "update":
            return
        if self.left:
            self.left -= 1
            self.failed.set()
            raise ValueError("what is this?")
        self.renewed.set()


def test_an_unexpected_error_does_not_end_the_renewals_and_is_reported_once(
    server: Server, leases: KubernetesLeases
) -> None:
    server.before = failing = Failing(3)
    assert failing.renewed.wait(PATIENCE_S), "it is renewed all the same"
    with pytest.raises(ClusterUnavailable, match="could not be renewed: ValueError: what is this") as raised:
        leases.owner(RUN)
    assert raised.value.answered, "the command does not end for it"
    assert isinstance(raised.value.__cause__, ValueError)
    assert leases.owner(RUN).name == lease_name(RUN)
    server.before = failing = Failing(1)
    assert failing.renewed.wait(PATIENCE_S)
    assert leases.owner(RUN).name == lease_name(RUN), "the same error is not reported again"
    assert leads(leases, RUN)


def test_a_lease_that_such_errors_keep_from_being_renewed_lapses(
    server: Server, leases: KubernetesLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.before = failing = Failing(1 << 30)
    assert failing.failed.wait(PATIENCE_S)
    late_s = lease_clock.now_s() + kubernetes_lease.DURATION_S + 1
    monkeypatch.setattr(lease_clock, "now_s", lambda: late_s)
    for _ in range(2):
        with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
            leases.owner(RUN)


def test_nothing_is_kept_of_a_run_that_is_no_longer_followed(server: Server, leases: KubernetesLeases) -> None:
    other = KubernetesLeases(FakeApi(server))
    assert not leads(other, RUN)
    assert len(other._seen) == 1
    other.release(RUN, ended=True)
    assert len(other._seen) == 0
    assert server.objects("leases"), "it belongs to another controller"
    assert not leads(other, RUN)
    leases.release(RUN, ended=False)
    assert leads(other, RUN)
    assert len(other._seen) == 0
    other.close()


def test_a_lease_deleted_while_it_is_followed_was_cancelled_or_has_ended(
    server: Server, leases: KubernetesLeases
) -> None:
    other = KubernetesLeases(FakeApi(server))
    assert not leads(other, RUN)
    leases.release(RUN, ended=True)
    assert leads(other, RUN)
    assert other.cancelled(RUN)
    assert server.objects("leases") == [], "a new Lease would restart a cancelled run"
    other.release(RUN, ended=True)
    assert leads(other, RUN)
    assert not other.cancelled(RUN)
    other.close()
