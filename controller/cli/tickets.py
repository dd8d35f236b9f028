"""From names that people type to runs: which recordings, which outputs, which run each of them is.

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

from chunk_job.contract import UNHASHED, JobError, TranscribeOptions, sha256_hex
from chunk_job.store import ObjectMissing, Store
from controller import source
from controller.edges import Ticket
from controller.errors import EnvironmentProblem, UsageProblem
from controller.keys import RunKeys
from controller.outputs import base_of, check_folder, place
from controller.plan import PLANNER, PlanOptions
from controller.records import Output, Request, RunRecord, Source

_VERSIONED = ("stenofleet", "faster-whisper", "ctranslate2")


def listed(files: Sequence[str]) -> Iterator[str]:
    """The named files, ``-`` replaced by the list on stdin; a file named twice counts once."""
    seen = set()
    for file in files:
        for name in _from_stdin() if file == "-" else [file]:
            # A link is a name of its own.
            folder, last = os.path.split(name)
            place = name if source.is_object(name) else os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
            if place not in seen:
                seen.add(place)
                yield name


def _from_stdin() -> list[str]:
    data = sys.stdin.buffer.read()
    separator = b"\0" if b"\0" in data else b"\n"
    # Lists made on Windows end their lines in two characters; between NULs every byte is the name's.
    parts = [part.rstrip(b"\r") if separator == b"\n" else part for part in data.split(separator)]
    names = [os.fsdecode(part) for part in parts if part.strip()]
    if not names:
        raise UsageProblem("the list on stdin is empty", "give one file name a line")
    return names


def outputs_of(names: Sequence[str], folder: str, formats: tuple[str, ...]) -> dict[str, Output]:
    """Where each file's transcript goes. Raises :class:`UsageProblem` where two would go to one place."""
    check_folder(folder)
    by_base: dict[str, str] = {}
    for name in names:
        last = source.file_name(name if source.is_object(name) else Path(name).absolute().as_uri())
        # A name of dots has a stem that would lead out of the folder.
        base = base_of(folder, last.stem if last.stem.strip(".") else last.name)
        if base in by_base:
            raise UsageProblem(
                f"{by_base[base]} and {name} would both write {place(base, 'txt').rpartition('/')[2]}",
                "rename one, or transcribe them with different --output-dir",
            )
        by_base[base] = name
    media = {_real(name) for name in names}
    for base, name in by_base.items():
        for extension in formats:
            target = place(base, extension)
            if _real(target) in media:
                raise UsageProblem(f"{target} is a recording: {name} would overwrite it", "name another --output-dir")
    return {name: Output(base=base, formats=formats) for base, name in by_base.items()}


def make_ticket(
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
) -> Ticket:
    """The run this source and these options are, and the request for it."""
    hashed = options.model_dump_json(exclude=set(UNHASHED))
    identity = "\0".join([src.identity, plan.model_dump_json(), hashed, str(audio_track), str(PLANNER), salt])
    run = sha256_hex(identity.encode())[:16]
    name = source.file_name(src.uri).name
    record = RunRecord(
        run=run,
        identity=src.identity,
        size_bytes=src.size_bytes,
        name=name.encode("utf-8", "replace").decode(),
        audio_track=audio_track,
        plan=plan,
        options=options,
        planner=PLANNER,
        versions=dict(_versions()),
    )
    request = Request(
        run=run,
        source=src,
        record_key=RunKeys(run).record,
        record_sha256=sha256_hex(record.encode()),
        outputs=(output,),
        on_chunk_failure=on_chunk_failure,
        keep_chunks=keep_chunks,
    )
    return Ticket(record=record, request=request, round=round_id)


def stored_ticket(store: Store, run: str) -> Ticket:
    """The ticket of a run in the store. Raises :class:`UsageProblem` where there is none."""
    keys = RunKeys(run)
    try:
        return Ticket(record=RunRecord.decode(store.get(keys.record)), request=Request.decode(store.get(keys.request)))
    except ObjectMissing:
        raise UsageProblem(f"no run {run} in {store.url}", "see stenofleet list") from None
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error


def joined(known: Ticket | None, ticket: Ticket) -> Ticket:
    """Equal content with equal options is one run, whatever the files are called; it is written for each."""
    if known is None:
        return ticket
    outputs = known.request.outputs + ticket.request.outputs
    return Ticket(record=known.record, round=known.round, request=known.request.model_copy(update={"outputs": outputs}))


def _real(name: str) -> str:
    return name if source.is_object(name) else os.path.realpath(name)


def _versions() -> Iterator[tuple[str, str]]:
    """Of what is installed here: a controller that hands its work on has no model library."""
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
