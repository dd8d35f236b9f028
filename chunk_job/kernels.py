"""Names for compiled GPU kernels that are kept: variables, folders, and the document beside them.

Touches: nothing. CUDA compiles the kernels of a library without code for this GPU at their first use, 12 to 18 s in
every process, unless its cache has them. ``chunk_job.engine.kernel_cache`` explains how they are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.document import Document, ElapsedMs, Sha256

PLACE = "STENOFLEET_KERNEL_CACHE"
"""Variable: a private folder that outlives the process, for CUDA's cache. Default: in the user's cache folder."""
SOURCE = "STENOFLEET_COMPILED_KERNELS"
"""Variable: a folder with compiled kernels that is only read, for example on the model's volume."""
IN_STORE = "--kernels-in-store"
"""Argument of a chunk job that takes compiled kernels from the store, and puts them there."""
FOLDER = ".stenofleet-kernels"
"""Folder with compiled kernels in a model folder, beside it, or in the hub's cache."""
DESCRIPTION = "kernels.json"
"""The document in the folder of one key. It is written with the folder, so the folder is complete if it is there."""

MOST_BYTES = 512 << 20
"""Most bytes of compiled kernels that are copied. Those of all compute types of a GPU have about 30 MB."""
MOST_FILES = 5_000

_PART = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}"
_NOT_IN_A_KEY = re.compile(r"[^0-9A-Za-z.]+")

RelativePath = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART}){{0,7}}$")]
"""A path without ``.`` and ``..``: it cannot leave its folder."""


class CompiledKernels(Document):
    """What the files of one key are for, and their digests."""

    max_bytes: ClassVar[int] = 2 << 20
    schema_: Literal["stenofleet.kernels/1"] = Field(default="stenofleet.kernels/1", alias="schema")
    gpu: str = Field(max_length=200)
    driver: str = Field(max_length=200)
    ctranslate2: str = Field(max_length=200)
    compute_types: tuple[Annotated[str, Field(max_length=32)], ...] = Field(max_length=16)
    compiled_ms: ElapsedMs
    """The first use of the model in these types, without loading it."""
    files: dict[RelativePath, Sha256] = Field(min_length=1, max_length=MOST_FILES)


def key(*, gpu: str, driver: str, ctranslate2: str) -> str:
    """The name of the folder for a GPU, its driver and a version of ctranslate2."""
    parts = (gpu, driver, f"ct2 {ctranslate2}")
    return "_".join(_NOT_IN_A_KEY.sub("-", part).strip("-.")[:80] or "unknown" for part in parts)


def place(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """The folder for CUDA's cache that outlives the process, or None if there is none.

    *home*: the user's home folder, None if there is none.
    """
    if given := environment.get(PLACE):
        return Path(given)
    cache = Path(environment.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        if home is None:
            return None
        cache = home / ".cache"
    return cache / "stenofleet" / "kernels"
