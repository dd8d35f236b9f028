"""CUDA's cache: where it is, and what it starts with."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chunk_job import kernels
from chunk_job.engine import kernel_files
from chunk_job.engine.kernel_cache import CUDA_PATH, CUDA_SIZE, KernelCache, set_up
from chunk_job.errors import JobError
from chunk_job.kernels import FOLDER
from tests.chunk_job.engine.gpu_kernels import FILES, KEY, collected, content
from tests.chunk_job.engine.test_gpu import driver_files

# ---------------------------------------------------------------- where it is


def test_the_cache_is_in_the_user_s_cache_folder_and_private(root: Path, model: Path) -> None:
    folder = Path.home() / ".cache" / "stenofleet" / "kernels" / KEY
    assert set_up(model, root) == KernelCache(folder=folder, found=False)
    assert os.environ[CUDA_PATH] == str(folder)
    assert int(os.environ[CUDA_SIZE]) == 1 << 30
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


def test_the_next_process_finds_what_the_first_one_left(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set_up(model, root).folder
    assert first is not None
    (first / "index").write_bytes(b"x")
    monkeypatch.delenv(CUDA_PATH)
    assert set_up(model, root) == KernelCache(folder=first, found=True)


@pytest.mark.parametrize("variable,below", [(kernels.PLACE, ""), ("XDG_CACHE_HOME", "stenofleet/kernels")])
def test_a_variable_names_another_place(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, below: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    assert set_up(model, root).folder == tmp_path / "place" / below / KEY


@pytest.mark.parametrize("variable,value", [(CUDA_PATH, "/somewhere"), ("CUDA_CACHE_DISABLE", "1")])
def test_what_the_user_has_set_stays(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    before = dict(os.environ)
    assert set_up(model, root) == KernelCache()
    assert dict(os.environ) == before
    assert list(Path.home().iterdir()) == []


def test_a_size_that_the_user_has_set_stays(root: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUDA_SIZE, "5")
    set_up(model, root)
    assert os.environ[CUDA_SIZE] == "5"


def test_without_a_gpu_nothing_is_set_or_written(root: Path, model: Path, tmp_path: Path) -> None:
    assert set_up(model, tmp_path / "no-driver") == KernelCache()
    assert CUDA_PATH not in os.environ
    assert list(Path.home().iterdir()) == []


def open_to_others(place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o777)


def a_link(place: Path) -> None:
    place.parent.mkdir(parents=True)
    elsewhere = place.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    place.symlink_to(elsewhere)


def a_file(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.touch()


@pytest.mark.parametrize("spoil", [open_to_others, a_link, a_file])
def test_a_place_that_is_not_private_is_replaced_by_a_temporary_one(
    root: Path, model: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    place = Path.home() / ".cache" / "stenofleet" / "kernels"
    spoil(place)
    found = set_up(model, root).folder
    assert found is not None
    assert found.parent.parent == tmp_path / "tmp"
    assert found.parent.stat().st_mode & 0o777 == 0o700
    assert f"{place} cannot hold the GPU's kernels" in caplog.text


def test_a_user_without_a_home_folder_gets_a_temporary_place(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    found = set_up(model, root).folder
    assert found is not None
    assert found.parent.parent == tmp_path / "tmp"


def test_a_key_s_folder_that_others_may_write_to_is_not_used(
    root: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path.home() / ".cache" / "stenofleet" / "kernels" / KEY
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        path.chmod(0o700)
    folder.chmod(0o770)
    assert set_up(model, root) == KernelCache()
    assert CUDA_PATH not in os.environ
    assert "the GPU's kernels are not kept for other jobs: other users may write to" in caplog.text


# ---------------------------------------------------------------- compiled once, copied by every pod


PLACES: dict[str, Callable[[Path], Path]] = {
    "in the model": lambda model: model / FOLDER,
    "beside it": lambda model: model.parent / FOLDER,
    "in the hub's cache": lambda model: model.parents[1] / "hub" / FOLDER,
    "as the variable says": lambda model: model.parents[1] / "given",
}


def variables(model: Path) -> dict[str, str]:
    return {"HF_HUB_CACHE": str(model.parents[1] / "hub"), kernels.SOURCE: str(model.parents[1] / "given")}


@pytest.mark.parametrize("where", PLACES)
def test_a_pod_starts_with_a_copy_of_the_kernels_of_its_gpu(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    source = PLACES[where](model)
    assert collected(source, model, root) == f"compiled the kernels of NVIDIA H100 80GB HBM3 in 15.0 s: {source / KEY}"
    monkeypatch.delenv(CUDA_PATH)
    for name, value in variables(model).items():
        monkeypatch.setenv(name, value)
    before = content(source)
    found = set_up(model, root)
    assert found.found
    assert found.folder is not None
    assert found.folder.is_relative_to(Path.home())
    assert content(found.folder) == FILES
    assert content(source) == before == {f"{KEY}/{name}": data for name, data in FILES.items()}
    assert [path.name for path in found.folder.parent.iterdir()] == [KEY], "no temporary folder is left"
    assert found.folder.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "tmp").iterdir()) == []


def test_kernels_on_a_volume_that_cannot_be_written_are_copied(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model.parent / FOLDER
    collected(source, model, root)
    monkeypatch.delenv(CUDA_PATH)
    for path in (*source.rglob("*"), source, model.parent):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        folder = set_up(model, root).folder
        assert folder is not None
        (folder / "index").write_bytes(b"CUDA writes here")
    finally:
        for path in (model.parent, source, *source.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize("other", ["gpu", "driver", "ctranslate2"])
def test_kernels_of_another_gpu_driver_or_ctranslate2_are_not_used(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str
) -> None:
    here = root
    if other == "gpu":
        here = driver_files(tmp_path / "other", a="NVIDIA B200")
    elif other == "driver":
        here = driver_files(tmp_path / "other", "NVRM Kernel Module  590.10  x", a="NVIDIA H100 80GB HBM3")
    collected(model / FOLDER, model, root)
    monkeypatch.delenv(CUDA_PATH)
    if other == "ctranslate2":
        monkeypatch.setattr(importlib.metadata, "version", lambda _: "4.9.9")
    found = set_up(model, here)
    assert found.folder is not None
    assert (found.found, content(found.folder)) == (False, {})


def changed(folder: Path) -> None:
    (folder / "3/a/0f4e").write_bytes(b"other code")


def missing(folder: Path) -> None:
    (folder / "9/c/11aa").unlink()


def linked(folder: Path) -> None:
    path = folder / "3/a/0f4e"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def linked_folder(folder: Path) -> None:
    (folder / "3").rename(folder.parent / "elsewhere")
    (folder / "3").symlink_to(folder.parent / "elsewhere")


def a_pipe(folder: Path) -> None:
    (folder / "index").unlink()
    os.mkfifo(folder / "index")


def writable(folder: Path) -> None:
    folder.chmod(0o777)


def linked_key(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def no_description(folder: Path) -> None:
    (folder / kernels.DESCRIPTION).unlink()


def leaves_its_folder(folder: Path) -> None:
    path = folder / kernels.DESCRIPTION
    path.write_text(path.read_text(encoding="utf-8").replace("3/a/0f4e", "../../model.bin"), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil", [changed, missing, linked, linked_folder, a_pipe, writable, linked_key, no_description, leaves_its_folder]
)
def test_kernels_that_were_changed_are_not_used(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    source = model / FOLDER
    collected(source, model, root)
    monkeypatch.delenv(CUDA_PATH)
    spoil(source / KEY)
    found = set_up(model, root)
    assert found.folder is not None
    assert (found.found, content(found.folder)) == (False, {})
    assert [path.name for path in found.folder.parent.iterdir()] == [KEY]


def test_kernels_of_another_user_are_not_used(root: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = model / FOLDER
    collected(source, model, root)
    found = kernel_files.description(source, (KEY,), trusted=frozenset({os.geteuid()}))
    assert found is not None
    others = frozenset({os.geteuid() + 1})
    assert kernel_files.description(source, (KEY,), trusted=others) is None
    with pytest.raises(ValueError, match="belongs to another user"):
        kernel_files.copy(kernel_files.reader(source, (KEY,), trusted=others), found, Path.home() / "copy")
    assert list(Path.home().iterdir()) == []


def test_users_who_can_replace_the_model_or_are_root_are_trusted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_files.owners(model) == {0, os.geteuid()}
    monkeypatch.setattr(os, "geteuid", lambda: 10_001)
    assert kernel_files.owners(model) == {0, 10_001, model.stat().st_uid}


def test_too_many_bytes_are_neither_kept_nor_copied(root: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = model / FOLDER
    collected(source, model, root)
    monkeypatch.delenv(CUDA_PATH)
    monkeypatch.setattr(kernel_files, "MOST_BYTES", 1_500)
    assert not set_up(model, root).found
    with pytest.raises(JobError, match="more compiled kernels than can be kept"):
        collected(model.parent / FOLDER, model, root)


def test_of_two_copies_at_once_the_first_one_stays(root: Path, model: Path) -> None:
    source = model / FOLDER
    collected(source, model, root)
    trusted = kernel_files.owners(model)
    found = kernel_files.description(source, (KEY,), trusted=trusted)
    assert found is not None
    target = Path.home() / "copy"
    target.mkdir()
    (target / "index").write_bytes(b"first")
    kernel_files.copy(kernel_files.reader(source, (KEY,), trusted=trusted), found, target)
    assert content(target) == {"index": b"first"}
    assert [path.name for path in Path.home().iterdir()] == ["copy"]


@pytest.mark.parametrize(
    "gpu,key",
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3_580.65.06_ct2-4.8.5"),
        ("../../etc", "etc_580.65.06_ct2-4.8.5"),
        ("", "unknown_580.65.06_ct2-4.8.5"),
        ("A" * 300, f"{'A' * 80}_580.65.06_ct2-4.8.5"),
    ],
)
def test_a_key_is_one_name_of_a_folder(gpu: str, key: str) -> None:
    assert kernels.key(gpu=gpu, driver="580.65.06", ctranslate2="4.8.5") == key
