"""The behaviour of every store, and of a folder as a store.

Each test of the suite runs with every store in ``STORES``, the fixtures that open one.
"""

import contextlib
import errno
import io
import itertools
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunk_job import safe_files
from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.safe_files import make_private, write_whole
from chunk_job.store.base import ObjectMissing, Store, StoreDenied, StoreUnavailable, copy_bounded
from chunk_job.store.files import FileStore
from chunk_job.store.open_store import open_store

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
def test_a_stored_object_is_read_back(store: Store, data: bytes) -> None:
    store.put("work/a/b.json", data)
    assert store.get("work/a/b.json") == data


def test_a_put_replaces_the_whole_object(store: Store) -> None:
    store.put("a/b", b"a long one")
    store.put("a/b", b"short")
    assert store.get("a/b") == b"short"
    assert keys(store, "a/") == ["a/b"]


def test_of_several_writers_of_a_new_object_one_succeeds(store: Store) -> None:
    begin = threading.Barrier(8)

    def put(number: int) -> bool:
        begin.wait()
        return store.put_new("a/b", f"{number}".encode() * 1000)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(8)))
    assert sorted(won) == [False] * 7 + [True]
    assert store.get("a/b") == f"{won.index(True)}".encode() * 1000
    assert not store.put_new("a/b", b"")
    assert keys(store, "a/") == ["a/b"]


def test_a_new_object_on_a_file_system_without_links(file_store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    assert file_store.put_new("a/b", b"first")
    assert not file_store.put_new("a/b", b"second")
    assert file_store.get("a/b") == b"first"
    assert [each.name for each in (file_store.root / "a").iterdir()] == ["b"]


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


def test_an_object_is_read_from_any_offset(store: Store) -> None:
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


def test_an_object_larger_than_allowed_is_neither_opened_nor_written_to_a_file(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"12345")
    with store.open("a/b", max_bytes=5) as file:
        assert file.read() == b"12345"
    store.get_file("a/b", tmp_path / "file", max_bytes=5)
    assert (tmp_path / "file").read_bytes() == b"12345"
    with pytest.raises(DocumentInvalid, match="object a/b is larger than 4 bytes"):
        store.open("a/b", max_bytes=4)
    with pytest.raises(DocumentInvalid, match="object a/b is larger than 4 bytes"):
        store.get_file("a/b", tmp_path / "other", max_bytes=4)
    assert not (tmp_path / "other").exists() or (tmp_path / "other").read_bytes() == b""


def test_an_object_of_no_bytes_is_never_too_large(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"")
    assert store.get("a/b", max_bytes=0) == b""
    with store.open("a/b", max_bytes=0) as file:
        assert file.read() == b""
    store.get_file("a/b", tmp_path / "file", max_bytes=0)
    assert (tmp_path / "file").read_bytes() == b""


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


def test_folders_are_listed_in_key_order_without_their_objects(store: Store) -> None:
    for key in ("w/a-b/x", "w/a/1", "w/a/deeper/2", "w/a0/x", "w/b", "w/c/d/e/f", "wa/x", "x"):
        store.put(key, b"1")
    # A slash sorts after a hyphen and before a digit.
    assert list(store.folders("w/")) == ["a-b", "a", "a0", "c"]
    assert list(store.folders("w/a/")) == ["deeper"]
    assert list(store.folders("")) == ["w", "wa"]
    assert list(store.folders("w/b/")) == list(store.folders("nothing/")) == list(store.folders("w/a/deeper/")) == []


def test_a_folder_is_named_until_its_last_object_is_deleted(store: Store) -> None:
    for key in ("w/a/1", "w/a/2/3"):
        store.put(key, b"1")
    store.delete("w/a/1")
    assert list(store.folders("w/")) == ["a"]
    store.delete("w/a/2/3")
    assert list(store.folders("w/")) == list(store.folders("")) == []


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//b/", ".hidden/"])
def test_folders_of_an_invalid_prefix_are_refused(store: Store, prefix: str) -> None:
    with pytest.raises(JobError, match="not an object key"):
        list(store.folders(prefix))


def test_threads_share_a_store(store: Store) -> None:
    def work(number: int) -> tuple[bytes, list[str], list[str], bool]:
        store.put(f"w/{number:03}/x", str(number).encode())
        found = store.get(f"w/{number:03}/x"), keys(store, f"w/{number:03}/"), list(store.folders(f"w/{number:03}/"))
        return *found, store.stat(f"w/{number:03}/y") is None

    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(work, range(128)))
    assert done == [(str(number).encode(), [f"w/{number:03}/x"], [], True) for number in range(128)]
    assert list(store.folders("w/")) == [f"{number:03}" for number in range(128)]


