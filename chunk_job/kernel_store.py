"""Compiled GPU kernels in the store, for those who have chosen that: the first job puts them, later ones take them.

Touches: the store, the GPU (its compute capability). Kernels are code: whoever may write to the store can then run code
on the GPUs (docs/security.md). Nothing depends on them: what is missing, refused or changed is compiled again.

    kernels/<GPU, driver, ctranslate2, types>/kernels.json      written last
    kernels/<GPU, driver, ctranslate2, types>/<digest>          one file of CUDA's cache
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from chunk_job.contract import Engine
from chunk_job.engine import gpu, kernel_files
from chunk_job.engine.kernel_cache import KernelCache
from chunk_job.errors import JobError
from chunk_job.kernels import DESCRIPTION, CompiledKernels
from chunk_job.store.base import ObjectMissing, Store

log = logging.getLogger("stenofleet.chunk_job")

PREFIX = "kernels"


class KernelStore:
    """The kernels for one way to use a model: *types* are the asked compute type and that of the model's file."""

    def __init__(self, store: Store, *, types: tuple[str, str]) -> None:
        self._store = store
        # Each type has kernels of its own, and the first job puts only those that it has used.
        self._types = "-of-".join(kind or "unknown" for kind in types)

    def find(self, name: str) -> tuple[CompiledKernels, kernel_files.Read] | None:
        """The kernels of the key *name*, and how their files are read. None: there are none, or none can be read."""
        try:
            data = self._store.get(self._key(name, DESCRIPTION), max_bytes=CompiledKernels.max_bytes)
            found = CompiledKernels.decode(data)
        except ObjectMissing:
            return None
        except JobError as error:
            log.warning("the GPU's kernels in the store are not used: %s", error.summary)
            return None

        def read(file: str, limit: int) -> bytes:
            try:
                return self._store.get(self._key(name, found.files[file]), max_bytes=limit)
            except JobError as error:
                raise ValueError(error.summary) from error

        return found, read

    def keep(
        self,
        cache: KernelCache,
        engine: Engine,
        *,
        first_use_ms: int,
        capability: Callable[[], tuple[int, int] | None] = gpu.compute_capability,
        root: Path = Path("/"),
    ) -> threading.Thread | None:
        """Put the kernels that this process has compiled into the store, in a thread of its own.

        Returns None if nothing is put: there is no GPU, nothing was compiled, or its kernels were found. Call it while
        nothing is compiled: the files are read here.
        """
        if cache.folder is None or cache.found or engine.device != "cuda":
            return None
        if not gpu.was_compiled(capability(), first_use_ms):
            return None
        try:
            files = kernel_files.contents(cache.folder)
            if not files:
                return None
            found = gpu.installed(root)
            document = CompiledKernels(
                gpu=found.name,
                driver=found.driver,
                ctranslate2=engine.ctranslate2,
                compute_types=(engine.compute_type,),
                compiled_ms=first_use_ms,
                files=kernel_files.digests(files),
            )
        except (OSError, ValueError) as error:
            log.warning("the GPU's kernels are not put into the store: %s", error)
            return None
        name = cache.folder.name
        putting = threading.Thread(target=lambda: self._put(name, document, files), daemon=True)
        putting.start()
        return putting

    def _put(self, name: str, document: CompiledKernels, files: dict[str, bytes]) -> None:
        try:
            if self._store.stat(self._key(name, DESCRIPTION)):
                return
            for file, digest in document.files.items():
                self._store.put(self._key(name, digest), files[file])
            self._store.put(self._key(name, DESCRIPTION), document.encode())
        except JobError as error:
            log.warning("the GPU's kernels are not put into the store: %s", error.summary)
        else:
            log.info("put the GPU's kernels into the store for other jobs")

    def _key(self, name: str, file: str) -> str:
        return f"{PREFIX}/{name}_{self._types}/{file}"
