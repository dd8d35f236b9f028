"""Where CUDA keeps the kernels that it compiles, so that jobs do not compile them again.

Touches: the environment, files. ctranslate2's wheel has no code for GPUs since Hopper (compute capability 9): CUDA
compiles it at first use, 12 s for int8 and 18 s for float16 on an H100, in every process that does not find it in
CUDA's cache. :func:`set_up` chooses the folder of this cache; ``compile_kernels`` fills one for pods.

1. ``CUDA_CACHE_PATH``, if the user has set it.
2. Else a private folder that outlives the process: ``STENOFLEET_KERNEL_CACHE``, or in the user's cache folder. CUDA's
   cache is made for several processes at once.
3. Without one (in a pod it is in ``/tmp`` and new), it starts as a copy of kernels that somebody compiled before:
   in the folder ``STENOFLEET_COMPILED_KERNELS``, or ``.stenofleet-kernels`` in the model's folder, beside it, or in the
   hub's cache. These folders are only read. Or in the store, if the user has chosen that (``chunk_job.kernel_store``).
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chunk_job import kernels, safe_files
from chunk_job.engine import gpu, kernel_files
from chunk_job.kernels import CompiledKernels

log = logging.getLogger("stenofleet.chunk_job")

CUDA_PATH = "CUDA_CACHE_PATH"
CUDA_SIZE = "CUDA_CACHE_MAXSIZE"
CUDA_BYTES = str(1 << 30)
"""CUDA removes old kernels beyond this size. Its own default was 256 MB in older versions."""


@dataclass(frozen=True, kw_only=True)
class KernelCache:
    """The folder of CUDA's cache; None if it was not chosen here. *found*: whether it has kernels already."""

    folder: Path | None = None
    found: bool = False


class Elsewhere(Protocol):
    """Compiled kernels in another place than a folder."""

    def find(self, name: str) -> tuple[CompiledKernels, kernel_files.Read] | None:
        """What is known of the kernels of the key *name*, and how their files are read. Never raises."""


def set_up(model_folder: Path, root: Path = Path("/"), *, elsewhere: Elsewhere | None = None) -> KernelCache:
    """Set CUDA's cache for this process. Call it before anything uses CUDA, even before GPUs are counted.

    A cache that cannot be used costs time, never the job: problems are logged. *root*: of the system's files.
    *elsewhere*: asked if no folder has kernels.
    """
    if os.environ.get(CUDA_PATH) or os.environ.get("CUDA_CACHE_DISABLE") == "1" or not gpu.is_present(root):
        return KernelCache()
    try:
        installed = gpu.installed(root)
        folder = _place() / key(installed)
        # Kernels of some unknown GPU may be those of another one.
        elsewhere = elsewhere if installed.is_known else None
        found = _has_files(folder) or _copied(folder, _compiled(folder.name, model_folder, elsewhere))
        if not found:
            _own(folder)
    except OSError as error:
        log.warning("the GPU's kernels are not kept for other jobs: %s", error)
        return KernelCache()
    os.environ[CUDA_PATH] = str(folder)
    os.environ.setdefault(CUDA_SIZE, CUDA_BYTES)
    return KernelCache(folder=folder, found=found)


def key(found: gpu.Gpu) -> str:
    """The name of the folder for this GPU and the installed ctranslate2."""
    return kernels.key(gpu=found.name, driver=found.driver, ctranslate2=importlib.metadata.version("ctranslate2"))


def _place() -> Path:
    """The private folder for the caches of all keys. Raises :class:`OSError`."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (without a home folder "~" is not replaced)
    place = kernels.place(os.environ, home if home.is_absolute() else None)
    if place is not None:
        try:
            _own(place)
            return place
        except OSError as error:
            log.warning("%s cannot hold the GPU's kernels: %s", place, error)
    return Path(tempfile.mkdtemp(prefix="stenofleet-kernels-"))


def _own(folder: Path) -> None:
    """Make the folder, or check that it is this user's and nobody else can write to it. Raises :class:`OSError`."""
    safe_files.make_private(folder)
    if not safe_files.is_own_folder(str(folder)):
        raise PermissionError(f"{folder} belongs to another user, or is a link")
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"other users may write to {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is read-only")


def _has_files(folder: Path) -> bool:
    """Whether the folder has kernels. Raises :class:`OSError` if it is there and may not be used."""
    if not os.path.lexists(folder):
        return False
    _own(folder)
    return any(folder.iterdir())


def _copied(folder: Path, found: Iterable[tuple[str, CompiledKernels, kernel_files.Read]]) -> bool:
    """Whether *folder* is now a copy of compiled kernels."""
    for place, document, read in found:
        try:
            kernel_files.copy(read, document, folder)
        except (OSError, ValueError) as error:
            log.warning("the compiled kernels in %s are not used: %s", place, error)
        else:
            log.info("GPU kernels copied from %s", place)
            return True
    return False


def _compiled(
    name: str, model_folder: Path, elsewhere: Elsewhere | None
) -> Iterator[tuple[str, CompiledKernels, kernel_files.Read]]:
    """Kernels of the key *name* that somebody compiled: where they are, what they are, and how they are read."""
    trusted = kernel_files.owners(model_folder)
    for root, parts in _sources(model_folder, name):
        if document := kernel_files.description(root, parts, trusted=trusted):
            yield str(root.joinpath(*parts)), document, kernel_files.reader(root, parts, trusted=trusted)
    if elsewhere and (found := elsewhere.find(name)):
        yield "the store", *found


def _sources(model_folder: Path, name: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Folders that may have compiled kernels: a root, and the path below it, on which no link is followed."""
    if given := os.environ.get(kernels.SOURCE):
        yield Path(given), (name,)
    folders = [model_folder, model_folder.parent]
    if cache := os.environ.get("HF_HUB_CACHE"):
        folders.append(Path(cache))
    for folder in dict.fromkeys(folders):
        yield folder, (kernels.FOLDER, name)
