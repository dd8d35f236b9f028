"""Where models are put: a folder of this machine, or a prefix in S3. Both have a manifest beside the files.

Touches: folders, the store of the prefix.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import MANIFEST, ModelManifest, is_url
from chunk_job.models import copying
from chunk_job.models.verification import ModelDamaged, described, read_manifest, verify, write_manifest
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.errors import EnvironmentProblem, UsageProblem

_USUAL = frozenset(
    {"model.bin", "config.json", "tokenizer.json", "preprocessor_config.json", "vocabulary.json", "vocabulary.txt"}
)
"""Files of a model without a manifest, for example of one that was not put there completely."""
_MOST_LOOKED_AT = 1_000


def store_of(url: str) -> Store:
    """The store of a prefix. Raises :class:`UsageProblem` for an invalid URL."""
    try:
        return open_store(url)
    except JobError as error:
        problem = UsageProblem if error.code is ExitCode.USAGE else EnvironmentProblem
        raise problem(error.summary, error.advice) from error


def manifest_at(place: str) -> ModelManifest | None:
    """The manifest of the model at *place*; None if there is none. Raises :class:`EnvironmentProblem`."""
    if is_url(place):
        return copying.manifest_of(store_of(place))
    try:
        return read_manifest(Path(place))
    except OSError as error:
        raise EnvironmentProblem(
            f"{place} cannot be read: {error.strerror}", "use another place, or give this user the right to read it"
        ) from error


def verify_at(place: str) -> ModelManifest | None:
    """Read every file of the model at *place* and compare it with its manifest; None if it has none."""
    return copying.verify_store(store_of(place)) if is_url(place) else verify(Path(place), always=True)


def describe(folder: Path, *, source: str, revision: str) -> ModelManifest:
    """Write the manifest of *folder*, as its files are now. Raises :class:`EnvironmentProblem`."""
    manifest = described(folder, source=source, revision=revision)
    try:
        write_manifest(folder, manifest)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: its manifest cannot be written: {error.strerror}",
            "put the model into a folder of yours: --to FOLDER",
        ) from error
    return manifest


def check_free(place: str, *, overwrite: bool) -> None:
    """Raises :class:`UsageProblem` if something is at *place* that must not be replaced, or that cannot be."""
    if not is_url(place) and target(place).is_mount():
        raise UsageProblem(
            f"{place} is where a volume is mounted: a model that is complete cannot take its place at once",
            f"use a folder on the volume: {Path(place) / 'model'}",
        )
    try:
        there = manifest_at(place)
    except ModelDamaged as error:
        raise UsageProblem(error.summary, "remove what is there first, or use another place") from error
    names = _names_at(place)
    others = sorted(names - (there.files.keys() if there else _USUAL) - {MANIFEST})
    if others:
        raise UsageProblem(
            f"{place} is no place for a model: it has {', '.join(others[:3])}", "use one that is new or empty"
        )
    if names and not overwrite:
        what = (
            f"{there.source}, weights in {there.quantization or 'an unknown type'}" if there else "without a manifest"
        )
        raise UsageProblem(
            f"{place} has a model already: {what}",
            "use another place: jobs may be using this one; --overwrite replaces it",
        )


def target(place: str) -> Path:
    """The folder that is written: if *place* is a link, the folder that it leads to, which may be on another disk."""
    # Not Path.resolve: of links in a circle it raises an error.
    return Path(os.path.realpath(place))


def _names_at(place: str) -> set[str]:
    """The files or objects at *place*, without hidden ones and those in prefixes below it."""
    if is_url(place):
        some = itertools.islice(store_of(place).list(""), _MOST_LOOKED_AT)
        return {entry.key for entry in some if "/" not in entry.key}
    folder = Path(place)
    if not folder.is_dir():
        return {folder.name} if folder.exists() else set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
