"""The digest that identifies a model.

Touches: the model folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from chunk_job.model_manifest import MANIFEST
from chunk_job.sampled_digest import add_samples

_SAMPLED_ABOVE = 64 << 20
_SAMPLE_BYTES = 64 << 10


def digest(folder: Path) -> str:
    """A digest of the model's files. The merge refuses results of different models.

    Of files above 64 MiB only the size and 64 samples are used, so that a 3 GB model takes milliseconds. The manifest
    is left out: with or without it, the model is the same.
    """
    total = hashlib.sha256()
    names = (entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    for path in (folder / name for name in sorted(names) if name != MANIFEST):
        size = path.stat().st_size
        total.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _SAMPLED_ABOVE:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            add_samples(total, file, size_bytes=size, sample_bytes=_SAMPLE_BYTES)
    return total.hexdigest()
