"""Cases that only a bucket can have: more keys than one page, neighbours of the prefix, objects of other programs."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunk_job.store import s3
from chunk_job.store.base import ObjectMissing, Store
from chunk_job.store.open_store import open_store
from tests.testbed.s3_server import Server


def test_a_listing_of_several_pages_is_whole_and_in_order(store: Store) -> None:
    keys = sorted(f"work/{n % 7}/{n:05}" for n in range(2100))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, b"1"), keys))
    assert [entry.key for entry in store.list("")] == keys
    assert [entry.key for entry in store.list("work/3/")] == [key for key in keys if key.startswith("work/3/")]


def test_folders_of_several_pages_are_named_whole_and_in_order_by_one_request_a_page(
    store: Store, asked: list[str]
) -> None:
    names = [f"{n:05}" for n in range(1500)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"1"), (f"work/{name}/{n}" for name in names for n in range(2))))
    asked.clear()
    assert list(store.folders("work/")) == names
    assert len(asked) == 2


@pytest.mark.parametrize("form", ["s3://{}", "s3://{}/"])
def test_a_whole_bucket_is_a_store(environment: pytest.MonkeyPatch, bucket: str, form: str) -> None:
    store = open_store(form.format(bucket))
    store.put("a/x", b"1")
    assert store.url == f"s3://{bucket}"
    assert [entry.key for entry in store.list("")] == ["a/x"]
    assert open_store(f"s3://{bucket}/a").get("x") == b"1"


def test_a_store_never_leaves_its_prefix(environment: pytest.MonkeyPatch, server: Server, bucket: str) -> None:
    one, other = open_store(f"s3://{bucket}/a/b/"), open_store(f"s3://{bucket}/a/bb")
    assert (one.url, other.url) == (f"s3://{bucket}/a/b", f"s3://{bucket}/a/bb")
    one.put("x", b"1")
    other.put("x", b"2")
    assert [entry.key for entry in one.list("")] == ["x"]
    one.delete("x")
    with pytest.raises(ObjectMissing):
        one.get("x")
    assert other.get("x") == b"2"


def test_keys_may_hold_any_letters(store: Store, server: Server, bucket: str) -> None:
    keys = sorted(["a b", "a+b", "a%20b", "é/ü", "日本/語", "q?x=1&y=#z", "~'()*!"], key=str.encode)
    for key in keys:
        store.put(key, key.encode())
    assert [entry.key for entry in store.list("")] == keys
    assert sorted(store.folders("")) == sorted({key.partition("/")[0] for key in keys if "/" in key})
    for key in keys:
        assert store.get(key) == key.encode()
        entry = store.stat(key)
        assert entry
        assert entry.size_bytes == len(key.encode())


def test_objects_of_others_are_not_ours(store: Store, server: Server, bucket: str) -> None:
    for name in ("some/prefix/", "some/prefix/a/", "some/prefix/.hidden", "some/prefix/a/.b/c", "some/other"):
        server.client().put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(b""), length=0)
    store.put("a/x", b"1")
    assert [entry.key for entry in store.list("")] == ["a/x"]
    assert list(store.folders("")) == ["a"]
    assert list(store.folders("a/")) == []


@pytest.mark.parametrize("extra", [0, 1])
def test_a_large_file_goes_up_in_parts(store: Store, server: Server, bucket: str, tmp_path: Path, extra: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * (s3.PART_BYTES // 256) + b"x" * extra)
    store.put_file("big", file)
    entry = server.client().stat_object(bucket_name=bucket, object_name="some/prefix/big")
    assert (entry.etag or "").endswith("-2") == bool(extra)
    with store.open("big") as stored:
        assert stored.read() == file.read_bytes()
