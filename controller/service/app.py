"""The HTTP API and the web page as an ASGI application.

Touches: nothing itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI

from controller.service import (
    corrections_api,
    events_api,
    health_api,
    hooks_api,
    media_api,
    openai_api,
    openapi,
    problems,
    results_api,
    runs_api,
    uploads_api,
    usage_api,
    webhooks_api,
)
from controller.service.body_limit import BodyLimit
from controller.service.context import Service
from controller.service.no_sniffing import NoSniffing
from controller.service.web import asset_files, list_page, new_check, new_page, run_actions, run_page, session

THREADS = 40
"""Requests that wait for the store at the same time. Its client keeps more connections: the loop needs some too."""
_MOST_JSON_BYTES = 1 << 20
_FORM_SPARE_BYTES = 2 << 20
"""What a form has besides its recording."""
_WITH_RECORDING = frozenset({"/v1/runs", "/v1/audio/transcriptions", "/v1/audio/translations", "/new"})
"""Paths that take a recording in a form."""


def create_app(service: Service) -> FastAPI:
    """Return the application that answers with *service*."""
    app = FastAPI(
        title="stenofleet",
        version=openapi.VERSION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        # A client that does not follow redirects would see an empty answer.
        redirect_slashes=False,
    )
    app.state.service = service
    for api in (
        *(runs_api, results_api, corrections_api, media_api, events_api, uploads_api, webhooks_api),
        *(hooks_api, usage_api, openai_api, health_api),
        *(list_page, new_check, new_page, run_page, run_actions, session, asset_files),
    ):
        app.include_router(api.router)
    problems.install(app, lambda path: openapi.allowed_methods(described(app), path))
    app.add_middleware(BodyLimit, most=lambda path, kind: _most_bytes(service, path, kind))
    app.add_middleware(NoSniffing)
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    return app


def described(app: FastAPI) -> dict[str, Any]:
    """Return the description of the API."""
    if not app.openapi_schema:
        app.openapi_schema = openapi.description(app)
    return app.openapi_schema


def _most_bytes(service: Service, path: str, kind: str) -> int:
    part_bytes = uploads_api.most_part_bytes(service, path)
    if part_bytes is not None:
        return part_bytes
    if not kind.startswith("multipart/"):
        return _MOST_JSON_BYTES
    # Others keep a form in memory, and that to sign in comes from anybody.
    return _FORM_SPARE_BYTES + (service.most_form_bytes if path in _WITH_RECORDING else 0)


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
