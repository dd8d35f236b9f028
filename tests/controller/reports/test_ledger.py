"""What a removed run used still counts, once: its removal may be interrupted or repeated, and more work may follow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.attempt_documents import Attempts
from controller.domain.keys import RunKeys
from controller.domain.ledger_keys import used_key, used_of
from controller.domain.usage_documents import RunUsage, UsageFigures
from controller.orchestrator.attempt_log import AttemptLog
from controller.reports import ledger
from controller.reports.cost import NO_PRICES
from controller.reports.removal import remove_run
from controller.reports.stored_usage import usages, usages_of_period
from controller.reports.usage import summed
from tests import fakes
from tests.shown_runs import ShownRun

SHOWN = ShownRun(failed=(1,))
KEYS = RunKeys(fakes.RUN)
FIRST, SECOND = "a" * 16, "b" * 16


class Interrupted(FileStore):
    """A folder that fails after some changes."""

    left = -1
    """How many changes it still makes; -1: all."""

    def put(self, key: str, data: bytes) -> None:
        self._change()
        super().put(key, data)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)

    def _change(self) -> None:
        if self.left == 0:
            raise StoreUnavailable("it was killed", "")
        self.left -= 1


@pytest.fixture
def store(tmp_path: Path) -> Interrupted:
    opened = Interrupted(tmp_path / "store")
    put(opened, FIRST)
    return opened


def put(store: FileStore, log: str, **changes: Any) -> None:
    SHOWN.put(store, "complete")
    store.put(KEYS.attempts, SHOWN.attempts().model_copy(update={"log": log, **changes}).encode())


def rows(store: FileStore) -> list[RunUsage]:
    return list(usages(store, [fakes.RUN]))


def total(store: FileStore) -> UsageFigures:
    return summed(rows(store), NO_PRICES)


def test_a_removed_run_keeps_its_figures_and_nothing_of_its_recording(store: Interrupted) -> None:
    before = total(store)
    remove_run(store, fakes.RUN)
    (row,) = rows(store)
    assert (row.name, row.state, row.runs) == (fakes.RUN, "removed", 1)
    assert total(store) == before
    assert [entry.key for entry in store.list("")] == [used_key(fakes.RUN, FIRST)]
    kept = store.get(used_key(fakes.RUN, FIRST)).decode()
    assert SHOWN.record.name not in kept
    assert len(kept) < 2_000


def test_it_counts_once_wherever_its_removal_is_interrupted(store: Interrupted) -> None:
    before = total(store)
    changes = 0
    while list(store.list(KEYS.home)):
        store.left = 1
        try:
            remove_run(store, fakes.RUN)
        except StoreUnavailable:
            changes += 1
        store.left = -1
        assert total(store) == before, f"after {changes} changes"
    assert changes > 10
    remove_run(store, fakes.RUN)
    assert total(store) == before


def test_a_run_that_is_made_again_counts_twice(store: Interrupted) -> None:
    before = total(store)
    remove_run(store, fakes.RUN)
    put(store, SECOND)
    assert [(row.state, row.runs) for row in rows(store)] == [("complete", 1), ("removed", 1)]
    assert total(store) == summed([before, before], NO_PRICES)
    remove_run(store, fakes.RUN)
    assert [(row.state, row.runs) for row in rows(store)] == [("removed", 2)]
    assert total(store) == summed([before, before], NO_PRICES)
    assert len(list(store.list(used_of(fakes.RUN)))) == 2


def test_work_after_an_interrupted_removal_counts_with_what_was_before(store: Interrupted) -> None:
    attempts = SHOWN.attempts()
    store.left = 1
    with pytest.raises(StoreUnavailable):
        remove_run(store, fakes.RUN)
    store.left = -1
    more = attempts.attempts[-1].model_copy(update={"attempt": 7})
    observed_ms = (attempts.observed_ms or 0) + 1
    put(store, FIRST, attempts=(*attempts.attempts, more), observed_ms=observed_ms)
    (row,) = rows(store)
    assert (row.state, row.attempts) == ("complete", len(attempts.attempts) + 1)
    remove_run(store, fakes.RUN)
    (row,) = rows(store)
    assert (row.state, row.attempts) == ("removed", len(attempts.attempts) + 1)


@pytest.mark.parametrize("when", ["before it is read", "while it is read"])
def test_a_run_that_is_removed_meanwhile_counts_once(store: Interrupted, monkeypatch: Any, when: str) -> None:
    before = total(store)
    real: Callable[..., Any] = store.list

    def listed(prefix: str, *, after: str = "") -> Any:
        if prefix == (KEYS.home if when == "before it is read" else used_of(fakes.RUN)):
            found = list(real(prefix, after=after))
            monkeypatch.undo()
            remove_run(store, fakes.RUN)
            return iter(found)
        return real(prefix, after=after)

    monkeypatch.setattr(store, "list", listed)
    assert total(store) == before


def test_a_run_without_an_attempt_leaves_nothing(store: Interrupted) -> None:
    store.delete(KEYS.attempts)
    store.delete(KEYS.report)
    remove_run(store, fakes.RUN)
    assert list(store.list("")) == []


def test_of_a_run_of_an_earlier_version_its_report_counts(store: Interrupted) -> None:
    store.delete(KEYS.attempts)
    before = total(store)
    remove_run(store, fakes.RUN)
    assert total(store) == before
    assert store.stat(used_key(fakes.RUN, "")) is not None


def test_what_is_damaged_does_not_count_and_is_forgotten(store: Interrupted) -> None:
    remove_run(store, fakes.RUN)
    store.put(used_key(fakes.RUN, SECOND), store.get(used_key(fakes.RUN, FIRST)))
    store.put(used_key(fakes.RUN, "c" * 16), b"{}")
    assert [row.runs for row in rows(store)] == [1]
    ledger.forget(store, fakes.RUN)
    assert list(store.list("")) == []


def test_a_period_has_what_a_tenant_submitted_in_it(store: Interrupted) -> None:
    remove_run(store, fakes.RUN)
    used = ledger.kept(store, fakes.RUN)[FIRST].model_copy(update={"tenant": "news"})
    for number, submitted_ms in enumerate((1_000, 2_000, 3_000)):
        ledger.keep(store, used.model_copy(update={"submitted_ms": submitted_ms, "log": f"{number:016x}"}))
    store.delete(used_key(fakes.RUN, FIRST))

    def runs(from_ms: int, to_ms: int) -> tuple[int, int]:
        listed = ledger.submitted(store, "news", from_ms=from_ms, to_ms=to_ms, most=10)
        found = usages_of_period(store, (), {one.run for one in listed}, from_ms=from_ms, to_ms=to_ms)
        return len(listed), sum(1 for _ in found)

    assert runs(0, 4_000) == (3, 3)
    assert runs(1_000, 2_000) == (1, 1)
    assert runs(2_001, 3_000) == (0, 0)
    assert ledger.submitted(store, "other", from_ms=0, to_ms=4_000, most=10) == []
    ledger.forget(store, fakes.RUN)
    assert list(store.list("")) == []


def test_an_attempt_log_keeps_its_id_and_a_new_one_gets_another(store: Interrupted) -> None:
    def noted() -> str:
        log = AttemptLog(store, fakes.RUN)
        log.begin(fakes.START_MS, done_ms=0, found=SHOWN.attempts().attempts[:1])
        log.stopped(fakes.START_MS)
        log.waits([0], fakes.START_MS)
        log.put(fakes.START_MS)
        return Attempts.decode(store.get(KEYS.attempts)).log

    assert noted() == FIRST
    remove_run(store, fakes.RUN)
    again = noted()
    assert again not in ("", FIRST)
    assert noted() == again
