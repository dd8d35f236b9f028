"""The types of problems that the API answers with, for its description and its reference.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PROBLEM_JSON = "application/problem+json"
URN = "urn:stenofleet:problem:"


class ProblemType(NamedTuple):
    """When a problem of a type is the answer."""

    statuses: tuple[int, ...]
    meaning: str


PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "address-refused": ProblemType((403,), "The tenant may not use this address as a source or an output."),
    "bad-request": ProblemType((400,), "The body is not a valid form."),
    "bug": ProblemType((500,), "A bug of the service. Its log has the details."),
    "busy": ProblemType((503,), "This process of the service has too many clients now; see Retry-After."),
    "callback-refused": ProblemType((422,), "The callback URL is not valid, or its address is not allowed."),
    "complete": ProblemType((409,), "The run is complete: there is nothing to try again."),
    "completing": ProblemType((409,), "The upload is being completed."),
    "ended": ProblemType((409,), "The run has ended: there is nothing to cancel."),
    "foreign-page": ProblemType((403,), "The request comes from a page of another site."),
    "idempotency-key-reused": ProblemType((422,), "The Idempotency-Key was used for another request."),
    "interrupted": ProblemType((503,), "This process of the service ends. Send the request again."),
    "invalid-request": ProblemType((422,), "A part of the request is not valid; `errors` names each."),
    "limit-exceeded": ProblemType((413, 429), "A limit of the tenant. 429: see Retry-After. 413: it never fits."),
    "method-not-allowed": ProblemType((405,), "The path has no such method; see Allow."),
    "no-media": ProblemType((404,), "Nothing of the run can be played; `detail` says why."),
    "no-report": ProblemType((409,), "The run ended before anything was transcribed."),
    "no-such-part": ProblemType((416,), "The Range is outside of what there is; see Content-Range."),
    "no-such-version": ProblemType((404,), "The transcript has no such version."),
    "no-transcript": ProblemType((409,), "The run ended without a transcript."),
    "no-waveform": ProblemType((404,), "The run has no waveform, or none yet."),
    "not-alive": ProblemType((503,), "The process does not work any more, or ends."),
    "not-ended": ProblemType((409,), "The run has not ended."),
    "not-found": ProblemType((404,), "There is no such path, or this tenant has no such run or upload."),
    "not-here": ProblemType((409,), "Parts of this upload are sent to the store."),
    "not-possible": ProblemType((422,), "The request is valid, but cannot be carried out as it is."),
    "not-possible-now": ProblemType((503,), "The transcription failed for a reason that is not the recording."),
    "not-ready": ProblemType((503,), "The process or its store does not work now."),
    "not-transcribed": ProblemType((422,), "The recording cannot be transcribed."),
    "other-text": ProblemType((409,), "The segment has another text of the model than the one that was seen."),
    "still-running": ProblemType((504,), "The transcription takes longer. It continues; Location names its run."),
    "store-unavailable": ProblemType((503,), "The store does not answer; see Retry-After."),
    "too-many-corrections": ProblemType((409,), "The run has as many corrections as it can have."),
    "too-large": ProblemType((413,), "The body is too large. Upload large recordings."),
    "too-slow": ProblemType((408,), "The body did not come, or too slowly."),
    "unauthenticated": ProblemType((401,), "There is no valid token."),
    "unsupported-media-type": ProblemType((415,), "The endpoint does not take bodies of this type."),
    "upload-complete": ProblemType((409,), "The upload is complete: it takes no more parts."),
    "upload-expired": ProblemType((409,), "The upload was not completed in time."),
    "upload-incomplete": ProblemType((409,), "Parts of the upload are missing."),
    "upload-used": ProblemType((409,), "The upload is that of another run."),
    "wrong-size": ProblemType((422,), "A part does not have the size that it should have."),
}
"""By name: the type is a URN that ends with it."""

RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}


def problem_response(description: str, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the description of a response that is a problem."""
    body = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    found: dict[str, Any] = {"description": description, "content": body}
    return found | ({"headers": dict(headers)} if headers else {})
