"""When attempts waited, started and ended: noted while the loop works, kept over restarts, written rarely."""

from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import Usage
from chunk_job.document import MAX_AUDIO_MS
from chunk_job.store.files import FileStore
from controller.domain import attempt_documents
from controller.domain.attempt_documents import AttemptResult, Attempts, AttemptTimes
from controller.domain.jobs import Attempt, JobView
from controller.domain.keys import RunKeys
from controller.orchestrator import attempt_log
from controller.orchestrator.attempt_log import AttemptLog
from tests import fakes
from tests.fakes import START_MS, JournalStore

KEYS = RunKeys(fakes.RUN)


def view(phase: Any, *, span: int | None = 0, attempt: int = 1, at_s: float = 0, **changes: Any) -> JobView:
    return JobView(
        run=fakes.RUN, span=span, attempt=attempt, name=f"{span}-{attempt}", uid="u", phase=phase,
        since_ms=START_MS + round(1000 * at_s), **changes,
    )  # fmt: skip


def now(seconds: float) -> int:
    return START_MS + round(1000 * seconds)


def noted(store: FileStore) -> list[AttemptTimes]:
    return list(Attempts.decode(store.get(KEYS.attempts)).attempts)


@pytest.fixture
def store(tmp_path: Path) -> JournalStore:
    return JournalStore(tmp_path / "store")


def log(store: FileStore, at_s: float = 0, done_ms: int = 0) -> AttemptLog:
    made = AttemptLog(store, fakes.RUN)
    made.begin(now(at_s), done_ms=done_ms)
    return made


def test_each_phase_is_noted_when_it_was_first_seen(store: JournalStore) -> None:
    made = log(store)
    made.submitted(Attempt(span=0, attempt=1), now(1))
    made.observed([view("queued", at_s=1, waits_for="no GPU is free")], now(2))
    made.observed([view("starting", at_s=3, node="gpu-1")], now(4))
    made.observed([view("running", at_s=5, progress_ms=700)], now(6))
    made.observed([view("running", at_s=5, progress_ms=300)], now(7))
    made.observed([view("ended", at_s=5)], now(9))
    made.observed([view("ended", at_s=5)], now(10))
    made.put(now(10))
    assert noted(store) == [
        AttemptTimes(
            span=0, attempt=1, phase="ended", submitted_ms=now(1), starting_ms=now(3), running_ms=now(5),
            ended_ms=now(9), node="gpu-1", waits_for="no GPU is free", progress_ms=700, job="u",
        )
    ]  # fmt: skip


def test_an_attempt_that_is_stopped_has_ended(store: JournalStore) -> None:
    made = log(store)
    made.deleted(view("running", at_s=1), now(8))
    made.put(now(8))
    assert [(one.phase, one.running_ms, one.ended_ms) for one in noted(store)] == [("ended", now(1), now(8))]


def test_the_next_process_continues_and_marks_what_ended_unseen(store: JournalStore) -> None:
    first = log(store, done_ms=500)
    first.observed([view("running", at_s=1), view("running", span=1, at_s=2)], now(3))
    first.put(now(3))
    second = log(store, at_s=60, done_ms=900)
    # On a cluster, jobs outlive their controller.
    second.observed([view("running", span=1, at_s=61)], now(61))
    second.put(now(61))
    found = Attempts.decode(store.get(KEYS.attempts))
    assert (found.began_ms, found.done_before_ms) == (now(60), 900)
    assert [(one.span, one.phase, one.running_ms, one.ended_ms) for one in found.attempts] == [
        (0, "gone", now(1), None),
        (1, "running", now(2), None),
    ]


def test_a_damaged_object_is_replaced(store: JournalStore) -> None:
    store.put(KEYS.attempts, b"{")
    made = log(store)
    made.observed([view("running")], now(1))
    made.put(now(1))
    assert len(noted(store)) == 1


@pytest.mark.parametrize("remote,written", [(False, 60), (True, 10)])
def test_how_often_it_is_written_while_an_attempt_lasts(store: JournalStore, *, remote: bool, written: int) -> None:
    """Each time says until when the attempt was seen: that is all that is known if this process is killed."""
    store.remote = remote
    made = log(store)
    for second in range(60):
        made.observed([view("running")], now(second))
        made.put_if_due(now(second))
    assert store.journal == [f"put {KEYS.attempts}"] * written
    made.observed([view("ended")], now(60))
    made.put_if_due(now(60))
    assert len(store.journal) == written + 1, "an end is written soon"
    made.put_if_due(now(90))
    assert len(store.journal) == written + 1, "nothing lasts, and nothing has changed"


