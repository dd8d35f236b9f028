"""Makes the run request of a recording: which run it is, and what is wanted from it.

Touches: the versions of installed packages.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from typing import Any

from chunk_job.contract import TranscribeOptions, sha256_hex
from controller.domain.documents import Request, RunRecord, Source
from controller.domain.interfaces import RunRequest
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import PLANNER, PlanOptions
from controller.domain.shares import NO_SHARE, Share
from controller.intake import source
from controller.runs.protection import NO_RULES, OutputRules

_VERSIONED = ("stenofleet", "faster-whisper", "ctranslate2")


def make_run_request(  # noqa: PLR0913 (all that makes a run, each by its name)
    src: Source,
    output: Output | None,
    *,
    plan: PlanOptions,
    options: TranscribeOptions,
    audio_track: int | None,
    on_chunk_failure: Any,
    keep_chunks: bool,
    rendition: bool = False,
    salt: str = "",
    round_id: str = "",
    rules: OutputRules = NO_RULES,
    name: str = "",
    share: Share = NO_SHARE,
) -> RunRequest:
    """Return the request for the run of this source with these options. *name*: default: that of the source."""
    name = name or source.file_name(src.uri).name
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
        outputs=(output,) if output else (),
        on_chunk_failure=on_chunk_failure,
        keep_chunks=keep_chunks,
        rendition=rendition,
    )
    return RunRequest(
        record=record,
        request=request,
        round=round_id,
        overwrite=rules.overwrite,
        written=rules.written,
        share=share,
    )


def output_stem(uri: str) -> str:
    """Return the file name of a recording's transcript, without an extension."""
    last = source.file_name(uri)
    # The stem of a name of dots would be a path to another folder.
    return last.stem if last.stem.strip(".") else last.name


def _versions() -> Iterator[tuple[str, str]]:
    """Yield the versions of installed packages: a controller that uses a cluster has no model library."""
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
