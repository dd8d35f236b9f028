"""Jobs: as a runner has to start them, and as it observes them.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from controller.domain.failures import Diagnosis

Phase = Literal["queued", "starting", "running", "ending", "ended"]
"""*ending*: the job has stopped, and its diagnosis is not complete yet."""


class FreeSlots(NamedTuple):
    """How many more jobs may be started now."""

    chunks: int
    intakes: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a span or at the intake (*span* None)."""

    span: int | None
    attempt: int
    memory_factor: float = 1.0
    """Factor of the usual memory request, for runners that set one: 1.5 after the job was killed for lack of memory."""
    avoid_nodes: tuple[str, ...] = ()
    """Nodes on which earlier attempts failed because of the node; for runners that have nodes."""
    only_elsewhere: bool = False
    """True: never use *avoid_nodes*. False: use them only if no other node is free."""


@dataclass(frozen=True, kw_only=True)
class Job(Attempt):
    """A job for a runner to start."""

    run: str
    task_key: str
    task_sha256: str
    audio_ms: int = 0
    """Length of the chunk's audio, the sum of its channels; 0 for the intake."""
    media_uri: str = ""
    """The recording of an intake job; empty for a chunk."""
    media_bytes: int = 0

    @property
    def name(self) -> str:
        """The job's name, the same in every controller: creating the job of an attempt again finds the first one."""
        what = "intake" if self.span is None else f"c{self.span:05d}"
        return f"sf-{self.run[:12]}-{what}-a{self.attempt}"

    @property
    def needs_this_machine(self) -> bool:
        """Whether it is the intake of a file on this machine, which no other machine can read."""
        return self.media_uri.startswith("file:")


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as its runner observes it."""

    run: str
    span: int | None
    attempt: int
    name: str
    uid: str
    phase: Phase
    since_ms: int
    """When it was first observed in this phase: since the epoch, by the controller's own clock."""
    diagnosis: Diagnosis | None = None
    """Why it failed, once it has ended; without meaning if a result exists."""
    progress_ms: int = 0
    """Its progress in its audio, as the job reports it."""
    waits_for: str = ""
    """Why it does not start, in one sentence; empty if it only waits for its turn."""
    node: str = ""
    """The node it is on, for runners that have nodes."""
    lost: bool = False
    """Its node does not respond. The job may still write a result; another attempt at the same span is safe."""
