"""Leases on the server in memory and on the real one: taken, lost, gone, released; by whom and when."""

import socket
from collections.abc import Iterator

import pytest

from controller.errors import ClusterUnavailable
from controller.leadership import kubernetes_lease as lease
from controller.leadership.kubernetes_lease import Leases
from controller.runners.kubernetes.api import Reply
from controller.runners.kubernetes.labels import lease_name
from tests import fakes
from tests.kube.conftest import FakePlace, Place

RUN = fakes.RUN


@pytest.fixture
def pair(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Leases, Leases]]:
    """Two controllers. Nobody waits for fifteen seconds to see a holder silent."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(lease, "DURATION_S", 1)
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    if isinstance(place, FakePlace):
        monkeypatch.setattr(lease, "_clock_s", lambda: place.server.clock.s)
        # Renewed by the place, as its time passes.
        monkeypatch.setattr(Leases, "_keep", lambda _: None)
    place.leases += [Leases(place.api), Leases(place.api)]
    one, other = place.leases
    yield one, other
    one.close()
    other.close()


def silence(held: Leases) -> None:
    """As if its machine slept: nothing is renewed any more."""
    held._over.set()


def test_one_leads_and_the_other_does_not(place: Place, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    assert one.lead(RUN), "asked again, it still does"
    assert not other.lead(RUN)
    place.pause(1.5)
    assert not other.lead(RUN), "it is renewed"
    assert one.owner(RUN).name == lease_name(RUN)
    one.release(RUN, ended=False)
    assert other.lead(RUN), "a released one is taken at once"


def test_of_two_that_take_it_at_the_same_time_one_has_it(
    place: Place, pair: tuple[Leases, Leases], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    assert one.lead(RUN)
    one.release(RUN, ended=False)
    renewed = Leases._renewed

    def late(leases: Leases, document: dict[str, object], *, holder: str) -> dict[str, object]:
        # It has read the Lease, and has not written it yet.
        monkeypatch.setattr(Leases, "_renewed", renewed)
        assert other.lead(RUN)
        return renewed(leases, document, holder=holder)

    monkeypatch.setattr(Leases, "_renewed", late)
    assert not one.lead(RUN)
    assert other.owner(RUN).uid == other.uid(RUN)


def test_a_silent_holder_loses_it_and_hears_of_it(place: Place, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    uid = one.uid(RUN)
    silence(one)
    place.until(lambda: other.lead(RUN), "the Lease is taken")
    assert other.uid(RUN) == uid, "taken over, not made anew: its Jobs live on"
    with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
        one.owner(RUN)
    assert not one.lead(RUN)
    assert one.runs == []


def test_a_late_release_takes_nothing_from_who_took_over(place: Place, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    silence(one)
    place.until(lambda: other.lead(RUN), "the Lease is taken")
    one.release(RUN, ended=True)
    assert place.api.get("leases", lease_name(RUN)) is not None
    assert other.lead(RUN)
    other.release(RUN, ended=True)
    assert place.api.get("leases", lease_name(RUN)) is None


def test_a_deleted_lease_is_gone_and_one_that_another_made_is_lost(place: Place, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    silence(one)
    place.api.delete("leases", lease_name(RUN), uid=one.uid(RUN))
    place.pause(1.5)
    assert one.lead(RUN)
    assert one.gone(RUN)
    one.release(RUN, ended=False)

    assert one.lead(RUN)
    place.api.delete("leases", lease_name(RUN), uid=one.uid(RUN))
    assert other.lead(RUN)
    place.pause(1.5)
    assert not one.lead(RUN)
    assert not one.gone(RUN)


def test_a_hand_that_labels_things_takes_no_lease_away(place: Place, pair: tuple[Leases, Leases]) -> None:
    one, _ = pair
    assert one.lead(RUN)
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
    assert one.owner(RUN).uid == one.uid(RUN)
    assert one.lead(RUN)
    found = place.api.get("leases", lease_name(RUN))
    assert found
    assert found["metadata"]["labels"]["seen"] == "yes"
