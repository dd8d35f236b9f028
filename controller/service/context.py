"""What all endpoints of the API share.

Touches: nothing itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from chunk_job.store.base import Store
from controller.domain.service_keys import id_of
from controller.reports.cost import Prices
from controller.runs.corrected_files import CorrectionStore
from controller.service.addresses import AllowList, check_callback
from controller.service.answers import Answers
from controller.service.forms import Receiving
from controller.service.identity import Identity
from controller.service.inbox.noted import Noted
from controller.service.limits import OpenStreams, RequestRates
from controller.service.outbox import Outbox
from controller.service.own_pages import check_change
from controller.service.problems import Problem
from controller.service.queue import ServiceQueue
from controller.service.requests import RequestStore
from controller.service.signatures import WebhookKeys
from controller.service.submissions import Defaults
from controller.service.tenant import Tenant
from controller.service.upload_completion import Completions
from controller.service.uploads import UploadStore


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts of the service that the endpoints use."""

    store: Store
    requests: RequestStore
    uploads: UploadStore
    corrections: CorrectionStore
    answers: Answers
    completions: Completions
    queue: ServiceQueue
    identity: Identity
    rates: RequestRates
    streams: OpenStreams
    receiving: Receiving
    defaults: Defaults
    keys: WebhookKeys
    outbox: Outbox
    noted: Noted
    """Of the inboxes."""
    now_ms: Callable[[], int]
    problem: Callable[[], str]
    """Why the service does not work now; empty if it does."""
    most_form_bytes: int
    """Largest recording that is sent in a form, through the service itself."""
    part_bytes: int
    """Length of the parts of a new upload."""
    upload_endpoint: str
    """Where clients reach the server of the store; empty: where this process does."""
    answer_within_s: float
    """How long a request that waits for its transcript is kept open."""
    prices: Prices
    """For the cost of runs."""

    def check_callback(self, tenant: Tenant, url: str) -> None:
        """Raises :class:`CallbackRefused`, and :class:`WebhookNotConfigured` where nothing can be signed."""
        self.keys.current(tenant.prefix)
        check_callback(url, AllowList.of(tenant.webhook_hosts))


def service_of(request: Request) -> Service:
    """Return the service that answers *request*."""
    found: Service = request.app.state.service
    return found


_BEARER = HTTPBearer(auto_error=False, description="A token of this service: `Authorization: Bearer TOKEN`.")


async def caller(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Tenant:
    """Return the tenant that makes *request*, and count it. Raises what makes it refused."""
    service = service_of(request)
    tenant = await tenant_with(request, request.headers)
    check_change(request.method, request.headers)
    service.rates.check(tenant)
    _check_query(request)
    return tenant


async def tenant_with(request: Request, headers: Headers) -> Tenant:
    """Return the tenant that makes *request* if it has these *headers*. Raises what :meth:`Identity.tenant_of` does."""
    identity = service_of(request).identity
    if identity.reads_file:
        await run_in_threadpool(identity.read_file)
    # Not in a thread: it would have to wait for one, twice for each request.
    return identity.tenant_of(headers, request.client.host if request.client else None)


def _check_query(request: Request) -> None:
    """Raises :class:`Problem` for a parameter that the endpoint does not have: a typing error would go unnoticed."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute):
        known = {parameter.alias for parameter in route.dependant.query_params}
        if unknown := sorted(request.query_params.keys() - known):
            none = "it has none: options belong in the body" if request.method == "POST" else "it has none"
            names = f"it has {', '.join(sorted(known))}" if known else none
            raise Problem(422, "invalid-request", f"{unknown[0][:100]}: there is no such parameter", names)


Caller = Annotated[Tenant, Depends(caller)]


async def _service(request: Request) -> Service:
    # Not in a thread, as other dependencies: those may all wait for the store.
    return service_of(request)


TheService = Annotated[Service, Depends(_service)]


def new_id() -> str:
    """Return a random id."""
    return id_of(secrets.token_bytes(16))
