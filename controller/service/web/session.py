"""``/login`` and ``/logout``: a cookie with the token, for a browser as long as it is open.

Touches: nothing. The cookie has the token itself, so that every replica can check it, and removing the token from
the tenants file ends it at once. Scripts cannot read it.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import Headers

from controller.service.context import service_of, tenant_with
from controller.service.identity import Unauthenticated
from controller.service.own_pages import COOKIE, check_change
from controller.service.problems import Problem
from controller.service.web.pages import PageRoute, local_path, moved, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)
_ATTRIBUTES = "; Path=/; HttpOnly; SameSite=Strict"
_MOST_FIELDS = 10


@router.get("/login")
async def show_login(request: Request, place: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Return the page to sign in."""
    if not service_of(request).identity.needs_token:
        return moved("/")
    return page(request, "login.html", next=local_path(place), problem="")


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Give the browser the cookie, if its token is valid."""
    check_change(request.method, request.headers)
    fields = await fields_of(request)
    place, token = local_path(fields.get("next", "/")), fields.get("token", "").strip()
    if not service_of(request).identity.needs_token:
        return moved(place)
    try:
        # As a client of the API says it: so attempts are counted in the same way.
        await tenant_with(request, Headers({"authorization": f"Bearer {token}"}))
    except Unauthenticated as error:
        problem = "This token is not valid. Tokens begin with stf_; whoever runs this service makes them."
        return page(request, "login.html", status=error.status, next=place, problem=problem)
    response = moved(place)
    # The browser says by which scheme it reached this service, also behind a proxy.
    secure = "; Secure" if request.headers.get("origin", "").startswith("https://") else ""
    response.headers["Set-Cookie"] = f"{COOKIE}={token}{_ATTRIBUTES}{secure}"
    return response


@router.post("/logout")
async def sign_out(request: Request) -> Response:
    """Take the cookie away from the browser."""
    check_change(request.method, request.headers)
    response = moved("/login")
    response.headers["Set-Cookie"] = f"{COOKIE}={_ATTRIBUTES}; Max-Age=0"
    return response


async def fields_of(request: Request) -> dict[str, str]:
    """Return the fields of a form without files. Raises :class:`Problem`."""
    try:
        return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Problem(400, "bad-request", "the body is not a form", "use the page of this service") from None
