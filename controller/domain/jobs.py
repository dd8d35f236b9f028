"""Jobs: as a runner is asked to start them, and as it sees them.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controller.domain.failures import Diagnosis

Phase = Literal["queued", "starting", "running", "ending", "ended"]
"""*ending*: it works no more, and why is still being read."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a piece of a run. *span* None is the intake."""

    span: int | None
    attempt: int
    memory_factor: float = 1.0
    """Times what a job of its kind gets, where the runner gives memory: 1.5 after it was killed for too little."""
    avoid_nodes: tuple[str, ...] = ()
    """Where earlier attempts failed for what the node is; for runners that have nodes."""
    only_elsewhere: bool = False
    """Never on those; else only where nothing else is free."""


@dataclass(frozen=True, kw_only=True)
class Job(Attempt):
    """What a runner is asked to start."""

    run: str
    task_key: str
    task_sha256: str
    audio_ms: int = 0
    """Length of a chunk; 0 for the intake."""
    media_uri: str = ""
    """Where an intake finds its recording; empty for a chunk."""
    media_bytes: int = 0

    @property
    def name(self) -> str:
        """The same for every controller: creating the job of an attempt twice finds the first one."""
        what = "intake" if self.span is None else f"c{self.span:05d}"
        return f"sf-{self.run[:12]}-{what}-a{self.attempt}"


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as its runner sees it."""

    run: str
    span: int | None
    attempt: int
    name: str
    uid: str
    phase: Phase
    since_ms: int
    """Since when it has been known in this phase, since the epoch, by the controller's own clock alone."""
    diagnosis: Diagnosis | None = None
    """Why it failed, once it has ended; meaningless where a result exists."""
    progress_ms: int = 0
    """How far it says it is in its audio."""
    waits_for: str = ""
    """What keeps it from starting, in a sentence; empty where nothing does but its turn."""
    node: str = ""
    """Where it is, for runners that have nodes."""
    lost: bool = False
    """Its node has gone silent: it may yet answer, and another attempt at the same span is safe meanwhile."""
