"""``model``: fetches, converts, verifies and lists models.

Touches: folders, S3, the signal SIGTERM, and the hub, but only for ``fetch``, ``prepare`` and ``--download``.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import click

from chunk_job.model_manifest import ModelManifest, is_url
from chunk_job.models.verification import commit_of, described, origin
from chunk_job.names import COMPUTE_TYPES, is_published, unknown_model
from chunk_job.text import json_line, printable
from controller.cli import options as shared
from controller.cli.model_places import check_free, describe, manifest_at, verify_at
from controller.cli.model_table import Row, copies, rows
from controller.cli.model_writers import Writer, writer
from controller.cli.option_values import Place
from controller.cli.options import together
from controller.cli.screen import end_in_order
from controller.cli.terminal import print_data, print_message
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners import local

_QUANTIZATIONS = tuple(name for name in COMPUTE_TYPES if name != "default")

_FASTEST = {"cuda": "int8_float16", "cpu": "int8"}
"""What ``auto`` means for a device; on GPUs before compute capability 7.0 it is another type."""
_IS_THERE = "is there already, and is what its manifest says"

_to_option = click.option("--to", "place", metavar="FOLDER|s3://…", required=True, help="Where the model is put.")
_revision_option = click.option("--revision", default="", help="Branch, tag or commit of the repository on the hub.")
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the model that is there.")
_making_options = together(
    _to_option,
    click.option("--quantization", type=click.Choice(_QUANTIZATIONS), default="auto", show_default=True,
                 help="Type of the weights; auto: the fastest of chunks on the device."),
    click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True,
                 help="What it is for; auto: what this machine has."),
    _revision_option,
    _overwrite_option,
)  # fmt: skip


@click.group("model")
@click.pass_context
def model_command(context: click.Context) -> None:
    """Models: list, fetch, convert, verify, prepare."""
    # A copy that is not finished takes gigabytes: also who is told to end removes it.
    before = signal.signal(signal.SIGTERM, end_in_order)
    context.call_on_close(lambda: signal.signal(signal.SIGTERM, before))


@model_command.command("list")
@shared.json_option
def list_command(*, as_json: bool) -> int:
    """List the published models: what they need, and which are on this machine. Needs no network."""
    known, kept = rows(), copies()
    if as_json:
        facts = {
            "models": [dataclasses.asdict(row) for row in known],
            "copies": [dataclasses.asdict(copy) for copy in kept],
        }
        print_data(json_line(facts), exact=True)
        return 0
    print_data(
        _line("MODEL", "PARAM.", "DISK", "GPU int8", "float16", "CPU", "LANGUAGES", "LICENCE", "HERE"), exact=True
    )
    for row in known:
        print_data(_row(row))
    for copy in kept:
        print_data(printable(f"copy of {copy.source} ({copy.quantization}, {_gb(copy.disk_mb)}): {copy.folder}"))
    print_message("GB. GPU: its memory, about; CPU: memory of a job for a chunk of 12 minutes. A * has a manifest.")
    return 0


@model_command.command("fetch")
@click.argument("model", type=Place(), metavar="MODEL")
@click.option("--to", "place", metavar="FOLDER|s3://…", help="Copy the model there (default: keep it where it is).")
@_revision_option
@click.option("--overwrite", is_flag=True, help="Replace the model that is there, or write the manifest again.")
@shared.json_option
def fetch_command(model: str, place: str | None, revision: str, *, overwrite: bool, as_json: bool) -> int:
    """Get MODEL, write its manifest, and put both at --to. A published model is downloaded from the hub.

    MODEL: a name (see model list), a repository of the hub in CTranslate2's format, a folder, or s3://bucket/folder.
    """
    _check_source(model)
    if place:
        with writer(place) as only:
            manifest, what = _fetched_to(only, model, revision, overwrite=overwrite)
        return _shown(place, manifest, as_json=as_json, what=what)
    folder = _fetched(model, revision)
    # A folder that was put together on purpose gets a new manifest.
    before = None if overwrite else verify_at(str(folder))
    manifest = before or describe(folder, source=origin(model), revision=commit_of(folder))
    return _shown(str(folder), manifest, as_json=as_json, what="has the model")


@model_command.command("convert")
@click.argument("source", type=Place(), metavar="SOURCE")
@_making_options
@click.option("--download", is_flag=True, help="Fetch SOURCE from the hub if it is missing.")
@shared.json_option
def convert_command(
    source: str, place: str, quantization: str, device: str, revision: str, *, overwrite: bool, download: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Convert SOURCE to weights of another type, and put it at --to with its manifest.

    SOURCE: a model, as for fetch, or a checkpoint of transformers (its folder, or its repository on the hub), for
    which torch is needed: pip install 'stenofleet[torch]'.
    """
    _check_source(source)
    with writer(place) as only:
        check_free(place, overwrite=overwrite)
        manifest = _made(only, source, quantization, device, revision, download=download)
    return _shown(place, manifest, as_json=as_json, what="has the model")


