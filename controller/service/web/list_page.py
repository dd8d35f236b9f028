"""``/``: the runs of a tenant.

Touches: nothing itself.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from controller.service.context import Caller, TheService
from controller.service.runs_api import list_runs
from controller.service.web.pages import PageRoute, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
def show_runs(request: Request, service: TheService, tenant: Caller) -> Response:
    """Return the newest runs."""
    found = list_runs(service, tenant)
    return page(request, "runs.html", runs=found.runs)
