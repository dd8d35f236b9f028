"""Finds the folder of a model on this machine.

Touches: the model folder, the environment, S3 for a model there, and the hub if a download is requested.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import MANIFEST, is_url
from chunk_job.models.cache import cached
from chunk_job.models.verification import check_complete, commit_of, described, write_manifest
from chunk_job.names import MODEL_FILES, MODELS, is_published, repository_of, unknown_model

_CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
"""Variables with the cache folder of the hub's client. Without them it is in the home folder."""


def locate(reference: str, *, download: bool = False, revision: str = "") -> Path:
    """The folder of the model called *reference*, see :func:`found`. What is downloaded gets a manifest.

    Raises :class:`JobError`: MODEL if it is unknown, incomplete, or not on this machine and *download* is False,
    MODEL_DAMAGED if a file has another hash than the hub has told.
    """
    folder = found(reference, download=download, revision=revision)
    check_complete(folder, [name for name in MODEL_FILES if (folder / name).is_file()])
    if download and (commit := commit_of(folder)) and not (folder / MANIFEST).exists():
        manifest = described(folder, source=repository_of(reference), revision=commit)
        # The model can be used from a cache that this user may only read, but it is not verified there.
        with contextlib.suppress(OSError):
            write_manifest(folder, manifest)
    return folder


def found(reference: str, *, download: bool = False, revision: str = "") -> Path:
    """The folder of *reference*: a folder, ``s3://…``, a name of ``MODELS``, or a hub repository ``owner/name``.

    Of a repository, only files in CTranslate2's format are downloaded. *revision*: its branch, tag or commit.
    Raises :class:`JobError` as :func:`locate` does, but the folder may be of something else than a model.
    """
    if is_url(reference):
        return cached(reference)
    folder = Path(os.path.expanduser(reference))  # noqa: PTH111 (without a home folder "~" is not replaced)
    if folder.is_dir():
        return folder
    if not is_published(reference):
        raise JobError(ExitCode.MODEL, *unknown_model(reference))
    return _from_hub(repository_of(reference), reference, download=download, revision=revision)


def _from_hub(repository: str, reference: str, *, download: bool, revision: str) -> Path:
    if os.path.expanduser("~") == "~" and not any(os.environ.get(name) for name in _CACHES):  # noqa: PTH111
        raise JobError(
            ExitCode.MODEL,
            f"model {reference}: this user has no home folder for models",
            "set HF_HOME to a folder, or give a model folder to --model",
        )
    os.environ["HF_HUB_OFFLINE"] = "0" if download else "1"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from faster_whisper.utils import download_model

    try:
        folder = Path(download_model(repository, local_files_only=not download, revision=revision or None))
    except Exception as error:  # the hub's client raises its own, requests' and the operating system's errors
        size = f" ({MODELS[reference].size_mb / 1000:.1f} GB)" if reference in MODELS else ""
        if download:
            raise JobError(
                ExitCode.MODEL,
                f"model {reference}{size} could not be downloaded: {' '.join(str(error).split())}",
                "check the network; or on a machine with one, run stenofleet model fetch NAME --to FOLDER, copy it here"
                " and give its path to --model",
            ) from error
        raise JobError(
            ExitCode.MODEL,
            f"model {reference}{size} is not on this machine",
            f"add --download to download it once from the hub ({repository}), or give a model folder to --model; on a"
            " cluster it must be in the chunk image or on the volume of --model-claim",
        ) from error
    return folder