@model_command.command("verify")
@click.argument("model", type=Place(), metavar="MODEL")
@shared.json_option
def verify_command(model: str, *, as_json: bool) -> int:
    """Read every file of MODEL and compare it with its manifest: a folder, s3://bucket/folder, or a name.

    Exit code 3 if a file is missing, incomplete, changed or one too many; the message names it.
    """
    _check_source(model)
    is_place = is_url(model) or Path(model).is_dir()
    place = model if is_place else str(local.resolve_model(model, download=False))
    manifest = verify_at(place)
    if manifest is None:
        raise EnvironmentProblem(
            f"{place} has no manifest: nothing tells what its files should be",
            f"stenofleet model fetch {model} writes it, from the files that are there",
        )
    return _shown(place, manifest, as_json=as_json, what="is what its manifest says")


@model_command.command("prepare")
@click.argument("model", type=Place(), metavar="MODEL")
@_making_options
@shared.json_option
def prepare_command(
    model: str, place: str, quantization: str, device: str, revision: str, *, overwrite: bool, as_json: bool
) -> int:
    """Do everything for a device: fetch MODEL, convert it, put it at --to, and verify it there.

    MODEL: as for convert. The same command again only verifies.
    """
    _check_source(model)
    with writer(place) as only:
        there = None if overwrite else _prepared(place, model, revision, quantization, device)
        if there is None:
            check_free(place, overwrite=overwrite)
            _made(only, model, quantization, device, revision, download=True)
            there = verify_at(place)
            assert there is not None, "it was made with a manifest"
    return _shown(place, there, as_json=as_json, what="has the model, and is what its manifest says")


def _check_source(reference: str) -> None:
    if not (is_url(reference) or is_published(reference) or Path(reference).is_dir()):
        raise UsageProblem(*unknown_model(reference))


def _is_of(there: ModelManifest, source: str, revision: str) -> bool:
    """Whether a model has the files of *source*, a name or a repository, as they were published."""
    return not there.converter and there.source == origin(source) and revision in ("", there.revision)


def _prepared(place: str, source: str, revision: str, quantization: str, device: str) -> ModelManifest | None:
    """The manifest of the model at *place* if it was prepared so before, after every file was verified."""
    there = manifest_at(place)
    before = manifest_at(source) if is_url(source) or Path(source).is_dir() else None
    wanted = before.source if before else origin(source)
    if there is None or there.source != wanted or revision not in ("", there.revision):
        return None
    kind = _FASTEST.get(device, there.quantization) if quantization == "auto" else quantization
    return verify_at(place) if kind.replace("int8_float32", "int8") == there.quantization else None


def _fetched_to(only: Writer, model: str, revision: str, *, overwrite: bool) -> tuple[ModelManifest, str]:
    """Put *model* at the place of *only*, unless it is there. Returns its manifest, and what to say of it."""
    place = only.place
    there = None if overwrite else manifest_at(place)
    # What is there already is known without the hub.
    if there and is_published(model) and not Path(model).is_dir() and _is_of(there, model, revision):
        verify_at(place)
        return there, _IS_THERE
    if there is None:
        # Before anything is downloaded.
        check_free(place, overwrite=overwrite)
    folder = _fetched(model, revision)
    manifest = verify_at(str(folder)) or described(folder, source=origin(model), revision=commit_of(folder))
    if there and there.files == manifest.files:
        verify_at(place)
        return there, _IS_THERE
    check_free(place, overwrite=overwrite)
    only.put(folder, manifest)
    return manifest, "has the model"


def _fetched(model: str, revision: str) -> Path:
    """The folder of *model*, which is downloaded if it is on the hub."""
    if (folder := Path(model).absolute()).is_dir():
        return folder
    print_message(f"fetching {model}")
    return local.resolve_model(model, download=True, revision=revision)


def _made(only: Writer, source: str, quantization: str, device: str, revision: str, *, download: bool) -> ModelManifest:
    """Convert *source*, put it at the place of *only*, and return its manifest."""
    print_message(f"making {only.place} of {source}: this takes minutes for a large model")
    with only.being_made() as folder:
        local.convert_model(
            source if not Path(source).is_dir() else str(Path(source).absolute()),
            folder,
            quantization=quantization,
            device=device,
            download=download,
            revision=revision,
        )
    manifest = manifest_at(only.place)
    assert manifest is not None, "it was put there with a manifest"
    return manifest


def _shown(place: str, manifest: ModelManifest, *, as_json: bool, what: str) -> int:
    if as_json:
        print_data(json_line({"place": place, **manifest.model_dump(mode="json", by_alias=True)}), exact=True)
        return 0
    revision = f" at {manifest.revision[:12]}" if manifest.revision else ""
    weights = f", weights in {manifest.quantization}" if manifest.quantization else ""
    print_message(
        f"{place} {what}: {manifest.source}{revision}{weights},"
        f" {len(manifest.files)} files, {manifest.size_bytes / 1e9:.2f} GB"
    )
    return 0


def _row(row: Row) -> str:
    languages = "English" if row.languages == 1 else str(row.languages)
    here = f"{'*' if row.has_manifest else ''}yes" if row.here else "no"
    sizes = (_gb(size) for size in (row.disk_mb, row.gpu_int8_mb, row.gpu_float16_mb, row.cpu_memory_mb))
    return _line(row.name, f"{row.parameters_millions}M", *sizes, languages, row.license, here)


def _gb(size_mb: int) -> str:
    return f"{size_mb / 1000:.1f}"


def _line(*cells: str) -> str:
    widths = (18, 7, 5, 9, 8, 5, 10, 8, 5)
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
