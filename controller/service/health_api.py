"""``/healthz`` and ``/readyz``: whether this process is alive, and whether it can work.

Touches: the store.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from chunk_job.errors import JobError
from controller.domain.service_keys import replica_key
from controller.service.context import TheService
from controller.service.problem_types import problem_response
from controller.service.problems import Problem

router = APIRouter(tags=["health"])


@router.get(
    "/healthz",
    operation_id="getHealth",
    response_class=PlainTextResponse,
    responses={200: {"description": "It is alive."}, 503: problem_response("It should be restarted.")},
)
async def get_health(service: TheService) -> Response:
    """Return whether this process is alive; if not, it should be restarted."""
    # Not in a thread: those may all wait for a store that is away, and a restart would not help.
    if problem := service.problem():
        raise Problem(503, "not-alive", problem, "this process should be restarted")
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    response_class=PlainTextResponse,
    responses={200: {"description": "It is ready."}, 503: problem_response("It cannot work now.")},
)
def get_readiness(service: TheService) -> Response:
    """Return whether this process can accept requests: it works, and its store answers."""
    if problem := service.problem():
        raise Problem(503, "not-ready", problem, "wait")
    try:
        service.store.stat(replica_key("0" * 16))
    except JobError:
        raise Problem(503, "not-ready", "the store does not answer", "wait") from None
    return Response("ok\n", media_type="text/plain")
