"""Lookup of runs and their states: the number and order of requests, and how many run at once."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.base import StoredObject, StoreUnavailable
from chunk_job.store.files import FileStore
from controller import cli
from controller.cli import options as shared
from controller.cli import watch
from controller.domain.documents import Outcome, Status
from controller.domain.keys import RUNS, WORK, RunKeys
from controller.errors import UsageProblem
from controller.runs.lookup import existing_run, in_parallel, is_there, read_run, remove_run, run_ids
from tests import fakes

IDS = [f"{number:02x}" * 8 for number in range(1, 41)]


class Counting(FileStore):
    """A folder that counts its requests. It may act as a server."""

    def __init__(self, root: Path, *, remote: bool) -> None:
        super().__init__(root)
        self.remote = remote
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.listed: list[str] = []

    def count(self, verb: str) -> None:
        with self.lock:
            self.asked[verb] += 1

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        self.count("get")
        return super().get(key, max_bytes=max_bytes)

    def stat(self, key: str) -> StoredObject | None:
        self.count("stat")
        return super().stat(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.count("list")
        self.listed.append(prefix)
        return super().list(prefix, after=after)

    def folders(self, prefix: str) -> Iterator[str]:
        self.count("folders")
        return super().folders(prefix)


@pytest.fixture(params=[False, True], ids=["folder", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    store = Counting(tmp_path / "store", remote=request.param)
    monkeypatch.setattr(shared, "store_at", lambda _: store)
    return store


def put_run(store: FileStore, run: str, *, state: Any = "running", marker: Any = None, updated_ms: int = 2**52) -> None:
    keys = RunKeys(run)
    status = Status(
        run=run, name="talk.mp4", state=state, percent=42.0, spans_done=1, spans_known=3, planned=True, failures=0,
        updated_ms=updated_ms,
    )  # fmt: skip
    store.put(keys.record, fakes.record(run).encode())
    store.put(keys.status, status.encode())
    for span in range(3):
        store.put(keys.task(span), b"{}")
    if marker:
        outcome = Outcome(run=run, verdict=marker, round="0000cafe", summary="so it was", advice="")
        store.put(keys.marker(marker), outcome.encode())


# ---------------------------------------------------------------- by id


def test_a_whole_id_is_read_without_a_listing(store: Counting) -> None:
    for run in IDS:
        put_run(store, run)
    for typed in (IDS[11], IDS[11].upper()):
        assert existing_run(store, typed) == existing_run(store, typed, homes=(RUNS, WORK)) == IDS[11]
    assert store.asked == {"stat": 4}


def test_the_beginning_of_an_id_takes_the_names_of_folders_and_one_more_request(store: Counting) -> None:
    for run in IDS:
        put_run(store, run)
    assert existing_run(store, IDS[31][:-1]) == IDS[31]
    assert store.asked == {"folders": 1, "stat": 1}
    with pytest.raises(UsageProblem, match="1 is the beginning of 16 runs"):
        existing_run(store, "1")


def test_a_run_with_only_work_objects_is_found_when_it_is_requested(store: Counting) -> None:
    store.put(f"work/{IDS[0]}/results/00000/a1-u.json", b"{}")
    for typed in (IDS[0], IDS[0][:15]):
        assert existing_run(store, typed, homes=(RUNS, WORK)) == IDS[0]
        with pytest.raises(UsageProblem, match="no run 0"):
            existing_run(store, typed)
    assert list(run_ids(store)) == []
    assert list(run_ids(store, homes=(RUNS, WORK))) == [IDS[0]]


def test_a_run_without_its_record_is_still_listed(store: Counting) -> None:
    put_run(store, IDS[0])
    store.delete(RunKeys(IDS[0]).record)
    assert existing_run(store, IDS[0]) == existing_run(store, IDS[0][:15]) == IDS[0]


@pytest.mark.parametrize("typed", ["", "x", "../0", "0/", "0" * 17, "0101010101010101/run.json", " ", "é"])
def test_an_invalid_prefix_of_an_id_is_no_run_and_makes_no_request(store: Counting, typed: str) -> None:
    put_run(store, IDS[0])
    with pytest.raises(UsageProblem, match="no run"):
        existing_run(store, typed)
    assert not store.asked


def test_runs_are_listed_once_in_order_without_other_folders(store: Counting) -> None:
    for run in reversed(IDS):
        store.put(f"runs/{run}/run.json", b"{}")
        store.put(f"work/{run}/tasks/00000.json", b"{}")
    for name in ("0" * 15, "0" * 17, "G" * 16, "A" * 16, "notes"):
        store.put(f"runs/{name}/x", b"")
    store.put("runs/" + "f" * 16, b"an object, and no folder")
    store.put("work/" + "e" * 16 + "/x", b"")
    assert list(run_ids(store)) == IDS
    assert list(run_ids(store, homes=(RUNS, WORK))) == [*IDS, "e" * 16]


def test_a_folder_without_objects_is_no_run(store: Counting) -> None:
    put_run(store, IDS[0])
    (store.root / "runs" / IDS[1]).mkdir()
    assert not is_there(store, IDS[1])
    assert existing_run(store, IDS[0][:15]) == IDS[0]
    assert [run["run"] for run in listed()] == [IDS[0]]


def listed() -> list[dict[str, Any]]:
    """The runs that ``list --json`` prints."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("controller.cli.runs.print_data", lambda text, **_: printed.append(text))
        assert cli.run(["list", "--json"]) == 0
    runs: list[dict[str, Any]] = json.loads(printed[0])["runs"]
    return runs


