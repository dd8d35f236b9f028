"""How many jobs each run may start in a tick, if tenants share the slots."""

from typing import Any

from controller.domain.jobs import JobView, Phase
from controller.domain.shares import Share
from controller.orchestrator.held_slots import HeldSlots
from controller.orchestrator.slots import Ready, Shared
from tests.fakes import ManualClock

A, B = Share(group="a"), Share(group="b")


def view(run: str, span: int | None, phase: Phase = "running", **other: Any) -> JobView:
    return JobView(run=run, span=span, attempt=1, name=f"{run}{span}", uid="", phase=phase, since_ms=0, **other)


def ready(run: str, share: Share, *, waiting: int = 0, begun: bool = True) -> Ready:
    return Ready(run=run, share=share, chunks=0, waiting=waiting, not_started=not begun)


def alone(total: int) -> Shared:
    """The slots of a process that has seen no other one."""
    held = HeldSlots(total, now_s=ManualClock())
    held.offer()
    held.saw([], [], began_s=1000.0)
    return Shared(held)


def test_a_new_recording_is_cut_while_a_long_one_keeps_all_workers_busy() -> None:
    jobs = [view("long", span) for span in range(8)]
    tick = alone(8).tick([ready("long", A, waiting=42), ready("short", A, begun=False)], jobs, burst=20)
    assert tick.of("short").intakes == 1
    assert tick.of("long").chunks == 0


def test_each_tenant_may_cut_although_others_use_all_intakes() -> None:
    runs = [ready(f"a{number}", A, begun=False) for number in range(5)]
    jobs = [view("a0", None), view("a1", None)]
    tick = alone(8).tick([*runs[2:], ready("a0", A), ready("a1", A), ready("b", B, begun=False)], jobs, burst=20)
    assert [tick.of(f"a{number}").intakes for number in (2, 3, 4)] == [0, 0, 0]
    assert tick.of("b").intakes == 1


def test_no_more_recordings_are_cut_than_soon_have_a_worker() -> None:
    cut = [ready(f"a{number}", A, waiting=1) for number in range(4)]
    tick = alone(4).tick([*cut, ready("next", A, begun=False)], [view("x", span) for span in range(4)], burst=20)
    assert tick.of("next").intakes == 0


def test_a_run_that_lost_chunks_is_cut_again() -> None:
    tick = alone(4).tick([ready("x", A)], [], burst=20)
    assert tick.of("x").intakes == 1
    tick = alone(4).tick([ready("x", A)], [view("x", None)], burst=20)
    assert tick.of("x").intakes == 0


def test_slots_that_nobody_is_known_to_need_are_for_chunks_that_are_found_in_this_tick() -> None:
    tick = alone(4).tick([ready("x", A, waiting=1), ready("y", B)], [], burst=20)
    assert tick.of("y").chunks == 3
    tick.used("y", chunks=3, intakes=0, waiting=0, not_started=False)
    assert tick.of("x").chunks == 1


def test_a_lost_job_uses_no_slot_and_a_burst_is_limited() -> None:
    jobs = [view("x", 0, lost=True), view("x", 1, "ended")]
    assert alone(4).tick([ready("x", A, waiting=9)], jobs, burst=20).of("x").chunks == 4
    assert alone(400).tick([ready("x", A, waiting=900)], [], burst=20).of("x").chunks == 20


def test_a_tenant_s_own_limit_counts_for_slots_that_are_left_too() -> None:
    limited = Share(group="a", most_live=2)
    tick = alone(8).tick([ready("x", limited, waiting=1), ready("y", limited)], [view("x", 0)], burst=20)
    assert (tick.of("x").chunks, tick.of("y").chunks) == (1, 0)


def test_a_run_that_is_left_out_for_a_while_still_counts_for_its_tenant() -> None:
    limited = Share(group="a", most_live=2)
    slots, jobs = alone(8), [view("x", 0), view("x", 1)]
    slots.tick([ready("x", limited), ready("y", limited, waiting=4)], jobs, burst=20)
    # The store of run x cannot be reached for now, and its jobs go on.
    assert slots.tick([ready("y", limited, waiting=4)], jobs, burst=20).of("y").chunks == 0
