"""When the attempts of a run waited, started and ended: a document for people.

Touches: nothing. No decision depends on it: it shows the work of a run, while it is done and afterwards.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from chunk_job.document import Attempt, Count, Document, Line, Milliseconds, RunId, SpanIndex
from controller.domain.documents import NodeName

MOST_ATTEMPTS = 20_000
"""Most attempts that are kept. Of a run with more, the oldest are left out."""

AttemptPhase = Literal["queued", "starting", "running", "ending", "ended", "gone"]
"""*gone*: it was not seen to end, for example because its controller was killed."""


class AttemptTimes(Document):
    """One attempt. Times are since the epoch, by the clock of the controller; None: not observed."""

    span: SpanIndex | None
    """None: the intake job."""
    attempt: Attempt
    phase: AttemptPhase
    """The last one that was observed."""
    submitted_ms: Count | None = None
    starting_ms: Count | None = None
    """Its pod has a node, and its image is pulled."""
    running_ms: Count | None = None
    ended_ms: Count | None = None
    node: NodeName = ""
    waits_for: Line = ""
    """Why it did not start, as last observed."""
    progress_ms: Milliseconds = 0
    """How far it is in its audio, as it reported last."""


class Attempts(Document):
    """The attempts of a run, in the order in which they were first seen."""

    max_bytes: ClassVar[int] = 32 << 20
    schema_: Literal["stenofleet.attempts/1"] = Field(default="stenofleet.attempts/1", alias="schema")
    run: RunId
    began_ms: Count
    """When the process that wrote this began to work on the run."""
    done_before_ms: Count
    """Audio that was transcribed before that."""
    attempts: tuple[AttemptTimes, ...] = Field(max_length=MOST_ATTEMPTS)
