"""``/v1/runs``: submit, list, read, cancel, try again, delete.

Touches: the store, temporary files (recordings in forms).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from chunk_job.store.base import ObjectMissing
from controller.domain import stored_documents
from controller.domain.documents import Report, Status
from controller.domain.keys import RunKeys
from controller.domain.service_documents import RequestStatus
from controller.domain.service_keys import RequestKey, id_of, is_id
from controller.errors import StenofleetError
from controller.service.context import Caller, Service, TheService, new_id, service_of
from controller.service.forms import FORM, form_of, json_of, kind_of
from controller.service.limits import check_queued_runs
from controller.service.problem_types import RETRY_AFTER, problem_response
from controller.service.problems import Problem, not_found
from controller.service.request_reader import FoundRequest
from controller.service.requests import TriedAgain
from controller.service.submissions import Submission, parsed
from controller.service.submitting import checked_key, keep_upload, submit, was_accepted
from controller.service.tenant import Tenant
from controller.service.views import RunList, RunView, run_view, summary_view

PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: problem_response("There is no valid token."),
    403: problem_response("Not allowed for this tenant."),
    422: problem_response("The request is not valid."),
    429: problem_response("A limit of the tenant.", RETRY_AFTER),
    503: problem_response("The store does not answer.", RETRY_AFTER),
}
FORM_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: problem_response("The body is not a valid form."),
    408: problem_response("The body did not come, or too slowly."),
    413: problem_response("The body, or the recording in it, is larger than it may be."),
    415: problem_response("The endpoint does not take bodies of this type."),
}
FOUND = PROBLEMS | {404: problem_response("This tenant has no such run.")}
STATE = FOUND | {409: problem_response("Not possible in the state of the run.")}

MOST_ON_PAGE = 200
CURSOR = r"^([0-9]{13}-[0-9a-hjkmnp-tv-z]{26}\.json)?$"
_MOST_READ = 5
"""Pages that one request with a filter reads."""

_SETTLE_S, _SETTLE_TRIES = 3.0, 15
"""How long to wait until the end of a run is recorded everywhere."""

router = APIRouter(tags=["runs"])
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="1 to 256 visible ASCII characters. The same key: the same run."),
]
RunId = Annotated[str, PathParameter(description="The id of a run.")]
LOCATION = {"Location": {"description": "The run.", "schema": {"type": "string", "pattern": "^/v1/runs/[0-9a-z]{26}$"}}}


def submission_body() -> dict[str, Any]:
    """Return the description of the body of a submission."""
    reference = {"$ref": "#/components/schemas/Submission"}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "The recording."},
            "request": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "A submission without source and upload, as JSON.",
            },
        },
    }
    content = {
        "application/json": {"schema": reference},
        FORM: {"schema": form, "encoding": {"request": {"contentType": "application/json"}}},
    }
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/v1/runs",
    status_code=202,
    responses=PROBLEMS
    | FORM_PROBLEMS
    | {
        202: {"description": "Accepted: it is stored, and is carried out.", "headers": LOCATION},
        404: problem_response("This tenant has no such upload."),
        409: problem_response("The upload is not complete, or is that of another run."),
    },
    openapi_extra=submission_body(),
    operation_id="submitRun",
)
async def submit_run(request: Request, response: Response, tenant: Caller, key: Key = None) -> RunView:
    """Request a transcription: of an object, an upload, or a recording in a form. The run begins as soon as it can."""
    service = service_of(request)
    checked_key(key)
    if kind_of(request) == FORM:
        with service.receiving.one(tenant.prefix):
            async with form_of(request, service.most_form_bytes) as (form, file):
                found = await _submit_form(service, tenant, form, file, key)
    else:
        raw = await json_of(request, f"send application/json, or the recording as {FORM}")
        found = await run_in_threadpool(_submit, service, tenant, parsed(raw), key)
    response.headers["Location"] = f"/v1/runs/{found.id}"
    return found


def _submit(service: Service, tenant: Tenant, submission: Submission, key: str | None, request_id: str = "") -> RunView:
    accepted = submit(service, tenant, submission, key, request_id)
    return _view(service, required(service, tenant, accepted.id))


async def _submit_form(service: Service, tenant: Tenant, form: FormData, file: UploadFile, key: str | None) -> RunView:
    if unknown := sorted(form.keys() - {"file", "request"}):
        raise Problem(
            422,
            "invalid-request",
            f"{unknown[0][:100]}: the form has no such field",
            'options are in the field request, as JSON: {"options": {"language": "pt"}}',
        )
    text = form.get("request", "{}")
    if not isinstance(text, str):
        raise Problem(422, "invalid-request", "request: is a file", "send it as a field of the form")
    return await run_in_threadpool(submit_file, service, tenant, file, text.encode(), key)


def submit_file(
    service: Service, tenant: Tenant, file: UploadFile, raw: bytes, key: str | None, *, request_id: str = ""
) -> RunView:
    """Store the recording of a form, and submit it. *raw*: the rest of the submission, as JSON.

    *request_id*: of the new request, if it has no *key*; default: a random one.
    """
    with tempfile.NamedTemporaryFile(prefix="stenofleet-form-") as copy:
        digest = hashlib.sha256()
        while piece := file.file.read(1 << 20):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        # With a key, the same recording is the same upload.
        of_key = hashlib.sha256(f"{tenant.prefix}\0{key}\0{digest.hexdigest()}".encode()).digest()
        upload_id = id_of(of_key) if key else new_id()
        submission = parsed(_with_upload(raw, upload_id))
        if key and was_accepted(service, tenant, key):
            # The recording of that run stays as it is: it may be in use, or deleted since.
            return _submit(service, tenant, submission, key)
        upload = keep_upload(service, tenant, Path(copy.name), file.filename or "recording", upload_id)
    try:
        found = _submit(service, tenant, submission, key, request_id)
    except (Problem, StenofleetError):
        # After an error of the store it is not known what was stored: a client that tries again needs the recording.
        if not (key and was_accepted(service, tenant, key)):
            service.uploads.remove(tenant.prefix, upload.id)
            service.uploads.release(upload)
        raise
    service.uploads.release(upload)
    return found


def _with_upload(raw: bytes, upload_id: str) -> bytes:
    """Return the JSON of a submission with its upload."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        advice = 'write it like {"options": {"language": "pt"}}'
        raise Problem(422, "invalid-request", f"request: is not JSON: {error}", advice) from None
    if not isinstance(found, dict):
        raise Problem(422, "invalid-request", "request: must be an object", 'write it like {"labels": {"case": "7"}}')
    if not found.keys().isdisjoint({"source", "upload"}):
        what = "request: source and upload are not allowed in a form"
        raise Problem(422, "invalid-request", what, "the form has the recording, as file")
    return json.dumps(found | {"upload": upload_id}).encode()


