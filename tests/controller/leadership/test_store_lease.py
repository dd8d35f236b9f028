"""Who leads a run where machines share its store: claims, renewals, deaths and sleeps, with a time of its own."""

import threading
import time
from pathlib import Path

import pytest

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.documents import LeaseRecord
from controller.domain.keys import RunKeys
from controller.leadership import clock
from controller.leadership import store_lease as lease_module
from controller.leadership.store_lease import MISSED_POLLS, POLL_MS, RENEW_MS, StoreLease, StoreLeases
from tests import fakes

KEY = RunKeys(fakes.RUN).lease


class World:
    """A store, a time, and leads that are asked in turn."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder)
        self.now_ms = fakes.START_MS

    def lease(self, place: str) -> StoreLease:
        return StoreLease(self.store, fakes.RUN, place)

    def passes(self, ms: int, *asked: StoreLease) -> list[str]:
        """What each says at the end, asked every 100 ms."""
        said = ["nothing"] * len(asked)
        for _ in range(ms // 100):
            self.now_ms += 100
            said = [lead.try_acquire_or_renew(self.now_ms) for lead in asked]
        return said


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def test_a_claim_is_left_alone_for_a_moment_and_then_leads(world: World) -> None:
    lead = world.lease("here")
    assert lead.try_acquire_or_renew(world.now_ms) == "undecided"
    assert world.passes(POLL_MS - 100, lead) == ["undecided"]
    assert world.passes(200, lead) == ["leading"]


def test_of_two_claims_at_once_one_leads_and_the_other_follows(world: World) -> None:
    one, other = world.lease("here"), world.lease("there")
    world.passes(POLL_MS * 2, one, other)
    said = world.passes(RENEW_MS * 2, one, other)
    assert sorted(said) == ["following", "leading"]
    assert world.passes(MISSED_POLLS * POLL_MS * 3, one, other) == said


def test_who_comes_later_follows_for_as_long_as_it_is_renewed(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    assert other.try_acquire_or_renew(world.now_ms) == "undecided"
    assert world.passes(RENEW_MS + 2 * POLL_MS, leader, other) == ["leading", "following"]
    assert world.passes(MISSED_POLLS * POLL_MS * 3, leader, other) == ["leading", "following"]


def test_a_released_lead_is_taken_at_once(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    world.passes(RENEW_MS + 2 * POLL_MS, leader, other)
    leader.release()
    assert world.store.stat(KEY) is None
    assert world.passes(3 * POLL_MS, other) == ["leading"]


def test_a_dead_leader_elsewhere_is_given_up_after_a_while(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    assert world.passes((MISSED_POLLS - 2) * POLL_MS, other) == ["undecided"]
    assert world.passes(5 * POLL_MS, other) == ["leading"]


def test_a_dead_leader_of_this_place_is_followed_by_none(world: World) -> None:
    world.passes(2 * POLL_MS, world.lease("here"))
    assert world.passes(2 * POLL_MS, world.lease("here")) == ["leading"]


def test_a_leader_that_slept_finds_another_in_its_place_and_follows(world: World) -> None:
    sleeper, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, sleeper)
    assert world.passes((MISSED_POLLS + 3) * POLL_MS, other) == ["leading"]
    assert sleeper.try_acquire_or_renew(world.now_ms) == "following"
    sleeper.release()
    assert world.passes(RENEW_MS, sleeper, other) == ["following", "leading"]


def test_a_leader_whose_object_is_gone_puts_it_again(world: World) -> None:
    leader = world.lease("here")
    world.passes(2 * POLL_MS, leader)
    world.store.delete(KEY)
    assert world.passes(RENEW_MS + 100, leader) == ["leading"]
    assert world.store.stat(KEY) is not None


def test_a_clock_that_is_set_back_silences_no_leader(world: World) -> None:
    leader, other = world.lease("here"), world.lease("there")
    world.passes(2 * POLL_MS, leader)
    world.now_ms -= 24 * 3_600_000
    assert world.passes(MISSED_POLLS * POLL_MS * 2, leader, other) == ["leading", "following"]


def test_garbage_in_its_place_is_nobodys_lead(world: World) -> None:
    world.store.put(KEY, b"{")
    assert world.passes(2 * POLL_MS, world.lease("here")) == ["leading"]


@pytest.mark.parametrize("renewed", [True, False])
def test_who_only_looks_learns_whether_somebody_renews_it(world: World, renewed: bool) -> None:
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


def test_nobody_holds_what_is_not_there_or_was_ours(world: World) -> None:
    assert not world.lease("there").held_elsewhere(lambda _: None)
    world.passes(2 * POLL_MS, world.lease("here"))
    assert not world.lease("here").held_elsewhere(lambda _: None)


def test_a_lease_is_renewed_while_its_owners_loop_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_MS", 20)
    store = FileStore(tmp_path)
    ours, theirs = StoreLeases(store, lambda _: "here"), StoreLease(store, fakes.RUN, "there")
    try:
        # The loop: claims, and then merges for a long time.
        states = [ours.try_acquire_or_renew(fakes.RUN, now_ms) for now_ms in (0, POLL_MS)]
        assert states == ["undecided", "leading"]
        seen = set()
        for poll in range(3 * MISSED_POLLS):
            time.sleep(0.03)
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
    assert lease_module.LAPSED_S < MISSED_POLLS * POLL_MS / 1000, "before anybody takes it over"
    assert leases.try_acquire_or_renew(fakes.RUN, POLL_MS + RENEW_MS) == "leading"
    leases.check(fakes.RUN)
    leases.close()


def test_a_lead_that_was_taken_is_not_taken_back_by_the_thread(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    ours = StoreLease(store, fakes.RUN, "here")
    assert [ours.try_acquire_or_renew(now_ms=look * POLL_MS) for look in range(2)] == ["undecided", "leading"]
    store.put(
        RunKeys(fakes.RUN).lease,
        LeaseRecord(run=fakes.RUN, owner="f" * 16, lock_domain="there", renew_count=1).encode(),
    )
    for _ in range(3):
        ours.renew()
    assert ours.try_acquire_or_renew(now_ms=POLL_MS) == "following"
    assert LeaseRecord.decode(store.get(RunKeys(fakes.RUN).lease)).owner == "f" * 16


def test_a_store_that_is_away_does_not_end_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
