"""``/v1/webhooks/dead``: callbacks that are not tried any more. List them, send one again, delete one.

Touches: the store.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from controller.domain.service_documents import iso
from controller.domain.webhook_documents import Delivery
from controller.service.context import Caller, TheService
from controller.service.outbox import NoDeadLetter
from controller.service.problem_types import problem_response
from controller.service.problems import Problem
from controller.service.runs_api import MOST_ON_PAGE, PROBLEMS
from controller.service.views import Time

_DEAD = PROBLEMS | {404: problem_response("This tenant has no such dead delivery.")}

router = APIRouter(tags=["webhooks"])
DeliveryId = Annotated[str, Path(description="The id of a dead delivery.")]


class DeliveryView(BaseModel):
    """A callback that its receiver has not accepted."""

    id: str = Field(description="Of the event and of its delivery: the header Stenofleet-Delivery.")
    run_id: str = Field(description="The run that the event is about.")
    type: str = Field(description="The type of the event.")
    url: str
    state: Literal["dead", "pending"] = Field(description="pending: it is sent again.")
    attempts: int = Field(description="Failed attempts.")
    last_error: str = Field(description="Why the last attempt failed.")
    created_at: Time
    last_attempt_at: Time | None = Field(description="Of a dead delivery.")


class DeliveryList(BaseModel):
    """A page of dead deliveries, by id."""

    deliveries: list[DeliveryView]
    next_cursor: str | None = Field(description="For the next page; null: this is the last one.")


@router.get("/v1/webhooks/dead", responses=PROBLEMS, operation_id="listDeadDeliveries")
def list_dead(
    service: TheService,
    tenant: Caller,
    cursor: Annotated[str, Query(pattern=r"^([0-9a-f]{32})?$", description="`next_cursor` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_ON_PAGE, description="Most deliveries of a page.")] = 50,
) -> DeliveryList:
    """List the callbacks that are not tried any more. They are kept for 30 days."""
    found, after = service.outbox.dead_page(tenant.prefix, after=cursor, most=limit)
    return DeliveryList(deliveries=[_view(delivery, "dead") for delivery in found], next_cursor=after or None)


@router.post(
    "/v1/webhooks/dead/{delivery_id}:repeat", status_code=202, responses=_DEAD, operation_id="repeatDeadDelivery"
)
def repeat_dead(service: TheService, tenant: Caller, delivery_id: DeliveryId) -> DeliveryView:
    """Send a callback again, with all attempts."""
    try:
        again = service.outbox.repeat(tenant.prefix, delivery_id, service.now_ms())
    except NoDeadLetter as error:
        raise _missing(error) from None
    return _view(again, "pending")


@router.delete(
    "/v1/webhooks/dead/{delivery_id}",
    status_code=204,
    responses=_DEAD | {204: {"description": "Deleted."}},
    operation_id="deleteDeadDelivery",
)
def delete_dead(service: TheService, tenant: Caller, delivery_id: DeliveryId) -> Response:
    """Delete a callback that is not tried any more."""
    try:
        service.outbox.remove_dead(tenant.prefix, delivery_id)
    except NoDeadLetter as error:
        raise _missing(error) from None
    return Response(status_code=204)


def _missing(error: NoDeadLetter) -> Problem:
    """Return the problem of an id that does not exist, or that is of another tenant: both are the same."""
    return Problem(404, "not-found", error.summary, error.advice)


def _view(delivery: Delivery, state: Literal["dead", "pending"]) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        run_id=delivery.event.data.id,
        type=delivery.event.type,
        url=delivery.url,
        state=state,
        attempts=delivery.attempts,
        last_error=delivery.last_error,
        created_at=iso(delivery.created_ms),
        last_attempt_at=iso(delivery.next_ms) if state == "dead" else None,
    )
