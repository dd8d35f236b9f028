"""Documents of webhooks: the event that a receiver gets, and its delivery as the store keeps it.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.document import Count, Document, Line, RunId
from controller.domain.documents import FailureName
from controller.domain.service_documents import (
    Labels,
    RequestEnd,
    RequestId,
    Retries,
    ServiceRequest,
    TenantPrefix,
    iso,
)
from controller.domain.service_keys import ID_PATTERN

DeliveryId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
EndStatus = Literal["complete", "partial", "failed", "cancelled"]
EventType = Literal[
    "io.stenofleet.run.completed",
    "io.stenofleet.run.partial",
    "io.stenofleet.run.failed",
    "io.stenofleet.run.cancelled",
]

EVENT_TYPES: dict[EndStatus, EventType] = {
    "complete": "io.stenofleet.run.completed",
    "partial": "io.stenofleet.run.partial",
    "failed": "io.stenofleet.run.failed",
    "cancelled": "io.stenofleet.run.cancelled",
}


class RunEnded(Document):
    """How a request ended: the data of an event."""

    id: RequestId
    """The id of the request, as in ``/v1/runs/<id>``."""
    status: EndStatus
    retries: Retries = 0
    """How often it had been tried again."""
    run: RunId | None = None
    """The run that it became; None if its recording was not identified."""
    failure: Literal[""] | FailureName = ""
    summary: Line = ""
    advice: Line = ""
    labels: Labels = Field(default_factory=dict)
    """The labels that the request was submitted with."""


class CloudEvent(Document):
    """A CloudEvent 1.0, as the body of the request to a receiver (structured mode)."""

    specversion: Literal["1.0"] = "1.0"
    id: DeliveryId
    """The same in every attempt, so that a receiver can recognize an event that it has already."""
    source: Annotated[str, Field(pattern=f"^/v1/runs/{ID_PATTERN[1:]}")]
    type: EventType
    time: Annotated[str, Field(pattern=r"^[0-9T:.-]{23}Z$")]
    """When the run ended: RFC 3339 in UTC, with milliseconds."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: RunEnded


class Delivery(Document):
    """An event that a receiver has not accepted yet."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.webhook-delivery/1"] = Field(default="stenofleet.webhook-delivery/1", alias="schema")
    id: DeliveryId
    prefix: TenantPrefix
    """Of the tenant whose run ended."""
    event: CloudEvent
    url: Annotated[str, Field(min_length=1, max_length=2048)]
    """Where it is sent."""
    created_ms: Count
    since_ms: Count
    """From when on it is tried: when it was created, or when a dead one was requested again."""
    attempts: Count = 0
    """Failed attempts since ``since_ms``."""
    next_ms: Count
    """When the next attempt is due. Of a dead delivery: when the last one was made."""
    last_error: Line = ""


def run_ended(request: ServiceRequest, end: RequestEnd) -> RunEnded:
    """What the event says about a request that ended."""
    return RunEnded(
        id=request.id,
        status=end.status,
        retries=end.retries,
        run=end.run_id,
        failure=end.failure,
        summary=end.summary,
        advice=end.advice,
        labels=request.labels,
    )


def event_of(delivery_id: str, data: RunEnded, ended_ms: int) -> CloudEvent:
    """The event for a run that ended at *ended_ms*, in milliseconds since the epoch."""
    return CloudEvent(
        id=delivery_id,
        source=f"/v1/runs/{data.id}",
        type=EVENT_TYPES[data.status],
        time=iso(ended_ms),
        data=data,
    )
