"""``/``: the runs of a tenant.

Touches: nothing itself.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from controller.domain.service_documents import RequestStatus
from controller.service.context import Caller, Service, TheService
from controller.service.runs_api import CURSOR
from controller.service.web.list_view import Filter, RunList
from controller.service.web.pages import PageRoute, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
def show_runs(
    request: Request,
    service: TheService,
    tenant: Caller,
    q: Annotated[str, Query(max_length=200)] = "",
    status: Literal["", RequestStatus] = "",
    label: Annotated[str, Query(max_length=400)] = "",
    cursor: Annotated[str, Query(pattern=CURSOR)] = "",
    did: Literal["", "delete"] = "",
) -> Response:
    """Return the runs that fit a search, the newest first."""
    wanted = Filter(text=q, status=status or None, label=label.strip())
    asked = {name: text for name, text in (("q", q), ("status", status), ("label", label)) if text}
    found = _list_of(request, service).page(tenant, wanted, cursor)
    return page(
        request,
        "runs.html",
        found=found,
        wanted=wanted,
        statuses=get_args(RequestStatus),
        did=did,
        origin=f"{request.url.scheme}://{request.url.netloc}",
        is_first=not cursor,
        here=_place(asked, cursor),
        newest=_place(asked, ""),
        older=_place(asked, found.next_cursor) if found.next_cursor else "",
    )


def _place(asked: dict[str, str], cursor: str) -> str:
    query = urlencode(asked | ({"cursor": cursor} if cursor else {}))
    return f"/?{query}" if query else "/"


def _list_of(request: Request, service: Service) -> RunList:
    """Return the list of the service; it keeps what it knows of runs that have ended."""
    state = request.app.state
    if not hasattr(state, "run_list"):
        state.run_list = RunList(service)
    found: RunList = state.run_list
    return found
