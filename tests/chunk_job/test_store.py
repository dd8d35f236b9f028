"""What every store does, and what a folder as a store does besides.

The suite is written once: each of its tests runs with every store in ``STORES``, the fixtures that open one.
"""

import itertools
import os
import resource
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunk_job.contract import DocumentInvalid, ExitCode, JobError
from chunk_job.store import FileStore, ObjectMissing, Store, StoreUnavailable, open_store, write_whole

STORES = [pytest.param("file_store", id="file"), pytest.param("s3_store", id="s3", marks=pytest.mark.s3)]


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    opened: Store = request.getfixturevalue(request.param)
    return opened


def keys(store: Store, prefix: str) -> list[str]:
    return [entry.key for entry in store.list(prefix)]


# ---------------------------------------------------------------- every store


@pytest.mark.parametrize("data", [b"", b"\0\r\n\xff", b"x" * 3_000_000], ids=["empty", "binary", "large"])
def test_what_was_put_is_got(store: Store, data: bytes) -> None:
    store.put("work/a/b.json", data)
    assert store.get("work/a/b.json") == data


def test_a_put_replaces_the_whole_object(store: Store) -> None:
    store.put("a/b", b"a long one")
    store.put("a/b", b"short")
    assert store.get("a/b") == b"short"
    assert keys(store, "a/") == ["a/b"]


def test_a_file_is_put_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 9000)
    store.put_file("a/b.flac", tmp_path / "file")
    assert store.get("a/b.flac") == (tmp_path / "file").read_bytes()


def test_an_object_becomes_a_file(store: Store, tmp_path: Path) -> None:
    body = bytes(range(256)) * 9000
    store.put("a/b.flac", body)
    store.get_file("a/b.flac", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == body
    with pytest.raises(FileExistsError):
        store.get_file("a/b.flac", tmp_path / "file")
    with pytest.raises(ObjectMissing, match="a/c"):
        store.get_file("a/c", tmp_path / "other")


def test_an_object_is_read_from_any_place(store: Store) -> None:
    store.put("a/b", b"0123456789")
    with store.open("a/b") as file:
        assert file.seekable()
        assert file.read(3) == b"012"
        assert file.seek(-2, os.SEEK_END) == 8
        assert file.read() == b"89"
        file.seek(0)
        assert file.read() == b"0123456789"


def test_a_missing_object_is_named(store: Store) -> None:
    store.put("a/other", b"")
    with pytest.raises(ObjectMissing, match="the store has no object a/b") as got:
        store.get("a/b")
    assert got.value.code == ExitCode.INPUT_MISSING
    with pytest.raises(ObjectMissing, match="a/b"):
        store.open("a/b")
    assert store.stat("a/b") is None


def test_an_object_larger_than_allowed_is_refused(store: Store) -> None:
    store.put("a/b", b"12345")
    assert store.get("a/b", max_bytes=5) == b"12345"
    with pytest.raises(DocumentInvalid, match="a/b is larger than 4 bytes"):
        store.get("a/b", max_bytes=4)


def test_a_listing_is_in_key_order_over_all_levels(store: Store) -> None:
    wanted = ["w/a-b", "w/a/00001.json", "w/a/00002.json", "w/a/deeper/still", "w/a0", "w/b"]
    for key in reversed(wanted):
        store.put(key, key.encode())
    assert [(entry.key, entry.size_bytes) for entry in store.list("w/")] == [(key, len(key)) for key in wanted]
    assert keys(store, "w/a/") == wanted[1:4]
    assert keys(store, "") == wanted


def test_a_prefix_is_a_folder_not_the_beginning_of_a_name(store: Store) -> None:
    store.put("work/1/a", b"")
    store.put("work/10/a", b"")
    assert keys(store, "work/1/") == ["work/1/a"]
    assert keys(store, "work/2/") == []


def test_a_listing_of_nothing_is_empty(store: Store) -> None:
    assert keys(store, "") == []
    assert keys(store, "runs/") == []


def test_an_entry_tells_size_and_time(store: Store) -> None:
    store.put("a/b", b"12345")
    entry = store.stat("a/b")
    assert entry is not None
    assert (entry.key, entry.size_bytes) == ("a/b", 5)
    assert abs(entry.modified_s - time.time()) < 60
    assert list(store.list("a/")) == [entry]


def test_a_deleted_object_is_gone_and_its_neighbours_stay(store: Store) -> None:
    store.put("a/b", b"1")
    store.put("a/c/d", b"2")
    store.delete("a/b")
    assert store.stat("a/b") is None
    assert keys(store, "a/") == ["a/c/d"]
    store.delete("a/c/d")
    assert keys(store, "") == []


def test_deleting_what_is_not_there_is_no_error(store: Store) -> None:
    store.delete("a/b")
    store.put("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a/.hidden"])
def test_a_key_that_is_none_is_refused(store: Store, key: str) -> None:
    for verb in (store.get, store.open, store.stat, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(JobError, match="not an object key") as refused:
            verb(key)
        assert refused.value.code == ExitCode.CONFIG


def test_readers_never_see_half_an_object(store: Store) -> None:
    """Two writers put objects of different lengths; whoever reads, gets one of them whole."""
    bodies = [bytes([48 + n]) * (20_000 * (n + 1)) for n in range(2)]
    store.put("a/b", bodies[0])
    done = threading.Event()

    def write(body: bytes) -> None:
        while not done.is_set():
            store.put("a/b", body)

    writers = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for writer in writers:
        writer.start()
    try:
        seen = {store.get("a/b") for _ in range(60)}
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert seen <= set(bodies)
    assert keys(store, "") == ["a/b"]


def test_a_store_opened_by_its_url_is_the_same_store(store: Store) -> None:
    store.put("a/b", b"1")
    assert open_store(store.url).get("a/b") == b"1"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text("ab0-_", min_size=1, max_size=3), min_size=1, max_size=6, unique=True), data=st.data())
