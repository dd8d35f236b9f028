"""How a page is answered: its templates, its header fields, compressed, in parts; and errors as pages.

Touches: nothing itself.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from controller.reports import html
from controller.service import problems
from controller.service.context import service_of
from controller.service.identity import Unauthenticated
from controller.service.own_pages import SAFE_METHODS, cookie_token
from controller.service.web.assets import asset_url
from controller.service.web.policy import Policy

_GROUP = 1 << 15
"""Characters of a page that are sent at once."""
_CONTENT = '<main id="main"'
_LEVEL = 6
"""Of the compression."""
_LONGEST_NEXT = 2_000


class PageRoute(APIRoute):
    """A route whose answers are pages, also for errors, with the header fields of pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await answer(request)
            except problems.EXPECTED as error:
                response = _refusal(request, error)
            for name, value in (await run_in_threadpool(policy_of(request).headers)).items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return handle


def policy_of(request: Request) -> Policy:
    """Return the policy of the service that answers *request*."""
    state = request.app.state
    if not hasattr(state, "page_policy"):
        state.page_policy = Policy(service_of(request))
    found: Policy = state.page_policy
    return found


def page(request: Request, template: str, /, *, status: int = 200, **values: object) -> Response:
    """Return a page as a whole."""
    return _answer(request, [environment().get_template(template).render(shared(request) | values)], status)


def streamed(request: Request, template: str, /, **values: object) -> Response:
    """Return a page whose parts are sent as they are made. What may fail must be done before, or shown in the page."""
    parts = grouped(environment().get_template(template).generate(shared(request) | values))
    headers = {"Vary": "Accept-Encoding"}
    if takes_gzip(request):
        return StreamingResponse(packed(parts), headers=headers | {"Content-Encoding": "gzip"}, media_type="text/html")
    return StreamingResponse(parts, headers=headers, media_type="text/html")


def grouped(parts: Iterable[str]) -> Iterator[str]:
    """Join the parts of a page. What comes before its content is by itself: browsers show it while the rest is made."""
    group, size, begun = [], 0, False
    for part in parts:
        group.append(part)
        size += len(part)
        begins = not begun and _CONTENT in part
        if begins or size >= _GROUP:
            yield "".join(group)
            group, size, begun = [], 0, begun or begins
    yield "".join(group)


def moved(place: str) -> Response:
    """Return an answer that lets the browser get another page of ours."""
    return RedirectResponse(place, HTTPStatus.SEE_OTHER)


def local_path(place: str) -> str:
    """Return *place* if it is a path of this service; else that of its first page."""
    fine = place.isascii() and place.isprintable() and " " not in place and "\\" not in place
    return place if fine and place[:1] == "/" != place[1:2] and len(place) <= _LONGEST_NEXT else "/"


def takes_gzip(request: Request) -> bool:
    """Whether the client reads compressed answers."""
    asked = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return "gzip" in (one.partition(";")[0] for one in asked if not one.endswith((";q=0", ";q=0.0")))


def packed(parts: Iterable[str]) -> Iterator[bytes]:
    """Compress the parts of a page, each so that a browser can show it at once."""
    packer = zlib.compressobj(_LEVEL, wbits=31)
    for part in parts:
        yield packer.compress(part.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


@cache
def environment() -> jinja2.Environment:
    """The templates of this package, and those of the reports."""
    made = html.made_environment("controller.service.web", "controller.reports")
    made.globals["asset"] = asset_url
    return made


def shared(request: Request) -> dict[str, object]:
    """Return what every page needs."""
    return {
        "path": request.url.path,
        "can_sign_out": cookie_token(request.headers) is not None and service_of(request).identity.needs_token,
    }


def _answer(request: Request, parts: list[str], status: int) -> Response:
    body = "".join(parts).encode()
    if takes_gzip(request):
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return HTMLResponse(gzip.compress(body, _LEVEL, mtime=0), status, headers)
    return HTMLResponse(body, status, {"Vary": "Accept-Encoding"})


def _refusal(request: Request, error: Exception) -> Response:
    """Return the page of an error. Who is not signed in gets the page to sign in."""
    live = "hx-request" in request.headers
    if isinstance(error, Unauthenticated) and service_of(request).identity.needs_token:
        if live:
            shown = urlsplit(request.headers.get("hx-current-url", ""))
            return Response(status_code=error.status, headers={"HX-Redirect": _login(shown.path, shown.query)})
        if request.method in SAFE_METHODS and request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            # Browsers leave out the cookie where a page of another site leads here, but not on the way from this one.
            return page(request, "again.html", status=error.status, place=_place(request.url.path, request.url.query))
        place = (request.url.path, request.url.query) if request.method in SAFE_METHODS else ("/", "")
        return moved(_login(*place))
    problem = problems.problem_of(error)
    response = page(request, "problem.html", status=problem.status, problem=problem.document)
    response.headers.update(problem.headers)
    return response


_OWN_SITES = ("none", "same-origin")


def _place(path: str, query: str) -> str:
    return local_path(f"{path}?{query}" if query else path)


def _login(path: str, query: str) -> str:
    return f"/login?next={quote(_place(path, query), safe='/')}"
