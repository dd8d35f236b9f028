"""What is known of a run, as plain data: jobs as asked for and as seen, the picture ``decide`` looks at, how far it is.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from chunk_job.contract import Language
from controller.diagnose import Diagnosis
from controller.records import Evidence, Status

Phase = Literal["queued", "starting", "running", "ending", "ended"]
"""*ending*: it works no more, and why is still being read."""
State = Literal["waiting", "following", "running", "complete", "partial", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a runner is asked to start. *span* None is the intake job."""

    run: str
    span: int | None
    attempt: int
    task_key: str
    task_sha256: str
    audio_ms: int = 0
    """Length of a chunk; 0 for the intake."""
    media_uri: str = ""
    """Where an intake finds its recording; empty for a chunk."""
    media_bytes: int = 0
    memory_factor: float = 1.0
    """Times what a job of its kind gets, where the runner gives memory: 1.5 after it was killed for too little."""
    avoid_nodes: tuple[str, ...] = ()
    """Where earlier attempts failed for what the node is; for runners that have nodes."""
    only_elsewhere: bool = False
    """Never on those; else only where nothing else is free."""


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


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run as it is now: the store's truth and the live jobs."""

    run: str
    tasks: Mapping[int, int]
    """Span → length of its audio in ms, for every task in the store."""
    planned: bool
    """Whether the tasks are all there will be."""
    answered: frozenset[int]
    """Spans with a valid result."""
    evidence: tuple[Evidence, ...]
    """Failures of this round."""
    answered_by: Mapping[int, int] = field(default_factory=dict)
    """Span → attempt of the result that counts."""
    used_attempts: Mapping[int | None, int] = field(default_factory=dict)
    """Highest attempt number of any round, so that no name is used twice."""
    jobs: tuple[JobView, ...] = ()
    language_open: bool = False
    """No language was given and none is frozen yet."""
    notes: Mapping[int, Language] = field(default_factory=dict)
    """What spans with too little speech to decide have heard."""
    rungs: int = 0
    """Steps by which the run's options can be made to need less of a GPU."""
    removed: frozenset[int] = frozenset()
    """Spans whose task was removed since the last intake began, so that another one has to write it."""
    gaps_allowed: bool = False
    cancelled: bool = False

    def failures_of(self, span: int | None) -> Sequence[Evidence]:
        """This round's failures of one span (None: of the intake)."""
        return self._failures.get(span, ())

    @cached_property
    def _failures(self) -> Mapping[int | None, Sequence[Evidence]]:
        """The evidence by span: asked for every task, so it is sorted once."""
        found: dict[int | None, list[Evidence]] = {}
        for item in self.evidence:
            found.setdefault(item.span, []).append(item)
        return found


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one run is, for the terminal and the status object."""

    run: str
    name: str
    size_bytes: int
    state: State
    percent: float
    done_ms: int
    total_ms: int
    spans_done: int
    spans_known: int
    planned: bool
    running: int
    failures: int


def progress(state: RunState | None, *, name: str, run: str, size_bytes: int, seen: State, floor: float) -> Progress:
    """How far a run is; the percentage never goes below *floor*. Without a *state* nothing is known but its name."""
    return Progress(
        run=run,
        name=name,
        size_bytes=size_bytes,
        state=seen,
        percent=100.0 if seen in ("complete", "partial") else max(floor, percent(state)) if state else floor,
        done_ms=done_ms(state) if state else 0,
        total_ms=sum(state.tasks.values()) if state else 0,
        spans_done=len(state.answered) if state else 0,
        spans_known=len(state.tasks) if state else 0,
        planned=bool(state and state.planned),
        running=sum(1 for view in state.jobs if view.phase == "running") if state else 0,
        failures=len(state.evidence) if state else 0,
    )


def heard(status: Status | None, *, name: str, run: str, size_bytes: int, seen: State, floor: float = 0.0) -> Progress:
    """How far a run is by what its leader says of it."""
    return Progress(
        run=run,
        name=name,
        size_bytes=size_bytes,
        state=seen,
        percent=100.0 if seen in ("complete", "partial") else max(floor, status.percent) if status else floor,
        done_ms=status.done_ms if status else 0,
        total_ms=status.total_ms if status else 0,
        spans_done=status.spans_done if status else 0,
        spans_known=status.spans_known if status else 0,
        planned=bool(status and status.planned),
        running=status.running if status else 0,
        failures=status.failures if status else 0,
    )


def waiting(state: RunState) -> int:
    """Spans that are cut and have neither a result nor a job: work that needs no more intake."""
    busy = {view.span for view in state.jobs}
    return sum(1 for span in state.tasks if span not in state.answered and span not in busy)


def done_ms(state: RunState) -> int:
    """Audio transcribed so far, running jobs by what they say of themselves."""
    finished = sum(length for span, length in state.tasks.items() if span in state.answered)
    running = sum(
        min(view.progress_ms, state.tasks.get(view.span, 0))
        for view in state.jobs
        if view.span is not None and view.span not in state.answered
    )
    return finished + running


def percent(state: RunState) -> float:
    """Progress by audio: 5 while the file is being cut, 10 to 90 while it is transcribed."""
    total = sum(state.tasks.values())
    if not state.planned or not total:
        return 5.0
    return 10.0 + 80.0 * done_ms(state) / total