def test_keys_come_back_sorted_as_they_were_put(store: Store, names: list[str], data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 3))
    wanted = sorted({"p/" + "/".join(part) for part in itertools.islice(itertools.permutations(names, depth), 8)})
    for key in wanted:
        store.put(key, b"")
    assert keys(store, "p/") == wanted
    for key in wanted:
        store.delete(key)
    assert keys(store, "p/") == []


# ---------------------------------------------------------------- a folder


def test_a_folder_is_for_its_owner_alone(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    assert stat.S_IMODE(file_store.root.stat().st_mode) == 0o700


def test_what_a_killed_writer_leaves_is_no_object(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    (file_store.root / "a" / ".c.json.1234.tmp").write_bytes(b"half")
    assert keys(file_store, "a/") == ["a/b"]


def test_a_sweep_takes_what_writers_that_died_left_and_nothing_that_is_still_written(file_store: FileStore) -> None:
    file_store.put("a/b/c", b"1")
    file_store.put("a/d/gone", b"1")
    for place in ("a/b", "a/d", "other"):
        (file_store.root / place).mkdir(exist_ok=True)
        (file_store.root / place / ".0011.tmp").write_bytes(b"half")
    file_store.delete("a/d/gone")

    def write(file: BinaryIO) -> None:
        file.write(b"2")
        file_store.sweep("a/")

    write_whole(file_store.root / "a" / "b" / "c", write)
    assert file_store.get("a/b/c") == b"2"
    left = sorted(str(path.relative_to(file_store.root)) for path in file_store.root.rglob("*"))
    assert left == ["a", "a/b", "a/b/c", "other", "other/.0011.tmp"]
    file_store.sweep("nothing/")


def test_a_full_disk_leaves_the_old_object_and_nothing_else(file_store: FileStore) -> None:
    file_store.put("a/b", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # For one file, this is a disk with a kilobyte left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(StoreUnavailable, match=r"no room for a/b in .*: File too large") as full:
            file_store.put("a/b", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.advice == "free space there or choose another --store"
    assert file_store.get("a/b") == b"old"
    assert os.listdir(file_store.root / "a") == ["b"]


def test_empty_folders_do_not_stay(file_store: FileStore) -> None:
    file_store.put("a/b/c/d", b"")
    file_store.put("a/e", b"")
    file_store.delete("a/b/c/d")
    assert sorted(path.name for path in file_store.root.rglob("*")) == ["a", "e"]


def test_a_file_where_a_folder_should_be_is_told(file_store: FileStore) -> None:
    file_store.put("a", b"")
    with pytest.raises(StoreUnavailable, match=r"a/b in .*: Not a directory|a/b in .*: File exists"):
        file_store.put("a/b", b"")
    assert file_store.stat("a/b") is None


def test_a_prefix_is_no_object(file_store: FileStore) -> None:
    file_store.put("a/b", b"")
    assert file_store.stat("a") is None
    with pytest.raises(ObjectMissing):
        file_store.get("a")


def test_a_put_survives_deletes_next_door(file_store: FileStore) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            file_store.put("a/b/gone", b"")
            file_store.delete("a/b/gone")

    other = threading.Thread(target=churn)
    other.start()
    try:
        for number in range(300):
            file_store.put(f"a/b/{number}", b"")
            file_store.delete(f"a/b/{number}")
    finally:
        stop.set()
        other.join()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told(file_store: FileStore) -> None:
    file_store.put("a/b", b"")
    (file_store.root / "a").chmod(0o500)
    try:
        with pytest.raises(JobError, match="no access to a/c") as denied:
            file_store.put("a/c", b"")
    finally:
        (file_store.root / "a").chmod(0o700)
    assert denied.value.code == ExitCode.ACCESS_DENIED


@pytest.mark.parametrize(
    "url,root",
    [
        ("file:///var/store", "/var/store"),
        ("file://localhost/var/store", "/var/store"),
        ("file:///with%20space/%C3%A9", "/with space/é"),
    ],
)
def test_a_file_url_is_a_folder(url: str, root: str) -> None:
    opened = open_store(url)
    assert isinstance(opened, FileStore)
    assert opened.root == Path(root)
    assert open_store(opened.url).url == opened.url


@pytest.mark.parametrize("url", ["http://host/bucket", "file://host/folder", "/var/store", "", "gs://bucket"])
def test_another_url_is_no_store(url: str) -> None:
    with pytest.raises(JobError, match="no store behind") as refused:
        open_store(url)
    assert refused.value.code == ExitCode.USAGE
    assert "file:///absolute/folder" in refused.value.advice


def test_a_store_that_is_only_looked_at_makes_no_folder(file_store: FileStore) -> None:
    assert keys(file_store, "runs/") == []
    assert file_store.stat("runs/a") is None
    file_store.delete("runs/a")
    assert not file_store.root.exists()
