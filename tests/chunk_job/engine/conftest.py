"""A system with a GPU, as its files tell, and a model on a volume."""

from pathlib import Path

import pytest

from chunk_job import kernels
from chunk_job.engine.kernel_cache import CUDA_PATH, CUDA_SIZE
from tests.chunk_job.engine.test_gpu import driver_files


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
