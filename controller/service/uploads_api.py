"""``/v1/uploads``: large recordings, in parts that can be sent again.

Touches: the store, temporary files (parts that come to the service).
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from controller.domain.service_documents import PART_BYTES, Upload, iso
from controller.domain.service_keys import MOST_PARTS, is_id, part_key
from controller.runs.lookup import of_each
from controller.service.context import Caller, Service, TheService, new_id
from controller.service.forms import json_of
from controller.service.limits import UPLOADS_RETRY_S, LimitExceeded, check_upload
from controller.service.problem_types import RETRY_AFTER, problem_response
from controller.service.problems import Problem, not_found, parsed_as
from controller.service.runs_api import PROBLEMS
from controller.service.submitting import safe_name
from controller.service.tenant import Tenant
from controller.service.uploads import FORM_VALID_MS, LIVES_MS, USED_WITHIN_MS
from controller.service.views import Time

MOST_INCOMPLETE = 100
"""Uploads of one tenant that are not complete. One that was deleted counts for another hour."""
MOST_TARGETS = 50
"""Parts for which one reply says where to send them."""
_PATH = re.compile(r"/v1/uploads/[^/]*/parts/[^/]*")
_CREATE_WITHIN_S = 1.0
_PIECE_BYTES = 1 << 20
_FOUND = PROBLEMS | {404: problem_response("This tenant has no such upload.")}
_STATE = _FOUND | {409: problem_response("Not possible in the state of the upload.")}
_LARGE: dict[int | str, dict[str, Any]] = {
    408: problem_response("The body did not come, or too slowly."),
    413: problem_response("Larger than allowed."),
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {415: problem_response("The body is not JSON.")}

_LOCATION = {"Location": {"description": "The upload.", "schema": {"type": "string"}}}

router = APIRouter(tags=["uploads"])
UploadId = Annotated[str, PathParameter(description="The id of an upload.")]
PartNumber = Annotated[int, PathParameter(description="Of the part, from 1 on.")]
_CREATING: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By the prefix of the tenant: its limits are checked for one new upload after the other."""


