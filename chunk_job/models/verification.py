"""Compares a model's folder with its manifest, and writes manifests.

Touches: the model's folder, the clock (for the log). A folder that was verified has a marker with the size, the time of
change and the inode of each file: while these are the same, its files are not read again. Hidden files and subfolders
are not part of a model: nothing loads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.model_manifest import FILE_NAME, MANIFEST, MARKER, FileState, ModelFile, ModelManifest, Verified, is_url
from chunk_job.names import MODEL_FILES, repository_of
from chunk_job.safe_files import write_whole
from chunk_job.stored_type import stored_type

log = logging.getLogger("stenofleet.chunk_job")

_NAME = re.compile(FILE_NAME)
_BLOB = re.compile(r"[0-9a-f]{64}")
"""The name of a large file in the hub's cache: its sha256, as the hub tells it."""


class ModelDamaged(JobError):
    """A model does not match its manifest."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(
            ExitCode.MODEL_DAMAGED,
            f"the model {where} does not match its manifest: {what}",
            "put the model there again (stenofleet model fetch or prepare, with --overwrite), or remove a file that is"
            " too many; after a change on purpose, stenofleet model fetch FOLDER --overwrite writes a new manifest",
        )


def read_manifest(folder: Path) -> ModelManifest | None:
    """The manifest of *folder*; None if it has none.

    Raises :class:`ModelDamaged` if it cannot be parsed, and :class:`OSError`.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            return parsed(folder, file.read(ModelManifest.max_bytes + 1))
    except (FileNotFoundError, NotADirectoryError):
        return None


def parsed(where: object, data: bytes) -> ModelManifest:
    """The manifest in *data*. Raises :class:`ModelDamaged`."""
    try:
        return ModelManifest.decode(data)
    except DocumentInvalid as error:
        raise ModelDamaged(where, f"{MANIFEST}: {error.summary}") from error


def verify(folder: Path, *, always: bool = False) -> ModelManifest | None:
    """Compare *folder* with its manifest, and return the manifest; None if it has none.

    Files that have not changed since they were verified are read again only if *always*.
    Raises :class:`ModelDamaged` that names the file, and :class:`JobError` (MODEL) for a file that cannot be read.
    """
    return verified(folder, always=always)[0]


def verified(folder: Path, *, always: bool = False) -> tuple[ModelManifest | None, Mapping[str, FileState]]:
    """:func:`verify` with the state of each file before it was read, for :func:`check_same`."""
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return None, {}
        states = _states(folder)
        compare_sizes(folder, manifest, {name: state.size_bytes for name, state in states.items()})
        if always or not _is_marked(folder, manifest, states):
            _compare_hashes(folder, manifest)
            mark(folder, manifest, states)
    except OSError as error:
        raise JobError(
            ExitCode.MODEL,
            f"the model {folder} cannot be read: {error.strerror or error}",
            "give this user the right to read it, and check its disk",
        ) from error
    return manifest, states


def check_same(folder: Path, manifest: ModelManifest | None, states: Mapping[str, FileState]) -> None:
    """Raises :class:`ModelDamaged` if *folder* has no longer the model that was verified; without a manifest, never.

    *states*: see :func:`verified`. While files have them, they are not read again.
    """
    if manifest is None:
        return
    with contextlib.suppress(OSError):
        if _states(folder) == states:
            return
    if verify(folder) != manifest:
        raise ModelDamaged(folder, "it was replaced while it was loaded")


def compare_sizes(where: object, manifest: ModelManifest, sizes: Mapping[str, int]) -> None:
    """Raises :class:`ModelDamaged` for a file of *manifest* that is missing or has another size, or another file.

    *sizes*: the files that are there, in bytes.
    """
    for name, wanted in manifest.files.items():
        found = sizes.get(name)
        if found is None:
            raise ModelDamaged(where, f"{name} is missing")
        if found != wanted.size_bytes:
            how = "is incomplete" if found < wanted.size_bytes else "is too long"
            raise ModelDamaged(where, f"{name} {how}: {found} bytes instead of {wanted.size_bytes}")
    if others := sorted(sizes.keys() - manifest.files.keys() - {MANIFEST}):
        raise ModelDamaged(where, f"{', '.join(others[:5])} is not in it")


def compare_hash(where: object, name: str, wanted: ModelFile, sha256: str) -> None:
    """Raises :class:`ModelDamaged` if the file *name* has another hash than its manifest says."""
    if sha256 != wanted.sha256:
        raise ModelDamaged(where, f"{name} has sha256 {sha256} instead of {wanted.sha256}")


