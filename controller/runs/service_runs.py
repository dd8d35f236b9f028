"""Which run belongs to a request of the service, and which request a run belongs to: for the command line.

Touches: the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import RunRecord
from controller.domain.keys import RunKeys
from controller.domain.service_documents import RequestState, ServiceRequest
from controller.domain.service_keys import PREFIX_PATTERN, REQUESTS, RequestKey, RequestKeys, is_id
from controller.errors import UsageProblem


def requests_of_service(store: Store) -> Iterator[RequestKey]:
    """Yield the keys of all requests of the service, of every tenant."""
    for prefix in store.folders(REQUESTS):
        if re.fullmatch(PREFIX_PATTERN, prefix):
            yield from (RequestKey(prefix, name) for name in store.folders(f"{REQUESTS}{prefix}/") if is_id(name))


def request_with_id(store: Store, request_id: str) -> RequestKey | None:
    """Return the key of the request with this id, of whichever tenant; None if there is none."""
    keys = (
        RequestKey(prefix, request_id) for prefix in store.folders(REQUESTS) if re.fullmatch(PREFIX_PATTERN, prefix)
    )
    return next((key for key in keys if store.stat(RequestKeys(key).request)), None)


def request_of_run(store: Store, run: str) -> RequestKey | None:
    """Return the key of the request that this run belongs to; None if it is none of the service."""
    record = stored_documents.valid(store, RunRecord, RunKeys(run).record)
    key = request_of_record(record) if record else None
    return key if key and store.stat(RequestKeys(key).request) else None


def request_of_record(record: RunRecord) -> RequestKey | None:
    """Return the key of the request that this run was made for; None if it is none of the service."""
    prefix, _, request_id = record.salt.partition("/")
    return RequestKey(prefix, request_id) if re.fullmatch(PREFIX_PATTERN, prefix) and is_id(request_id) else None


def run_of_request(store: Store, request_id: str) -> str:
    """Return the run of the request with this id. Raises :class:`UsageProblem` if there is no request, or no run."""
    key = request_with_id(store, request_id)
    request = stored_documents.valid(store, ServiceRequest, RequestKeys(key).request) if key else None
    if key is None or request is None:
        raise UsageProblem(f"no run {request_id} in {store.url}", "see stenofleet list, or ask the service for it")
    state = stored_documents.valid(store, RequestState, RequestKeys(key).indexed(request.created_ms))
    if state is None or state.run_id is None:
        status = state.status if state else "queued"
        raise UsageProblem(
            f"request {request_id} of the service ({status}) has no run in the store",
            f"ask the service for it: GET /v1/runs/{request_id}",
        )
    return state.run_id