@router.get("/v1/runs", responses=PROBLEMS, operation_id="listRuns")
def list_runs(
    service: TheService,
    tenant: Caller,
    cursor: Annotated[str, Query(pattern=CURSOR, description="`next_cursor` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_ON_PAGE, description="Most runs of a page.")] = 50,
    status: Annotated[RequestStatus | None, Query(description="Only runs with this status.")] = None,
    label: Annotated[str, Query(max_length=400, description="Only runs with this label: NAME=VALUE, or NAME.")] = "",
) -> RunList:
    """List the runs, the newest first. With filters, a page may have fewer runs than its limit, and a cursor."""
    name, equals, value = label.partition("=")
    found: list[Any] = []
    for _ in range(_MOST_READ):
        states, cursor = service.requests.page(tenant.prefix, after=cursor, most=limit - len(found))
        found += [
            state
            for state in states
            if (status is None or state.status == status)
            and (not name or (name in state.labels and (not equals or state.labels[name] == value)))
        ]
        if not cursor or len(found) >= limit:
            break
    return RunList(runs=[summary_view(state) for state in found], next_cursor=cursor or None)


@router.get("/v1/runs/{run_id}", responses=FOUND, operation_id="getRun")
def get_run(service: TheService, tenant: Caller, run_id: RunId) -> RunView:
    """Return a run: its state, its progress, and how it ended."""
    return _view(service, required(service, tenant, run_id))


@router.post("/v1/runs/{run_id}:cancel", status_code=202, responses=STATE, operation_id="cancelRun")
def cancel_run(service: TheService, tenant: Caller, run_id: RunId) -> RunView:
    """Ask for the end of a run. Chunks that are done are kept: it can be tried again."""
    found = required(service, tenant, run_id)
    if found.end:
        raise conflict("ended", f"the run has ended: {found.end.status}", "nothing is to be cancelled")
    service.requests.cancel(found.key)
    service.queue.wake()
    return _view(service, found)


@router.post("/v1/runs/{run_id}:retry", status_code=202, responses=STATE, operation_id="retryRun")
def retry_run(service: TheService, tenant: Caller, run_id: RunId) -> RunView:
    """Try a run again that has ended without a complete transcript. Only what is missing is computed."""
    found = required(service, tenant, run_id)
    if found.end and found.end.status == "complete":
        raise conflict("complete", "the run is complete", "to transcribe it again, submit it again")
    if found.end:
        check_queued_runs(tenant, service.queue.counts.of(tenant.prefix))
        _settle(service, found)
    service.requests.retry(found, now_ms=service.now_ms())
    service.queue.accepted(tenant.prefix)
    return _view(service, required(service, tenant, run_id))


@router.delete(
    "/v1/runs/{run_id}", status_code=204, responses=STATE | {204: {"description": "Deleted."}}, operation_id="deleteRun"
)
def delete_run(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Delete a run that has ended, with its transcript, upload and callbacks. Outputs elsewhere are left."""
    found = required(service, tenant, run_id)
    if not found.end:
        raise conflict("not-ended", "the run has not ended", "cancel it, and wait for its end")
    _settle(service, found)
    service.outbox.remove_of(found.request, service.requests.ends(found))
    try:
        service.requests.remove(found)
    except TriedAgain:
        raise conflict("not-ended", "the run is tried again", "cancel it, and wait for its end") from None
    return Response(status_code=204)


def _settle(service: Service, found: FoundRequest) -> None:
    """Wait until the end of a run is recorded everywhere. Raises :class:`Problem` if that takes too long."""
    for _ in range(_SETTLE_TRIES):
        if service.requests.is_settled(found):
            return
        time.sleep(_SETTLE_S / _SETTLE_TRIES)
    raise conflict("not-ended", "the end of the run is still being recorded", "try again in a few seconds")


@router.get(
    "/v1/runs/{run_id}/report",
    responses=STATE | {200: {"description": "The report."}},
    operation_id="getReport",
    response_model=Report,
)
def get_report(service: TheService, tenant: Caller, run_id: RunId) -> Response:
    """Return the measurements of a run that has ended: attempts, times, quality."""
    found = required(service, tenant, run_id)
    run = found.end.run_id if found.end else ended_run(found)
    try:
        if run is None:
            raise ObjectMissing(run_id)
        report = stored_documents.read(service.store, Report, RunKeys(run).report)
    except ObjectMissing:
        raise conflict("no-report", "the run has no report", "it ended before anything was transcribed") from None
    return Response(report.encode(), media_type="application/json")


def ended_run(found: FoundRequest) -> str:
    """Return the run in the store of a request that has ended. Raises :class:`Problem`."""
    if not found.end:
        raise conflict("not-ended", f"the run is {found.status}", "wait for its end: see its events")
    if found.end.run_id is None:
        raise conflict("no-transcript", found.end.summary or found.end.status, found.end.advice)
    return found.end.run_id


def conflict(name: str, detail: str, advice: str) -> Problem:
    """Return the problem of what is not possible in the state of a run."""
    return Problem(409, name, detail, advice)


def required(service: Service, tenant: Tenant, run_id: str) -> FoundRequest:
    """Return a request of this tenant. Raises :class:`Problem`."""
    found = service.requests.find(RequestKey(tenant.prefix, run_id)) if is_id(run_id) else None
    if found is None:
        raise not_found()
    return found


def _view(service: Service, found: FoundRequest) -> RunView:
    run = found.state.run_id
    running = found.status == "running" and run
    status = stored_documents.valid(service.store, Status, RunKeys(run).status) if running and run else None
    return run_view(found, status)
