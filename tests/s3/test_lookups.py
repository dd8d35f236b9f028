"""The cost of run lookups on a server: requests, and connections for many threads at once."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

import controller.cli
from chunk_job.store import s3_client
from chunk_job.store.base import Store
from controller.cli.clean import _AT_ONCE
from controller.domain.documents import LeaseRecord, Outcome, Status
from controller.domain.keys import RunKeys
from controller.runs.lookup import AT_ONCE, in_parallel
from tests import fakes

IDS = [f"{number:02x}" * 8 for number in range(1, 61)]


@pytest.fixture(autouse=True)
def command(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def put_runs(store: Store, runs: Sequence[str]) -> None:
    def put(run: str) -> None:
        keys = RunKeys(run)
        status = Status(
            run=run, name="talk.mp4", state="complete", percent=100, spans_done=3, spans_known=3, planned=True,
            failures=0, updated_ms=fakes.START_MS,
        )  # fmt: skip
        outcome = Outcome(run=run, verdict="complete", round="0000cafe", summary="", advice="")
        store.put(keys.record, fakes.record(run).encode())
        store.put(keys.status, status.encode())
        store.put(keys.marker("complete"), outcome.encode())
        for span in range(3):
            store.put(keys.task(span), b"{}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, runs))


def test_a_list_takes_three_requests_a_run_and_one_for_their_names(
    store: Store, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    put_runs(store, IDS)
    asked.clear()
    assert controller.cli.run(["list", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["run"], run["state"]) for run in runs] == [(run, "complete") for run in IDS]
    assert len(asked) == 1 + 3 * len(IDS)


def test_a_whole_id_is_read_directly_and_a_prefix_of_one_takes_one_page(
    store: Store, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    put_runs(store, IDS)
    for typed, most in ((IDS[40], 6), (IDS[40][:15], 7)):
        asked.clear()
        assert controller.cli.run(["status", typed]) == 0
        assert f"run          {IDS[40]}" in capsys.readouterr().out
        # Whether it exists, listing, status, last object, record, request; before them the list of folders.
        assert len(asked) == most
        assert sum("list-type=2" in each for each in asked) == most - 5


def test_abandoned_runs_are_removed_together(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("controller.leadership.store_lease.POLL_MS", 100)
    put_runs(store, IDS)
    for run in IDS:
        store.put(
            RunKeys(run).lease, LeaseRecord(run=run, owner="0" * 16, lock_domain="elsewhere", renew_count=1).encode()
        )
    assert controller.cli.run(["clean", "--all", "--yes"]) == 0
    assert capsys.readouterr().err == f"removed {len(IDS)} of {len(IDS)} runs\n"
    assert list(store.list("")) == []


def test_threads_reuse_connections_without_warnings(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert max(AT_ONCE, _AT_ONCE) <= s3_client.CONNECTIONS
    for number in range(8):
        store.put(f"w/{number}", b"1")
    caplog.set_level(logging.DEBUG, "urllib3")

    def read(number: int) -> bytes:
        return b"".join([store.get(f"w/{(number + more) % 8}") for more in range(4)])

    assert set(in_parallel(read, range(300), at_once=s3_client.CONNECTIONS)) == {b"1111"}
    opened = [each.getMessage() for each in caplog.records if "Starting new HTTP" in each.getMessage()]
    assert len(opened) <= s3_client.CONNECTIONS
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