def test_an_object_with_many_attempts_is_written_less_often(store: JournalStore) -> None:
    made = log(store)
    for span in range(2_000):
        made.observed([view("running", span=span)], now(60))
    made.put_if_due(now(60))
    assert len(store.journal) == 1
    made.observed([view("running", span=5_000)], now(69))
    made.put_if_due(now(69))
    assert len(store.journal) == 1
    made.put_if_due(now(80))
    assert len(store.journal) == 2


def test_values_of_a_runner_cannot_make_it_invalid(store: JournalStore) -> None:
    made = log(store)
    made.observed([view("running", at_s=-1e10, progress_ms=10**18, waits_for="x" * 10_000)], -5)
    made.observed([view("ended", at_s=-1e10)], -1)
    made.put(0)
    (one,) = noted(store)
    assert (one.running_ms, one.ended_ms, one.progress_ms) == (0, 0, MAX_AUDIO_MS)


def test_the_oldest_attempts_are_left_out(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_log, "MOST_ATTEMPTS", 3)
    made = log(store)
    for attempt in range(1, 6):
        made.observed([view("ended", attempt=attempt)], now(attempt))
    made.put(now(9))
    assert [one.attempt for one in noted(store)] == [3, 4, 5]
    assert Attempts.decode(store.get(KEYS.attempts)).left_out == 2
    assert attempt_documents.MOST_ATTEMPTS >= 20_000