class NewUpload(BaseModel):
    """A recording that is to be uploaded."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=1_024, description="Its file name.")
    size_bytes: int = Field(ge=1, le=MOST_PARTS * PART_BYTES)


class PartTarget(BaseModel):
    """Where to send a part that is missing."""

    number: int
    offset: int = Field(description="Where the part begins in the recording.")
    size_bytes: int
    method: Literal["POST", "PUT"] = Field(
        description="PUT: the part is the body, with the token of the service. POST: a form, without a token."
    )
    url: str = Field(description="Absolute, or a path of this service.")
    fields: dict[str, str] = Field(description="Fields of the form, before its last one: the part, as `file`.")


class UploadSummary(BaseModel):
    """An upload in a list."""

    id: str
    name: str
    size_bytes: int
    status: Literal["incomplete", "completing", "complete"]
    created_at: Time
    expires_at: Time = Field(description="It is deleted then, unless it is complete and that of a run.")


class UploadList(BaseModel):
    """The uploads that are not complete."""

    uploads: list[UploadSummary]


class UploadView(UploadSummary):
    """An upload."""

    part_bytes: int = Field(description="Length of each part but the last.")
    part_count: int
    missing_parts: int = Field(description="How many parts are still to be sent.")
    parts: list[PartTarget] = Field(
        description=f"The first {MOST_TARGETS} missing parts: send them, and GET the upload again for the next ones. "
        f"Forms are valid for {FORM_VALID_MS // 60_000} minutes."
    )


@router.post(
    "/v1/uploads",
    status_code=201,
    responses=PROBLEMS | _LARGE | _NOT_JSON | {201: {"description": "It can be sent now.", "headers": _LOCATION}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewUpload"}}},
        }
    },
    operation_id="createUpload",
)
async def create_upload(request: Request, service: TheService, tenant: Caller, response: Response) -> UploadView:
    """Begin an upload. The reply says where to send its parts, in any order and several at once."""
    # Not a parameter: the framework would read it before it is known who sends it.
    body = parsed_as(NewUpload, await json_of(request))
    created = await run_in_threadpool(_create, service, tenant, body)
    response.headers["Location"] = f"/v1/uploads/{created.id}"
    return created


def _create(service: Service, tenant: Tenant, body: NewUpload) -> UploadView:
    upload = Upload(
        id=new_id(),
        tenant=tenant.prefix,
        name=safe_name(body.name),
        size_bytes=body.size_bytes,
        created_ms=service.now_ms(),
        complete=False,
        part_bytes=service.part_bytes,
    )
    _reserve(service, tenant, upload)
    return _view(service, upload)


def _reserve(service: Service, tenant: Tenant, upload: Upload) -> None:
    lock = _CREATING[tenant.prefix]
    # One tenant must not keep all threads of the service waiting.
    if not lock.acquire(timeout=_CREATE_WITHIN_S):
        raise LimitExceeded("uploads that begin at the same time", 1, 1)
    try:
        _check_limits(service, tenant, upload)
        service.uploads.create(upload)
    finally:
        lock.release()


def _check_limits(service: Service, tenant: Tenant, upload: Upload) -> None:
    # First what needs nothing of the store.
    check_upload(tenant, upload.size_bytes, 0)
    if len(service.uploads.reserved(tenant.prefix)) >= MOST_INCOMPLETE:
        raise LimitExceeded("uploads that are not complete", MOST_INCOMPLETE, UPLOADS_RETRY_S)
    if tenant.max_upload_bytes_total is not None:
        check_upload(tenant, upload.size_bytes, service.uploads.stored_bytes(tenant.prefix))


@router.get("/v1/uploads", responses=PROBLEMS, operation_id="listUploads")
def list_uploads(service: TheService, tenant: Caller) -> UploadList:
    """List the uploads that are not complete, the oldest first: to continue one, or to delete it."""
    ids = service.uploads.reserved(tenant.prefix)
    found = of_each(service.store, lambda upload_id: service.uploads.find(tenant.prefix, upload_id), ids)
    return UploadList(uploads=[_summary(service, upload) for upload in found if upload and not upload.complete])


@router.get("/v1/uploads/{upload_id}", responses=_FOUND, operation_id="getUpload")
def get_upload(service: TheService, tenant: Caller, upload_id: UploadId) -> UploadView:
    """Return an upload, and where to send the parts that are missing: to continue after an interruption."""
    return _view(service, _required(service, tenant, upload_id))


@router.put(
    "/v1/uploads/{upload_id}/parts/{number}",
    status_code=204,
    responses=_STATE | _LARGE | {204: {"description": "Received."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    operation_id="putUploadPart",
)
async def put_part(
    request: Request, service: TheService, tenant: Caller, upload_id: UploadId, number: PartNumber
) -> Response:
    """Send a part to the service itself, where the upload says so."""
    upload = await run_in_threadpool(_required, service, tenant, upload_id)
    if not 1 <= number <= upload.part_count:
        raise not_found("part", f"it has parts 1 to {upload.part_count}")
    if service.uploads.presigning:
        raise Problem(409, "not-here", "parts of this upload are sent to the store", "GET the upload: it says where")
    _check_open(service, upload)
    with service.receiving.one(tenant.prefix), tempfile.NamedTemporaryFile(prefix="stenofleet-part-") as file:
        await _receive(request, file, upload.bytes_of(number))
        # It may have been completed, deleted or given up while the part came.
        upload = await run_in_threadpool(_required, service, tenant, upload_id)
        _check_open(service, upload)
        await run_in_threadpool(service.uploads.put_part, upload, number, Path(file.name))
    return Response(status_code=204)


async def _receive(request: Request, file: tempfile._TemporaryFileWrapper[bytes], size_bytes: int) -> None:
    """Write the body to *file*. Raises :class:`Problem` if it does not have exactly *size_bytes*."""
    received, piece = 0, bytearray()
    async for data in request.stream():
        received += len(data)
        if received > size_bytes:
            raise _wrong_size(size_bytes)
        piece += data
        if len(piece) >= _PIECE_BYTES:
            await run_in_threadpool(file.write, bytes(piece))
            piece.clear()
    if received != size_bytes:
        raise _wrong_size(size_bytes)
    await run_in_threadpool(file.write, bytes(piece))
    await run_in_threadpool(file.flush)


def _wrong_size(size_bytes: int) -> Problem:
    return Problem(
        422,
        "wrong-size",
        f"this part must have {size_bytes} bytes",
        "send exactly this part",
        headers={"Connection": "close"},
    )


@router.post(
    "/v1/uploads/{upload_id}:complete",
    responses=_STATE
    | {202: {"model": UploadView, "description": "It is being completed: ask again.", "headers": RETRY_AFTER}},
    operation_id="completeUpload",
)
async def complete_upload(service: TheService, tenant: Caller, upload_id: UploadId, response: Response) -> UploadView:
    """Make the recording of its parts, when all were sent. It can be repeated; a run can use it then."""
    upload = await run_in_threadpool(_required, service, tenant, upload_id)
    if upload.complete:
        return await run_in_threadpool(_view, service, upload)
    _check_open(service, upload)
    completion = asyncio.wrap_future(service.completions.start(upload))
    # Also if nobody waits for it any more: the next request finds its outcome in the store.
    completion.add_done_callback(lambda ended: ended.exception())
    done, _ = await asyncio.wait({completion}, timeout=service.answer_within_s)
    if not done:
        response.status_code = 202
        response.headers["Retry-After"] = "10"
        return await run_in_threadpool(_view, service, upload)
    completion.result()
    return await run_in_threadpool(_view, service, upload.model_copy(update={"complete": True}))


@router.delete(
    "/v1/uploads/{upload_id}",
    status_code=204,
    responses=_STATE | {204: {"description": "Deleted."}},
    operation_id="deleteUpload",
)
def delete_upload(service: TheService, tenant: Caller, upload_id: UploadId) -> Response:
    """Delete an upload, with its parts. A run that has not ended fails without its recording."""
    upload = _required(service, tenant, upload_id)
    if service.completions.is_running(upload):
        raise Problem(409, "completing", "the upload is being completed", "try again when it is complete")
    if upload.complete:
        service.uploads.remove(tenant.prefix, upload.id)
    else:
        service.uploads.give_up(upload, now_ms=service.now_ms())
    return Response(status_code=204)


def most_part_bytes(service: Service, path: str) -> int | None:
    """Return the largest body of a request to *path*, if this is the path of a part."""
    return service.part_bytes if _PATH.fullmatch(path) else None


def _required(service: Service, tenant: Tenant, upload_id: str) -> Upload:
    """Return an upload of this tenant. Raises :class:`Problem`."""
    found = service.uploads.find(tenant.prefix, upload_id) if is_id(upload_id) else None
    if found is None:
        raise not_found("upload")
    return found


def _check_open(service: Service, upload: Upload) -> None:
    if upload.complete:
        raise Problem(409, "upload-complete", "the upload is complete", "submit it, or begin another upload")
    if service.now_ms() >= upload.created_ms + LIVES_MS:
        raise Problem(409, "upload-expired", "the upload was not completed in time", "begin another upload")


def _summary(service: Service, upload: Upload) -> UploadSummary:
    completing = not upload.complete and service.completions.is_running(upload)
    return UploadSummary(
        id=upload.id,
        name=upload.name,
        size_bytes=upload.size_bytes,
        status="complete" if upload.complete else "completing" if completing else "incomplete",
        created_at=iso(upload.created_ms),
        expires_at=iso(upload.created_ms + (USED_WITHIN_MS if upload.complete else LIVES_MS)),
    )


def _view(service: Service, upload: Upload) -> UploadView:
    summary = _summary(service, upload)
    completing = summary.status == "completing"
    missing = service.uploads.missing(upload)
    expired = service.now_ms() >= upload.created_ms + LIVES_MS
    sendable = () if completing or expired else missing[:MOST_TARGETS]
    return UploadView(
        **summary.model_dump(),
        part_bytes=upload.part_bytes,
        part_count=upload.part_count,
        missing_parts=0 if completing else len(missing),
        parts=[_target(service, upload, number) for number in sendable],
    )


def _target(service: Service, upload: Upload, number: int) -> PartTarget:
    size_bytes = upload.bytes_of(number)
    url, fields = f"/v1/uploads/{upload.id}/parts/{number}", {}
    if presigning := service.uploads.presigning:
        key = part_key(upload.tenant, upload.id, number)
        url, given = presigning.post_form(key, size_bytes=size_bytes, until_ms=service.now_ms() + FORM_VALID_MS)
        fields = dict(given)
        if service.upload_endpoint:
            # What is signed says nothing of the server.
            url = f"{service.upload_endpoint}{urlsplit(url).path}"
    return PartTarget(
        number=number,
        offset=(number - 1) * upload.part_bytes,
        size_bytes=size_bytes,
        method="POST" if service.uploads.presigning else "PUT",
        url=url,
        fields=fields,
    )
