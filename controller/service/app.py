"""The HTTP API as an ASGI application.

Touches: nothing itself.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from controller.service import events_api, health_api, openai_api, problems, results_api, runs_api, webhooks_api
from controller.service.body_limit import BodyLimit
from controller.service.context import Service
from controller.service.submissions import Submission

_THREADS = 64
"""Requests that wait for the store at the same time."""
_MOST_JSON_BYTES = 1 << 20
_FORM_SPARE_BYTES = 2 << 20
"""What a form has besides its recording."""
_DESCRIPTION = "Transcribes long recordings: one short job for each chunk. Errors are problem documents (RFC 9457)."


def create_app(service: Service) -> FastAPI:
    """Return the application that answers with *service*."""
    app = FastAPI(
        title="stenofleet",
        version=importlib.metadata.version("stenofleet"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for api in (runs_api, results_api, events_api, webhooks_api, openai_api, health_api):
        app.include_router(api.router)
    problems.install(app)
    app.add_middleware(BodyLimit, most=lambda _, kind: _most_bytes(service, kind))
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the description of the API, with the bodies that are parsed by hand."""
    if not app.openapi_schema:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema = Submission.model_json_schema(ref_template="#/components/schemas/{model}")
        definitions = schema.pop("$defs", {})
        found["components"]["schemas"] |= definitions | {"Submission": schema}
        app.openapi_schema = found
    return app.openapi_schema


def _most_bytes(service: Service, kind: str) -> int:
    return service.most_form_bytes + _FORM_SPARE_BYTES if kind.startswith("multipart/") else _MOST_JSON_BYTES


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    yield
