"""``/v1/hooks/s3``: a bucket says which objects are new, so that the inbox looks at them at once.

Touches: the store. An event is only a hint: the object is looked up. One that is lost or
invented does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_plus

from fastapi import APIRouter
from pydantic import BaseModel, Field

from controller.service.context import Caller, TheService
from controller.service.inbox.places import Place
from controller.service.problem_types import problem_response
from controller.service.problems import not_found
from controller.service.runs_api import FORM_PROBLEMS, PROBLEMS

_MOST_EVENTS = 200
"""Of one request. S3 and MinIO send one; with the longest keys, more would not fit into a body."""

router = APIRouter(tags=["inbox"])


class S3Bucket(BaseModel):
    """The bucket of an event."""

    name: str = Field(max_length=255)


class S3Object(BaseModel):
    """The object of an event."""

    key: str = Field(max_length=3_072)


class S3Place(BaseModel):
    """Where something happened."""

    bucket: S3Bucket
    object: S3Object


class S3Record(BaseModel):
    """What happened to one object. Other members are ignored."""

    s3: S3Place = Field(description="Its key is URL-encoded, with + for a space, as S3 and MinIO send it.")


class S3Event(BaseModel):
    """An event notification of S3 or MinIO (`Records`), or one of EventBridge (`detail`). Other members are ignored."""

    Records: list[S3Record] = Field(default_factory=list, max_length=_MOST_EVENTS)
    detail: S3Place | None = Field(default=None, description="Its key is not encoded.")


class Noticed(BaseModel):
    """What the inbox looks at."""

    noticed: int = Field(description="Objects of this tenant's inbox that are looked at now.")
    ignored: int = Field(description="Other objects, and those for which there is no place now: they are found later.")


@router.post(
    "/v1/hooks/s3",
    status_code=202,
    responses=PROBLEMS
    | {
        400: problem_response("The body is not text in UTF-8."),
        404: problem_response("This tenant has no inbox in S3."),
        413: FORM_PROBLEMS[413],
    },
    operation_id="noticeObjects",
)
def notice(service: TheService, tenant: Caller, event: S3Event) -> Noticed:
    """Look at objects of the inbox at once: the target of event notifications of its bucket."""
    place = service.noted.place_of(tenant.prefix)
    if place is None or not place.inbox.startswith("s3://"):
        raise not_found("inbox")
    paths = [path for found in _places(event) if (path := _path(place, *found))]
    noticed = sum(service.noted.note(tenant.prefix, path) for path in paths)
    return Noticed(noticed=noticed, ignored=sum(1 for _ in _places(event)) - noticed)


def _places(event: S3Event) -> Iterator[tuple[str, str]]:
    """Yield bucket and key of each object."""
    for record in event.Records:
        yield record.s3.bucket.name, unquote_plus(record.s3.object.key)
    if event.detail:
        yield event.detail.bucket.name, event.detail.object.key


def _path(place: Place, bucket: str, key: str) -> str:
    """Return the path of an object below the inbox; empty if it is elsewhere, or has a name that no listing shows."""
    uri, home = f"s3://{bucket}/{key}", f"{place.inbox}/"
    path = uri.removeprefix(home) if uri.startswith(home) else ""
    hidden = any(not part or part.startswith(".") for part in path.split("/"))
    return "" if hidden or "\0" in path else path
