"""``clean``: many runs at once, their locks, and runs that are never removed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller import cli
from controller.cli import clean
from controller.cli import options as shared
from controller.domain.documents import LeaseRecord, Status
from controller.domain.keys import RunKeys
from controller.leadership.store_lease import StoreLease
from controller.runners.folders import Home
from controller.runs import lookup
from tests import fakes
from tests.pipeline import PATIENCE_S

IDS = [f"{number:016x}" for number in range(1, 201)]


class Served(FileStore):
    """A folder that machines share like a server."""

    remote = True


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    store = FileStore(tmp_path / "store")
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return store


@pytest.fixture
def served(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served(store.root)
    monkeypatch.setattr(shared, "store_at", lambda _: served)
    # After twenty of these without a renewal, a leader is given up.
    monkeypatch.setattr("controller.leadership.store_lease.POLL_MS", 20)
    return served


def put_run(store: FileStore, run: str, *, state: Any = "interrupted") -> None:
    keys = RunKeys(run)
    status = Status(
        run=run, name="talk.mp4", state=state, percent=42.0, spans_done=1, spans_known=3, planned=True, failures=0,
        updated_ms=time.time_ns() // 1_000_000,
    )  # fmt: skip
    store.put(keys.record, fakes.record(run).encode())
    store.put(keys.status, status.encode())
    store.put(keys.task(0), b"{}")


def put_lead(store: FileStore, run: str, beat: int = 1) -> None:
    store.put(
        RunKeys(run).lease, LeaseRecord(run=run, owner="0" * 16, lock_domain="elsewhere", renew_count=beat).encode()
    )


@contextlib.contextmanager
def locked(store: FileStore, run: str) -> Iterator[int]:
    """The run's lock, held by another process of this machine."""
    descriptor = Home(store.root / ".local").lock(run)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def objects(store: FileStore) -> set[str]:
    return {entry.key.split("/")[1] for entry in store.list("")}


def command(*arguments: str, descriptors: int = 1024) -> subprocess.Popen[str]:
    limited = f'ulimit -n {descriptors} && exec "$@"'
    return subprocess.Popen(
        ["/bin/sh", "-c", limited, "sh", sys.executable, "-P", "-m", "controller", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---------------------------------------------------------------- a folder


@pytest.mark.process
def test_any_number_of_runs_is_removed_with_few_descriptors(store: FileStore) -> None:
    for run in IDS:
        put_run(store, run)
    process = command("clean", "--all", "--yes", descriptors=64)
    messages = process.communicate()[1]
    assert (process.returncode, messages.splitlines()[-1]) == (0, "removed 200 of 200 runs")
    assert list(store.list("")) == []


@pytest.mark.process
def test_two_clean_commands_at_the_same_time_remove_all_and_neither_fails(store: FileStore) -> None:
    for run in IDS:
        put_run(store, run)
    both = [command("clean", "--all", "--yes") for _ in range(2)]
    messages = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert list(store.list("")) == []


def test_the_lock_of_a_run_is_free_when_the_next_is_removed(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in IDS[:3]:
        put_run(store, run)
    removed: list[str] = []
    remove = lookup.remove_run

    def watched(of: FileStore, run: str) -> None:
        for before in removed:
            with locked(store, before):
                pass
        assert Home(store.root / ".local").lock(run) is None
        remove(of, run)
        removed.append(run)

    monkeypatch.setattr(clean, "remove_run", watched)
    assert cli.run(["clean", "--all", "--yes"]) == 0
    assert removed == IDS[:3]


def test_a_run_that_is_being_worked_on_is_kept_and_reported_at_once(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean, "_PATIENCE_S", 600.0)
    for run in IDS[:5]:
        put_run(store, run, state="running")
    with locked(store, IDS[2]):
        assert cli.run(["clean", "--all", "--yes"]) == 4
    assert capsys.readouterr().err.splitlines() == [
        f"run {IDS[2]} is being worked on: cancel it first",
        "removed 4 of 5 runs",
    ]
    assert objects(store) == {IDS[2]}
    assert cli.run(["clean", IDS[2], "--yes"]) == 0


def test_a_locked_run_is_kept_whatever_its_status(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(clean, "_PAUSE_S", 0.05)
    put_run(store, IDS[0])
    with locked(store, IDS[0]):
        assert cli.run(["clean", IDS[0], "--yes"]) == 4
    assert objects(store) == {IDS[0]}


@pytest.mark.parametrize("ends", ["removed", "released"])
def test_a_run_that_another_clean_removes_is_waited_for(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(clean, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(clean, "_PAUSE_S", 0.05)
    put_run(store, IDS[0])
    begun = threading.Event()
    read_status = lookup.read_status

    def seen(*asked: Any) -> Status | None:
        begun.set()
        return read_status(*asked)

    monkeypatch.setattr(clean, "read_status", seen)
    with contextlib.ExitStack() as other:
        other.enter_context(locked(store, IDS[0]))

        def end() -> None:
            assert begun.wait(20)
            if ends == "removed":
                lookup.remove_run(store, IDS[0])
            else:
                other.close()

        thread = threading.Thread(target=end)
        thread.start()
        assert cli.run(["clean", IDS[0], "--yes"]) == 0
        thread.join()
    assert capsys.readouterr().err == "removed 1 of 1 runs\n"
    assert list(store.list("")) == []


def test_a_run_that_is_named_twice_is_removed_once(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    put_run(store, IDS[0])
    assert cli.run(["clean", IDS[0], IDS[0][:15], "--yes"]) == 0
    assert capsys.readouterr().err == "removed 1 of 1 runs\n"


# ---------------------------------------------------------------- a server


def test_runs_of_dead_machines_are_given_up_together(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.leadership.store_lease.POLL_MS", 1)
    together = threading.Barrier(32)
    held_elsewhere = StoreLease.held_elsewhere

    def seen(lease: StoreLease, wait: Callable[[float], None]) -> bool:
        # Each takes 20 seconds. The barrier opens only when this number of runs is looked at.
        together.wait(PATIENCE_S)
        return held_elsewhere(lease, wait)

    monkeypatch.setattr(StoreLease, "held_elsewhere", seen)
    for run in IDS[:64]:
        put_run(served, run)
        put_lead(served, run)
    assert cli.run(["clean", "--all", "--yes"]) == 0
    assert capsys.readouterr().err == "removed 64 of 64 runs\n"
    assert list(served.list("")) == []


def test_a_run_that_another_machine_works_on_is_kept_among_many(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.leadership.store_lease.POLL_MS", 1)
    held_elsewhere = StoreLease.held_elsewhere

    def seen(lease: StoreLease, wait: Callable[[float], None]) -> bool:
        def meanwhile(seconds: float) -> None:
            wait(seconds)
            if lease._run == IDS[5]:
                put_lead(served, IDS[5], 2)

        return held_elsewhere(lease, meanwhile)

    monkeypatch.setattr(StoreLease, "held_elsewhere", seen)
    for run in IDS[:40]:
        put_run(served, run)
        put_lead(served, run)
    assert cli.run(["clean", "--all", "--yes"]) == 4
    assert capsys.readouterr().err.splitlines() == [
        f"run {IDS[5]} is being worked on: cancel it first",
        "removed 39 of 40 runs",
    ]
    assert objects(served) == {IDS[5]}
    assert served.stat(RunKeys(IDS[5]).task(0))
    # Its lock is free again.
    with locked(served, IDS[5]):
        pass
