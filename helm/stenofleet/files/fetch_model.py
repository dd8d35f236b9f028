# ruff: noqa: INP001 (a separate program that is mounted into the pod that prepares the model)
"""Copies models from S3 to the volume of the models: ``fetch_model.py s3://bucket/folder /models NAME…``.

Each model is a folder ``NAME`` under the URL. A new one replaces the old one on the volume only when it is complete. A
model with a manifest is verified while it is copied, and a folder on the volume with the same manifest is verified and
kept. Without a manifest, a folder with the same files, by name and size, is kept. Two of them on one volume wait for
each other, and what a killed one has left is removed. Touches: the store of the URL, the volume.
"""

import sys
from pathlib import Path

from chunk_job.errors import JobError
from chunk_job.model_manifest import MANIFEST, ModelManifest
from chunk_job.models import copying
from chunk_job.models.exclusive import alone
from chunk_job.models.verification import ModelDamaged, verify
from chunk_job.names import MODEL_FILES
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store

_PROBLEM = 3
"""Exit code, as for all problems of the infrastructure."""


def main(url: str, volume: str, *names: str) -> int:
    """Exit code: 0 if every model is on the volume."""
    try:
        for name in names:
            folder = Path(volume) / name
            with alone(folder, lambda: print("another process copies this model: waiting for it", flush=True)) as work:
                fetch(open_store(f"{url.rstrip('/')}/{name}"), folder, work)
    except (JobError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return _PROBLEM
    return 0


def fetch(store: Store, folder: Path, work: Path) -> None:
    """Copy the model in *store* to *folder*. *work*: for what is not finished.

    Raises :class:`JobError` and :class:`OSError`.
    """
    if manifest := copying.manifest_of(store):
        if folder.is_dir() and is_same(folder, manifest):
            print(f"{folder} is complete and verified")
        else:
            copying.fetch(store, manifest, folder, work)
            print(f"{folder} is new and verified")
    else:
        print(f"{store.url} has no {MANIFEST}: it is copied, but not verified")
        copy_all(store, folder, work)


def is_same(folder: Path, manifest: ModelManifest) -> bool:
    """Whether *folder* has the model of *manifest*; files that have not changed since then are not read again."""
    try:
        return verify(folder) == manifest
    except ModelDamaged as error:
        print(f"{error}: it is copied again")
        return False


def copy_all(store: Store, folder: Path, work: Path) -> None:
    """Copy all objects of *store* to *folder*, through *work*. Raises :class:`JobError` and :class:`OSError`."""
    wanted = {entry.key: entry.size_bytes for entry in store.list("")}
    if missing := [name for name in MODEL_FILES if name not in wanted]:
        raise FileNotFoundError(f"{store.url} is not a faster-whisper model: it lacks {', '.join(missing)}")
    if sizes(folder) == wanted:
        print(f"{folder} is complete")
        return
    fresh = work / "new"
    for key, size_bytes in wanted.items():
        path = fresh / key
        if not path.resolve().is_relative_to(fresh.resolve()):
            raise FileNotFoundError(f"{store.url}: {key!r} is not the name of a file in a folder")
        print(f"{key}: {size_bytes / 1e6:.0f} MB", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(key, path)
    copying.replace(folder, fresh)


def sizes(folder: Path) -> dict[str, int]:
    """The files under *folder*, and their sizes in bytes."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
