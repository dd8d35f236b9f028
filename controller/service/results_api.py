"""``/v1/runs/{id}/result`` and ``/chunks``: the transcript in any format, and the state of each chunk.

Touches: the store, temporary files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import Attempts
from controller.domain.captions import PROFILES, Profile
from controller.domain.documents import RunRecord
from controller.domain.keys import RunKeys, parse_result, parse_task
from controller.domain.output import Format
from controller.runs import stored_transcript
from controller.runs.caption_files import captioned
from controller.runs.corrected_files import MACHINE, VERSION_PATTERN, NoSuchVersion, in_version
from controller.runs.speaker_files import with_speakers
from controller.runs.transcript_files import TranscriptFiles
from controller.service.context import Caller, Service, TheService
from controller.service.problem_types import problem_response
from controller.service.problems import Problem
from controller.service.request_reader import FoundRequest
from controller.service.runs_api import FOUND, STATE, RunId, conflict, ended_run, required

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "ass": "text/x-ssa; charset=utf-8",
    "lrc": "text/plain; charset=utf-8",
}
_RESULTS: dict[str, Any] = {
    **{kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()},
    "application/json": {"schema": {"$ref": "#/components/schemas/Transcript"}},
}
_PIECE_BYTES = 1 << 18
MOST_CHUNKS = 1_000

router = APIRouter(tags=["results"])


class ChunkView(BaseModel):
    """The state of a chunk."""

    index: int
    state: Literal["waiting", "done"]
    attempts: int = Field(description="Attempts that have a result or failed.")
    failures: int = Field(description="Attempts that failed, or were lost with their controller.")


class ChunkList(BaseModel):
    """The next chunks of a run."""

    chunks: list[ChunkView]
    next_index: int | None = Field(description="For the next page; null: this is the last one so far.")


@router.get("/v1/runs/{run_id}/chunks", responses=FOUND, operation_id="listChunks")
def list_chunks(
    service: TheService,
    tenant: Caller,
    run_id: RunId,
    start: Annotated[int, Query(ge=0, le=1_000_000, description="The first chunk: `next_index` of a page.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_CHUNKS, description="Most chunks of a page.")] = MOST_CHUNKS,
) -> ChunkList:
    """List the chunks that are known so far, in order."""
    found = required(service, tenant, run_id)
    run = found.end.run_id if found.end else found.state.run_id
    if run is None:
        return ChunkList(chunks=[], next_index=None)
    chunks = list(_chunks(service.store, RunKeys(run), start, limit + 1))
    return ChunkList(chunks=chunks[:limit], next_index=chunks[limit].index if len(chunks) > limit else None)


def _chunks(store: Store, keys: RunKeys, start: int, most: int) -> Iterator[ChunkView]:
    spans: list[int] = []
    after = keys.task(start - 1, 9) if start else ""
    for entry in store.list(keys.tasks, after=after):
        task = parse_task(entry.key)
        if task and task.level == 0 and task.span >= start:
            spans.append(task.span)
            if len(spans) == most:
                break
    if not spans:
        return
    done = _counts(store, keys.results_of(spans[0]).rstrip("/"), keys.results, keys.results_of(spans[-1] + 1))
    failed = _counts(store, keys.failure(spans[0], 0, "0" * 8).rpartition("/")[0], keys.failures, "")
    noted = stored_documents.valid(store, Attempts, keys.attempts)
    # They left no object of their own.
    failed.update(one.span for one in (noted.attempts if noted else ()) if one.lost and one.span is not None)
    for span in spans:
        yield ChunkView(
            index=span,
            state="done" if done[span] else "waiting",
            attempts=done[span] + failed[span],
            failures=failed[span],
        )


def _counts(store: Store, first: str, prefix: str, end: str) -> Counter[int]:
    """Count the objects of each span under *prefix*, from the key *first* to the key *end* (empty: to the last)."""
    found: Counter[int] = Counter()
    for entry in store.list(prefix, after=first):
        if end and entry.key >= end:
            break
        folder = entry.key.removeprefix(prefix).partition("/")[0]
        result = parse_result(entry.key)
        if result or folder.isdigit():
            found[int(folder)] += 1
    return found


@router.get(
    "/v1/runs/{run_id}/result",
    responses=STATE
    | {
        200: {"description": "The transcript, in the format that was asked for.", "content": _RESULTS},
        404: problem_response("This tenant has no such run, or its transcript has no such version."),
    },
    response_class=Response,
    operation_id="getResult",
)
def get_result(
    service: TheService,
    tenant: Caller,
    run_id: RunId,
    format: Annotated[Format, Query(description="json has everything.")] = "json",  # noqa: A002 (the name in the API)
    caption_profile: Annotated[Profile, Query(description="Limits of the lines of srt, vtt and ass.")] = "whisper",
    version: Annotated[
        str,
        Query(
            pattern=VERSION_PATTERN,
            description="machine: as the model wrote it; latest: with all corrections; a number: with those up to it.",
        ),
    ] = MACHINE,
) -> Response:
    """Return the transcript of a run that is complete or partial."""
    found = required(service, tenant, run_id)
    transcript = transcript_of(service, found)
    if version != MACHINE:
        transcript = _corrected(service, found, transcript, version)
    style = PROFILES[caption_profile] if caption_profile != "whisper" else None
    path = captioned(transcript, format, style)
    headers = {"Content-Length": str(path.stat().st_size)}
    return StreamingResponse(_pieces(path, transcript), media_type=MEDIA_TYPES[format], headers=headers)


def transcript_of(service: Service, found: FoundRequest) -> TranscriptFiles:
    """Return the transcript of a request. Raises :class:`Problem` if there is none."""
    run = ended_run(found)
    end = found.end
    assert end is not None
    if end.status not in ("complete", "partial"):
        raise conflict("no-transcript", end.summary or f"the run is {end.status}", end.advice)
    record = stored_documents.valid(service.store, RunRecord, RunKeys(run).record)
    transcript = stored_transcript.stored(service.store, record) if record else None
    if transcript is None:
        raise conflict("no-transcript", "the transcript is missing from the store", "try the run again")
    return with_speakers(transcript, found.request.speaker_names)


def _corrected(service: Service, found: FoundRequest, transcript: TranscriptFiles, version: str) -> TranscriptFiles:
    """Return a version of the transcript with corrections. Raises :class:`Problem` if there is no such version."""
    record = stored_documents.valid(service.store, RunRecord, RunKeys(ended_run(found)).record)
    run = service.corrections.find(record) if record else None
    if run is None:
        raise conflict("no-transcript", "the transcript is missing from the store", "try the run again")
    try:
        return in_version(transcript, run.corrections, version)
    except NoSuchVersion as error:
        raise Problem(404, "no-such-version", str(error), "see listCorrections, or leave version out") from None


def _pieces(path: Path, transcript: TranscriptFiles) -> Iterator[bytes]:
    """Yield the content of the file. The files are removed with *transcript*."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
    del transcript
