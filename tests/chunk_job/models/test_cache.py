"""Models in a store: copied, verified, and kept on this machine once, whoever comes at the same time."""

import logging
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import CACHE, MANIFEST, ModelManifest
from chunk_job.models import copying
from chunk_job.models.cache import cached
from chunk_job.models.copying import HashedFile
from chunk_job.models.verification import ModelDamaged, described, verify, write_manifest
from chunk_job.store.files import FileStore
from controller import demo

NAMES = {path.name for path in demo.MODEL.iterdir()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for copies."""
    monkeypatch.setenv(CACHE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bucket(tmp_path: Path) -> FileStore:
    """A store with the model."""
    store = FileStore(tmp_path / "bucket" / "tiny")
    copying.put(demo.MODEL, described(demo.MODEL, source="demo"), store, lambda: None)
    return store


def copied(log: pytest.LogCaptureFixture) -> int:
    """How often a model was copied."""
    return sum(line.startswith("copying the model") for line in log.messages)


def test_a_model_is_copied_once(bucket: FileStore, home: Path) -> None:
    folder = cached(bucket.url)
    assert {path.name for path in folder.iterdir()} >= NAMES
    assert verify(folder, always=True) == copying.manifest_of(bucket)
    bucket.delete("model.bin")
    assert cached(bucket.url) == folder, "only the manifest is read"
    assert {path.name for path in home.iterdir()} == {folder.name}


def test_of_several_jobs_one_copies_and_the_others_wait(
    bucket: FileStore, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stenofleet.chunk_job")
    with ThreadPoolExecutor(6) as jobs:
        found = list(jobs.map(lambda _: cached(bucket.url), range(6)))
    assert len(set(found)) == 1
    assert copied(caplog) == 1


def test_a_copy_that_was_damaged_is_replaced(bucket: FileStore, home: Path) -> None:
    folder = cached(bucket.url)
    os.truncate(folder / "model.bin", 10)
    assert cached(bucket.url) == folder
    assert verify(folder, always=True)


def test_another_model_at_the_same_place_is_another_copy(bucket: FileStore, home: Path) -> None:
    folder = cached(bucket.url)
    copying.put(demo.MODEL, described(demo.MODEL, source="demo", revision="2"), bucket, lambda: None)
    assert cached(bucket.url) != folder
    assert verify(folder), "jobs that use the first one are not disturbed"


def damage(store: FileStore, how: str) -> None:
    if how == "missing":
        store.delete("model.bin")
    elif how == "one too many":
        store.put("more.bin", b"")
    else:
        data = store.get("model.bin")
        store.put("model.bin", data[:1000] if how == "incomplete" else data[:-1] + b"?")


@pytest.mark.parametrize(
    "how,what",
    [
        ("missing", "model.bin is missing"),
        ("incomplete", "model.bin is incomplete: 1000 bytes instead of 2581411"),
        ("changed", "model.bin has sha256 "),
        ("one too many", "more.bin is not in it"),
    ],
)
def test_a_damaged_model_in_the_store_is_not_kept_and_the_object_is_named(
    bucket: FileStore, home: Path, how: str, what: str
) -> None:
    damage(bucket, how)
    with pytest.raises(ModelDamaged) as found:
        cached(bucket.url)
    assert found.value.summary.startswith(f"the model {bucket.url} does not match its manifest: {what}")
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]
    with pytest.raises(ModelDamaged, match=what):
        copying.verify_store(bucket)


def test_a_model_without_a_manifest_is_incomplete(bucket: FileStore, home: Path) -> None:
    bucket.delete(MANIFEST)
    with pytest.raises(JobError, match=r"it has no stenofleet-model\.json, which is written last") as found:
        cached(bucket.url)
    assert found.value.code is ExitCode.MODEL


def test_a_full_disk_is_named_and_nothing_is_left(bucket: FileStore, home: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(JobError, match=r"no space for the model in .* it needs 0\.0 GB") as found:
            cached(bucket.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.value.code is ExitCode.MODEL, "a class that is not tried again"
    assert CACHE in found.value.advice
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_too_little_space_is_seen_before_the_transfer(bucket: FileStore, home: Path) -> None:
    manifest = copying.manifest_of(bucket)
    assert manifest
    files = {name: file.model_copy(update={"size_bytes": 1 << 50}) for name, file in manifest.files.items()}
    huge = ModelManifest(source="x", quantization="int8", files=files)
    with pytest.raises(JobError, match=r"no space .* GB are free"):
        copying.to_folder("there", huge, copying.from_store(bucket), home / "huge", home / "work")


def test_a_model_is_put_in_place_of_another_one(bucket: FileStore, tmp_path: Path) -> None:
    bucket.put("vocabulary.txt", b"of another model")
    copying.put(demo.MODEL, described(demo.MODEL, source="demo"), bucket, lambda: None)
    assert {entry.key for entry in bucket.list("")} == NAMES | {MANIFEST}
    assert copying.verify_store(bucket).source == "demo"


def test_a_transfer_that_starts_again_has_the_hash_of_what_is_there_at_the_end(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        sink = HashedFile(file)
        sink.write(b"a part of")
        assert sink.tell() == 9
        sink.seek(0)
        sink.truncate()
        sink.write(b"all")
    whole = HashedFile()
    whole.write(b"all")
    assert (sink.hexdigest(), sink.tell()) == (whole.hexdigest(), 3)
    assert (tmp_path / "file").read_bytes() == b"all"


def test_a_copy_whose_manifest_is_of_another_model_is_replaced(bucket: FileStore, home: Path) -> None:
    folder = cached(bucket.url)
    (folder / "vocabulary.json").write_text("[]")
    write_manifest(folder, described(folder, source="demo"))
    assert verify(folder), "intact by its own manifest"
    assert cached(bucket.url) == folder
    assert verify(folder, always=True) == copying.manifest_of(bucket)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.bin").touch()
    (tmp_path / "work").mkdir()
    with pytest.raises(FileNotFoundError):
        copying.replace(tmp_path / "tiny", tmp_path / "work" / "removed by somebody")
    assert (tmp_path / "tiny" / "model.bin").exists(), "what is in the other folder is removed at the end"
