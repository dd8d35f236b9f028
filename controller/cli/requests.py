"""Makes run requests from names of recordings: which recordings, which outputs, which run each of them is.

Touches: stdin (a list of names), media (to identify them), the store (a run that is known).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chunk_job.contract import TranscribeOptions, sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.base import ObjectMissing, Store
from chunk_job.text import masked_name
from controller.cli import options as shared
from controller.cli.caption_options import NO_CAPTIONS, CaptionOptions
from controller.cli.terminal import print_message
from controller.domain import stored_documents
from controller.domain.documents import LocalRequest, Request, RunRecord, Source
from controller.domain.interfaces import RunRequest
from controller.domain.keys import RunKeys
from controller.domain.output import Format, Output
from controller.domain.plan import PLANNER, PlanOptions
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake import source
from controller.runs.outputs import base_of, check_folder, file_of, output_path

_VERSIONED = ("stenofleet", "faster-whisper", "ctranslate2")


def listed(files: Sequence[str]) -> Iterator[str]:
    """Yield the named files, with ``-`` replaced by the list on stdin; a file named twice counts once."""
    seen = set()
    for file in files:
        for name in _from_stdin() if file == "-" else [file]:
            # Only the folder is resolved: a link to a file counts as a different name.
            folder, last = os.path.split(name)
            resolved = name if source.is_object(name) else os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
            if resolved not in seen:
                seen.add(resolved)
                yield name


def _from_stdin() -> list[str]:
    data = sys.stdin.buffer.read()
    separator = b"\0" if b"\0" in data else b"\n"
    # Lines of lists made on Windows end with two characters; between NULs, every byte is part of the name.
    parts = [part.rstrip(b"\r") if separator == b"\n" else part for part in data.split(separator)]
    names = [os.fsdecode(part) for part in parts if part.strip()]
    if not names:
        raise UsageProblem("the list on stdin is empty", "give one file name a line")
    return names


def outputs_of(
    names: Sequence[str], folder: str, formats: tuple[Format, ...], captions: CaptionOptions = NO_CAPTIONS
) -> dict[str, Output]:
    """Return the output of each file. Raises :class:`UsageProblem` if two would write the same files."""
    check_folder(folder)
    by_base: dict[str, str] = {}
    for name in names:
        base = base_of(folder, output_stem(name if source.is_object(name) else Path(name).absolute().as_uri()))
        if base in by_base:
            # The end of a URL that was typed may be a password.
            what = "the same files" if "@" in name else output_path(base, "txt").rpartition("/")[2]
            raise UsageProblem(
                f"{masked_name(by_base[base])} and {masked_name(name)} would both write {what}",
                "rename one, or transcribe them with different --output-dir",
            )
        by_base[base] = name
    media = {_real(name) for name in names}
    outputs = {
        name: Output(base=base, formats=formats, captions=captions.style, name_template=captions.names)
        for base, name in by_base.items()
    }
    for name, output in outputs.items():
        for extension in formats:
            # A language is only known at the end.
            target = file_of(output, extension)
            if _real(target) in media:
                raise UsageProblem(f"{target} is a recording: {name} would overwrite it", "name another --output-dir")
    return outputs


def make_run_request(
    src: Source,
    output: Output,
    *,
    plan: PlanOptions,
    options: TranscribeOptions,
    audio_track: int | None,
    on_chunk_failure: Any,
    keep_chunks: bool,
    salt: str = "",
    round_id: str = "",
) -> RunRequest:
    """Return the request for the run of this source with these options."""
    name = source.file_name(src.uri).name
    unnamed = RunRecord(
        run="0" * 16,
        identity=src.identity,
        size_bytes=src.size_bytes,
        name=name.encode("utf-8", "replace").decode(),
        audio_track=audio_track,
        plan=plan,
        options=options,
        planner=PLANNER,
        versions=dict(_versions()),
        salt=salt,
    )
    run = unnamed.hashed()
    record = unnamed.model_copy(update={"run": run})
    request = Request(
        run=run,
        source=src,
        record_key=RunKeys(run).record,
        record_sha256=sha256_hex(record.encode()),
        outputs=(output,),
        on_chunk_failure=on_chunk_failure,
        keep_chunks=keep_chunks,
    )
    return RunRequest(record=record, request=request, round=round_id)


def known_run_request(known: LocalRequest, output: Output | None) -> RunRequest:
    """Return the request of a run that was requested on this machine before; *output* replaces its outputs."""
    outputs = (output,) if output else known.request.outputs
    return RunRequest(record=known.record, request=known.request.model_copy(update={"outputs": outputs}))


def stored_run_request(store: Store, run: str, folder: str | None, formats: tuple[Format, ...]) -> RunRequest:
    """Return the request of a run that is only known from the store; a person must give the *folder* of its outputs.

    Raises :class:`UsageProblem` if there is no such run or no folder, and :class:`EnvironmentProblem` if the record or
    the recording does not match the run's id.
    """
    keys = RunKeys(run)
    try:
        record = stored_documents.read(store, RunRecord, keys.record)
        request = stored_documents.read(store, Request, keys.request)
    except ObjectMissing:
        raise UsageProblem(f"no run {run} in {store.url}", "see stenofleet list") from None
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    if record.hashed() != run:
        raise EnvironmentProblem(
            f"the record of run {run} does not match its id",
            "check who else writes to the store; a run that 0.1.0 started with --force cannot be resumed from here:"
            " start a new one with stenofleet transcribe",
        )
    if folder is None:
        places = sorted({file_of(output, extension) for output in request.outputs for extension in output.formats})
        raise UsageProblem(
            f"run {run} was not started on this machine: according to its store, it transcribes {request.source.uri}"
            f" with model {record.options.model}, to {', '.join(places[:5]) or 'no output'}",
            f"if that is right, give a folder for its transcript: stenofleet resume {run} -o FOLDER",
        )
    src = source.inspect_uri(request.source.uri)
    if src.identity != record.identity:
        raise EnvironmentProblem(
            f"{source.shown(src)} is not the recording of run {run}",
            "put the recording back where it was, or run the command that started the run",
        )
    output = Output(base=base_of(folder, output_stem(src.uri)), formats=formats, **same_files(request))
    request = request.model_copy(update={"source": src, "outputs": (output,)})
    return RunRequest(record=record, request=request)


def same_files(request: Request) -> dict[str, Any]:
    """Return the fields of an output that say how a request divides captions and names files."""
    return request.outputs[0].model_dump(include={"captions", "name_template"}) if request.outputs else {}


def keep_local(store: Store, run_request: RunRequest) -> bool:
    """Keep the request on this machine, for ``resume``. Prints a message and returns False if it cannot be kept."""
    document = LocalRequest(
        run=run_request.record.run, store=store.url, record=run_request.record, request=run_request.request
    )
    why = shared.local_requests().keep(document)
    if why:
        print_message(f"not kept on this machine ({why}): to resume a run, run this whole command again")
    return not why


def output_stem(uri: str) -> str:
    """Return the file name of a recording's transcript, without an extension."""
    last = source.file_name(uri)
    # The stem of a name of dots would be a path to another folder.
    return last.stem if last.stem.strip(".") else last.name


def _real(name: str) -> str:
    return name if source.is_object(name) else os.path.realpath(name)


def _versions() -> Iterator[tuple[str, str]]:
    """Yield the versions of installed packages: a controller that uses a cluster has no model library."""
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
