"""``/new``: the page for new runs.

Touches: nothing itself.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from controller.service.context import Caller
from controller.service.web.pages import PageRoute, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/new")
def show_new(request: Request, tenant: Caller) -> Response:
    """Return the page."""
    del tenant
    return page(request, "new.html")
