"""Who leads a run where machines share its store: claims, renewals, deaths and sleeps, with a time of its own."""

import threading
import time
from pathlib import Path

import pytest

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.documents import Lead
from controller.domain.keys import RunKeys
from controller.leadership import store_lease as lead_module
from controller.leadership.store_lease import LOOK_MS, LOOKS, RENEW_MS, LeadKeeper, StoreLead
from tests import fakes

KEY = RunKeys(fakes.RUN).lead


class World:
    """A store, a time, and leads that are asked in turn."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder)
        self.now_ms = fakes.START_MS

    def lead(self, place: str) -> StoreLead:
        return StoreLead(self.store, fakes.RUN, place)

    def passes(self, ms: int, *asked: StoreLead) -> list[str]:
        """What each says at the end, asked every 100 ms."""
        said = ["nothing"] * len(asked)
        for _ in range(ms // 100):
            self.now_ms += 100
            said = [lead.ask(self.now_ms) for lead in asked]
        return said


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def test_a_claim_is_left_alone_for_a_moment_and_then_leads(world: World) -> None:
    lead = world.lead("here")
    assert lead.ask(world.now_ms) == "undecided"
    assert world.passes(LOOK_MS - 100, lead) == ["undecided"]
    assert world.passes(200, lead) == ["leading"]


def test_of_two_claims_at_once_one_leads_and_the_other_follows(world: World) -> None:
    one, other = world.lead("here"), world.lead("there")
    world.passes(LOOK_MS * 2, one, other)
    said = world.passes(RENEW_MS * 2, one, other)
    assert sorted(said) == ["following", "leading"]
    assert world.passes(LOOKS * LOOK_MS * 3, one, other) == said


def test_who_comes_later_follows_for_as_long_as_it_is_renewed(world: World) -> None:
    leader, other = world.lead("here"), world.lead("there")
    world.passes(2 * LOOK_MS, leader)
    assert other.ask(world.now_ms) == "undecided"
    assert world.passes(RENEW_MS + 2 * LOOK_MS, leader, other) == ["leading", "following"]
    assert world.passes(LOOKS * LOOK_MS * 3, leader, other) == ["leading", "following"]


def test_a_released_lead_is_taken_at_once(world: World) -> None:
    leader, other = world.lead("here"), world.lead("there")
    world.passes(2 * LOOK_MS, leader)
    world.passes(RENEW_MS + 2 * LOOK_MS, leader, other)
    leader.release()
    assert world.store.stat(KEY) is None
    assert world.passes(3 * LOOK_MS, other) == ["leading"]


def test_a_dead_leader_elsewhere_is_given_up_after_a_while(world: World) -> None:
    leader, other = world.lead("here"), world.lead("there")
    world.passes(2 * LOOK_MS, leader)
    assert world.passes((LOOKS - 2) * LOOK_MS, other) == ["undecided"]
    assert world.passes(5 * LOOK_MS, other) == ["leading"]


def test_a_dead_leader_of_this_place_is_followed_by_none(world: World) -> None:
    world.passes(2 * LOOK_MS, world.lead("here"))
    assert world.passes(2 * LOOK_MS, world.lead("here")) == ["leading"]


def test_a_leader_that_slept_finds_another_in_its_place_and_follows(world: World) -> None:
    sleeper, other = world.lead("here"), world.lead("there")
    world.passes(2 * LOOK_MS, sleeper)
    assert world.passes((LOOKS + 3) * LOOK_MS, other) == ["leading"]
    assert sleeper.ask(world.now_ms) == "following"
    sleeper.release()
    assert world.passes(RENEW_MS, sleeper, other) == ["following", "leading"]


def test_a_leader_whose_object_is_gone_puts_it_again(world: World) -> None:
    leader = world.lead("here")
    world.passes(2 * LOOK_MS, leader)
    world.store.delete(KEY)
    assert world.passes(RENEW_MS + 100, leader) == ["leading"]
    assert world.store.stat(KEY) is not None


def test_a_clock_that_is_set_back_silences_no_leader(world: World) -> None:
    leader, other = world.lead("here"), world.lead("there")
    world.passes(2 * LOOK_MS, leader)
    world.now_ms -= 24 * 3_600_000
    assert world.passes(LOOKS * LOOK_MS * 2, leader, other) == ["leading", "following"]


def test_garbage_in_its_place_is_nobodys_lead(world: World) -> None:
    world.store.put(KEY, b"{")
    assert world.passes(2 * LOOK_MS, world.lead("here")) == ["leading"]


@pytest.mark.parametrize("renewed", [True, False])
def test_who_only_looks_learns_whether_somebody_renews_it(world: World, renewed: bool) -> None:
    leader = world.lead("here")
    world.passes(2 * LOOK_MS, leader)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        world.passes(round(1000 * seconds), *[leader] * renewed)

    before = world.store.get(KEY)
    assert world.lead("there").held_elsewhere(wait) is renewed
    assert sum(waits) <= (RENEW_MS if renewed else LOOKS * LOOK_MS) / 1000 + 1
    assert renewed or world.store.get(KEY) == before


def test_nobody_holds_what_is_not_there_or_was_ours(world: World) -> None:
    assert not world.lead("there").held_elsewhere(lambda _: None)
    world.passes(2 * LOOK_MS, world.lead("here"))
    assert not world.lead("here").held_elsewhere(lambda _: None)


def test_a_lead_is_renewed_while_its_owners_loop_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead_module, "RENEW_MS", 20)
    store = FileStore(tmp_path)
    ours, theirs = StoreLead(store, fakes.RUN, "here"), StoreLead(store, fakes.RUN, "there")
    keeper = LeadKeeper()
    keeper.keep(ours)
    try:
        # The loop: claims, and then merges for a long time.
        assert [ours.ask(now_ms=look * LOOK_MS) for look in range(2)] == ["undecided", "leading"]
        standings = set()
        for look in range(3 * LOOKS):
            time.sleep(0.03)
            standings.add(theirs.ask(now_ms=look * LOOK_MS))
        assert standings == {"undecided", "following"}
        assert ours.ask(now_ms=LOOK_MS) == "leading"
    finally:
        keeper.close()


def test_a_lead_that_was_taken_is_not_taken_back_by_the_thread(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    ours = StoreLead(store, fakes.RUN, "here")
    assert [ours.ask(now_ms=look * LOOK_MS) for look in range(2)] == ["undecided", "leading"]
    store.put(RunKeys(fakes.RUN).lead, Lead(run=fakes.RUN, owner="f" * 16, place="there", beat=1).encode())
    for _ in range(3):
        ours.renew()
    assert ours.ask(now_ms=LOOK_MS) == "following"
    assert Lead.decode(store.get(RunKeys(fakes.RUN).lead)).owner == "f" * 16


def test_a_store_that_is_away_does_not_end_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead_module, "RENEW_MS", 5)
    asked = threading.Event()

    class Away:
        def renew(self) -> None:
            if renewed:
                asked.set()
            renewed.append(1)
            raise StoreUnavailable("away", "wait")

    renewed: list[int] = []
    keeper = LeadKeeper()
    keeper.keep(Away())  # type: ignore[arg-type]
    try:
        assert asked.wait(20)
    finally:
        keeper.close()
