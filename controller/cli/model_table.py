"""The table of ``model list``: what each published model needs, and which are on this machine.

Touches: the environment and the cache of the hub, of which only names are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chunk_job.errors import JobError
from chunk_job.model_manifest import ModelManifest
from chunk_job.models.cache import place
from chunk_job.models.verification import read_manifest
from chunk_job.names import MODEL_FILES, MODELS, KnownModel
from controller.runners.kubernetes.job_memory import chunk_memory_mb

_CHUNK_S = 720
# Fitted to what others measured for three models (docs/how-to/cluster.md), and never below that.
_GPU_INT8_MB, _GPU_INT8_FACTOR = 700, 0.75
_GPU_FLOAT16_MB, _GPU_FLOAT16_FACTOR = 900, 1.2


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published model. Sizes are in MB."""

    name: str
    repository: str
    parameters_millions: int
    languages: int
    license: str
    disk_mb: int
    gpu_int8_mb: int
    gpu_float16_mb: int
    cpu_memory_mb: int
    """Host memory of a job without a GPU, for a chunk of the default length."""
    here: str
    """Its folder; empty if it is not on this machine."""
    has_manifest: bool


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy of a model in S3."""

    folder: str
    source: str
    quantization: str
    disk_mb: int


def rows() -> list[Row]:
    """All published models."""
    return [_row(name, known) for name, known in MODELS.items()]


def copies() -> list[Copy]:
    """The copies of models in S3 on this machine. Raises nothing: without a cache there are none."""
    try:
        folders = sorted(path for path in place().iterdir() if path.is_dir() and not path.name.startswith("."))
    except (JobError, OSError):
        return []
    found = ((folder, _manifest(folder)) for folder in folders)
    return [
        Copy(
            folder=str(folder),
            source=manifest.source,
            quantization=manifest.quantization,
            disk_mb=round(manifest.size_bytes / 1e6),
        )
        for folder, manifest in found
        if manifest
    ]


def hub_folder(repository: str) -> Path | None:
    """The folder of a repository in the hub's cache, if a complete model is there."""
    home = hub_cache()
    if home is None:
        return None
    folder = home / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if all((snapshot / name).is_file() for name in MODEL_FILES) else None


def hub_cache() -> Path | None:
    """The folder of the hub's client; None for a user without a home folder."""
    variables = os.environ  # noqa: TID251 (where the hub's client keeps models)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := variables.get(name):
            return Path(given)
    if given := variables.get("HF_HOME"):
        return Path(given) / "hub"
    base = Path(variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 (as elsewhere)
    return base / "huggingface" / "hub" if base.is_absolute() else None


def _row(name: str, known: KnownModel) -> Row:
    folder = hub_folder(known.repository)
    return Row(
        name=name,
        repository=known.repository,
        parameters_millions=known.parameters_m,
        languages=known.languages,
        license=known.license,
        disk_mb=known.size_mb,
        gpu_int8_mb=round(_GPU_INT8_MB + _GPU_INT8_FACTOR * known.size_mb),
        gpu_float16_mb=round(_GPU_FLOAT16_MB + _GPU_FLOAT16_FACTOR * known.size_mb),
        cpu_memory_mb=round(chunk_memory_mb(model_mb=known.size_mb, cuda=False, audio_s=_CHUNK_S)),
        here=str(folder or ""),
        has_manifest=bool(folder and _manifest(folder)),
    )


def _manifest(folder: Path) -> ModelManifest | None:
    try:
        return read_manifest(folder)
    except (JobError, OSError):
        return None