def test_an_entry_has_size_and_time(store: Store) -> None:
    store.put("a/b", b"12345")
    entry = store.stat("a/b")
    assert entry is not None
    assert (entry.key, entry.size_bytes) == ("a/b", 5)
    assert abs(entry.modified_s - time.time()) < 60
    assert list(store.list("a/")) == [entry]


def test_a_deleted_object_is_missing_and_its_neighbours_stay(store: Store) -> None:
    store.put("a/b", b"1")
    store.put("a/c/d", b"2")
    store.delete("a/b")
    assert store.stat("a/b") is None
    assert keys(store, "a/") == ["a/c/d"]
    store.delete("a/c/d")
    assert keys(store, "") == []


def test_deleting_a_missing_object_is_no_error(store: Store) -> None:
    store.delete("a/b")
    store.put("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a/.hidden"])
def test_an_invalid_key_is_refused(store: Store, key: str) -> None:
    for verb in (store.get, store.open, store.stat, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(JobError, match="not an object key") as refused:
            verb(key)
        assert refused.value.code == ExitCode.CONFIG


def test_readers_never_see_half_an_object(store: Store) -> None:
    """Two writers put objects of different lengths; every reader gets one of them whole."""
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


@pytest.mark.parametrize("most", [0, 1, 5 << 20])
def test_a_source_without_an_end_is_copied_up_to_the_limit(most: int) -> None:
    read, written = [], io.BytesIO()

    def endless(size: int) -> bytes:
        read.append(size)
        return bytes(size)

    with pytest.raises(DocumentInvalid, match=f"object a is larger than {most} bytes"):
        copy_bounded("a", endless, written, max_bytes=most)
    assert len(written.getvalue()) <= most
    assert sum(read) <= most + 1


# ---------------------------------------------------------------- a folder


def test_a_folder_is_for_its_owner_alone(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    assert stat.S_IMODE(file_store.root.stat().st_mode) == 0o700


def test_a_temporary_file_of_a_killed_writer_is_not_an_object(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    (file_store.root / "a" / ".c.json.1234.tmp").write_bytes(b"half")
    assert keys(file_store, "a/") == ["a/b"]


def test_a_sweep_removes_files_of_killed_writers_and_keeps_files_being_written(file_store: FileStore) -> None:
    file_store.put("a/b/c", b"1")
    file_store.put("a/d/gone", b"1")
    for folder in ("a/b", "a/d", "other"):
        (file_store.root / folder).mkdir(exist_ok=True)
        (file_store.root / folder / ".0011.tmp").write_bytes(b"half")
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
    # For one file, this is like a disk with a kilobyte left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(StoreUnavailable, match=r"no free space for a/b in .*: File too large") as full:
            file_store.put("a/b", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.advice == "free space there or choose another --store"
    assert full.value.code is ExitCode.STORE_FULL, "waiting does not help, unlike with a server"
    assert file_store.get("a/b") == b"old"
    assert os.listdir(file_store.root / "a") == ["b"]


def test_a_file_system_that_is_read_only_is_reported_as_one(
    file_store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(safe_files, "create", refuse)
    with pytest.raises(StoreDenied, match=r"no a/b in .*: Read-only file system") as denied:
        file_store.put("a/b", b"")
    assert denied.value.advice == "mount that file system for writing, or choose another --store"


def test_hidden_folders_are_not_named(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    (file_store.root / ".local" / "locks").mkdir(parents=True)
    assert list(file_store.folders("")) == ["a"]


def test_empty_folders_do_not_stay(file_store: FileStore) -> None:
    file_store.put("a/b/c/d", b"")
    file_store.put("a/e", b"")
    file_store.delete("a/b/c/d")
    assert sorted(path.name for path in file_store.root.rglob("*")) == ["a", "e"]


def test_a_file_in_place_of_a_folder_is_reported(file_store: FileStore) -> None:
    file_store.put("a", b"")
    with pytest.raises(StoreUnavailable, match=r"a/b in .*: Not a directory|a/b in .*: File exists"):
        file_store.put("a/b", b"")
    assert file_store.stat("a/b") is None


def test_a_prefix_is_no_object(file_store: FileStore) -> None:
    file_store.put("a/b", b"")
    assert file_store.stat("a") is None
    with pytest.raises(ObjectMissing):
        file_store.get("a")


def test_a_put_survives_deletes_in_the_same_folder(file_store: FileStore) -> None:
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
def test_a_folder_of_another_user_is_reported(file_store: FileStore) -> None:
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
def test_an_unsupported_url_is_refused(url: str) -> None:
    with pytest.raises(JobError, match="is not the URL of a store") as refused:
        open_store(url)
    assert refused.value.code == ExitCode.USAGE
    assert "file:///absolute/folder" in refused.value.advice


def test_reading_from_a_store_creates_no_folder(file_store: FileStore) -> None:
    assert keys(file_store, "runs/") == []
    assert list(file_store.folders("runs/")) == []
    assert file_store.stat("runs/a") is None
    file_store.delete("runs/a")
    assert not file_store.root.exists()


# ---------------------------------------------------------------- links, pipes and what else a folder can hold


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside the store: it must not be changed or read."""
    folder = tmp_path / "outside"
    (folder / "empty").mkdir(parents=True)
    for name in ("file", ".0011.tmp"):
        (folder / name).write_bytes(b"secret")
    return folder


@pytest.fixture
def untouched(outside: Path) -> Iterator[None]:
    """Check that the test does not change it."""
    yield
    assert sorted(path.name for path in outside.rglob("*")) == [".0011.tmp", "empty", "file"]
    assert (outside / "file").read_bytes() == b"secret"


def _pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _locked_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path, 0)


def _socket(path: Path, _: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def _link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def _link_to_itself(path: Path, _: Path) -> None:
    path.symlink_to(path)


Make = Callable[[Path, Path], None]
ENTRIES = [_pipe, _locked_pipe, _socket, _link, _link_to_folder, _link_to_nothing, _link_to_itself]
STRANGE = pytest.mark.parametrize("make", ENTRIES, ids=[make.__name__[1:] for make in ENTRIES])


@STRANGE
@pytest.mark.timeout(20)
def test_a_special_file_is_not_an_object(
    file_store: FileStore, outside: Path, untouched: None, tmp_path: Path, make: Make
) -> None:
    file_store.put("a/real", b"1")
    make(file_store.root / "a" / "x", outside)
    for read in (file_store.get, file_store.open, lambda key: file_store.get_file(key, tmp_path / "copy")):
        with pytest.raises(ObjectMissing, match="a/x"):
            read("a/x")
    assert not (tmp_path / "copy").exists()
    assert file_store.stat("a/x") is None
    assert keys(file_store, "") == ["a/real"]
    assert keys(file_store, "a/x/") == []
    assert list(file_store.folders("a/")) == list(file_store.folders("a/x/")) == []


@STRANGE
@pytest.mark.timeout(20)
def test_a_put_replaces_such_an_entry_itself(
    file_store: FileStore, outside: Path, untouched: None, tmp_path: Path, make: Make
) -> None:
    file_store.put("a/real", b"1")
    make(file_store.root / "a" / "x", outside)
    file_store.put("a/x", b"2")
    assert file_store.get("a/x") == b"2"
    assert stat.S_ISREG((file_store.root / "a" / "x").lstat().st_mode)
    (tmp_path / "new").write_bytes(b"3")
    (file_store.root / "a" / "x").unlink()
    make(file_store.root / "a" / "x", outside)
    file_store.put_file("a/x", tmp_path / "new")
    assert file_store.get("a/x") == b"3"


@STRANGE
@pytest.mark.timeout(20)
def test_a_delete_removes_such_an_entry_itself(
    file_store: FileStore, outside: Path, untouched: None, make: Make
) -> None:
    file_store.put("a/b/real", b"1")
    make(file_store.root / "a" / "b" / "x", outside)
    file_store.delete("a/b/x")
    assert os.listdir(file_store.root / "a" / "b") == ["real"]


@STRANGE
@pytest.mark.timeout(20)
def test_a_sweep_leaves_such_entries_alone(file_store: FileStore, outside: Path, untouched: None, make: Make) -> None:
    file_store.put("a/b/real", b"1")
    (file_store.root / "a" / "b" / ".0022.tmp").write_bytes(b"half")
    make(file_store.root / "a" / "b" / ".0011.tmp", outside)
    make(file_store.root / "a" / "x", outside)
    file_store.sweep("a/")
    assert sorted(os.listdir(file_store.root / "a" / "b")) == [".0011.tmp", "real"]


@pytest.mark.parametrize("folder", ["a", "a/b", "a/b/c"])
def test_no_operation_follows_a_link_below_the_folder(
    file_store: FileStore, outside: Path, untouched: None, tmp_path: Path, folder: str
) -> None:
    link = file_store.root / folder
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    for read in (file_store.get, file_store.open, lambda key: file_store.get_file(key, tmp_path / "copy")):
        with pytest.raises(ObjectMissing):
            read(f"{folder}/file")
    assert file_store.stat(f"{folder}/file") is None
    assert keys(file_store, "") == keys(file_store, f"{folder}/") == keys(file_store, f"{folder}/empty/") == []
    assert list(file_store.folders(f"{folder}/")) == list(file_store.folders(f"{folder}/empty/")) == []
    assert folder.rpartition("/")[2] not in list(file_store.folders(f"{folder.rpartition('/')[0]}/".lstrip("/")))
    for key in (f"{folder}/file", f"{folder}/empty/x", f"{folder}/nothing"):
        file_store.delete(key)
    for prefix in ("a/", f"{folder}/", f"{folder}/empty/"):
        file_store.sweep(prefix)
    assert link.is_symlink()


@pytest.mark.parametrize("key", ["a/b/file", "a/b/c/d"])
def test_a_put_through_a_linked_folder_is_refused_with_what_to_do(
    file_store: FileStore, outside: Path, untouched: None, tmp_path: Path, key: str
) -> None:
    (file_store.root / "a").mkdir(parents=True)
    (file_store.root / "a" / "b").symlink_to(outside)
    (tmp_path / "new").write_bytes(b"3")
    puts: list[Callable[[], None]] = [
        lambda: file_store.put(key, b"2"),
        lambda: file_store.put_file(key, tmp_path / "new"),
    ]
    for put in puts:
        with pytest.raises(JobError) as refused:
            put()
        assert refused.value.code == ExitCode.CONFIG
        assert f"{file_store.root}/a/b is a symbolic link" in refused.value.summary
        assert refused.value.advice == "replace it by a folder, or use the folder that it points to for --store"


def test_a_folder_that_is_replaced_by_a_link_is_not_entered(
    file_store: FileStore, outside: Path, untouched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two checks another process can act: the delete below finds another folder than at its check."""
    file_store.put("a/empty/x", b"1")
    unlink = os.unlink

    def swapped(name: str, *, dir_fd: int | None = None) -> None:
        unlink(name, dir_fd=dir_fd)
        (file_store.root / "a").rename(file_store.root / "moved")
        (file_store.root / "a").symlink_to(outside)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", swapped)
        file_store.delete("a/empty/x")
    assert (file_store.root / "moved" / "empty").is_dir()


def test_the_folder_itself_may_be_behind_links(tmp_path: Path) -> None:
    (tmp_path / "disk" / "mine").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "disk" / "store").symlink_to("mine")
    store = FileStore(tmp_path / "link" / "store")
    store.put("a/b", b"1")
    assert (store.get("a/b"), keys(store, "")) == (b"1", ["a/b"])
    store.sweep("a/")
    store.delete("a/b")
    assert list((tmp_path / "disk" / "mine").iterdir()) == []


def test_an_object_is_no_folder_of_others(file_store: FileStore) -> None:
    file_store.put("a", b"1")
    with pytest.raises(ObjectMissing):
        file_store.get("a/b")
    assert keys(file_store, "a/") == []
    file_store.delete("a/b")
    file_store.sweep("a/")
    assert file_store.get("a") == b"1"


def test_a_prefix_is_neither_replaced_nor_deleted(file_store: FileStore) -> None:
    file_store.put("a/b", b"1")
    with pytest.raises(StoreUnavailable, match="Is a directory"):
        file_store.put("a", b"2")
    file_store.delete("a")
    assert file_store.get("a/b") == b"1"
    assert os.listdir(file_store.root) == ["a"]


def test_a_sweep_removes_folders_that_a_killed_writer_has_made(file_store: FileStore) -> None:
    (file_store.root / "a" / "b" / "c").mkdir(parents=True)
    file_store.sweep("a/")
    assert os.listdir(file_store.root) == []


def open_below(folder: Path) -> list[str]:
    """Files and folders in *folder* that this process has open. Other tests open and close others meanwhile."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(Path(f"/proc/self/fd/{number}").readlink())
    return [str(link) for link in links if link.is_relative_to(folder.resolve())]


def test_a_listing_that_is_abandoned_holds_no_descriptor(file_store: FileStore) -> None:
    for number in range(4):
        file_store.put(f"a/b/{number}/x", b"")
    begun = [file_store.list("") for _ in range(300)]
    assert {next(listing).key for listing in begun} == {"a/b/0/x"}
    assert open_below(file_store.root) == []


def test_no_operation_leaves_an_open_descriptor(file_store: FileStore, outside: Path, tmp_path: Path) -> None:
    file_store.put("a/real", b"12")
    (file_store.root / "link").symlink_to(outside)
    os.mkfifo(file_store.root / "a" / "pipe")
    verbs: list[Callable[[str], object]] = [
        file_store.get,
        file_store.stat,
        lambda key: list(file_store.folders(f"{key}/")),
        file_store.delete,
        lambda key: file_store.open(key).close(),
        lambda key: file_store.open(key, max_bytes=1),
        lambda key: file_store.get_file(key, tmp_path / "never" / "made"),
        lambda key: file_store.put(key, b"12"),
        lambda key: file_store.sweep(f"{key}/"),
    ]
    for verb, key in itertools.product(verbs, ("a/real", "a/pipe", "a", "a/nothing/x", "link/file", "a/real/x")):
        try:
            verb(key)
        except (JobError, OSError):
            continue
    assert open_below(tmp_path) == []


# ---------------------------------------------------------------- private


@pytest.fixture(params=[0o000, 0o022, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(*paths: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_a_store_and_all_above_it_that_is_missing_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    store = FileStore(tmp_path / "x" / "y" / "store")
    store.put("a/b/c", b"1")
    folders = [store.root, *store.root.parents[:2], store.root / "a", store.root / "a" / "b"]
    assert modes(*folders) == {0o700}
    assert modes(store.root / "a" / "b" / "c") == {0o600}
    assert store.get("a/b/c") == b"1"


def test_a_private_folder_is_made_with_its_parents_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    make_private(tmp_path / "x" / "y" / "z")
    assert modes(tmp_path / "x", tmp_path / "x" / "y", tmp_path / "x" / "y" / "z") == {0o700}


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x").chmod(0o755)
    make_private(tmp_path / "x" / "y")
    make_private(tmp_path / "x")
    assert modes(tmp_path / "x") == {0o755}
    (tmp_path / "link").symlink_to("x")
    make_private(tmp_path / "link" / "z")
    assert modes(tmp_path / "x" / "z") == {0o700}


@pytest.mark.parametrize("folder", ["file", "link"])
def test_a_file_or_link_is_not_replaced_by_a_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_private(tmp_path / folder / "x")
    with pytest.raises(StoreUnavailable, match=r"File exists|Not a directory"):
        FileStore(tmp_path / folder).put("a/b", b"")


def test_a_users_file_has_the_mode_of_the_umask_and_may_be_behind_links(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "link" / "file", lambda file: file.write(b"1"))
    finally:
        os.umask(before)
    assert (tmp_path / "folder" / "file").read_bytes() == b"1"
    assert modes(tmp_path / "folder" / "file") == {0o644}
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_a_users_file_stays_whole_when_writing_fails(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", fail)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.fixture
def shared(file_store: FileStore) -> FileStore:
    """A store that other users have access to."""
    for name in ("runs/a", "work/b", "doctor/c"):
        file_store.put(name, b"1")
    (file_store.root / ".local").mkdir()
    (file_store.root / f".{'0' * 16}.tmp").write_bytes(b"half")
    file_store.root.chmod(0o755)
    return file_store


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o707, 0o777, 0o701])
def test_a_store_that_others_have_access_to_is_taken_from_them_with_a_message(shared: FileStore, mode: int) -> None:
    shared.root.chmod(mode)
    message = shared.keep_private()
    assert message == f"{shared.root}: other users had access to this store; now it is private (mode 0700)"
    assert modes(shared.root) == {0o700}
    assert shared.keep_private() is None
    assert shared.get("runs/a") == b"1"


def test_an_empty_folder_is_made_private_too(file_store: FileStore) -> None:
    file_store.root.mkdir()
    file_store.root.chmod(0o755)
    assert file_store.keep_private()
    assert modes(file_store.root) == {0o700}


def test_a_store_behind_a_link_is_made_private_itself(shared: FileStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared.root)
    assert FileStore(tmp_path / "link").keep_private()
    assert modes(shared.root) == {0o700}


def refused(store: FileStore, mode: int = 0o755) -> None:
    """The folder is not changed, and the message is that others have access."""
    for _ in range(2):
        message = store.keep_private()
        assert message is not None
        assert message.startswith(f"{store.root}: other users have access to this store (mode {mode:04o})")
        assert "--store" in message
        assert modes(store.root) == {mode}


@pytest.mark.parametrize("name", ["holiday.jpg", ".ssh", "runs2", "Runs", ".0011.tmp", "lost+found"])
def test_a_folder_that_holds_something_else_is_not_changed_but_reported(shared: FileStore, name: str) -> None:
    (shared.root / name).mkdir()
    refused(shared)


def test_a_folder_that_is_shared_on_purpose_is_not_changed(file_store: FileStore) -> None:
    file_store.root.mkdir()
    file_store.root.chmod(0o1777)
    refused(file_store, 0o1777)


def test_a_home_folder_is_not_changed(shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(shared.root))
    refused(shared)


def test_an_empty_folder_at_the_top_of_the_system_is_not_changed(
    file_store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_store.root.mkdir()
    file_store.root.chmod(0o755)
    monkeypatch.setattr(Path, "resolve", lambda _: Path("/srv"))
    refused(file_store)


def test_a_folder_of_another_user_is_not_changed(shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    refused(shared)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_store_in_which_another_user_has_something_is_not_changed(shared: FileStore) -> None:
    os.chown(shared.root / "work", 12345, 12345)
    refused(shared)


def test_a_mode_that_cannot_be_changed_is_no_failure(shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fchmod", fail)
    refused(shared)


def test_a_store_that_is_private_or_not_there_gets_no_message(file_store: FileStore) -> None:
    assert file_store.keep_private() is None
    assert not file_store.root.exists()
    file_store.put("runs/a", b"")
    assert file_store.keep_private() is None


def test_using_a_store_changes_nothing_that_is_there(shared: FileStore) -> None:
    opened = open_store(shared.url)
    opened.put("runs/b", b"")
    opened.get("runs/b")
    list(opened.list(""))
    assert modes(shared.root) == {0o755}, "only the command line repairs"
