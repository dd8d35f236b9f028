"""Leases on the server in memory and on the real one: taken, lost, gone, released; by whom and when."""

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
from tests.kube.conftest import FakePlace, Place
from tests.leading import leads

RUN = fakes.RUN


@pytest.fixture
def pair(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KubernetesLeases, KubernetesLeases]]:
    """Two controllers. Nobody waits for fifteen seconds to see a holder silent."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(lease, "DURATION_S", 1)
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    if isinstance(place, FakePlace):
        monkeypatch.setattr(lease_clock, "now_s", lambda: place.server.clock.s)
        # Renewed by the place, as its time passes.
        monkeypatch.setattr(KubernetesLeases, "_keep", lambda _: None)
    place.leases += [KubernetesLeases(place.api), KubernetesLeases(place.api)]
    one, other = place.leases
    yield one, other
    one.close()
    other.close()


def silence(held: KubernetesLeases) -> None:
    """As if its machine slept: nothing is renewed any more."""
    held._over.set()


def test_one_leads_and_the_other_does_not(place: Place, pair: tuple[KubernetesLeases, KubernetesLeases]) -> None:
    one, other = pair
    assert leads(one, RUN)
    assert leads(one, RUN), "asked again, it still does"
    assert not leads(other, RUN)
    place.pause(1.5)
    assert not leads(other, RUN), "it is renewed"
    assert one.owner(RUN).name == lease_name(RUN)
    one.release(RUN, ended=False)
    assert leads(other, RUN), "a released one is taken at once"


def test_of_two_that_take_it_at_the_same_time_one_has_it(
    place: Place, pair: tuple[KubernetesLeases, KubernetesLeases], monkeypatch: pytest.MonkeyPatch
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


def test_a_silent_holder_loses_it_and_hears_of_it(
    place: Place, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    uid = one.domain(RUN)
    silence(one)
    place.until(lambda: leads(other, RUN), "the Lease is taken")
    assert other.domain(RUN) == uid, "taken over, not made anew: its Jobs live on"
    with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
        one.owner(RUN)
    assert not leads(one, RUN)
    assert one.runs == []


def test_a_late_release_takes_nothing_from_who_took_over(
    place: Place, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    silence(one)
    place.until(lambda: leads(other, RUN), "the Lease is taken")
    one.release(RUN, ended=True)
    assert place.api.get("leases", lease_name(RUN)) is not None
    assert leads(other, RUN)
    other.release(RUN, ended=True)
    assert place.api.get("leases", lease_name(RUN)) is None


def test_a_deleted_lease_is_gone_and_one_that_another_made_is_lost(
    place: Place, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, other = pair
    assert leads(one, RUN)
    silence(one)
    place.api.delete("leases", lease_name(RUN), uid=one.domain(RUN))
    place.pause(1.5)
    assert leads(one, RUN)
    assert one.cancelled(RUN)
    one.release(RUN, ended=False)

    assert leads(one, RUN)
    place.api.delete("leases", lease_name(RUN), uid=one.domain(RUN))
    assert leads(other, RUN)
    place.pause(1.5)
    assert not leads(one, RUN)
    assert not one.cancelled(RUN)


def test_a_hand_that_labels_things_takes_no_lease_away(
    place: Place, pair: tuple[KubernetesLeases, KubernetesLeases]
) -> None:
    one, _ = pair
    assert leads(one, RUN)
    found = place.api.get("leases", lease_name(RUN))
    assert found
    labels = found["metadata"]["labels"] | {"seen": "yes"}
    while True:
        # A real thread renews it meanwhile.
        found = place.api.get("leases", lease_name(RUN))
        assert found
        try:
            place.api.replace("leases", found | {"metadata": found["metadata"] | {"labels": labels}})
            break
        except Reply:
            continue
    place.pause(1.5)
    assert one.owner(RUN).uid == one.domain(RUN)
    assert leads(one, RUN)
    found = place.api.get("leases", lease_name(RUN))
    assert found
    assert found["metadata"]["labels"]["seen"] == "yes"