# ---------------------------------------------------------------- how far they are


def test_a_list_takes_three_requests_a_run_at_most_and_lists_nothing_below_its_folder(store: Counting) -> None:
    for number, run in enumerate(IDS):
        put_run(store, run, marker="complete" if number % 2 else None)
    assert [(run["run"], run["state"]) for run in listed()] == [
        (run, "complete" if number % 2 else "running") for number, run in enumerate(IDS)
    ]
    assert store.asked == {"folders": 1, "list": len(IDS), "get": len(IDS) * 3 // 2}
    assert sorted(store.listed) == [RunKeys(run).home for run in IDS]


def test_only_one_page_of_a_filled_folder_is_read(store: Counting) -> None:
    put_run(store, IDS[0], marker="failed")
    for number in range(1100):
        (store.root / "runs" / IDS[0] / f"more-{number:04}").touch()
    found = read_run(store, IDS[0])
    assert found
    assert found.end == "failed"


def test_rows_are_written_while_later_runs_are_still_read(store: Counting, capsys: pytest.CaptureFixture[str]) -> None:
    for run in IDS:
        put_run(store, run)
    seen = threading.Event()
    get = store.get

    def late(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        if key == RunKeys(IDS[-1]).status:
            assert seen.wait(20)
        return get(key, max_bytes=max_bytes)

    rows: list[str] = []

    def print_data(text: str, *, exact: bool = False) -> None:
        rows.append(text[:16])
        seen.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "get", late)
        patch.setattr("controller.cli.runs.print_data", print_data)
        assert cli.run(["list"]) == 0
    assert rows == IDS


def test_a_run_that_is_removed_while_it_is_read_is_not_listed_and_hides_no_other(store: Counting) -> None:
    for run in IDS[:3]:
        put_run(store, run, marker="complete")
    folders = store.folders

    def removed(prefix: str) -> Iterator[str]:
        names = list(folders(prefix))
        remove_run(store, IDS[1])
        return iter(names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "folders", removed)
        assert [run["run"] for run in listed()] == [IDS[0], IDS[2]]


def test_the_status_is_used_when_a_new_round_removes_the_last_object_meanwhile(store: Counting) -> None:
    put_run(store, IDS[0], marker="failed")
    get = store.get

    def taken(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        store.delete(RunKeys(IDS[0]).marker("failed"))
        return get(key, max_bytes=max_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "get", taken)
        assert [run["state"] for run in listed()] == ["running"]


def test_watching_all_reads_one_status_a_run_and_then_follows_the_active_ones(
    store: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in IDS:
        put_run(store, run, state="complete")
    put_run(store, IDS[7], updated_ms=time.time_ns() // 1_000_000, marker="complete")
    monkeypatch.setattr(watch, "_POLL_S", 0.01)
    assert cli.run(["watch"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{IDS[7]}: complete"
    assert store.asked == {"folders": 1, "get": len(IDS) + 1, "list": 1}


# ---------------------------------------------------------------- several at once


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_results_come_in_the_order_of_their_items(at_once: int) -> None:
    def do(number: int) -> int:
        time.sleep(0.001 * (number % 5))
        return -number

    assert list(in_parallel(do, range(200), at_once=at_once)) == [-number for number in range(200)]
    assert list(in_parallel(do, [], at_once=at_once)) == []


@pytest.mark.parametrize("at_once", [1, 8])
def test_the_allowed_number_of_items_is_processed_at_once_and_no_more(at_once: int) -> None:
    together = threading.Barrier(at_once)
    under_way, most = 0, 0
    lock = threading.Lock()

    def do(_: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        # The barrier opens only when this number of threads waits.
        together.wait(20)
        with lock:
            under_way -= 1

    list(in_parallel(do, range(8 * at_once), at_once=at_once))
    assert most == at_once


def test_items_are_consumed_with_the_results_and_not_all_at_the_start() -> None:
    items = iter(range(100_000))
    results = in_parallel(lambda number: number, items, at_once=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert next(items) < 100
    results.close()  # type: ignore[attr-defined]


def test_a_failure_is_raised_in_order_and_nothing_new_is_started() -> None:
    begun: list[int] = []

    def do(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise StoreUnavailable("it is down", "wait")
        return number

    got: list[int] = []
    with pytest.raises(StoreUnavailable, match="it is down"):
        got.extend(in_parallel(do, range(10_000), at_once=2))
    quiet(lambda: len(begun))
    assert len(begun) < 100


def test_stopping_early_does_not_wait_for_items_in_progress() -> None:
    release = threading.Event()
    ended: list[int] = []

    def do(number: int) -> int:
        if not number:
            release.wait(60)
        ended.append(number)
        return number

    results = in_parallel(do, iter([1, 0, 0, 0]), at_once=2)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert ended == [1]
    release.set()


def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    assert sum(in_parallel(lambda number: number, range(50), at_once=16)) == sum(range(50))
    quiet(threading.active_count)
    assert threading.active_count() <= before


def quiet(count: Callable[[], int]) -> None:
    """Wait until the count has not changed for a moment."""
    last = -1
    while last != (last := count()):
        time.sleep(0.2)