def described(folder: Path, *, source: str, revision: str = "", converter: str = "") -> ModelManifest:
    """The manifest for the files that are in *folder* now.

    Raises :class:`JobError` (MODEL) if it is no model, or a file has another hash than the hub has told.
    """
    names = [name for name in sorted(_states(folder)) if name != MANIFEST]
    check_complete(folder, names)
    if strange := [name for name in names if not _NAME.fullmatch(name) or not (folder / name).is_file()]:
        raise JobError(
            ExitCode.MODEL,
            f"{folder} is not a model folder: {', '.join(map(repr, strange[:5]))} is no file of a model",
            "use a folder with nothing else in it",
        )
    files = {}
    for name in names:
        path = folder / name
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        blob = path.resolve().name
        if path.is_symlink() and _BLOB.fullmatch(blob) and blob != sha256:
            raise JobError(
                ExitCode.MODEL_DAMAGED,
                f"{path} has sha256 {sha256}, but the hub says {blob}",
                f"remove {path.resolve()} and fetch the model again",
            )
        files[name] = ModelFile(sha256=sha256, size_bytes=path.stat().st_size)
    try:
        return ModelManifest(
            source=source, revision=revision, converter=converter, quantization=stored_type(folder), files=files
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise JobError(
            ExitCode.MODEL, f"{folder} is not a model folder: {first['msg']}", "use a folder with nothing else in it"
        ) from error


def origin(reference: str) -> str:
    """What a manifest calls the source *reference*: the last part of a folder, or the repository of a model."""
    is_place = is_url(reference) or Path(reference).is_dir()
    return Path(reference).absolute().name if is_place else repository_of(reference)


def commit_of(folder: Path) -> str:
    """The commit of a folder in the hub's cache; empty for another folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def check_complete(where: object, names: Collection[str]) -> None:
    """Raises :class:`JobError` (MODEL) if a file without which no model can be loaded is not among *names*."""
    if missing := [name for name in MODEL_FILES if name not in names]:
        raise JobError(
            ExitCode.MODEL,
            f"{where} is not a faster-whisper model: it lacks {', '.join(missing)}",
            "use a folder with a model converted for CTranslate2",
        )


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write the manifest of *folder*, whose files were read for it. Raises :class:`OSError`."""
    write_whole(folder / MANIFEST, lambda file: file.write(manifest.encode()))
    mark(folder, manifest, _states(folder))


def mark(folder: Path, manifest: ModelManifest, states: Mapping[str, FileState] | None = None) -> None:
    """Note in *folder* that its files have their hashes, if this user may write there.

    *states*: of its files before they were read; None: they were just written.
    """
    states = _states(folder) if states is None else states
    verified = Verified(manifest=manifest.digest, files={name: states[name] for name in manifest.files})
    # A volume that is read-only is verified by each job: docs/how-to/models.md says how to avoid that.
    with contextlib.suppress(OSError):
        write_whole(folder / MARKER, lambda file: file.write(verified.encode()))


def _is_marked(folder: Path, manifest: ModelManifest, states: Mapping[str, FileState]) -> bool:
    try:
        with (folder / MARKER).open("rb") as file:
            verified = Verified.decode(file.read(Verified.max_bytes + 1))
    except (OSError, DocumentInvalid):
        return False
    return verified.manifest == manifest.digest and verified.files == {name: states[name] for name in manifest.files}


def _compare_hashes(folder: Path, manifest: ModelManifest) -> None:
    began_s = time.monotonic()
    for name, wanted in manifest.files.items():
        with (folder / name).open("rb") as file:
            compare_hash(folder, name, wanted, hashlib.file_digest(file, "sha256").hexdigest())
    log.info(
        "verified the model: %d files, %.1f GB, in %.1f s",
        *(len(manifest.files), manifest.size_bytes / 1e9, time.monotonic() - began_s),
    )


def _states(folder: Path) -> dict[str, FileState]:
    """The files of *folder* that can be part of a model. In the hub's cache they are links. Raises :class:`OSError`."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # a link to nothing: it is missing
                status = entry.stat()
                if not stat.S_ISDIR(status.st_mode):
                    found[entry.name] = FileState(
                        size_bytes=status.st_size, modified_ns=status.st_mtime_ns, inode=status.st_ino
                    )
    return found
