"""When attempts waited, started and ended: noted while the loop works, kept over restarts, written rarely."""

from pathlib import Path
from typing import Any

import pytest

from chunk_job.document import MAX_AUDIO_MS
from chunk_job.store.files import FileStore
from controller.domain import attempt_documents
from controller.domain.attempt_documents import Attempts, AttemptTimes
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
            ended_ms=now(9), node="gpu-1", waits_for="no GPU is free", progress_ms=700,
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


def test_it_is_written_when_something_changed_and_rarely(store: JournalStore) -> None:
    made = log(store)
    for second in range(60):
        made.observed([view("running", progress_ms=second // 30)], now(second))
        made.put_if_due(now(second))
    assert store.journal == [f"put {KEYS.attempts}"] * 2
    for span in range(2_000):
        made.observed([view("running", span=span)], now(60))
    made.put_if_due(now(60))
    written = len(store.journal)
    made.observed([view("running", span=5_000)], now(69))
    made.put_if_due(now(69))
    assert len(store.journal) == written, "an object with many attempts is written less often"


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
    assert attempt_documents.MOST_ATTEMPTS >= 20_000
