"""What the API returns of a run.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from controller.domain.documents import Status
from controller.domain.service_documents import RequestState, RequestStatus, iso
from controller.service.request_reader import FoundRequest

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, in UTC."""


class ProgressView(BaseModel):
    """How far a run is."""

    percent: float
    chunks_done: int
    chunks_known: int
    planned: bool = Field(description="Whether chunks_known counts all chunks of the run.")
    running: int = Field(description="Jobs that run or start now.")
    failures: int = Field(description="Attempts that failed, or were lost with their controller.")
    audio_done_s: float
    audio_known_s: float
    updated_at: Time


class RunSummary(BaseModel):
    """A run in a list."""

    id: str
    status: RequestStatus
    name: str
    priority: int
    labels: dict[str, str]
    created_at: Time
    updated_at: Time


class RunView(RunSummary):
    """A run."""

    run: str | None = Field(description="The run in the store, for the command line; null until it has begun.")
    retries: int = Field(description="How often it was tried again after its end.")
    ended_at: Time | None
    progress: ProgressView | None = Field(description="While it runs.")
    summary: str = Field(description="How it ended.")
    advice: str = Field(description="What to do about it.")
    failure: str = Field(description="The class of the failure that decided the end; empty: none.")
    environment: bool = Field(description="Whether the cause of a failure is not the recording.")
    warnings: list[str] = Field(description="What may be wrong with the transcript.")
    files: list[str] = Field(description="Outputs that were written.")


class RunList(BaseModel):
    """A page of runs, the newest first."""

    runs: list[RunSummary]
    next_cursor: str | None = Field(description="For the next page; null: this is the last one.")


def summary_view(state: RequestState) -> RunSummary:
    """Return a run for a list."""
    return RunSummary(
        id=state.id,
        status=state.status,
        name=state.name,
        priority=state.priority,
        labels=state.labels,
        created_at=iso(state.created_ms),
        updated_at=iso(state.updated_ms),
    )


def run_view(found: FoundRequest, status: Status | None) -> RunView:
    """Return a run. *status*: the progress that its worker reported; None if it does not run."""
    end, request = found.end, found.request
    return RunView(
        id=request.id,
        status=found.status,
        name=request.name,
        priority=request.priority,
        labels=request.labels,
        created_at=iso(request.created_ms),
        updated_at=iso(end.ended_ms if end else status.updated_ms if status else found.state.updated_ms),
        run=end.run_id if end else found.state.run_id,
        retries=found.retries,
        ended_at=iso(end.ended_ms) if end else None,
        progress=progress_view(status) if status and not end else None,
        summary=end.summary if end else "",
        advice=end.advice if end else "",
        failure=end.failure if end else "",
        environment=end.environment if end else False,
        warnings=list(end.warnings) if end else [],
        files=list(end.files) if end else [],
    )


def progress_view(status: Status) -> ProgressView:
    """Return the progress of a run."""
    return ProgressView(
        percent=status.percent,
        chunks_done=status.spans_done,
        chunks_known=status.spans_known,
        planned=status.planned,
        running=status.running,
        failures=status.failures,
        audio_done_s=status.done_ms / 1000,
        audio_known_s=status.total_ms / 1000,
        updated_at=iso(status.updated_ms),
    )
