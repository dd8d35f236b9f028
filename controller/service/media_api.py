"""``/v1/runs/{id}/media`` and ``/waveform``: what a player plays and draws.

Touches: the store.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query
from fastapi.responses import RedirectResponse, Response

from chunk_job.contract import sha256_hex
from chunk_job.store.base import StoredObject
from controller.domain.playback import MediaType
from controller.domain.waveform import Level, Place
from controller.runs import waveforms
from controller.service.context import Caller, TheService
from controller.service.media import LINK_VALID_S, Linking, playable
from controller.service.problem_types import problem_response
from controller.service.problems import Problem
from controller.service.ranges import PARTIAL, answer
from controller.service.runs_api import FOUND, RunId, required

_DAT = "application/octet-stream"
_BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(tags=["media"])
Asked = Annotated[str, Header(alias="Range", description="The part that is wanted: bytes=FIRST-LAST.")]
IfRange = Annotated[str, Header(alias="If-Range", description="The `ETag` that the part is of.")]


def _described(what: str, *kinds: str) -> dict[int | str, dict[str, Any]]:
    content = dict.fromkeys(kinds, _BINARY)
    return {
        200: {"description": f"{what}.", "content": content},
        206: {"description": f"A part of {what[0].lower()}{what[1:]}.", "content": content},
    }


@router.get(
    "/v1/runs/{run_id}/media",
    responses=FOUND
    | PARTIAL
    | _described("What can be played", *get_args(MediaType))
    | {
        307: {
            "description": f"It is an object in S3. The link can be used for {LINK_VALID_S // 60} minutes.",
            "headers": {"Location": {"description": "The object.", "schema": {"type": "string"}}},
        },
        404: problem_response("This tenant has no such run, or nothing of it can be played."),
    },
    response_class=Response,
    operation_id="getMedia",
)
def get_media(
    service: TheService, tenant: Caller, run_id: RunId, asked: Asked = "", if_range: IfRange = ""
) -> Response:
    """Return the recording if browsers play it well and it is still there, else its rendition."""
    found = playable(service, tenant, required(service, tenant, run_id))
    if isinstance(found.store, Linking):
        link = found.store.link(
            found.entry.key,
            media_type=found.media_type,
            valid_s=LINK_VALID_S,
            endpoint=service.upload_endpoint,
        )
        return RedirectResponse(link, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    place = Place(begin=0, size_bytes=found.entry.size_bytes)
    file = found.store.open(found.entry.key)
    return answer(file, place, found.media_type, asked=asked, if_range=if_range, etag=_etag(found.entry))


@router.get(
    "/v1/runs/{run_id}/waveform",
    responses=FOUND
    | PARTIAL
    | _described("A level of the waveform", _DAT)
    | {404: problem_response("This tenant has no such run, or it has no waveform.")},
    response_class=Response,
    operation_id="getWaveform",
)
def get_waveform(
    service: TheService,
    tenant: Caller,
    run_id: RunId,
    level: Annotated[Level, Query(description="overview: steps of 1 s; detail: of 40 ms.")] = "overview",
    asked: Asked = "",
) -> Response:
    """Return the waveform as `.dat` of audiowaveform: 24 bytes, then the lowest and the highest sample of each step."""
    found = required(service, tenant, run_id)
    run = found.end.run_id if found.end else found.state.run_id
    waveform = waveforms.opened(service.store, run) if run else None
    if waveform is None:
        raise Problem(
            404,
            "no-waveform",
            "the run has no waveform",
            "it is there when the recording was read; runs of versions before 0.4 have none",
        )
    return answer(waveform.file, waveform.places[level], _DAT, asked=asked)


def _etag(entry: StoredObject) -> str:
    return f'"{sha256_hex(f"{entry.key} {entry.size_bytes} {entry.modified_s} {entry.revision}".encode())[:32]}"'
