"""Processes that share the slots: their steps are mixed in any order, and there are never more jobs than slots."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.jobs import JobView
from controller.domain.shares import Claim, Share
from controller.domain.slot_parts import ALL, Holder
from controller.orchestrator.held_slots import VALID_S, HeldSlots
from controller.orchestrator.slots import Ready, Shared
from tests.fakes import ManualClock

TOTAL, MOST_OF_B = 5, 2
SHARES = {
    "a": Share(group="a", weight=1),
    "b": Share(group="b", weight=3, most_live=MOST_OF_B),
    "c": Share(group="c", weight=2),
}


class Process:
    """One process: a loop that starts jobs, and an exchange with the others, both in small steps."""

    def __init__(self, world: "World", total: int) -> None:
        self.world = world
        self.held = HeldSlots(total, now_s=world.clock)
        self.slots = Shared(self.held)
        self.waiting: dict[str, int] = {}
        """By run, of which the first letter is the tenant."""
        self.live: Counter[str] = Counter()
        self.alive = True
        self._ticking: Iterator[None] = iter(())
        self._exchanging: Iterator[None] = iter(())

    def loop(self) -> None:
        """One step of the loop."""
        if next(self._ticking, self) is self:
            self._ticking = self._tick()

    def exchange(self) -> None:
        """One step of the exchange."""
        if next(self._exchanging, self) is self:
            self._exchanging = self._exchange()

    def whole(self) -> None:
        """A complete exchange and a complete tick."""
        for steps in (self._ticking, self._exchanging, self._exchange(), self._tick()):
            for _ in steps:
                pass

    def end_job(self, run: str) -> None:
        self.live[run] -= 1

    def _tick(self) -> Iterator[None]:
        if not self.waiting:
            self.slots.idle()
            return
        jobs = [
            JobView(run=run, span=span, attempt=1, name=f"{run}{span}", uid="", phase="running", since_ms=0)
            for run, number in self.live.items()
            for span in range(number)
        ]
        ready = [
            Ready(run=run, share=SHARES[run[0]], chunks=9, waiting=waiting, not_started=False)
            for run, waiting in self.waiting.items()
        ]
        tick = self.slots.tick(ready, jobs, burst=100)
        yield
        for run in [one.run for one in ready]:
            started = min(tick.of(run).chunks, self.waiting[run])
            for _ in range(started):
                self.waiting[run] -= 1
                self.live[run] += 1
                self.world.check()
                yield
            tick.used(run, chunks=started, intakes=0, waiting=self.waiting[run] + started, not_started=False)
        self.waiting = {run: left for run, left in self.waiting.items() if left or self.live[run]}

    def _exchange(self) -> Iterator[None]:
        again = True
        while again:
            began_s = self.world.clock()
            offer = self.held.offer()
            yield
            self.world.published[self.held.name] = offer
            yield
            living: list[Holder] = []
            gone: list[Holder] = []
            for name in list(self.world.published):
                if name != self.held.name:
                    found = self.world.published[name]
                    (living if self.world.named(name).alive else gone).append(found)
                    yield
            again = self.held.saw(living, gone, began_s=began_s)
            yield


class World:
    """Processes that share a store."""

    def __init__(self, total: int = TOTAL) -> None:
        self.clock = ManualClock()
        self.total = total
        self.published: dict[str, Holder] = {}
        self.processes: list[Process] = []

    def join(self, total: int | None = None) -> Process:
        self.processes.append(Process(self, total or self.total))
        return self.processes[-1]

    def named(self, name: str) -> Process:
        return next(one for one in self.processes if one.held.name == name)

    def live(self, group: str = "") -> int:
        return sum(number for one in self.processes for run, number in one.live.items() if run.startswith(group))

    def check(self) -> None:
        assert self.live() <= self.total, "more jobs than slots"
        assert self.live("b") <= MOST_OF_B, "more jobs than the tenant may have"

    def settle(self) -> None:
        """Let everybody do whole steps until nothing changes any more."""
        for _ in range(5):
            for one in self.processes:
                if one.alive:
                    one.whole()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_the_order_of_their_steps_there_are_never_more_jobs_than_slots(seed: int) -> None:
    of = random.Random(seed)
    world = World()
    world.join()
    for number in range(of.randrange(50, 400)):
        one = of.choice(world.processes)
        match of.randrange(20):
            case 0 if len(world.processes) < 4:
                world.join()
            case 1 | 2:
                one.waiting[f"{of.choice('abc')}{number}"] = of.randrange(1, 9)
            case 3 | 4 | 5:
                running = [run for run, jobs in one.live.items() if jobs]
                if running:
                    one.end_job(of.choice(running))
            case step if step % 2:
                one.loop()
            case _:
                one.exchange()
    world.settle()
    # Whoever waits does so because all slots are in use, or those of its tenant.
    wanting = {run[0] for one in world.processes for run, left in one.waiting.items() if left}
    if world.live("b") == MOST_OF_B:
        wanting.discard("b")
    assert not wanting or world.live() == TOTAL


def test_one_process_alone_uses_all_slots_without_another_exchange() -> None:
    world = World()
    one = world.join()
    one.whole()
    one.waiting.update({"a1": 9, "b1": 9})
    one.slots.tick(
        [Ready(run=run, share=SHARES[run[0]], chunks=9, waiting=9, not_started=False) for run in one.waiting],
        [],
        burst=9,
    )
    assert sum(one.held.begin(()).most.values()) == 0  # it needs none now
    for _ in one._tick():
        pass
    assert (world.live(), world.live("b")) == (TOTAL, MOST_OF_B)


def test_tenants_of_different_processes_share_by_weight_as_jobs_end() -> None:
    world = World(9)
    first, second = world.join(), world.join()
    first.waiting["a1"] = 500
    world.settle()
    assert world.live("a") == 9
    second.waiting["c1"] = 500
    for number in range(30):
        busy = first if number % 3 == 0 and first.live["a1"] > 0 else second if second.live["c1"] else first
        busy.end_job("a1" if busy is first else "c1")
        world.settle()
    assert (world.live("a"), world.live("c")) == (3, 6)


def test_a_short_run_of_one_process_gets_the_next_slot_that_a_long_run_of_another_leaves() -> None:
    world = World()
    first, second = world.join(), world.join()
    first.waiting["a-long"] = 500
    world.settle()
    second.waiting["a-short"] = 1
    world.settle()
    assert second.live["a-short"] == 0
    first.end_job("a-long")
    world.settle()
    assert (first.live["a-long"], second.live["a-short"]) == (TOTAL - 1, 1)


def test_jobs_of_a_dead_process_count_until_another_leads_their_runs_and_its_slots_are_taken_over() -> None:
    world = World()
    dead, other = world.join(), world.join()
    dead.waiting["a1"] = 3
    world.settle()
    dead.waiting["a2"] = 0
    dead.alive = False
    other.waiting["c1"] = 9
    world.settle()
    assert (dead.live["a1"], other.live["c1"]) == (3, 2)
    # The runs of the dead one are led here now, with the jobs they have.
    other.live["a1"], dead.live["a1"] = 3, 0
    other.waiting["a1"] = 0
    world.settle()
    assert world.live() == TOTAL
    other.end_job("a1")
    world.settle()
    assert (other.live["a1"], other.live["c1"]) == (2, 3)


@pytest.mark.parametrize("late_s,started", [(VALID_S - 0.1, TOTAL), (VALID_S, 0)])
def test_a_process_that_could_not_renew_starts_nothing(late_s: float, started: int) -> None:
    world = World()
    one = world.join()
    one.whole()
    one.waiting["a1"] = 9
    world.clock.now_s += late_s
    one.loop()
    for _ in range(9):
        one.loop()
    assert world.live() == started


def test_a_process_that_was_suspended_takes_nothing_that_others_took_meanwhile() -> None:
    world = World()
    suspended, other = world.join(), world.join()
    suspended.waiting["a1"] = 1
    world.settle()
    suspended.end_job("a1")
    suspended.waiting["a1"] = 9
    world.settle()
    for _ in range(TOTAL):
        suspended.end_job("a1")
    # The others count it as dead now, and its object was deleted.
    del world.published[suspended.held.name]
    world.clock.now_s += 60
    other.waiting["c1"] = 9
    for _ in range(2):
        other.whole()
    assert other.live["c1"] == TOTAL
    world.settle()
    assert world.live() == TOTAL


def test_processes_with_different_limits_each_keep_to_their_own() -> None:
    world = World(8)
    first = world.join()
    first.waiting["a1"] = 99
    world.settle()
    second = world.join(total=4)
    second.waiting["c1"] = 99
    world.settle()
    assert (first.live["a1"], second.live["c1"]) == (8, 0)
    for _ in range(20):
        first.end_job("a1")
        world.settle()
        assert world.live() <= 4 or not second.live["c1"]


def claimed(run: str, *, live: int = 0, waiting: int = 0) -> Claim:
    return Claim(run=run, share=SHARES[run[0]], live=live, waiting=waiting)


def test_another_process_that_wants_too_much_takes_nothing_away() -> None:
    held, mine = HeldSlots(TOTAL, now_s=ManualClock()), [claimed("a1", waiting=3)]
    other = Holder(name="x", claims=[claimed("a2", live=2)], held={ALL: 2})
    for offered in (2, TOTAL):
        held.begin(mine)
        held.offer()
        held.saw([Holder(name="x", claims=other.claims, held={ALL: offered})], [], began_s=1000.0)
    assert held.begin(mine).most[ALL] == 3


def test_a_run_of_a_dead_process_that_another_one_has_led_to_its_end_counts_no_more() -> None:
    held, dead = HeldSlots(TOTAL, now_s=ManualClock()), Holder(name="x", claims=[claimed("a1", live=3)])
    leads = Holder(name="y", claims=[claimed("a1")])
    for living in ([leads], [Holder(name="y")]):
        held.offer()
        held.saw(living, [dead], began_s=1000.0)
    held.offer()
    held.saw([], [dead], began_s=1000.0)
    held.offer()
    held.saw([], [dead], began_s=1000.0)
    assert held.begin([claimed("c1", waiting=9)]).most[ALL] == TOTAL


def test_the_others_are_told_at_once_what_changed_but_not_by_one_that_is_alone() -> None:
    held, mine = HeldSlots(TOTAL, now_s=ManualClock()), [claimed("a1", waiting=3)]
    for living, told in (([], False), ([Holder(name="x")], True)):
        held.changed.clear()
        held.offer()
        held.saw(living, [], began_s=1000.0)
        held.offer()
        held.begin(mine)
        held.end(mine)
        assert held.changed.is_set() == told
        held.begin(())
        held.end(())
