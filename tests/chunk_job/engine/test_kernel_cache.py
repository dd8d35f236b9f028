"""CUDA's cache: where it is, what it starts with, and how it is filled for pods."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chunk_job import kernels
from chunk_job.engine import compile_kernels, kernel_files
from chunk_job.engine.kernel_cache import CUDA_PATH, CUDA_SIZE, KernelCache, set_up
from chunk_job.errors import ExitCode, JobError
from chunk_job.kernels import FOLDER, CompiledKernels
from controller import demo
from tests.chunk_job.engine.test_gpu import driver_files

NAME = "NVIDIA-H100-80GB-HBM3"
KEY = f"{NAME}_580.65.06_ct2-{importlib.metadata.version('ctranslate2')}"
FILES = {"index": b"two entries", "3/a/0f4e": b"kernel one" * 100, "9/c/11aa": b"kernel two" * 100}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with a GPU, a home folder, and a temporary folder."""
    cleared = ("CUDA_CACHE_DISABLE", "XDG_CACHE_HOME", "HF_HUB_CACHE", kernels.PLACE, kernels.SOURCE)
    # Set first, so that the end of the test removes what the code sets.
    for name in (CUDA_PATH, CUDA_SIZE, *cleared):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for variable, folder in (("HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return driver_files(tmp_path / "system", a="NVIDIA H100 80GB HBM3")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder on a volume."""
    folder = tmp_path / "volume" / "model"
    folder.mkdir(parents=True)
    (folder / "model.bin").touch()
    return folder


def used(files: dict[str, bytes] = FILES, *, ms: int = 15_000) -> compile_kernels.Use:
    """A use of the model in which CUDA writes these files into its cache."""

    def use(_: Path) -> tuple[tuple[str, ...], int]:
        for name, data in files.items():
            path = Path(os.environ[CUDA_PATH]) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return ("int8_float16", "float16"), ms

    return use


def collected(folder: Path, model: Path, root: Path, **changes: Any) -> str:
    how: dict[str, Any] = {"capability": lambda: (9, 0), "use": used(), **changes}
    return compile_kernels.collect(folder, model, root=root, **how)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != kernels.DESCRIPTION
    }


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
        kernel_files.copy(source, (KEY,), found, Path.home() / "copy", trusted=others)
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
    kernel_files.copy(source, (KEY,), found, target, trusted=trusted)
    assert content(target) == {"index": b"first"}
    assert [path.name for path in Path.home().iterdir()] == ["copy"]


# ---------------------------------------------------------------- compiling


def test_compiled_kernels_are_readable_for_all_and_described(root: Path, model: Path) -> None:
    mask = os.umask(0o077)
    try:
        collected(model / FOLDER, model, root)
    finally:
        os.umask(mask)
    folder = model / FOLDER / KEY
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert (modes, {path.stat().st_mode & 0o777 for path in (folder, folder / "3", folder / "3/a")}) == (
        {0o644},
        {0o755},
    )
    document = CompiledKernels.decode((folder / kernels.DESCRIPTION).read_bytes())
    assert (document.gpu, document.driver, document.compiled_ms) == ("NVIDIA H100 80GB HBM3", "580.65.06", 15_000)
    assert document.compute_types == ("int8_float16", "float16")
    assert set(document.files) == set(FILES)


def test_kernels_are_compiled_once(root: Path, model: Path) -> None:
    def never(_: Path) -> Any:
        raise AssertionError("used again")

    collected(model / FOLDER, model, root)
    assert collected(model / FOLDER, model, root, use=never).endswith(
        "has the kernels of NVIDIA H100 80GB HBM3 already"
    )


def test_damaged_kernels_are_replaced(root: Path, model: Path) -> None:
    collected(model / FOLDER, model, root)
    (model / FOLDER / KEY / kernels.DESCRIPTION).write_bytes(b"{}")
    collected(model / FOLDER, model, root)
    assert content(model / FOLDER / KEY) == FILES
    assert [path.name for path in (model / FOLDER).iterdir()] == [KEY]


@pytest.mark.parametrize(
    "changes,line",
    [
        ({"capability": lambda: (8, 9)}, "ctranslate2 has code for NVIDIA H100 80GB HBM3 (compute capability 8.9)"),
        ({"capability": lambda: None, "use": used(ms=2_000)}, "needed 2000 ms for its first use: no kernels to keep"),
        ({"use": used({})}, "needed 15000 ms for its first use: no kernels to keep"),
    ],
)
def test_nothing_is_kept_where_nothing_was_compiled(
    root: Path, model: Path, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    assert line in collected(model / FOLDER, model, root, **changes)
    assert not (model / FOLDER).exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_gpu_of_unknown_capability_that_compiled_is_kept(root: Path, model: Path) -> None:
    assert collected(model / FOLDER, model, root, capability=lambda: None).startswith("compiled the kernels")


def test_without_a_gpu_it_says_so(root: Path, model: Path, tmp_path: Path) -> None:
    line = collected(model / FOLDER, model, tmp_path / "no-driver")
    assert line == "no NVIDIA GPU here: no kernels to compile"
    assert not (model / FOLDER).exists()


def test_the_cache_is_new_while_kernels_are_compiled(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cache that is warm or switched off would leave nothing to keep."""
    monkeypatch.setenv(CUDA_PATH, str(tmp_path / "warm"))
    monkeypatch.setenv("CUDA_CACHE_DISABLE", "1")
    seen = []

    def capability() -> tuple[int, int]:
        seen.append((os.environ[CUDA_PATH], os.environ.get("CUDA_CACHE_DISABLE")))
        return 9, 0

    collected(model / FOLDER, model, root, capability=capability)
    ((path, disabled),) = seen
    assert Path(path).parent == tmp_path / "tmp"
    assert disabled is None


def test_a_folder_that_cannot_be_written_is_reported(root: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="the kernels of NVIDIA H100 80GB HBM3 are not kept") as failed:
        collected(tmp_path / "file" / "below", model, root)
    assert failed.value.code == ExitCode.CONFIG
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_everything_that_jobs_use_of_a_model_runs(compute_type: str) -> None:
    assert compile_kernels.exercise(demo.MODEL, "cpu", compute_type) >= 0


def test_each_compute_type_of_jobs_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctranslate2

    seen = []

    def exercise(folder: Path, device: str, kind: str) -> int:
        seen.append((folder, device, kind))
        return 7_000

    monkeypatch.setattr(compile_kernels, "exercise", exercise)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda _: {"float16", "int8_float16", "int8"})
    assert compile_kernels.use_on_gpu(demo.MODEL) == (("int8_float16", "float16"), 14_000)
    assert seen == [(demo.MODEL, "cuda", "int8_float16"), (demo.MODEL, "cuda", "float16")]


def test_a_gpu_that_fails_is_reported_as_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> int:
        raise RuntimeError("CUDA failed with error unspecified launch failure")

    monkeypatch.setattr(compile_kernels, "exercise", fails)
    with pytest.raises(JobError, match="could not be compiled") as failed:
        compile_kernels.use_on_gpu(demo.MODEL)
    assert failed.value.code == ExitCode.GPU_UNHEALTHY


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
