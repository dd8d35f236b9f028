"""Errors of the API as problem documents (RFC 9457), and how errors of the program become them.

Touches: the log, for bugs.
"""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from chunk_job.errors import JobError
from chunk_job.store.base import ObjectMissing, StoreUnavailable
from controller.errors import StenofleetError
from controller.service.addresses import CallbackRefused
from controller.service.field_errors import FieldError, field_errors, names_of
from controller.service.identity import Unauthenticated
from controller.service.limits import LimitExceeded
from controller.service.own_pages import ForeignPage
from controller.service.problem_types import PROBLEM_JSON, URN
from controller.service.sources import SourceRefused

STORE_RETRY_S = 5
_DESCRIPTION = "the description of the API at /openapi.json"
_AUDIO = "/v1/audio/"
"""Paths of endpoints whose forms have names of OpenAI for our options."""
_BUSY_RETRY_S = 5
_Model = TypeVar("_Model", bound=BaseModel)

_LOG = logging.getLogger(__name__)


class OpenAiError(BaseModel):
    """The same problem, for clients of OpenAI's API."""

    message: str
    type: str
    code: None
    param: None


class ProblemDocument(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    type: str = Field(description="The class of the problem.")
    title: str = Field(description="The class in words.")
    status: int
    detail: str = Field(default="", description="What happened, and where.")
    advice: str = Field(default="", description="What to do.")
    errors: list[FieldError] = Field(default_factory=list, description="Each part of the request that is wrong.")
    error: OpenAiError | None = Field(default=None, description="The same, for clients of OpenAI's API.")


class Problem(Exception):
    """A request that is not carried out."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        advice: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """*name*: of the class of the problem. *detail*: what happened. *advice*: what to do."""
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.document = ProblemDocument(
            type=f"{URN}{name}",
            title=name.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            advice=advice,
            errors=list(errors),
        )

    def of_form(self) -> Problem:
        """Return the same problem for a form that has no options of its own."""
        errors = [error.of_form() for error in self.document.errors]
        if not errors:
            return self
        name = self.document.type.removeprefix(URN)
        return Problem(self.status, name, errors[0].text(), self.document.advice, errors=errors, headers=self.headers)

    def response(self) -> Response:
        """Return the response. It also has the member that clients of OpenAI's API read."""
        body = self.document.model_dump(exclude_defaults=True)
        text = f"{self.document.detail}; {self.document.advice}" if self.document.advice else self.document.detail
        body["error"] = OpenAiError(message=text, type=self.document.type, code=None, param=None).model_dump()
        return Response(
            json.dumps(body, ensure_ascii=False), self.status, headers=self.headers, media_type=PROBLEM_JSON
        )


def not_found(what: str = "run", advice: str = "check its id, and whose token is used") -> Problem:
    """Return the problem of an id that does not exist, or that is of another tenant: both are the same."""
    return Problem(404, "not-found", f"there is no such {what}", advice)


def too_large(what: str, most: int) -> Problem:
    """Return the problem of a body, or a part of one, with more bytes than *most*."""
    return Problem(
        413, "too-large", f"the {what} has more than {most} bytes", "upload large recordings: POST /v1/uploads"
    )


def busy() -> Problem:
    """Return the problem of a process that has as many clients as it can have."""
    headers = {"Retry-After": str(_BUSY_RETRY_S)}
    return Problem(503, "busy", "this process of the service has too many clients now", "try again", headers=headers)


def invalid(
    error: ValidationError, *, where: str = "", body: object = None, model: type[BaseModel] | None = None
) -> Problem:
    """Return the problem of a *body* that does not have the form it should have. *where*: a pointer to it.

    *model*: what it should be; its names are suggested for similar ones.
    """
    found = error.errors(include_url=False, include_input=False)
    return _invalid(field_errors(found, where=where, body=body, known=names_of(model) if model else {}))


def parsed_as(model: type[_Model], raw: bytes) -> _Model:
    """Parse the JSON of a body as *model*. Raises :class:`Problem`, which names each part that is wrong."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error, body=_json(raw), model=model) from None


def _json(raw: bytes) -> object:
    """Return the value of a JSON text; None if it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _invalid(errors: Sequence[FieldError], advice: str = "see errors, and " + _DESCRIPTION) -> Problem:
    return Problem(422, "invalid-request", errors[0].text(), advice, errors=errors)


def _invalid_request(error: RequestValidationError) -> Problem:
    if isinstance(error.body, bytes):
        return Problem(422, "invalid-request", "the body: is not JSON", "send it with Content-Type: application/json")
    return _invalid(field_errors(error.errors(), body=error.body))


def wrong(pointer: str, detail: str) -> Problem:
    """Return the problem of one part of the body."""
    return _invalid([FieldError(pointer=pointer, detail=detail)], f"see {_DESCRIPTION}")


def problem_of(error: Exception) -> Problem:
    """Return the problem that an error of the program is for a client."""
    for kind, convert in _CONVERSIONS:
        if isinstance(error, kind):
            return convert(error)
    _LOG.error("a bug", exc_info=error)
    return Problem(500, "bug", f"a bug of the service: {type(error).__name__}", "please report it")


def _as(status: int, name: str) -> Callable[[Any], Problem]:
    """Return the conversion of an error with a summary and an advice."""

    def convert(error: Any) -> Problem:
        headers = getattr(error, "headers", None)
        return Problem(getattr(error, "status", status), name, error.summary, error.advice, headers=headers)

    return convert


def _other_store_error(error: JobError) -> Problem:
    _LOG.error("the store: %s; %s", error.summary, error.advice)
    return _store_problem("the store cannot be used", "the operator of the service finds the reason in its log")


def _disk(error: OSError) -> Problem:
    _LOG.error("this machine: %s", error)
    return _store_problem("this process of the service cannot write to its disk now", "try again")


def _http(error: HTTPException) -> Problem:
    name = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(error.status_code, name, str(error.detail), f"see {_DESCRIPTION}", headers=dict(error.headers or {}))


def _of_path(problem: Problem, request: str, methods: Sequence[str], meant: str) -> Problem:
    """Return the problem of a path or a method that does not exist, with what there is; any other as it is.

    *meant*: a path that exists, of which the first part was left out; empty: there is none.
    """
    if problem.status == http.HTTPStatus.METHOD_NOT_ALLOWED and methods:
        # The framework names only the methods of the first endpoint with this path.
        known = ", ".join(methods)
        detail = f"{request}: this path has only {known}"
        return Problem(problem.status, "method-not-allowed", detail, problem.document.advice, headers={"Allow": known})
    if problem.status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED):
        begin = f"use {meant} (base_url of OpenAI's clients ends in /v1)" if meant else "the API begins at /v1/runs"
        return Problem(404, "not-found", f"{request}: there is no such path", f"{begin}: see {_DESCRIPTION}")
    return problem


