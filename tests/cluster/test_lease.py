"""Leases on the real API server: taken, lost, gone, released; by whom and when."""

import time
from collections.abc import Iterator

import pytest

from controller.errors import ClusterUnavailable
from controller.leadership import kubernetes_lease
from controller.leadership.kubernetes_lease import Leases
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.labels import lease_name
from tests import fakes
from tests.cluster.site import Site

RUN = fakes.RUN


@pytest.fixture
def api(site: Site, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(site.cluster.kubeconfig))
    return connect(namespace=site.namespace)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for fifteen seconds to see a holder silent."""
    monkeypatch.setattr(kubernetes_lease, "DURATION_S", 1)
    monkeypatch.setattr(kubernetes_lease, "RENEW_S", 0.2)


@pytest.fixture
def pair(api: Api) -> Iterator[tuple[Leases, Leases]]:
    one, other = Leases(api), Leases(api)
    yield one, other
    one.close()
    other.close()


def silence(held: Leases) -> None:
    """As if its machine slept: nothing is renewed any more."""
    held._over.set()


def until_led(leases: Leases) -> None:
    for _ in range(100):
        if leases.lead(RUN):
            return
        time.sleep(0.1)
    pytest.fail("the Lease is never taken")


def test_one_leads_and_the_other_does_not(pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    assert one.lead(RUN), "asked again, it still does"
    assert not other.lead(RUN)
    one.release(RUN, ended=False)
    assert other.lead(RUN), "a released one is taken at once"


def test_a_silent_holder_loses_it_and_hears_of_it(hasty: None, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    uid = one.uid(RUN)
    silence(one)
    until_led(other)
    assert other.uid(RUN) == uid, "taken over, not made anew: its Jobs live on"
    with pytest.raises(ClusterUnavailable, match="could not be renewed in time"):
        one.owner(RUN)
    assert not one.lead(RUN)
    assert one.runs == []


def test_a_late_release_takes_nothing_from_who_took_over(hasty: None, api: Api, pair: tuple[Leases, Leases]) -> None:
    one, other = pair
    assert one.lead(RUN)
    silence(one)
    until_led(other)
    one.release(RUN, ended=True)
    assert api.get("leases", lease_name(RUN)) is not None
    assert other.lead(RUN)
    other.release(RUN, ended=True)
    assert api.get("leases", lease_name(RUN)) is None


def test_a_deleted_lease_is_gone_and_one_that_another_made_is_lost(
    hasty: None, api: Api, pair: tuple[Leases, Leases]
) -> None:
    one, other = pair
    assert one.lead(RUN)
    silence(one)
    api.delete("leases", lease_name(RUN), uid=one.uid(RUN))
    time.sleep(1.5)
    assert one.lead(RUN)
    assert one.gone(RUN)
    one.release(RUN, ended=False)

    assert one.lead(RUN)
    api.delete("leases", lease_name(RUN), uid=one.uid(RUN))
    assert other.lead(RUN)
    time.sleep(1.5)
    assert not one.lead(RUN)
    assert not one.gone(RUN)
