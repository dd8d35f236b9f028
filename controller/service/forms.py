"""Bodies that are forms (multipart/form-data) with a recording.

Touches: temporary files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# starlette parses forms with it, and misses it only when a form comes: without it, the service must not start.
import python_multipart  # noqa: F401
from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from controller.service.problems import Problem

FORM = "multipart/form-data"
_MOST_FIELDS = 50
_LONGEST_FIELD = 1 << 20


def kind_of(request: Request) -> str:
    """Return the media type of the body, without its parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[tuple[FormData, UploadFile]]:
    """Parse the body: a form, and the recording in its field ``file``. Both are closed at the end of the context.

    Raises :class:`Problem`, and starlette's ``HTTPException`` with the status 400 for a form that is damaged.
    """
    if kind_of(request) != FORM:
        raise Problem(415, "unsupported-media-type", "the body is not a form", f"send {FORM}")
    try:
        form = await request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD)
    except (LookupError, UnicodeError) as error:
        advice = "leave charset out of the Content-Type"
        raise Problem(422, "invalid-request", "the form is not UTF-8", advice) from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Problem(422, "invalid-request", "file: the form has no recording", "send it as the field file")
        yield form, file
    finally:
        await form.close()
