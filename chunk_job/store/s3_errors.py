"""What the S3 SDK and urllib3 raise, as the failures of every store.

Touches: nothing. The server's own text stays out: some servers quote the key that was used.
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
        "this key may not do that: it needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and"
        " s3:DeleteObject on what lies under the prefix"
    ),
    "AllAccessDisabled": "the bucket is closed to everybody: ask its owner",
    "ExpiredToken": "the temporary credentials have expired: fetch new ones",
    "InvalidAccessKeyId": "the store does not know this key: check AWS_ACCESS_KEY_ID or AWS_PROFILE, and the endpoint",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN, or fetch new temporary credentials",
    "InvalidTokenId": "the session token is not valid: check AWS_SESSION_TOKEN, or fetch new temporary credentials",
    "RequestTimeTooSkewed": "the clocks of this machine and of the store differ by more than 15 minutes: set them",
    "SignatureDoesNotMatch": "the secret does not belong to the key: check AWS_SECRET_ACCESS_KEY",
}
_REGION_ADVICE = "set AWS_REGION to the bucket's region, and AWS_ENDPOINT_URL_S3 where the bucket is not on AWS"
_CONFIG = {
    "AuthorizationHeaderMalformed": _REGION_ADVICE,
    "IllegalLocationConstraintException": _REGION_ADVICE,
    "NoSuchBucket": "create the bucket (stenofleet never does), or correct --store or the endpoint",
    "PermanentRedirect": _REGION_ADVICE,
    "PreconditionFailed": "the object was replaced while it was being read: try again when nobody writes it",
    "TemporaryRedirect": _REGION_ADVICE,
}
_FULL = frozenset({"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"})
# Said to be the client's fault, and gone by the next try: a request that came damaged or late, a lost upload.
_PASSING = frozenset({"BadDigest", "IncompleteBody", "NoSuchUpload", "OperationAborted", "RequestTimeout"})
_DOWN_ADVICE = "check that the store is up and that this machine reaches AWS_ENDPOINT_URL_S3"


def translate(error: Exception, key: str, where: str) -> JobError:
    """The store's word for what the SDK or urllib3 raised about *key*; *where* names the bucket and its server."""
    what = f"{key or 'the objects'} in {where}"
    if isinstance(error, HTTPError):
        return _from_network(error.reason or error if isinstance(error, MaxRetryError) else error, what)
    if isinstance(error, S3Error):
        return ObjectMissing(key) if error.code == "NoSuchKey" else _from_code(error, what)
    # 200: a page that should be a listing and is none.
    status = error.status_code if isinstance(error, ServerError) else getattr(error, "_code", 200)
    if s3_client.is_down(status):
        return StoreUnavailable(f"{what}: HTTP {status}", _DOWN_ADVICE)
    return JobError(
        ExitCode.CONFIG,
        f"{what}: HTTP {status}, and not what S3 would say",
        "AWS_ENDPOINT_URL_S3 must name an S3 server, by https:// where it speaks TLS, without a proxy that answers",
    )


def is_passing(error: HTTPError | S3Error) -> bool:
    """Whether the same again may well succeed. A request that urllib3 has given up after its retries is none."""
    return error.code in _PASSING if isinstance(error, S3Error) else s3_client.is_interruption(error)


def _from_code(error: S3Error, what: str) -> JobError:
    """The store's word for an S3 error. The server's own text stays out: some quote the key that was used."""
    code, status = error.code or "no code", error.response.status
    told = f"{what}: {code} (HTTP {status}, request {error.request_id or 'unknown'})"
    if code in _DENIED or status == 401:
        return StoreDenied(told, _DENIED.get(code, _DENIED["AccessDenied"]))
    if code in _CONFIG:
        return JobError(ExitCode.CONFIG, told, _CONFIG[code])
    if code in _FULL or status == 507:
        return StoreUnavailable(f"no room: {told}", "free space in the store, or raise its quota")
    if code in _PASSING or s3_client.is_down(status):
        return StoreUnavailable(told, "the store is overloaded or unwell: try again, look at its log")
    return JobError(ExitCode.CONFIG, told, "the store's log tells more under this request")


def _from_network(error: Exception, what: str) -> JobError:
    """The store's word for a request without an answer."""
    cause = error.__cause__ or (error.args[0] if error.args else None)
    reason = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or type(cause or error).__name__
    if isinstance(error, SSLError) and not s3_client.is_interruption(error):
        return JobError(
            ExitCode.CONFIG,
            f"{what}: no TLS: {reason}",
            "AWS_CA_BUNDLE names the file with the certificates to trust; http:// is for a server without TLS",
        )
    if isinstance(error, ValueError):
        return JobError(ExitCode.CONFIG, f"{what}: that is no name of a server", "correct AWS_ENDPOINT_URL_S3")
    if isinstance(error, NameResolutionError):
        return StoreUnavailable(f"{what}: no such host", "check the name in AWS_ENDPOINT_URL_S3, and DNS")
    if isinstance(error, NewConnectionError):
        return StoreUnavailable(f"{what}: {reason}", _DOWN_ADVICE)
    if isinstance(error, HTTPTimeoutError):
        return StoreUnavailable(f"{what}: no answer in time", _DOWN_ADVICE)
    return StoreUnavailable(f"{what}: the connection broke off", _DOWN_ADVICE)
