"""Which replica works on what: by objects that each of them renews, with a simulated clock."""

from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.domain.shares import Claim, Share
from controller.domain.slot_parts import ALL
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


def wants(one: Replicas, *, live: int = 0, waiting: int = 0) -> int:
    """How many chunk jobs a replica may have, whose only run has and wants so many."""
    claim = Claim(run=one.name, share=Share(group="a"), live=live, waiting=waiting)
    most = one._slots.begin([claim]).most[ALL]
    one._slots.end([claim])
    return most


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


def test_replicas_that_share_a_store_share_the_slots(store: FileStore, clock: Clock) -> None:
    one, two = replicas(store, clock, 2)
    one.renew()
    assert wants(one, waiting=9) == 4
    wants(one, live=4, waiting=5)
    two.renew()
    assert wants(two, waiting=1) == 0
    # A chunk of the first one ends: the next slot is that of the run with fewer jobs.
    wants(one, live=3, waiting=5)
    renewed(two, one)
    assert (wants(one, live=3, waiting=5), wants(two, waiting=1)) == (3, 1)


def test_the_slots_of_a_dead_one_are_taken_over_and_its_jobs_count_while_they_may_be_there(
    store: FileStore, clock: Clock
) -> None:
    dead, other = (Replicas(store, HeldSlots(4, now_s=clock), jobs_stay=True, now_s=clock) for _ in range(2))
    dead.renew()
    wants(dead, live=1, waiting=9)
    renewed(dead, other)
    may = []
    for _ in range(40):
        clock.now_s += RENEW_S
        wants(other, waiting=9)
        other.renew()
        may.append(wants(other, waiting=9))
    assert may == sorted(may)
    # The dead one held all slots at first, then one for its job. In the end it is forgotten.
    assert (may[0], may[int(SILENT_S / RENEW_S) + 1], may[-1]) == (0, 3, 4)


@pytest.mark.parametrize("jobs_stay,left", [(True, 3), (False, 4)])
def test_jobs_that_go_on_when_their_replica_ends_count_for_the_others(
    store: FileStore, clock: Clock, jobs_stay: bool, left: int
) -> None:
    ending, other = (Replicas(store, HeldSlots(4, now_s=clock), jobs_stay=jobs_stay, now_s=clock) for _ in range(2))
    ending.claim(["0" * 26])
    wants(ending, live=1, waiting=9)
    renewed(ending, other)
    ending.close()
    wants(other, waiting=9)
    renewed(other)
    assert other.elsewhere() == frozenset()
    assert other.is_mine("anything")
    assert wants(other, waiting=9) == left


def test_a_replica_of_an_earlier_version_is_read_and_has_slots_of_its_own(store: FileStore, clock: Clock) -> None:
    (one,) = replicas(store, clock, 1)
    store.put(
        f"replicas/{'a' * 16}.json",
        b'{"schema": "stenofleet.replica/1", "replica": "aaaaaaaaaaaaaaaa", "renew_count": 1, '
        b'"requests": ["00000000000000000000000000"], "runs": []}',
    )
    renewed(one)
    assert one.elsewhere() == {"0" * 26}
    wants(one, waiting=9)
    renewed(one)
    assert wants(one, waiting=9) == 4


def test_one_that_was_suspended_for_long_deletes_no_object_of_a_living_one(store: FileStore, clock: Clock) -> None:
    slow, other, third = replicas(store, clock, 3)
    other.claim(["0" * 26])
    renewed(slow, other, third)
    # Its own clock goes on meanwhile, and what it knows of the others is old.
    for _ in range(40):
        clock.now_s += RENEW_S
        other.renew()
        third.renew()
    slow.renew()
    third.renew()
    assert third.elsewhere() == {"0" * 26}
    assert len(list(store.list("replicas/"))) == 3