def test_those_that_failed_or_were_lost_are_counted(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = log(store)
    first.observed([view("running", span=span, here=True) for span in range(3)], now(1))
    assert first.failed == 0
    first.deleted(view("running", span=0, here=True), now(2), failure="OOM_KILLED")
    assert first.failed == 1
    first.put(now(2))
    second = log(store, at_s=60)
    assert second.failed == 1
    second.observed([], now(60))
    assert second.failed == 3, "jobs 1 and 2 were lost with their controller"
    second.submitted(Attempt(span=1, attempt=1), now(61))
    second.observed([view("running", span=1, here=True, at_s=61)], now(62))
    assert second.failed == 3, "its number is used again"
    second.deleted(view("ended", span=1, here=True, at_s=61), now(70))
    assert second.failed == 3
    second.refused(1, 1, "RESULT_INVALID")
    assert second.failed == 4
    monkeypatch.setattr(attempt_log, "MOST_ATTEMPTS", 3)
    second.observed([view("running", span=5)], now(80))
    assert second.failed == 2, "the oldest two are left out"


# ---------------------------------------------------------------- what the ledger needs


def test_what_the_node_measured_and_the_end_are_noted(store: JournalStore) -> None:
    made = log(store)
    made.waits([0, 1], now(1))
    made.waits([0], now(3))
    made.submitted(Attempt(span=0, attempt=1), now(4))
    made.observed([view("running", pull_ms=900, gpu=True)], now(5))
    ended = view("ended", pull_ms=900, ran_ms=7_000)
    made.observed([ended], now(20))
    made.deleted(ended, now(20), failure="OOM_KILLED")
    made.put(now(20))
    (one,) = noted(store)
    assert (one.ready_ms, one.pull_ms, one.ran_ms, one.gpu, one.failure) == (now(1), 900, 7_000, True, "OOM_KILLED")
    assert Attempts.decode(store.get(KEYS.attempts)).observed_ms == now(20)


def test_a_number_that_another_process_gives_again_is_two_attempts(store: JournalStore) -> None:
    first = log(store)
    first.submitted(Attempt(span=0, attempt=1), now(1))
    first.observed([view("running", here=True, ran_ms=4_000)], now(5))
    first.put(now(5))
    second = log(store, at_s=60)
    second.observed([], now(60))
    second.submitted(Attempt(span=0, attempt=1), now(60))
    # The same process id, as in a container that begins again.
    second.observed([view("running", here=True, at_s=60, ran_ms=1_000)], now(61))
    second.put(now(61))
    lost, again = noted(store)
    assert (lost.phase, lost.running_ms, lost.seen_ms, lost.ran_ms) == ("gone", now(0), now(5), 4_000)
    assert (again.phase, again.submitted_ms, again.running_ms) == ("running", now(60), now(60))
    third = log(store, at_s=90)
    third.observed([], now(90))
    third.put(now(90))
    assert [one.phase for one in noted(store)] == ["gone", "gone"]


def test_a_job_of_a_cluster_that_is_adopted_is_the_same_attempt(store: JournalStore) -> None:
    first = log(store)
    first.submitted(Attempt(span=0, attempt=1), now(1))
    first.observed([view("running", at_s=2)], now(3))
    first.put(now(3))
    second = log(store, at_s=60)
    second.observed([], now(60))
    second.submitted(Attempt(span=0, attempt=1), now(60))
    second.observed([view("running", at_s=60)], now(61))
    second.put(now(61))
    assert [(one.submitted_ms, one.running_ms, one.seen_ms) for one in noted(store)] == [(now(1), now(2), None)]


def test_an_attempt_of_which_only_the_start_was_written_is_kept(store: JournalStore) -> None:
    first = log(store)
    first.submitted(Attempt(span=0, attempt=1), now(1))
    first.put_if_due(now(1))
    second = log(store, at_s=60)
    second.submitted(Attempt(span=0, attempt=1), now(60))
    second.put(now(60))
    assert [(one.phase, one.submitted_ms) for one in noted(store)] == [("gone", now(1)), ("queued", now(60))]


def test_a_pod_that_a_queue_takes_back_is_an_attempt_of_its_own(store: JournalStore) -> None:
    made = log(store)
    for at_s, phase in enumerate(("queued", "running", "queued", "running")):
        made.observed([view(phase, at_s=at_s)], now(at_s))
    made.put(now(4))
    assert [(one.phase, one.running_ms, one.ended_ms) for one in noted(store)] == [
        ("ended", now(1), now(2)),
        ("running", now(3), None),
    ]


def test_only_jobs_of_this_process_end_with_it(store: JournalStore) -> None:
    made = log(store)
    made.observed([view("running", here=True), view("running", span=1)], now(3))
    made.stopped(now(4))
    made.put(now(4))
    assert [(one.phase, one.ended_ms) for one in noted(store)] == [("ended", now(4)), ("running", None)]


@pytest.mark.parametrize("here, lost", [(True, 0), (False, 1)])
def test_a_job_that_is_stopped_before_it_was_observed_is_not_lost(
    store: JournalStore, *, here: bool, lost: int
) -> None:
    first = log(store)
    first.submitted(Attempt(span=0, attempt=1), now(1), here=here)
    first.stopped(now(1))
    first.put(now(1))
    second = log(store, at_s=60)
    second.submitted(Attempt(span=0, attempt=1), now(61))
    second.observed([view("running", here=True, at_s=61)], now(62))
    assert second.failed == lost


def test_results_and_failures_in_the_store_that_nobody_noted_are_added(store: JournalStore) -> None:
    first = log(store)
    first.observed([view("running", here=True)], now(1))
    first.put(now(1))
    result = AttemptResult(
        audio_ms=1_000, speech_ms=900, device="cpu",
        usage=Usage(fetch_ms=1, load_ms=2, transcribe_ms=3, cpu_threads=1, total_ms=9),
    )  # fmt: skip
    second = AttemptLog(store, fakes.RUN)
    found = [
        AttemptTimes(span=0, attempt=1, phase="ended", result=result),
        AttemptTimes(span=1, attempt=2, phase="ended", failure="OOM_KILLED"),
    ]
    second.begin(now(60), done_ms=1_000, found=found)
    second.observed([], now(60))
    second.put(now(60))
    assert [(one.span, one.phase, one.running_ms, one.result, one.failure) for one in noted(store)] == [
        (0, "gone", now(0), result, ""),
        (1, "ended", None, None, "OOM_KILLED"),
    ]
    second.refused(0, 1, "RESULT_INVALID")
    second.put(now(61))
    assert next((one.result, one.failure) for one in noted(store)) == (None, "RESULT_INVALID")
