"""How far a run is.

Touches: nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from controller.domain.documents import RunFigures, Status, StoredState
from controller.domain.state import RunState

State = StoredState | Literal["identifying"]
"""*identifying*: its recording is being read, and which run it is is not known yet."""


_NOTHING_YET = {"percent": 0.0, "spans_done": 0, "spans_known": 0, "planned": False, "failures": 0}


class Progress(RunFigures):
    """How far one run is, for the terminal and the status object."""

    run: str
    name: str
    size_bytes: int
    state: State
    queued: int = 0
    """Jobs that wait for their turn or for what they lack."""
    held: bool = False
    """What it needs is away: it is waited for, and no speed can be shown."""


def progress(
    state: RunState | None,
    *,
    name: str,
    run: str,
    size_bytes: int,
    seen: State,
    floor: float,
    started: int = 0,
    held: bool = False,
) -> Progress:
    """How far a run is; the percentage never goes below *floor*. Without a *state* nothing is known but its name.

    *started* jobs are newer than the state.
    """
    phases = Counter(view.phase for view in state.jobs) if state else Counter[str]()
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
        running=phases["starting"] + phases["running"] + started,
        failures=len(state.evidence) if state else 0,
        queued=phases["queued"],
        held=held,
    )


def from_status(
    status: Status | None, *, name: str, run: str, size_bytes: int, seen: State, floor: float = 0.0
) -> Progress:
    """How far a run is by what its leader says of it."""
    figures: dict[str, Any] = dict(_NOTHING_YET)
    if status:
        figures = status.model_dump(include=set(RunFigures.model_fields))
    figures["percent"] = 100.0 if seen in ("complete", "partial") else max(floor, figures["percent"])
    return Progress(run=run, name=name, size_bytes=size_bytes, state=seen, **figures)


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
