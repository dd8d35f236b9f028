"""The lines of ``--events``: what happens while a command works, for programs that follow it.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from chunk_job.document import Count, Document, Line, RunId
from controller.domain.interfaces import RunVerdict

MOST_URIS = 1_000
"""Of one recording: more files than there are formats, for every name that it was given under."""
_Uri = Annotated[str, Field(max_length=16_000)]


class Figures(Document):
    """The progress of all recordings of the command."""

    percent: Annotated[float, Field(ge=0, le=100)]
    """By size and audio; never less than before."""
    recordings: Count
    ended: Count
    """Recordings that have ended, in any way."""
    chunks_done: Count
    chunks_known: Count
    """Chunks that are cut so far."""
    running: Count
    """Jobs that run or start now."""
    queued: Count
    """Jobs that wait for their turn or for something that is missing."""
    left_s: Count | None
    """Estimated seconds to the end. None: not known yet, or all jobs wait."""


class Message(Document):
    """What a person would read in the log: a wait, a failed attempt, a retry."""

    name: Line
    """Of the recording, or of what it is about."""
    run: RunId | None
    text: Line


class RecordingEnd(Document):
    """How a recording ended."""

    name: Line
    run: RunId | None
    """None: it did not become a run."""
    uri: _Uri | None
    """Of the recording, with every byte of its path. None: it did not become a run."""
    verdict: RunVerdict
    summary: Line
    advice: Line
    uris: tuple[_Uri, ...] = Field(max_length=MOST_URIS)
    """The files and objects that were written."""
    warnings: tuple[Line, ...] = Field(max_length=MOST_URIS)


class CommandEnd(Document):
    """How the command ended. This is the last line, unless the process was killed."""

    exit_code: Annotated[int, Field(ge=0, le=255)]
    complete: Count
    partial: Count
    failed: Count
    cancelled: Count
    skipped: Count
    """Recordings that were left out, because their outputs exist."""


def _part(**attributes: Any) -> Any:
    return Field(default=None, exclude_if=lambda part: part is None, **attributes)


class CommandEvent(Document):
    """A line of --events. It has one part, with the name of its type."""

    schema_: Literal["stenofleet.command-event/1"] = Field(default="stenofleet.command-event/1", alias="schema")
    type: Literal["progress", "message", "recording", "end"]
    time_ms: Count
    """Since the epoch."""
    progress: Figures | None = _part()
    message: Message | None = _part()
    recording: RecordingEnd | None = _part()
    end: CommandEnd | None = _part()
