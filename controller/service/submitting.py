"""Accepts submissions: checks what the tenant may do, and puts the request into the queue.

Touches: the store.
"""

from __future__ import annotations

import re
from pathlib import Path

from controller.domain.output import Output
from controller.domain.service_documents import ServiceRequest, Upload
from controller.domain.service_keys import RequestKey, idempotent_id
from controller.intake.source import file_name
from controller.service.context import Service, new_id
from controller.service.limits import check_queued_runs, check_upload
from controller.service.problems import Problem, not_found
from controller.service.requests import AnotherBody
from controller.service.sources import checked_output, checked_source
from controller.service.submissions import Submission, request_of
from controller.service.tenant import Tenant
from controller.service.uploads import USED_WITHIN_MS

LONGEST_KEY = 256
_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


def checked_key(key: str | None) -> str | None:
    """Return an idempotency key. Raises :class:`Problem`."""
    if key is not None and not _KEY.fullmatch(key):
        raise Problem(
            422, "invalid-request", f"Idempotency-Key: not 1 to {LONGEST_KEY} visible ASCII characters", "use a UUID"
        )
    return key


def submit(
    service: Service, tenant: Tenant, submission: Submission, key: str | None, request_id: str = ""
) -> ServiceRequest:
    """Accept a submission. With the idempotency *key* of an earlier equal one, that one is returned.

    *request_id*: its id, if it has no key; default: a new one. Raises :class:`Problem`, and the errors of the checks.
    """
    request_id = idempotent_id(tenant.prefix, key) if key else request_id or new_id()
    digest = submission.digest()
    known = service.requests.request(RequestKey(tenant.prefix, request_id)) if key else None
    if known:
        # Before the other checks: its upload may be gone, if the run is complete.
        return _accept(service, known.model_copy(update={"body_sha256": digest}))
    upload = _upload(service, tenant, submission.upload) if submission.upload else None
    source, name = _recording(service, tenant, submission, upload)
    request = _request(service, tenant, submission, request_id, digest=digest, source=source, name=name)
    if upload:
        # The last step before it is accepted: what is wrong with a request must not cost the upload.
        _bind(service, upload, request)
    return _accept(service, request)


def check(service: Service, tenant: Tenant, submission: Submission, new: int) -> None:
    """Check *new* runs with these options as :func:`submit` does, without a recording.

    Raises :class:`Problem`, and the errors of the checks.
    """
    source = submission.source or "s3://recordings/recording"
    _request(
        service, tenant, submission, new_id(), digest=submission.digest(), source=source, name="recording", new=new
    )


def _request(
    service: Service,
    tenant: Tenant,
    submission: Submission,
    request_id: str,
    *,
    digest: str,
    source: str,
    name: str,
    new: int = 1,
) -> ServiceRequest:
    """Return what a submission becomes, if this tenant may have *new* runs like it."""
    if submission.output is not None:
        folder = checked_output(submission.output, tenant.outputs, service.store.url)
        submission = submission.model_copy(update={"output": folder})
    if submission.callback_url:
        service.check_callback(tenant, submission.callback_url)
    check_queued_runs(tenant, service.queue.counts.of(tenant.prefix), new)
    return request_of(
        submission,
        tenant=tenant,
        request_id=request_id,
        body_sha256=digest,
        source=source,
        name=name,
        defaults=service.defaults,
        now_ms=service.now_ms(),
    )


def submit_found(
    service: Service,
    tenant: Tenant,
    submission: Submission,
    *,
    request_id: str,
    name: str,
    base: str,
    inbox: str,
) -> ServiceRequest:
    """Accept a recording that was found in an inbox: its addresses are the operator's, so they are not checked.

    *base*: of its outputs. *inbox*: its path there, encoded. May be called again with the same *request_id*. Raises
    :class:`Problem` and the errors of the checks.
    """
    known = service.requests.request(RequestKey(tenant.prefix, request_id))
    if known is None:
        assert submission.source is not None
        if submission.callback_url:
            service.check_callback(tenant, submission.callback_url)
        check_queued_runs(tenant, service.queue.counts.of(tenant.prefix))
        made = request_of(
            submission,
            tenant=tenant,
            request_id=request_id,
            body_sha256=submission.digest(),
            source=submission.source,
            name=name,
            defaults=service.defaults,
            now_ms=service.now_ms(),
        )
        formats = tuple(dict.fromkeys(submission.output_formats))
        output = Output(base=base, formats=formats, speakers=made.speaker_names)
        known = made.model_copy(update={"inbox": inbox, "output": output})
    return _accept(service, known)


