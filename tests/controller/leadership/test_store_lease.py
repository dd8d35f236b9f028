"""The lease in the store that machines share: claims, renewals, crashes and suspensions, in simulated time."""

import threading
from pathlib import Path

import pytest

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.documents import LeaseRecord
from controller.domain.keys import RunKeys
from controller.leadership import clock
from controller.leadership import store_lease as lease_module
from controller.leadership.store_lease import MISSED_POLLS, POLL_MS, RENEW_MS, StoreLease, StoreLeases
from tests import fakes, pipeline

KEY = RunKeys(fakes.RUN).lease


class World:
    """A store, a simulated time, and leases that are polled in turn."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder)
        self.now_ms = fakes.START_MS

    def lease(self, domain: str) -> StoreLease:
        return StoreLease(self.store, fakes.RUN, domain)

    def passes(self, ms: int, *asked: StoreLease) -> list[str]:
        """The final state of each lease, polled every 100 ms."""
        states = ["nothing"] * len(asked)
        for _ in range(ms // 100):
            self.now_ms += 100
            states = [lease.try_acquire_or_renew(self.now_ms) for lease in asked]
        return states


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def test_a_claim_is_left_alone_for_a_moment_and_then_leads(world: World) -> None:
    lease = world.lease("here")
    assert lease.try_acquire_or_renew(world.now_ms) == "undecided"
    assert world.passes(POLL_MS - 100, lease) == ["undecided"]
    assert world.passes(200, lease) == ["leading"]


def test_one_of_two_simultaneous_claims_leads_and_the_other_follows(world: World) -> None:
    one, other = world.lease("here"), world.lease("there")
    world.passes(POLL_MS * 2, one, other)
    states = world.passes(RENEW_MS * 2, one, other)
    assert sorted(states) == ["following", "leading"]
    assert world.passes(MISSED_POLLS * POLL_MS * 3, one, other) == states


def test_a_later_candidate_follows_while_the_lease_is_renewed(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    assert other.try_acquire_or_renew(world.now_ms) == "undecided"
    assert world.passes(RENEW_MS + 2 * POLL_MS, leader, other) == ["leading", "following"]
    assert world.passes(MISSED_POLLS * POLL_MS * 3, leader, other) == ["leading", "following"]


def test_a_released_lease_is_acquired_at_once(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    world.passes(RENEW_MS + 2 * POLL_MS, leader, other)
    leader.release()
    assert world.store.stat(KEY) is None
    assert world.passes(3 * POLL_MS, other) == ["leading"]


def test_a_dead_leader_of_another_domain_is_given_up_after_missed_renewals(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    assert world.passes((MISSED_POLLS - 2) * POLL_MS, other) == ["undecided"]
    assert world.passes(5 * POLL_MS, other) == ["leading"]


def test_a_dead_leader_of_the_same_domain_is_replaced_at_once(world: World) -> None:
    world.passes(2 * POLL_MS, world.lease("here"))
    assert world.passes(2 * POLL_MS, world.lease("here")) == ["leading"]


def test_a_suspended_leader_that_was_replaced_follows(world: World) -> None:
    sleeper, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, sleeper)
    assert world.passes((MISSED_POLLS + 3) * POLL_MS, other) == ["leading"]
    assert sleeper.try_acquire_or_renew(world.now_ms) == "following"
    sleeper.release()
    assert world.passes(RENEW_MS, sleeper, other) == ["following", "leading"]


def test_a_leader_whose_object_was_deleted_puts_it_again(world: World) -> None:
    leader = world.lease("here")
    world.passes(2 * POLL_MS, leader)
    world.store.delete(KEY)
    assert world.passes(RENEW_MS + 100, leader) == ["leading"]
    assert world.store.stat(KEY) is not None


def test_a_clock_that_is_set_back_ends_no_lease(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    world.now_ms -= 24 * 3_600_000
    assert world.passes(MISSED_POLLS * POLL_MS * 2, leader, other) == ["leading", "following"]


def test_an_invalid_object_is_treated_as_no_lease(world: World) -> None:
    world.store.put(KEY, b"{")
    assert world.passes(2 * POLL_MS, world.lease("here")) == ["leading"]


@pytest.mark.parametrize("renewed", [True, False])
def test_an_observer_learns_whether_the_lease_is_renewed(world: World, renewed: bool) -> None:
    leader = world.lease("here")
    world.passes(2 * POLL_MS, leader)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        world.passes(round(1000 * seconds), *[leader] * renewed)

    before = world.store.get(KEY)
    assert world.lease("there").held_elsewhere(wait) is renewed
    assert sum(waits) <= (RENEW_MS if renewed else MISSED_POLLS * POLL_MS) / 1000 + 1
    assert renewed or world.store.get(KEY) == before


def test_a_missing_lease_or_our_own_is_not_held_by_another(world: World) -> None:
    assert not world.lease("there").held_elsewhere(lambda _: None)
    world.passes(2 * POLL_MS, world.lease("here"))
    assert not world.lease("here").held_elsewhere(lambda _: None)


def test_a_lease_is_renewed_while_its_owners_loop_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_MS", 5)
    store = FileStore(tmp_path)
    ours, theirs = StoreLeases(store, lambda _: "here"), StoreLease(store, fakes.RUN, "there")
    try:
        # The loop acquires the lease, and then merges for a long time.
        states = [ours.try_acquire_or_renew(fakes.RUN, now_ms) for now_ms in (0, POLL_MS)]
        assert states == ["undecided", "leading"]
        seen = set()
        for poll in range(3 * MISSED_POLLS):
            before = store.get(KEY)
            pipeline.until(lambda before=before: store.get(KEY) != before, "it is renewed")  # type: ignore[misc]
            seen.add(theirs.try_acquire_or_renew(now_ms=poll * POLL_MS))
        assert seen == {"undecided", "following"}
        assert ours.try_acquire_or_renew(fakes.RUN, POLL_MS) == "leading"
    finally:
        ours.close()
    assert store.stat(KEY) is None, "the next one leads at once"


def test_nothing_is_done_under_a_lease_that_could_not_be_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(clock, "now_s", lambda: now_s)
    leases = StoreLeases(FileStore(tmp_path), lambda _: "here")
    assert [leases.try_acquire_or_renew(fakes.RUN, now_ms) for now_ms in (0, POLL_MS)][-1] == "leading"
    now_s += lease_module.LAPSED_S
    leases.check(fakes.RUN)
    now_s += 1
    with pytest.raises(StoreUnavailable, match="could not be renewed in time"):
        leases.check(fakes.RUN)
    assert lease_module.LAPSED_S < MISSED_POLLS * POLL_MS / 1000, "before another leader takes over"
    assert leases.try_acquire_or_renew(fakes.RUN, POLL_MS + RENEW_MS) == "leading"
    leases.check(fakes.RUN)
    leases.close()


def test_a_lost_lease_is_not_taken_back_by_the_renewing_thread(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    ours = StoreLease(store, fakes.RUN, "here")
    assert [ours.try_acquire_or_renew(now_ms=poll * POLL_MS) for poll in range(2)] == ["undecided", "leading"]
    store.put(
        RunKeys(fakes.RUN).lease,
        LeaseRecord(run=fakes.RUN, owner="f" * 16, lock_domain="there", renew_count=1).encode(),
    )
    for _ in range(3):
        ours.renew()
    assert ours.try_acquire_or_renew(now_ms=POLL_MS) == "following"
    assert LeaseRecord.decode(store.get(RunKeys(fakes.RUN).lease)).owner == "f" * 16


def test_an_outage_of_the_store_does_not_end_the_renewing_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_MS", 5)
    renewed_again = threading.Event()
    renewals: list[int] = []

    def renew(_: StoreLease) -> None:
        renewals.append(1)
        if len(renewals) > 1:
            renewed_again.set()
        raise StoreUnavailable("away", "wait")

    monkeypatch.setattr(StoreLease, "renew", renew)
    leases = StoreLeases(FileStore(tmp_path), lambda _: "here")
    leases.try_acquire_or_renew(fakes.RUN, 0)
    assert renewed_again.wait(20)
    leases.close()
