"""Leases on the server in memory and on the real one: acquired, lost, deleted and released."""

import socket
from collections.abc import Iterator

import pytest

from controller.errors import ClusterUnavailable
from controller.leadership import clock as lease_clock
from controller.leadership import kubernetes_lease as lease
from controller.leadership.kubernetes_lease import KubernetesLeases
from controller.runners.kubernetes.api import Reply
from controller.runners.kubernetes.labels import lease_name
from tests import fakes
from tests.kube.conftest import ApiNamespace, FakeNamespace
from tests.leading import leads

RUN = fakes.RUN


@pytest.fixture
def pair(target: ApiNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KubernetesLeases, KubernetesLeases]]:
    """Two controllers with short time-outs, so that a silent holder loses its Lease soon."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(lease, "DURATION_S", 1)
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    if isinstance(target, FakeNamespace):
        monkeypatch.setattr(lease_clock, "now_s", lambda: target.server.clock.s)
        # The namespace renews them, as its time passes.
        monkeypatch.setattr(KubernetesLeases, "_keep", lambda _: None)
    target.leases += [KubernetesLeases(target.api), KubernetesLeases(target.api)]
    one, other = target.leases
    yield one, other
    one.close()
    other.close()


def silence(held: KubernetesLeases) -> None:
    """Stop the renewals, as when the machine is suspended."""
    held._over.set()


def test_one_leads_and_the_other_does_not(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    assert leads(one, RUN), "asked again, it still does"
    assert not leads(other, RUN)
    target.pause(1.5)
    assert not leads(other, RUN), "it is renewed"
    assert one.owner(RUN).name == lease_name(RUN)
    one.release(RUN, ended=False)
    assert leads(other, RUN), "a released one is taken at once"


def test_only_one_of_two_concurrent_attempts_gets_the_lease(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    assert leads(one, RUN)
    one.release(RUN, ended=False)
    renewed = KubernetesLeases._renewed

    def late(leases: KubernetesLeases, document: dict[str, object], *, holder: str) -> dict[str, object]:
        # It has read the Lease, and has not written it yet.
        monkeypatch.setattr(KubernetesLeases, "_renewed", renewed)
        assert leads(other, RUN)
        return renewed(leases, document, holder=holder)

    monkeypatch.setattr(KubernetesLeases, "_renewed", late)
    assert not leads(one, RUN)
    assert other.owner(RUN).uid == other.domain(RUN)


def test_a_silent_holder_loses_the_lease_and_notices(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    uid = one.domain(RUN)
    silence(one)
    target.until(lambda: leads(other, RUN), "the Lease is taken")
    assert other.domain(RUN) == uid, "taken over and not created again, so its Jobs stay"
    with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
        one.owner(RUN)
    assert not leads(one, RUN)
    assert one.runs == []


def test_a_late_release_does_not_affect_the_next_holder(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    silence(one)
    target.until(lambda: leads(other, RUN), "the Lease is taken")
    one.release(RUN, ended=True)
    assert target.api.get("leases", lease_name(RUN)) is not None
    assert leads(other, RUN)
    other.release(RUN, ended=True)
    assert target.api.get("leases", lease_name(RUN)) is None


def test_a_deleted_lease_is_a_cancel_and_one_that_another_created_is_lost(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    silence(one)
    target.api.delete("leases", lease_name(RUN), uid=one.domain(RUN))
    target.pause(1.5)
    assert leads(one, RUN)
    assert one.cancelled(RUN)
    one.release(RUN, ended=False)

    assert leads(one, RUN)
    target.api.delete("leases", lease_name(RUN), uid=one.domain(RUN))
    assert leads(other, RUN)
    target.pause(1.5)
    assert not leads(one, RUN)
    assert not one.cancelled(RUN)


def test_a_user_who_adds_labels_takes_no_lease_away(
    target: ApiNamespace, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, _ = pair
    assert leads(one, RUN)
    found = target.api.get("leases", lease_name(RUN))
    assert found
    labels = found["metadata"]["labels"] | {"seen": "yes"}
    while True:
        # A real thread renews it meanwhile.
        found = target.api.get("leases", lease_name(RUN))
        assert found
        try:
            target.api.replace("leases", found | {"metadata": found["metadata"] | {"labels": labels}})
            break
        except Reply:
            continue
    target.pause(1.5)
    assert one.owner(RUN).uid == one.domain(RUN)
    assert leads(one, RUN)
    found = target.api.get("leases", lease_name(RUN))
    assert found
    assert found["metadata"]["labels"]["seen"] == "yes"
