"""When the attempts of a run waited, started and ended, and what they used: a document for people.

Touches: nothing. No decision depends on it: it shows the work of a run, while it is done and afterwards, and what was
paid for it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.contract import Usage
from chunk_job.document import Attempt, Count, Document, ElapsedMs, Line, Milliseconds, RunId, SpanIndex
from controller.domain.documents import FailureName, NodeName, TypeName

MOST_ATTEMPTS = 20_000
"""Most attempts that are kept. Of a run with more, the oldest are left out."""

LogId = Literal[""] | Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""Names the log of a run. Empty: of a version that gave none."""

AttemptPhase = Literal["queued", "starting", "running", "ending", "ended", "gone"]
"""*gone*: it was not seen to end, for example because its controller was killed."""


class AttemptResult(Document):
    """What a job measured that left a valid result."""

    audio_ms: Milliseconds
    """Length of its chunk."""
    speech_ms: Milliseconds
    device: TypeName
    """``cuda``, ``cpu``. Empty: by versions that did not say so."""
    usage: Usage


class AttemptTimes(Document):
    """One attempt. Times are since the epoch, by the clock of the controller; None: not observed.

    A number may be there twice: the job of an attempt that was lost with its controller is started again under it.
    """

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
    job: str = Field(default="", max_length=200)
    """Names its job: the uid on a cluster, else the process. Empty: not observed."""
    ready_ms: Count | None = None
    """Since when it could have begun if a slot had been free: its chunk is cut, or the attempt before it has ended."""
    pull_ms: ElapsedMs | None = None
    """From the moment that a node took its pod until its container started, by the clock of the node: the image, the
    volumes. 0 without a pod. None: not measured."""
    ran_ms: ElapsedMs | None = None
    """How long its container or process ran, by the clock of its node. None: not measured."""
    seen_ms: Count | None = None
    """Of an attempt whose controller was stopped: when it was last observed alive, if nobody saw it again."""
    gpu: bool | None = None
    """Whether a GPU was reserved for it. None: not known."""
    failure: Literal[""] | FailureName = ""
    """Class of its failure."""
    result: AttemptResult | None = None
    """None: it left no result that was used."""

    @property
    def lost(self) -> bool:
        """Whether it was lost with its controller: nobody saw its end, and it left no result."""
        return self.phase == "gone" and not self.failure and self.result is None

    @property
    def failed(self) -> bool:
        """Whether it failed, or was lost."""
        return bool(self.failure) or self.lost


class Attempts(Document):
    """The attempts of a run, in the order in which they were first seen."""

    max_bytes: ClassVar[int] = 32 << 20
    schema_: Literal["stenofleet.attempts/1"] = Field(default="stenofleet.attempts/1", alias="schema")
    run: RunId
    log: LogId = ""
    """Drawn when the first attempt is noted. A run that was removed and is made again has another one."""
    began_ms: Count
    """When the process that wrote this began to work on the run."""
    done_before_ms: Count
    """Audio that was transcribed before that."""
    observed_ms: Count | None = None
    """When the attempts were last observed. None: written by a version that did not note it."""
    left_out: Count = 0
    """Attempts that are not kept: the oldest ones of a run with very many."""
    attempts: tuple[AttemptTimes, ...] = Field(max_length=MOST_ATTEMPTS)

    @property
    def failed(self) -> int:
        """How many of them failed, or were lost."""
        return sum(one.failed for one in self.attempts)
