"""Compiled GPU kernels in the store, for those who have chosen that: the first job puts them, later ones take them.

Touches: the store, the GPU (its compute capability). Kernels are code: whoever may write to the store can then run code
on the GPUs (docs/explanation/security.md). Nothing depends on them: what is missing, refused or
changed is compiled again.

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
from chunk_job.errors import DocumentInvalid, JobError
from chunk_job.kernels import DESCRIPTION, CompiledKernels
from chunk_job.store.base import ObjectMissing, Store

log = logging.getLogger("stenofleet.chunk_job")

PREFIX = "kernels"

_FETCH_S = 10.0
"""Kernels that take longer to fetch are compiled instead, which takes 12 to 18 s."""
_MOST_FETCHED = 128 << 20
"""They are fetched into memory. Those of one compute type have 14 MB."""


class KernelStore:
    """The kernels for one way to use a model: *types* are the asked compute type and that of the model's file."""

    def __init__(self, store: Store, *, types: tuple[str, str]) -> None:
        self._store = store
        # Each type has kernels of its own, and the first job puts only those that it has used.
        self._types = "-of-".join(kind or "unknown" for kind in types)
        self._late = False
        self._may_replace = False
        """There are kernels, but this process cannot use them: they are damaged."""

    def find(self, name: str) -> tuple[CompiledKernels, kernel_files.Read] | None:
        """The kernels of the key *name*, and how their files are read. None: there are none, or none can be used."""
        fetched: dict[str, bytes] = {}
        fetching = threading.Thread(target=lambda: self._fetch(name, fetched), daemon=True)
        fetching.start()
        fetching.join(_FETCH_S)
        self._late = fetching.is_alive()
        if self._late:
            log.warning("the GPU's kernels in the store are not used: they take more than %d s to fetch", _FETCH_S)
            return None
        try:
            return CompiledKernels.decode(fetched[DESCRIPTION]), lambda file, limit: _limited(fetched[file], limit)
        except (KeyError, DocumentInvalid):
            return None

    def _fetch(self, name: str, fetched: dict[str, bytes]) -> None:
        """Put the files of the key *name* into *fetched*, the document last, or nothing. Runs in its own thread."""
        try:
            data = self._store.get(self._key(name, DESCRIPTION), max_bytes=CompiledKernels.max_bytes)
            self._may_replace = True
            left = _MOST_FETCHED
            for file, digest in CompiledKernels.decode(data).files.items():
                if self._late:
                    return
                fetched[file] = self._store.get(self._key(name, digest), max_bytes=left)
                left -= len(fetched[file])
            fetched[DESCRIPTION] = data
        except ObjectMissing as error:
            if self._may_replace:
                log.warning("the GPU's kernels in the store are not used: %s", error.summary)
        except JobError as error:
            log.warning("the GPU's kernels in the store are not used: %s", error.summary)

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
        nothing is compiled: the files are read here. Kernels in the store that could not be used are replaced.
        """
        found = gpu.installed(root)
        if cache.folder is None or cache.found or engine.device != "cuda" or self._late or not found.is_known:
            return None
        if not gpu.was_compiled(capability(), first_use_ms):
            return None
        try:
            files = kernel_files.contents(cache.folder)
            if not files:
                return None
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
            if not self._may_replace and self._store.stat(self._key(name, DESCRIPTION)):
                # Another job was faster.
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


def _limited(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise ValueError("more compiled kernels than can be kept")
    return data
