"""Models in S3 are copied to this machine once, and found there by all later jobs.

Touches: a folder of this user, the store, the environment. Each copy is in a folder named after the digest of its
manifest, so a model that is replaced in S3 is another copy. A lock lets one process copy while the others wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from chunk_job import safe_files
from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import CACHE, ModelManifest
from chunk_job.models.copying import fetch, required_manifest
from chunk_job.models.exclusive import alone
from chunk_job.models.verification import ModelDamaged, verify
from chunk_job.store.open_store import open_store

log = logging.getLogger("stenofleet.chunk_job")


def cached(url: str) -> Path:
    """The folder of the model at *url* (``s3://bucket/folder``), which is copied to this machine if it is missing.

    A copy that was damaged is replaced. Raises :class:`ModelDamaged` if the model in S3 does not match its manifest,
    :class:`JobError` (MODEL) if there is none or the copy cannot be written, and the store's failures.
    """
    store = open_store(url)
    manifest = required_manifest(store)
    folder = place() / manifest.digest[:32]
    if _is_good(folder, manifest):
        return folder
    with contextlib.suppress(OSError):
        safe_files.make_private(folder.parent)
    with alone(folder, _waits) as work:
        # Another process may have copied it meanwhile.
        if not _is_good(folder, manifest):
            log.info("copying the model %s (%.1f GB) to %s", store.url, manifest.size_bytes / 1e9, folder.parent)
            fetch(store, manifest, folder, work)
    return folder


def place() -> Path:
    """The folder with all copies. Raises :class:`JobError` (MODEL) for a user without a folder for that."""
    if given := os.environ.get(CACHE):
        return Path(given).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 (without a home folder "~" is not replaced)
        if not home.is_absolute():
            raise JobError(
                ExitCode.MODEL, "this user has no home folder for copies of models", f"set {CACHE} to a folder"
            )
        base = home / ".cache"
    return base / "stenofleet" / "models"


def _is_good(folder: Path, manifest: ModelManifest) -> bool:
    """Whether *folder* has the complete model of *manifest*. Files that have not changed are not read again."""
    try:
        return folder.is_dir() and verify(folder) == manifest
    except ModelDamaged as error:
        log.warning("%s: it is copied again", error.summary)
        return False


def _waits() -> None:
    log.info("another process copies the model: waiting for it")
