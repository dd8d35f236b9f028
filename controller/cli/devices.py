"""Where jobs of this machine will probably run.

Touches: names of devices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from chunk_job.contract import TranscribeOptions

GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")
"""Files of NVIDIA's driver: on Linux, and on Linux inside Windows."""


def has_gpu() -> bool:
    """Whether this machine has the driver of an NVIDIA GPU."""
    return any(Path(path).exists() for path in GPU_DEVICES)


def device_of(wanted: TranscribeOptions) -> Literal["cuda", "cpu"]:
    """Return where jobs will probably run. Only an estimate depends on it: the engine finds out by itself."""
    if wanted.device != "auto":
        return wanted.device
    return "cuda" if has_gpu() else "cpu"
