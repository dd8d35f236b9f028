"""Which replica works on what: by objects that each of them renews, with a simulated clock."""

from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.orchestrator.held_slots import HeldSlots
from controller.service.replicas import RENEW_S, SILENT_S, Replicas


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def replicas(store: FileStore, clock: Clock, count: int) -> list[Replicas]:
    return [Replicas(store, HeldSlots(4, now_s=clock), now_s=clock) for _ in range(count)]


def renewed(*which: Replicas) -> None:
    for _ in range(2):
        for one in which:
            one.renew()


def test_each_knows_what_the_living_others_work_on(store: FileStore, clock: Clock) -> None:
    a, b, c = replicas(store, clock, 3)
    a.claim(["0" * 26])
    b.claim(["1" * 26])
    renewed(a, b, c)
    assert c.elsewhere() == {"0" * 26, "1" * 26}
    assert a.elsewhere() == {"1" * 26}


def test_what_a_dead_one_worked_on_is_free_after_a_while(store: FileStore, clock: Clock) -> None:
    dead, alive = replicas(store, clock, 2)
    dead.claim(["0" * 26])
    renewed(dead, alive)
    for _ in range(int(SILENT_S / RENEW_S)):
        clock.now_s += RENEW_S
        assert alive.elsewhere() == {"0" * 26}
        alive.renew()
    clock.now_s += RENEW_S
    assert alive.elsewhere() == frozenset()
    assert alive.is_mine("anything")
    clock.now_s += 60
    alive.renew()
    assert [entry.key for entry in store.list("replicas/")] == [f"replicas/{alive.name}.json"]


def test_one_that_was_suspended_counts_again_when_it_goes_on(store: FileStore, clock: Clock) -> None:
    slow, other = replicas(store, clock, 2)
    slow.claim(["0" * 26])
    renewed(slow, other)
    clock.now_s += 2 * SILENT_S
    other.renew()
    assert other.elsewhere() == frozenset()
    slow.renew()
    other.renew()
    assert other.elsewhere() == {"0" * 26}


def test_one_that_ends_gives_its_requests_to_the_others_at_once(store: FileStore, clock: Clock) -> None:
    ending, other = replicas(store, clock, 2)
    ending.claim(["0" * 26])
    renewed(ending, other)
    ending.close()
    other.renew()
    assert other.elsewhere() == frozenset()


def test_all_agree_on_who_does_what_and_share_it(store: FileStore, clock: Clock) -> None:
    three = replicas(store, clock, 3)
    renewed(*three)
    items = [f"item {number}" for number in range(300)]
    owners = [[one.is_mine(item) for one in three].count(True) for item in items]
    assert owners == [1] * len(items)
    assert all(60 < sum(one.is_mine(item) for item in items) < 140 for one in three)


def test_objects_that_are_not_of_replicas_are_ignored(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    (one,) = replicas(store, clock, 1)
    store.put("replicas/x.json", b"{}")
    store.put("replicas/folder/y.json", b"\xff")
    one.renew()
    assert one.elsewhere() == frozenset()
