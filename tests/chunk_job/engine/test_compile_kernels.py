"""The command that compiles a GPU's kernels and leaves them for pods."""

import os
from pathlib import Path
from typing import Any

import pytest

from chunk_job import kernels
from chunk_job.engine import compile_kernels
from chunk_job.engine.kernel_cache import CUDA_PATH
from chunk_job.errors import ExitCode, JobError
from chunk_job.kernels import FOLDER, CompiledKernels
from controller import demo
from tests.chunk_job.engine.gpu_kernels import FILES, KEY, collected, content, used


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
