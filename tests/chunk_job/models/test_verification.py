"""A model's folder and its manifest: what is found, and when files are read again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.digest import digest
from chunk_job.engine.load import load
from chunk_job.engine.timings import Timings
from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import MANIFEST, MARKER, ModelManifest
from chunk_job.models.verification import ModelDamaged, described, verify, write_manifest
from chunk_job.names import MODEL_FILES
from controller import demo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the model with a manifest."""
    copy = tmp_path / "volume" / "tiny"
    shutil.copytree(demo.MODEL, copy)
    write_manifest(copy, described(copy, source="demo"))
    return copy


def change(path: Path) -> None:
    """Change one byte, and leave size, time and inode as they are."""
    status = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_manifest_has_every_file_with_its_hash(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest
    assert manifest.files.keys() == {path.name for path in demo.MODEL.iterdir()}
    assert (manifest.source, manifest.quantization) == ("demo", "int8")
    assert manifest.size_bytes == sum(path.stat().st_size for path in demo.MODEL.iterdir())


def test_a_folder_without_a_manifest_is_not_verified(tmp_path: Path) -> None:
    assert verify(demo.MODEL) is None


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "model.bin is missing"),
    "incomplete": (lambda path: os.truncate(path, 1000), "model.bin is incomplete: 1000 bytes instead of 2581411"),
    "longer": (lambda path: os.truncate(path, 2581412), "model.bin is too long: 2581412 bytes instead of 2581411"),
    "changed": (lambda path: path.write_bytes(bytes(2581411)), "model.bin has sha256 "),
    "one too many": (lambda path: path.with_name("more.bin").touch(), "more.bin is not in it"),
    "manifest": (lambda path: path.with_name(MANIFEST).write_text("{}"), f"{MANIFEST}: ModelManifest: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_not_loaded_and_the_file_is_named(folder: Path, damage: str) -> None:
    do, what = DAMAGES[damage]
    do(folder / "model.bin")
    with pytest.raises(ModelDamaged) as found:
        load(folder, TranscribeOptions(device="cpu", compute_type="int8"), seed=0, timings=Timings())
    assert found.value.code is ExitCode.MODEL_DAMAGED
    assert found.value.summary.startswith(f"the model {folder} does not match its manifest: {what}")
    assert "--overwrite" in found.value.advice


def test_an_intact_model_is_loaded(folder: Path) -> None:
    options = TranscribeOptions(device="cpu", compute_type="int8")
    loaded = load(folder, options, seed=0, timings=Timings())
    assert loaded.engine.model_digest == digest(demo.MODEL), "with a manifest it is the same model"


def test_files_are_read_again_only_if_they_may_have_changed(folder: Path) -> None:
    change(folder / "config.json")
    assert verify(folder), "size, time and inode are the same: it is not read"
    with pytest.raises(ModelDamaged, match=r"config\.json has sha256"):
        verify(folder, always=True)


def test_a_file_with_another_time_is_read_again_and_then_not_until_the_next_change(folder: Path) -> None:
    os.utime(folder / "config.json", ns=(1, 1))
    assert verify(folder)
    change(folder / "config.json")
    assert verify(folder), "it was noted with its new time"


def test_a_copy_of_a_folder_is_read_although_its_marker_was_copied(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy / "config.json")
    with pytest.raises(ModelDamaged, match=r"config\.json has sha256"):
        verify(copy)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_marker_that_says_nothing_is_ignored(folder: Path, data: bytes) -> None:
    (folder / MARKER).write_bytes(data)
    change(folder / "config.json")
    with pytest.raises(ModelDamaged, match=r"config\.json has sha256"):
        verify(folder)


def test_hidden_files_and_folders_are_not_part_of_a_model(folder: Path) -> None:
    (folder / ".stenofleet-kernels").mkdir()
    (folder / "lost+found").mkdir()
    (folder / ".DS_Store").touch()
    assert verify(folder, always=True)


def test_a_folder_that_is_no_model_gets_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(JobError, match=r"lacks config\.json, tokenizer\.json") as found:
        described(tmp_path, source="x")
    assert found.value.code is ExitCode.MODEL


def test_a_name_that_no_file_of_a_model_has_is_refused(folder: Path) -> None:
    (folder / "model (1).bin").touch()
    with pytest.raises(JobError, match="is not a model folder"):
        described(folder, source="x")


def hub_folder(home: Path, blob: str) -> Path:
    """A snapshot as the hub's client makes it: links to files that are named after their hashes."""
    snapshot, blobs = home / "snapshots" / "abc", home / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in demo.MODEL.iterdir():
        name = blob if path.name == "model.bin" else path.name
        shutil.copy(path, blobs / name)
        (snapshot / path.name).symlink_to(blobs / name)
    return snapshot


def test_the_hash_that_the_hub_told_is_compared(folder: Path, tmp_path: Path) -> None:
    manifest = verify(folder)
    assert manifest
    right = hub_folder(tmp_path / "right", manifest.files["model.bin"].sha256)
    assert described(right, source="demo").files == manifest.files
    with pytest.raises(JobError, match="but the hub says 0000") as found:
        described(hub_folder(tmp_path / "wrong", "0" * 64), source="demo")
    assert found.value.code is ExitCode.MODEL_DAMAGED


def test_models_with_the_same_files_and_origin_have_the_same_digest(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest
    assert ModelManifest.decode(manifest.encode()).digest == manifest.digest
    assert manifest.model_copy(update={"revision": "2"}).digest != manifest.digest
    assert set(MODEL_FILES) <= manifest.files.keys()


def while_loading(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Do something after the model was read into memory."""

    def late(model: Path) -> str:
        found = digest(model)
        do()
        return found

    monkeypatch.setattr("chunk_job.engine.load.digest", late)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_changed_while_it_is_loaded_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    do, what = DAMAGES[damage]
    while_loading(monkeypatch, lambda: do(folder / "model.bin"))
    with pytest.raises(ModelDamaged) as found:
        load(folder, TranscribeOptions(model=str(folder)), seed=1, timings=Timings())
    assert what in found.value.summary
    assert "put the model there again" in found.value.advice


def test_another_model_in_its_place_is_not_used_and_the_same_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(folder, folder.with_name("other")))
    same = Path(shutil.copytree(folder, folder.with_name("same")))
    (other / "vocabulary.json").write_text("[]")
    write_manifest(other, described(other, source="other"))
    options = TranscribeOptions(model=str(folder))

    def replace_by(model: Path) -> None:
        shutil.rmtree(folder)
        model.rename(folder)

    while_loading(monkeypatch, lambda: replace_by(same))
    assert load(folder, options, seed=1, timings=Timings()).engine.model_digest == digest(folder)
    while_loading(monkeypatch, lambda: replace_by(other))
    with pytest.raises(ModelDamaged, match="it was replaced while it was loaded"):
        load(folder, options, seed=1, timings=Timings())
    while_loading(monkeypatch, lambda: shutil.rmtree(folder))
    with pytest.raises(ModelDamaged, match="it was replaced while it was loaded"):
        load(folder, options, seed=1, timings=Timings())


def test_a_load_that_fails_because_files_were_changed_says_which(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> str:
        os.truncate(folder / "model.bin", 1000)
        raise RuntimeError("File model.bin is incomplete: failed to read a buffer")

    monkeypatch.setattr("chunk_job.engine.load.digest", fail)
    with pytest.raises(ModelDamaged, match=r"model\.bin is incomplete: 1000 bytes instead of 2581411"):
        load(folder, TranscribeOptions(model=str(folder)), seed=1, timings=Timings())
