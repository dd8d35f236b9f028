"""Translates exceptions of the S3 SDK and urllib3 to the failures of every store.

Touches: nothing. The server's text is not used: some servers quote the access key in it.
"""

from __future__ import annotations

from minio.error import S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from chunk_job.errors import ExitCode, JobError
from chunk_job.store import s3_client
from chunk_job.store.base import ObjectMissing, StoreDenied, StoreUnavailable

_DENIED = {
    "AccessDenied": (
        "this key lacks a permission: it needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and"
        " s3:DeleteObject on the objects under the prefix"
    ),
    "AllAccessDisabled": "all access to the bucket is disabled: ask its owner",
    "ExpiredToken": "the temporary credentials have expired: fetch new ones",
    "InvalidAccessKeyId": "the store does not know this key: check AWS_ACCESS_KEY_ID or AWS_PROFILE, and the endpoint",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN, or fetch new temporary credentials",
    "InvalidTokenId": "the session token is not valid: check AWS_SESSION_TOKEN, or fetch new temporary credentials",
    "RequestTimeTooSkewed": "the clocks of this machine and of the store differ by more than 15 minutes: set them",
    "SignatureDoesNotMatch": "the secret does not belong to the key: check AWS_SECRET_ACCESS_KEY",
}
_REGION_ADVICE = "set AWS_REGION to the bucket's region, and AWS_ENDPOINT_URL_S3 if the bucket is not on AWS"
_CONFIG = {
    "AuthorizationHeaderMalformed": _REGION_ADVICE,
    "IllegalLocationConstraintException": _REGION_ADVICE,
    "NoSuchBucket": "create the bucket (stenofleet never does), or correct --store or the endpoint",
    "PermanentRedirect": _REGION_ADVICE,
    "PreconditionFailed": "the object was replaced while it was being read: try again when no other program writes it",
    "TemporaryRedirect": _REGION_ADVICE,
}
_FULL = frozenset({"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"})
# Reported as errors of the client, but temporary: a damaged or late request, a lost upload.
_PASSING = frozenset(
    {
        *("BadDigest", "ConditionalRequestConflict", "IncompleteBody", "NoSuchUpload", "OperationAborted"),
        "RequestTimeout",
    }
)
_DOWN_ADVICE = "check that the store is running and that this machine can reach AWS_ENDPOINT_URL_S3"


def translate(error: Exception, key: str, where: str) -> JobError:
    """The failure for an exception of the SDK or urllib3 about *key*. *where*: bucket and server, for the message."""
    what = f"{key or 'the objects'} in {where}"
    if isinstance(error, HTTPError):
        return _from_network(error.reason or error if isinstance(error, MaxRetryError) else error, what)
    if isinstance(error, S3Error):
        return ObjectMissing(key) if error.code == "NoSuchKey" else _from_code(error, what)
    # 200: a page that is not the expected listing.
    status = error.status_code if isinstance(error, ServerError) else getattr(error, "_code", 200)
    if s3_client.is_down(status):
        return StoreUnavailable(f"{what}: HTTP {status}", _DOWN_ADVICE)
    return JobError(
        ExitCode.CONFIG,
        f"{what}: HTTP {status}, and not a response of S3",
        "AWS_ENDPOINT_URL_S3 must be an S3 server, with https:// if it uses TLS, and without a proxy in between",
    )


def is_passing(error: HTTPError | S3Error) -> bool:
    """Whether a retry may succeed. Not for a request that urllib3 has already retried."""
    return error.code in _PASSING if isinstance(error, S3Error) else s3_client.is_interruption(error)


def _from_code(error: S3Error, what: str) -> JobError:
    """The failure for an S3 error. The server's text is not used: some servers quote the access key in it."""
    code, status = error.code or "no code", error.response.status
    summary = f"{what}: {code} (HTTP {status}, request {error.request_id or 'unknown'})"
    if code in _DENIED or status == 401:
        return StoreDenied(summary, _DENIED.get(code, _DENIED["AccessDenied"]))
    if code in _CONFIG:
        return JobError(ExitCode.CONFIG, summary, _CONFIG[code])
    if code in _FULL or status == 507:
        return StoreUnavailable(f"no free space: {summary}", "free space in the store, or raise its quota")
    if code in _PASSING or s3_client.is_down(status):
        return StoreUnavailable(summary, "the store is overloaded or faulty: try again, see its log")
    return JobError(ExitCode.CONFIG, summary, "see the store's log for this request")


def _from_network(error: Exception, what: str) -> JobError:
    """The failure for a request without a response."""
    cause = error.__cause__ or (error.args[0] if error.args else None)
    reason = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or type(cause or error).__name__
    if isinstance(error, SSLError) and not s3_client.is_interruption(error):
        return JobError(
            ExitCode.CONFIG,
            f"{what}: no TLS: {reason}",
            "set AWS_CA_BUNDLE to the file with the trusted certificates, or use http:// for a server without TLS",
        )
    if isinstance(error, ValueError):
        return JobError(ExitCode.CONFIG, f"{what}: not a valid server name", "correct AWS_ENDPOINT_URL_S3")
    if isinstance(error, NameResolutionError):
        return StoreUnavailable(f"{what}: no such host", "check the name in AWS_ENDPOINT_URL_S3, and DNS")
    if isinstance(error, NewConnectionError):
        return StoreUnavailable(f"{what}: {reason}", _DOWN_ADVICE)
    if isinstance(error, HTTPTimeoutError):
        return StoreUnavailable(f"{what}: no response in time", _DOWN_ADVICE)
    return StoreUnavailable(f"{what}: the connection was interrupted", _DOWN_ADVICE)
