"""Kernels that CUDA compiles, without a GPU."""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from chunk_job import kernels
from chunk_job.engine import compile_kernels
from chunk_job.engine.kernel_cache import CUDA_PATH

NAME = "NVIDIA-H100-80GB-HBM3"
KEY = f"{NAME}_580.65.06_ct2-{importlib.metadata.version('ctranslate2')}"
FILES = {"index": b"two entries", "3/a/0f4e": b"kernel one" * 100, "9/c/11aa": b"kernel two" * 100}


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