def was_accepted(service: Service, tenant: Tenant, key: str) -> bool:
    """Whether a request with this idempotency key was accepted before."""
    return service.requests.request(RequestKey(tenant.prefix, idempotent_id(tenant.prefix, key))) is not None


def _accept(service: Service, request: ServiceRequest) -> ServiceRequest:
    try:
        accepted = service.requests.accept(request)
    except AnotherBody:
        raise Problem(
            422,
            "idempotency-key-reused",
            "this Idempotency-Key was used for another request",
            "use a new key for each request",
        ) from None
    service.queue.accepted(request.tenant)
    return accepted


def _recording(service: Service, tenant: Tenant, submission: Submission, upload: Upload | None) -> tuple[str, str]:
    """Return the URI and the name of the recording."""
    if upload:
        return service.uploads.uri(upload), submission.name or upload.name
    assert submission.source is not None
    uri = checked_source(submission.source, tenant.sources, service.store.url)
    return uri, submission.name or _UNSAFE.sub("_", file_name(uri).name)


def _upload(service: Service, tenant: Tenant, upload_id: str) -> Upload:
    """Return an upload that a run can use. Raises :class:`Problem`."""
    upload = service.uploads.find(tenant.prefix, upload_id)
    if upload is None:
        raise not_found("upload")
    if not upload.complete:
        raise Problem(
            409,
            "upload-incomplete",
            "this upload is not complete",
            f"send the parts that GET /v1/uploads/{upload.id} lists, then POST /v1/uploads/{upload.id}:complete",
        )
    if service.now_ms() >= upload.created_ms + USED_WITHIN_MS:
        raise Problem(409, "upload-expired", "no run has used this upload in time", "upload the recording again")
    return upload


def _bind(service: Service, upload: Upload, request: ServiceRequest) -> None:
    """Make the upload that of this request. Raises :class:`Problem` if it is that of another one."""
    owner = service.uploads.bind(upload, request)
    if owner is None:
        raise not_found("upload")
    if owner.id == request.id:
        return
    accepted = service.requests.request(RequestKey(owner.tenant, owner.id))
    # Read again: of a run that was deleted, the upload went first.
    if accepted is None and service.uploads.bound(upload):
        # It is accepted just now, or a process was killed before it was.
        _accept(service, owner)
    # It is deleted when that run is complete.
    raise Problem(409, "upload-used", f"this upload is that of run {owner.id}", "upload the recording again")


def keep_upload(service: Service, tenant: Tenant, path: Path, name: str, upload_id: str) -> Upload:
    """Store a recording that came in a form. Raises :class:`LimitExceeded`."""
    size_bytes = path.stat().st_size
    if not size_bytes:
        raise Problem(422, "invalid-request", "file: is empty (0 bytes)", "send the recording as the field file")
    stored = service.uploads.stored_bytes(tenant.prefix) if tenant.max_upload_bytes_total is not None else 0
    check_upload(tenant, size_bytes, stored)
    upload = Upload(
        id=upload_id,
        tenant=tenant.prefix,
        name=safe_name(name),
        size_bytes=size_bytes,
        created_ms=service.now_ms(),
        complete=False,
    )
    service.uploads.put_media(upload, path)
    return upload.model_copy(update={"complete": True})


def safe_name(name: str) -> str:
    """Return a file name of a client as one that any system can show and keep."""
    last = re.split(r"[/\\]", name)[-1].encode("utf-8", "replace").decode()
    return _UNSAFE.sub("_", last)[-255:] or "recording"
