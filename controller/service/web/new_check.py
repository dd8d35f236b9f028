"""``/new/check``: says what is wrong with the form for new runs before anything is uploaded.

Touches: the store.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from controller.errors import StenofleetError
from controller.service.addresses import CallbackRefused
from controller.service.context import Caller, Service, TheService
from controller.service.problems import Problem, problem_of
from controller.service.signatures import WebhookNotConfigured
from controller.service.sources import SourceRefused, checked_source
from controller.service.submissions import parsed
from controller.service.submitting import check
from controller.service.tenant import Tenant
from controller.service.web.new_form import addresses_of, at_field, of_form, submission_of

MOST_ADDRESSES = 200
"""In one form."""
_NO_UPLOAD = "0" * 26

router = APIRouter(include_in_schema=False)
"""Its answers are JSON, also for errors: they are for the script of the page."""


class Checked(BaseModel):
    """What the form means, which could be submitted now."""

    request: dict[str, Any]
    """A submission without its recording."""
    sources: list[str]
    """The addresses of recordings: each is one run."""


@router.post("/new/check")
async def check_new(request: Request, service: TheService, tenant: Caller) -> Checked:
    """Check the form before anything is uploaded. Its field ``files`` says how many files there will be."""
    async with request.form(max_files=0) as form:
        try:
            return await run_in_threadpool(checked, service, tenant, form, _number_of_files(form))
        except (Problem, StenofleetError) as error:
            raise of_form(problem_of(error)) from None


def _number_of_files(form: FormData) -> int:
    text = form.get("files")
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 6 else 0


def checked(service: Service, tenant: Tenant, form: FormData, files: int) -> Checked:
    """Return what the form means. Raises what makes it refused."""
    body, sources = submission_of(form), addresses_of(form)
    if not files and not sources:
        raise at_field("file", "choose a recording first")
    if len(sources) > MOST_ADDRESSES:
        raise at_field("source", f"more than {MOST_ADDRESSES} addresses", "start the others after these")
    for number, source in enumerate(sources, 1):
        try:
            checked_source(source, tenant.sources, service.store.url)
        except SourceRefused as error:
            raise at_field("source", f"line {number}: {error.summary}", error.advice) from None
    recording = {"source": sources[0]} if sources else {"upload": _NO_UPLOAD}
    try:
        check(service, tenant, parsed(json.dumps(body | recording).encode()), files + len(sources))
    except SourceRefused as error:
        raise at_field("output", error.summary, error.advice) from None
    except (CallbackRefused, WebhookNotConfigured) as error:
        raise at_field("callback_url", error.summary, error.advice) from None
    return Checked(request=body, sources=sources)
