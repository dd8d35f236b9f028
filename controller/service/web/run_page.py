"""``/runs/{id}``: the page of a run, the part of it that changes while the run works, and its report as a file.

Touches: the store, temporary files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from chunk_job.store.base import ObjectMissing
from controller.domain.captions import PROFILES, Profile
from controller.domain.keys import RunKeys
from controller.domain.output import Format
from controller.service.context import Caller, TheService
from controller.service.problems import not_found
from controller.service.runs_api import RunId, required
from controller.service.web.pages import PageRoute, page, streamed
from controller.service.web.run_view import documents_of, shown_run, view_of
from controller.service.web.transcripts import transcripts_of

_PIECE_BYTES = 1 << 16
_STYLED: tuple[Format, ...] = ("srt", "vtt", "ass")
"""Formats for which the profiles of captions are made."""

Done = Literal["", "cancel", "retry"]
"""What was done by a form of the page before."""

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/runs/{run_id}")
def show_run(
    request: Request, service: TheService, tenant: Caller, run_id: RunId, captions: Profile = "whisper", did: Done = ""
) -> Response:
    """Return the page. *captions*: the profile whose captions are checked."""
    found = required(service, tenant, run_id)
    documents, transcripts = documents_of(service, found), transcripts_of(request)
    return streamed(
        request,
        "run.html",
        found=found,
        state=documents.state,
        did=did,
        captions=captions,
        profiles=tuple(PROFILES),
        formats=get_args(Format),
        styled=_STYLED,
        # Made when the beginning of the page is sent already: it takes a second for ten hours.
        shown=lambda: shown_run(service, tenant, found, documents, transcripts, captions),
    )


@router.get("/runs/{run_id}/part/live")
def show_live_part(request: Request, service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Return what changes while the run works. When it has ended, this part asks for the rest of the page."""
    found = required(service, tenant, run_id)
    return page(request, "live.html", view=view_of(documents_of(service, found), found), found=found)


@router.get("/runs/{run_id}/report.html")
def get_report_page(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Return the report of a run that has ended: a file that needs no network."""
    found = required(service, tenant, run_id)
    try:
        if found.end is None or found.end.run_id is None:
            raise ObjectMissing(run_id)
        file = service.store.open(RunKeys(found.end.run_id).report_page)
    except ObjectMissing:
        raise not_found("report", "a run has one when it has ended") from None
    return StreamingResponse(
        _pieces(file),
        media_type="text/html; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="report.html"'},
    )


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
