"""Two ``model`` commands at one place: one puts its model there, the other waits. Prefixes in S3 have a lease."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chunk_job.errors import ExitCode
from chunk_job.model_manifest import MANIFEST
from chunk_job.models import copying
from chunk_job.models.exclusive import alone
from chunk_job.models.verification import ModelDamaged, described
from chunk_job.store.base import StoreDenied
from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli.model_writers import leased
from controller.errors import EnvironmentProblem
from controller.leadership import clock, store_lease


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """The protocol of both stores is the same; tests/s3 has the real one."""
    monkeypatch.setattr(store_lease, "POLL_MS", 20)
    monkeypatch.setattr(store_lease, "RENEW_MS", 30)
    return FileStore(tmp_path / "bucket")


def never() -> None:
    raise AssertionError("nobody else is there")


@contextmanager
def busy(folder: Path) -> Iterator[threading.Event]:
    """Another writer of *folder*, until the event is set."""
    has_it, ends = threading.Event(), threading.Event()

    def write() -> None:
        with alone(folder, never):
            has_it.set()
            ends.wait(60)

    other = threading.Thread(target=write)
    other.start()
    has_it.wait(60)
    yield ends
    ends.set()
    other.join()


def test_a_command_waits_for_another_one_at_its_folder(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with busy(working_folder / "volume") as ends:
        threading.Timer(0.3, ends.set).start()
        assert cli.run(["model", "fetch", str(demo.MODEL), "--to", "volume"]) == 0
    assert "another command puts a model at volume: waiting for it" in capsys.readouterr().err
    assert cli.run(["model", "verify", "volume"]) == 0
    assert {path.name for path in Path().iterdir()} == {"volume"}


def test_a_waiting_command_finds_what_the_other_one_has_put_there(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["model", "fetch", str(demo.MODEL), "--to", "ready"]) == 0
    capsys.readouterr()
    with busy(working_folder / "volume") as ends:

        def put() -> None:
            Path("ready").rename("volume")
            ends.set()

        threading.Timer(0.3, put).start()
        assert cli.run(["model", "fetch", str(demo.MODEL), "--to", "volume"]) == 0
    assert "volume is there already, and is what its manifest says" in capsys.readouterr().err


def test_of_two_leases_of_one_prefix_the_second_begins_when_the_first_has_ended(store: FileStore) -> None:
    order: list[str] = []

    def second() -> None:
        with leased(store, lambda: order.append("waits")):
            order.append("second")

    with leased(store, never) as check:
        other = threading.Thread(target=second)
        other.start()
        while not order:
            time.sleep(0.005)
        time.sleep(0.2)
        check()
        order.append("first")
    other.join()
    assert order == ["waits", "first", "second"]
    assert list(store.list("")) == [], "nothing of them stays beside the model"


def test_the_lease_of_a_killed_command_is_free_after_a_while(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with leased(store, never):
        (lease,) = store.list("")
        left = store.get(lease.key)
    store.put(lease.key, left)
    waited: list[int] = []
    with leased(store, lambda: waited.append(1)) as check:
        check()
    assert waited == [1]


def test_a_command_that_was_stopped_for_too_long_puts_no_manifest(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(clock, "now_s", lambda: now_s)
    monkeypatch.setattr(store_lease, "RENEW_MS", 60_000)
    put_file = store.put_file

    def long_put(key: str, path: Path) -> None:
        nonlocal now_s
        put_file(key, path)
        now_s += store_lease.LAPSED_S + 1

    monkeypatch.setattr(store, "put_file", long_put)
    manifest = described(demo.MODEL, source="demo")
    stopped = pytest.raises(EnvironmentProblem, match="another one may put a model there by now")
    with leased(store, never) as check, stopped as found:
        copying.put(demo.MODEL, manifest, store, check)
    assert "stenofleet model verify" in found.value.advice
    assert store.stat(MANIFEST) is None
    assert len([entry for entry in store.list("") if "/" not in entry.key]) == 1, "it stops at the first file"


def test_each_change_of_a_prefix_is_checked_first(store: FileStore) -> None:
    manifest = described(demo.MODEL, source="demo")
    files = len(manifest.files)

    def put(checks: int) -> None:
        left = iter(range(checks))

        def check() -> None:
            if next(left, None) is None:
                raise EnvironmentProblem("the lease is lost")

        copying.put(demo.MODEL, manifest, store, check)

    put(files + 3)
    store.put("vocabulary.txt", b"of another model")
    for checks, has_manifest in ((0, True), (files + 1, False), (files + 2, False)):
        with pytest.raises(EnvironmentProblem, match="the lease is lost"):
            put(checks)
        assert (store.stat(MANIFEST) is not None) == has_manifest
        assert (store.stat("vocabulary.txt") is not None) == (checks < files + 2)


def test_a_file_that_another_program_removes_meanwhile_gets_no_manifest(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file = store.put_file

    def put_and_lose(key: str, path: Path) -> None:
        put_file(key, path)
        store.delete("config.json")

    monkeypatch.setattr(store, "put_file", put_and_lose)
    with pytest.raises(ModelDamaged, match=r"config\.json is missing"):
        copying.put(demo.MODEL, described(demo.MODEL, source="demo"), store, lambda: None)
    assert store.stat(MANIFEST) is None


def test_who_may_only_read_a_prefix_may_still_verify_it(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(key: str, data: bytes) -> None:
        raise StoreDenied(f"no right to put {key}", "ask for it")

    monkeypatch.setattr(store, "put", denied)
    with leased(store, never) as check, pytest.raises(StoreDenied) as found:
        check()
    assert found.value.code is ExitCode.ACCESS_DENIED
