"""Recordings in bodies: forms (multipart/form-data), and how many of them are received at the same time.

Touches: temporary files.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

# starlette parses forms with it, and misses it only when a form comes: without it, the service must not start.
import python_multipart  # noqa: F401
from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from controller.service.limits import LimitExceeded
from controller.service.problems import Problem, busy, too_large

FORM = "multipart/form-data"
MOST_AT_ONCE, MOST_OF_TENANT = 16, 8
"""Recordings that one replica receives at the same time: each may be on its disk twice."""
_RETRY_S = 5
_MOST_FIELDS = 50
_LONGEST_FIELD = 1 << 20


class Receiving:
    """The recordings that this replica receives now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_tenant: Counter[str] = Counter()

    @property
    def now(self) -> int:
        """How many there are."""
        with self._lock:
            return self._of_tenant.total()

    @contextmanager
    def one(self, prefix: str) -> Iterator[None]:
        """Return a context in which a recording of a tenant is received.

        Raises :class:`LimitExceeded` if it has too many, and :class:`Problem` if all tenants together have.
        """
        with self._lock:
            if self._of_tenant[prefix] >= MOST_OF_TENANT:
                raise LimitExceeded("recordings that are sent to one process at once", MOST_OF_TENANT, _RETRY_S)
            if self._of_tenant.total() >= MOST_AT_ONCE:
                raise busy()
            self._of_tenant[prefix] += 1
        try:
            yield
        finally:
            with self._lock:
                self._of_tenant[prefix] -= 1
                self._of_tenant += Counter()


def kind_of(request: Request) -> str:
    """Return the media type of the body, without its parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_of(request: Request, advice: str = "send application/json") -> bytes:
    """Return the body, which is JSON. Raises :class:`Problem` for any other type, with the *advice*."""
    kind = kind_of(request)
    if kind not in ("application/json", ""):
        raise Problem(415, "unsupported-media-type", f"not a body of this API: {kind[:100]}", advice)
    return await request.body()


@asynccontextmanager
async def form_of(request: Request, most_bytes: int) -> AsyncIterator[tuple[FormData, UploadFile]]:
    """Parse the body: a form, and the recording in its field ``file``. Both are closed at the end of the context.

    *most_bytes*: of the recording. Raises :class:`Problem`, and starlette's ``HTTPException`` with the status 400 for a
    form that is damaged.
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
        if (file.size or 0) > most_bytes:
            raise too_large("recording", most_bytes)
        yield form, file
    finally:
        await form.close()
