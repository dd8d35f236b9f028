"""How errors become problem documents, and that the documentation says so."""

import re
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from chunk_job.errors import ExitCode, JobError
from chunk_job.store.base import ObjectMissing, StoreDenied, StoreUnavailable
from controller.errors import MediaProblem
from controller.service.addresses import CallbackRefused
from controller.service.identity import Unauthenticated
from controller.service.own_pages import ForeignPage
from controller.service.problems import _CONVERSIONS, STORE_RETRY_S, Problem, problem_of
from controller.service.signatures import WebhookNotConfigured
from controller.service.sources import SourceRefused

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
ERRORS: list[tuple[Exception, int, str]] = [
    (Problem(409, "ended", "it has ended"), 409, "ended"),
    (Unauthenticated(), 401, "unauthenticated"),
    (ForeignPage(), 403, "foreign-page"),
    (SourceRefused("no", ""), 403, "address-refused"),
    (CallbackRefused("no", ""), 422, "callback-refused"),
    (WebhookNotConfigured(), 422, "not-possible"),
    (MediaProblem("no", ""), 422, "not-possible"),
    (ObjectMissing("a/b"), 404, "not-found"),
    (StoreUnavailable("down", ""), 503, "store-unavailable"),
    (StoreDenied("s3:GetObject on s3://secret", ""), 503, "store-unavailable"),
    (JobError(ExitCode.CONFIG, "s3://secret", ""), 503, "store-unavailable"),
    (HTTPException(405), 405, "method-not-allowed"),
    (KeyError("s3://secret"), 500, "bug"),
]


def documented() -> dict[str, tuple[int, str]]:
    """What becomes of each error, as the documentation says."""
    rows = re.findall(r"^\| (.*?`\w+`.*?) \| .*? \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found: dict[str, tuple[int, str]] = {}
    for errors, becomes in rows:
        if answer := re.match(r"([45]\d\d) `([a-z-]+)`", becomes):
            found |= {name: (int(answer[1]), answer[2]) for name in re.findall(r"`(\w+)`", errors)}
    return found


@pytest.mark.parametrize("error, status, name", ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS])
def test_an_error_becomes_the_documented_problem(error: Exception, status: int, name: str) -> None:
    found = problem_of(error)
    assert (found.status, found.document.type) == (status, f"urn:stenofleet:problem:{name}")
    assert documented().get(type(error).__name__, (status, name)) == (status, name)
    assert b"secret" not in bytes(found.response().body)
    assert (found.headers.get("Retry-After") == str(STORE_RETRY_S)) == (status == 503)


def test_every_conversion_is_documented() -> None:
    assert {kind.__name__ for kind, _ in _CONVERSIONS} <= set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(documented()) >= 10
