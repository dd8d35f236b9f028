"""How many recordings are cut at the same time: enough that no job waits for the cutting, and no more."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunRequest
from controller.domain.jobs import Job
from controller.domain.policy import RetryPolicy
from controller.domain.shares import Share
from controller.domain.state import RunState
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.held_slots import HeldSlots
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder, Ready, Shared
from tests import fakes
from tests.controller.orchestrator.test_slots import view
from tests.fakes import FakeClock, FakeRunner, JobBehaviour, ManualClock, Recorder

SLOTS = 16
CHUNK_S = 8


class Watched:
    """A simulated command with many recordings: how long it took, and the most recordings that were cut at once."""

    def __init__(self, folder: Path, *, recordings: int, chunks: int, cutting_s: int) -> None:
        self.cutting = 0
        clock, store = FakeClock(), FileStore(folder / "store")

        def takes(job: Job) -> JobBehaviour:
            return replace(fakes.DONE, takes_ms=1000 * (cutting_s if job.span is None else CHUNK_S))

        runner = FakeRunner(store, clock, takes, chunks_ms=[10_000] * chunks, on_wait=lambda _: self.look(runner))
        runner.tick_s = 1.0
        began_ms = clock.at_ms
        ended = run_loop(
            KnownRequests([request(number, folder) for number in range(recordings)]),
            store=store,
            runner=runner,
            policy=RetryPolicy(backoff_ms=0),
            slots=InOrder(SLOTS),
            reporter=Recorder(),
            clock=clock,
        )
        assert [one.verdict for one in ended] == ["complete"] * recordings
        self.used = recordings * chunks * CHUNK_S / SLOTS / ((clock.at_ms - began_ms) / 1000)
        """The part of the time of all slots in which they had a job."""

    def look(self, runner: FakeRunner) -> None:
        self.cutting = max(self.cutting, sum(view.span is None and view.phase != "ended" for view in runner.observe()))


def request(number: int, folder: Path) -> RunRequest:
    record = fakes.record(f"{number:016x}", name=f"{number}.mp4")
    return RunRequest(record=record, request=fakes.request(record, folder / "out" / str(number), formats=("txt",)))


def test_jobs_do_not_wait_for_the_cutting_of_recordings_with_one_chunk(tmp_path: Path) -> None:
    """Cutting takes half as long as a chunk: with two recordings at a time three slots of four were never used."""
    watched = Watched(tmp_path, recordings=160, chunks=1, cutting_s=4)
    assert watched.used > 0.8
    assert watched.cutting <= SLOTS


def test_few_recordings_of_many_chunks_are_cut_ahead(tmp_path: Path) -> None:
    watched = Watched(tmp_path, recordings=6, chunks=24, cutting_s=10)
    assert watched.cutting == SLOTS // 8
    assert watched.used > 0.75


def ready(run: str, *, chunks: int = 0, waiting: int = 0) -> Ready:
    return Ready(run=run, share=Share(group="a"), chunks=chunks, waiting=waiting, not_started=not chunks)


def shared() -> Shared:
    held = HeldSlots(SLOTS, now_s=ManualClock())
    held.offer()
    held.saw([], [], began_s=1000.0)
    return Shared(held)


@pytest.mark.parametrize("chunks, cut", [((1,) * 8, SLOTS), ((2,) * 8, 8), ((40, 1), 4), ((), 4)])
def test_a_service_cuts_as_many_as_the_last_recordings_suggest(chunks: Sequence[int], cut: int) -> None:
    slots = shared()
    slots.tick([ready(f"cut{number}", chunks=many) for number, many in enumerate(chunks)], [], burst=99)
    tick = slots.tick([ready(f"new{number}") for number in range(2 * SLOTS)], [], burst=99)
    assert sum(tick.of(f"new{number}").intakes for number in range(2 * SLOTS)) == cut


def test_a_recording_counts_when_it_is_cut_to_its_end() -> None:
    """The first chunk of a long one has a job before its second chunk is cut."""
    state = RunState(run="a", tasks={0: 10_000}, planned=False, answered=frozenset(), evidence=())
    assert Ready.of("a", Share(), state).chunks == 0
    assert Ready.of("a", Share(), replace(state, planned=True)).chunks == 1


def test_a_recording_does_not_count_again_after_it_was_left_out() -> None:
    """While the store is out of reach no run is ready, and their jobs work on."""
    slots, long = InOrder(SLOTS), [ready(f"long{number}", chunks=40) for number in range(12)]
    jobs = [view(one.run, 0) for one in long]
    slots.tick(long, jobs, burst=99)
    for number in range(16):
        slots.tick([*long, ready(f"short{number}", chunks=1)], jobs, burst=99)
    slots.tick([], jobs, burst=99)
    assert slots.tick(long, jobs, burst=99).of("new").intakes == SLOTS


def test_a_recording_counts_once_however_long_it_is_open() -> None:
    slots, long = shared(), ready("long", chunks=40)
    for number in range(16):
        slots.tick([long, ready(f"short{number}", chunks=1)], [], burst=99)
    tick = slots.tick([long, *(ready(f"new{number}") for number in range(2 * SLOTS))], [], burst=99)
    assert sum(tick.of(f"new{number}").intakes for number in range(2 * SLOTS)) == SLOTS, "the last sixteen had one each"
