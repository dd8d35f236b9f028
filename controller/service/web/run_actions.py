"""``/runs/{id}/cancel``, ``/retry`` and ``/delete``: the forms of the page of a run.

Touches: the store.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from controller.service import runs_api
from controller.service.context import Caller, TheService
from controller.service.runs_api import RunId
from controller.service.web.pages import PageRoute, moved

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.post("/runs/{run_id}/cancel")
def cancel_run(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Ask for the end of a run."""
    runs_api.cancel_run(service, tenant, run_id)
    return moved(f"/runs/{run_id}?did=cancel")


@router.post("/runs/{run_id}/retry")
def retry_run(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Try a run again."""
    runs_api.retry_run(service, tenant, run_id)
    return moved(f"/runs/{run_id}?did=retry")


@router.post("/runs/{run_id}/delete")
def delete_run(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Delete a run."""
    runs_api.delete_run(service, tenant, run_id)
    return moved("/?did=delete")
