"""``/runs/{id}``: the page of a run, and the part of it that changes while the run works.

Touches: the store, temporary files.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from controller.service.context import Caller, TheService
from controller.service.runs_api import RunId, required
from controller.service.web.pages import PageRoute, streamed
from controller.service.web.run_view import shown_run

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/runs/{run_id}")
def show_run(request: Request, service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Return the page."""
    shown = shown_run(service, required(service, tenant, run_id), words=True)
    return streamed(request, "run.html", shown=shown, view=shown.view, blocks=shown.lines)