def _store_problem(detail: str, advice: str) -> Problem:
    return Problem(503, "store-unavailable", detail, advice, headers={"Retry-After": str(STORE_RETRY_S)})


_CONVERSIONS: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (Problem, lambda error: error),
    (Unauthenticated, _as(401, "unauthenticated")),
    (ForeignPage, _as(403, "foreign-page")),
    (LimitExceeded, _as(429, "limit-exceeded")),
    (SourceRefused, _as(403, "address-refused")),
    (CallbackRefused, _as(422, "callback-refused")),
    (StenofleetError, _as(422, "not-possible")),
    (ObjectMissing, lambda _: not_found("object")),
    (StoreUnavailable, lambda _: _store_problem("the store is unavailable", "try again")),
    (JobError, _other_store_error),
    (OSError, _disk),
    (RequestValidationError, _invalid_request),
    (ValidationError, invalid),
    (HTTPException, _http),
    (ClientDisconnect, lambda _: Problem(400, "bad-request", "the connection was closed before the body was complete")),
)
"""From the special to the general."""
EXPECTED = tuple(kind for kind, _ in _CONVERSIONS)
"""All errors that are no bugs."""


def install(app: FastAPI, methods_of: Callable[[str], Sequence[str]]) -> None:
    """Answer every error with a problem document. *methods_of*: the methods of a path."""

    async def handle(request: Request, error: Exception) -> Response:
        # Not in a thread: it would have to wait for one, and there is nothing to wait for here.
        path = request.url.path
        problem = problem_of(error)
        if isinstance(error, HTTPException):
            meant = f"/v1{path}" if methods_of(f"/v1{path}") else ""
            problem = _of_path(problem, f"{request.method} {path[:200]}", methods_of(path), meant)
        if path.startswith(_AUDIO):
            problem = problem.of_form()
        return problem.response()

    for kind, _ in _CONVERSIONS:
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, handle)
