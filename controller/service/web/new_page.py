"""``/new``: the page for new runs. Its script uploads files in parts; without it, the form sends one small file.

Touches: the store, temporary files (recordings in forms).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from controller.domain.service_documents import PART_BYTES
from controller.domain.service_keys import MOST_PARTS
from controller.errors import StenofleetError
from controller.service.context import Caller, Service, TheService, new_id
from controller.service.forms import form_of
from controller.service.problems import Problem, problem_of
from controller.service.runs_api import submit_file
from controller.service.submissions import parsed
from controller.service.submitting import checked_key, submit
from controller.service.tenant import Tenant
from controller.service.web.new_check import checked
from controller.service.web.new_form import (
    at_field,
    first_controls,
    folded_groups,
    of_form,
    size,
)
from controller.service.web.pages import PageRoute, moved, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/new")
def show_new(request: Request, service: TheService, tenant: Caller) -> Response:
    """Return the page."""
    return _page(request, service, tenant)


@router.post("/new")
async def submit_new(request: Request, service: TheService, tenant: Caller) -> Response:
    """Submit what the form has without scripts: one file, or addresses."""
    form = None
    try:
        with service.receiving.one(tenant.prefix):
            async with form_of(request, service.most_form_bytes) as (form, file):
                return moved(await run_in_threadpool(_submit, service, tenant, form, file))
    except (Problem, StenofleetError) as error:
        return await run_in_threadpool(_page, request, service, tenant, form, of_form(problem_of(error)))


def _submit(service: Service, tenant: Tenant, form: FormData, file: UploadFile) -> str:
    """Submit the form. Returns where its run is shown."""
    has_file = bool(file.filename)
    found = checked(service, tenant, form, int(has_file))
    typed = form.get("key")
    key = checked_key(typed if isinstance(typed, str) else None) or new_id()
    runs = []
    if has_file:
        if not file.size:
            raise at_field("file", "it is empty (0 bytes)")
        runs.append(submit_file(service, tenant, file, json.dumps(found.request).encode(), key).id)
    for number, source in enumerate(found.sources):
        raw = json.dumps(found.request | {"source": source}).encode()
        runs.append(submit(service, tenant, parsed(raw), f"{key}-{number}").id)
    return f"/runs/{runs[0]}" if len(runs) == 1 else "/"


def _page(
    request: Request,
    service: Service,
    tenant: Tenant,
    form: FormData | None = None,
    problem: Problem | None = None,
) -> Response:
    """Return the page. *form*: what was typed. *problem*: why it was not submitted."""
    errors = {error.pointer: error.detail for error in problem.document.errors} if problem else {}
    first, folded = first_controls(service.defaults, tenant), folded_groups(service.defaults, tenant)
    response = page(
        request,
        "new.html",
        status=problem.status if problem else 200,
        first=first,
        folded=folded,
        open=any(one.name in errors for group in folded for one in group.controls),
        sources=tenant.sources,
        typed=_typed(form),
        problem=problem.document if problem else None,
        errors=errors,
        key=new_id(),
        most_bytes=_most_bytes(service, tenant),
        most_size=size(_most_bytes(service, tenant)),
        most_form_size=size(service.most_form_bytes),
    )
    response.headers.update(problem.headers if problem else {})
    return response


def _typed(form: FormData | None) -> Mapping[str, list[str]]:
    if form is None:
        return {}
    return {name: [one for one in form.getlist(name) if isinstance(one, str)] for name in form}


def _most_bytes(service: Service, tenant: Tenant) -> int:
    """Return how large one upload may be."""
    limits = (tenant.max_upload_bytes, tenant.max_upload_bytes_total, MOST_PARTS * min(service.part_bytes, PART_BYTES))
    return min(limit for limit in limits if limit is not None)
