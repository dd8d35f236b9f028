"""What the driver's files and libcuda say about the GPU."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from chunk_job.engine import gpu
from chunk_job.engine.gpu import Gpu

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (u22)\nGCC: 13.2.0\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"


def driver_files(root: Path, version: str = OPEN, **models: str) -> Path:
    """Files as the driver has them below *root*. *models*: each GPU's name by its address."""
    folder = root / "proc" / "driver" / "nvidia"
    folder.mkdir(parents=True)
    (folder / "version").write_text(version, encoding="utf-8")
    for address, model in models.items():
        (folder / "gpus" / address).mkdir(parents=True)
        text = f"Model: \t\t {model}\nIRQ:   \t\t 18\nGPU UUID: \t GPU-1\n"
        (folder / "gpus" / address / "information").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "version,models,found",
    [
        (OPEN, {"a": "NVIDIA H100 80GB HBM3"}, Gpu(name="NVIDIA H100 80GB HBM3", driver="580.65.06")),
        (CLOSED, {"a": "NVIDIA L4", "b": "NVIDIA L4"}, Gpu(name="NVIDIA L4", driver="535.183.01")),
        (CLOSED, {"a": "Tesla T4", "b": "NVIDIA A10"}, Gpu(name="NVIDIA A10+Tesla T4", driver="535.183.01")),
        ("something else", {}, Gpu(name="unknown", driver="unknown")),
        (OPEN, {"a": ""}, Gpu(name="unknown", driver="580.65.06")),
    ],
)
def test_name_and_driver_are_read_before_cuda_starts(
    tmp_path: Path, version: str, models: dict[str, str], found: Gpu
) -> None:
    assert gpu.installed(driver_files(tmp_path, version, **models)) == found


def test_a_system_without_the_driver_has_no_gpu(tmp_path: Path) -> None:
    assert not gpu.is_present(tmp_path)
    assert gpu.installed(tmp_path) == Gpu(name="unknown", driver="unknown")
    assert gpu.is_present(driver_files(tmp_path))


@pytest.mark.parametrize("device", ["nvidiactl", "dxg"])
def test_a_gpu_may_be_there_without_the_driver_s_files(tmp_path: Path, device: str) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    assert gpu.is_present(tmp_path)


class FakeCuda:
    """libcuda with one GPU. *failing*: a function that returns an error."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.started = False

    def cuInit(self, flags: int) -> int:  # noqa: N802
        self.started = flags == 0
        return 100 * (self.failing == "cuInit")

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 7 + ordinal
        return 101 * (self.failing == "cuDeviceGet")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        assert (self.started, device.value) == (True, 7)
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 1 * (self.failing == "cuDeviceGetAttribute")


@pytest.mark.parametrize("failing,found", [("", (9, 0)), *((name, None) for name in dir(FakeCuda) if name[:2] == "cu")])
def test_the_compute_capability_is_that_of_the_first_gpu(
    monkeypatch: pytest.MonkeyPatch, failing: str, found: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(failing) if name == "libcuda.so.1" else None)
    assert gpu.compute_capability() == found


def test_without_libcuda_there_is_no_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpu.compute_capability() is None


@pytest.mark.parametrize(
    "capability,native", [((7, 5), True), ((8, 0), True), ((8, 9), True), ((9, 0), False), ((12, 0), False)]
)
def test_code_for_8_6_runs_on_8_9_and_not_on_9_0(capability: tuple[int, int], native: bool) -> None:
    assert gpu.has_native_code(capability) is native
