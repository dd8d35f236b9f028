"""``/v1/runs/{id}/events``: what happens to a run, as server-sent events that a client can resume.

Touches: the store, the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from controller.domain import stored_documents
from controller.domain.documents import Status
from controller.domain.keys import RunKeys
from controller.domain.service_documents import RequestEvent, iso
from controller.domain.service_keys import is_event_id
from controller.service.context import Caller, Service, TheService
from controller.service.problems import Problem
from controller.service.request_reader import FoundRequest
from controller.service.runs_api import FOUND, RunId, required
from controller.service.views import progress_view

POLL_S = 1.0
STATUS_S = 1.9
"""Between two reads of the progress, which is written every 2 s."""
WAITING_POLL_S = 4.0
"""For runs that have not begun."""
KEEP_ALIVE_S = 15.0
MOST_AT_ONCE = 200
"""Events that are read before they are sent: there may be ten thousand, of several kilobytes each."""
_RECONNECT_MS = 2_000

_DESCRIPTION = (
    "Server-sent events. With an `id`: `accepted`, `started`, `message`, `ended`, `retried`; their data is a JSON "
    "object with `id` (of the run), `time`, `text`, and `status` if it changed. Without an `id`, and never repeated: "
    "`progress`, with a ProgressView. A client that reconnects with Last-Event-ID misses no event with an `id`."
)
_STREAM = {
    "example": """\
id: 000003
event: ended
data: {"id": "06f1bfw0000000000000000000", "time": "2026-01-31T12:00:00.000Z", "text": "transcribed", \
"status": "complete"}

"""
}
"""OpenAPI 3.1 has no schema for a sequence of events."""

router = APIRouter(tags=["events"])


@router.get(
    "/v1/runs/{run_id}/events",
    responses=FOUND | {200: {"description": _DESCRIPTION, "content": {"text/event-stream": _STREAM}}},
    response_class=StreamingResponse,
    operation_id="streamEvents",
)
async def stream_events(
    request: Request,
    service: TheService,
    tenant: Caller,
    run_id: RunId,
    last_event_id: Annotated[
        str, Header(alias="Last-Event-ID", description="The `id` of the last event that was received.")
    ] = "",
    follow: Annotated[bool, Query(description="false: only what has happened so far.")] = True,  # noqa: FBT002
) -> StreamingResponse:
    """Return all events of a run, or those after Last-Event-ID, as they happen. The stream ends with the run."""
    if last_event_id and not is_event_id(last_event_id):
        raise Problem(422, "invalid-request", "Last-Event-ID: not the id of an event", "send the last id received")
    found = await run_in_threadpool(required, service, tenant, run_id)
    watch = _Watch(service, found, last_event_id)
    return StreamingResponse(
        _stream(request, watch, service.streams.begin(tenant.prefix), follow=follow),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _Watch:
    """Reads what is new of one run."""

    def __init__(self, service: Service, found: FoundRequest, after: str) -> None:
        self._service = service
        self._found = found
        self._key = found.key
        self._after = after
        self._run = found.state.run_id
        self._status: Status | None = None
        self._status_s = 0.0
        """When the status was read."""
        self.over = False
        """Whether the run has ended, and nothing came after that."""
        self.more = False
        """Whether there are more events already."""

    @property
    def waits(self) -> bool:
        """Whether the run has not begun."""
        return self._run is None

    @property
    def replica_ends(self) -> bool:
        """Whether this replica does not work any more."""
        return bool(self._service.problem())

    def news(self) -> Sequence[str]:
        """Return the next events, as text of the stream. Raises what the store raises."""
        # Asked first: the event of its end is there then. It is stored after the end itself.
        settled = self._service.requests.is_settled(self._found)
        found = [self._written(event_id, event) for event_id, event in self._events()]
        if settled and not found:
            # The client knows all.
            self.over = True
        run, now_s = self._run, time.monotonic()
        if run and not self.over and now_s - self._status_s >= STATUS_S:
            self._status_s = now_s
            status = stored_documents.valid(self._service.store, Status, RunKeys(run).status)
            if status and status != self._status:
                self._status = status
                found.append(_text("progress", progress_view(status).model_dump()))
        return found

    def _events(self) -> Sequence[tuple[str, RequestEvent]]:
        found = list(islice(self._service.requests.events.after(self._key, self._after), MOST_AT_ONCE))
        self.more = len(found) == MOST_AT_ONCE
        return found

    def _written(self, event_id: str, event: RequestEvent) -> str:
        self._after = event_id
        self._run = event.run_id or self._run
        self.over = event.type == "ended"
        data: dict[str, Any] = {"id": self._key.id, "time": iso(event.time_ms), "text": event.text}
        if event.status:
            data["status"] = event.status
        return _text(event.type, data, event_id)


async def _stream(
    request: Request, watch: _Watch, counted: contextlib.AbstractContextManager[None], *, follow: bool
) -> AsyncIterator[str]:
    with counted:
        async for text in _texts(request, watch, follow=follow):
            yield text


async def _texts(request: Request, watch: _Watch, *, follow: bool) -> AsyncIterator[str]:
    yield f"retry: {_RECONNECT_MS}\n\n"
    silent_since_s, pause_s = time.monotonic(), POLL_S
    while True:
        # An outage of the store ends the stream: the client resumes it.
        for text in await run_in_threadpool(watch.news):
            yield text
            silent_since_s, pause_s = time.monotonic(), POLL_S
        if watch.more:
            continue
        # If this replica ends, the client continues with another one.
        if watch.over or not follow or watch.replica_ends or await request.is_disconnected():
            return
        if time.monotonic() - silent_since_s > KEEP_ALIVE_S:
            yield ": still here\n\n"
            silent_since_s = time.monotonic()
        await asyncio.sleep(pause_s)
        # There may be many runs that wait for hours.
        pause_s = min(pause_s * 1.5, WAITING_POLL_S) if watch.waits else POLL_S


def _text(kind: str, data: dict[str, Any], event_id: str = "") -> str:
    number = f"id: {event_id}\n" if event_id else ""
    return f"{number}event: {kind}\ndata: {json.dumps(data, ensure_ascii=True)}\n\n"
