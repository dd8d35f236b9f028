"""What is known about the GPU before CUDA is used: CUDA reads its cache's path only once, when it starts.

Touches: files of the NVIDIA driver, libcuda.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
_NEWEST_NATIVE_MAJOR = 8
"""ctranslate2's wheel has code up to compute capability 8.6, which 8.9 runs too. For 9 and later CUDA compiles it."""
_COMPILED_MS = 3_000
"""If CUDA does not say which GPU this is, a shorter first use means that nothing was compiled."""
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # of CUdevice_attribute
_MOST_CHARACTERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Name and driver version of the GPU, ``unknown`` if the driver's files do not say. Several names are joined."""

    name: str
    driver: str

    @property
    def is_known(self) -> bool:
        """Whether the driver's files say both."""
        return UNKNOWN not in (self.name, self.driver)


def is_present(root: Path = Path("/")) -> bool:
    """Whether this system has an NVIDIA driver. *root*: of its file system."""
    return any((root / path).exists() for path in ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"))


def installed(root: Path = Path("/")) -> Gpu:
    """The GPU, from the driver's files. In a container these are only the GPUs that it may use."""
    driver = root / "proc" / "driver" / "nvidia"
    version = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", _text(driver / "version"))
    try:
        gpus = sorted((driver / "gpus").iterdir())
    except OSError:
        gpus = []
    models = (re.search(r"^Model:[ \t]*(\S.*?)\s*$", _text(gpu / "information"), re.MULTILINE) for gpu in gpus)
    names = sorted({found[1] for found in models if found})
    return Gpu(name="+".join(names) or UNKNOWN, driver=version[1] if version else UNKNOWN)


def compute_capability() -> tuple[int, int] | None:
    """The compute capability of the first GPU, or None if CUDA does not say. Starts CUDA in this process."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(device), 0)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), _CAPABILITY_MAJOR, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(minor), _CAPABILITY_MINOR, device)),
    )
    failed = any(getattr(cuda, name)(*arguments) for name, arguments in calls)
    return None if failed else (major.value, minor.value)


def has_native_code(capability: tuple[int, int]) -> bool:
    """Whether ctranslate2's wheel has code for this compute capability, so that nothing is compiled."""
    return capability[0] <= _NEWEST_NATIVE_MAJOR


def was_compiled(capability: tuple[int, int] | None, first_use_ms: int) -> bool:
    """Whether kernels were compiled at the first use. *capability*: None if CUDA does not say."""
    return first_use_ms >= _COMPILED_MS if capability is None else not has_native_code(capability)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_CHARACTERS)
    except OSError:
        return ""
