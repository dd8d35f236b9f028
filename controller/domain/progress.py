"""The progress of a run.

Touches: nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from controller.domain.documents import RunFigures, Status, StoredState
from controller.domain.state import RunState

State = StoredState | Literal["identifying"]
"""*identifying*: its recording is being read; its run is not known yet."""


ENDED = frozenset({"complete", "partial", "failed", "cancelled"})
"""The states of a run that has ended."""

_NOTHING_YET = {"percent": 0.0, "spans_done": 0, "spans_known": 0, "planned": False, "failures": 0}


class Progress(RunFigures):
    """The progress of one run, for the terminal and the status object."""

    run: str
    name: str
    size_bytes: int
    state: State
    queued: int = 0
    """Jobs that wait for their turn or for something that is missing."""
    held: bool = False
    """The run waits because of an outage, so no speed can be computed."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Figures over recordings that are not shown one by one: there may be ten thousand, too many for every tick."""

    recordings: int = 0
    ended: int = 0
    size_bytes: int = 0
    """Each recording counts as one byte at least."""
    finished_bytes: float = 0.0
    """The size of each, multiplied by the part that is finished."""
    spans_done: int = 0
    spans_known: int = 0

    def __add__(self, other: Totals) -> Totals:
        """Return the totals of both."""
        return Totals(
            recordings=self.recordings + other.recordings,
            ended=self.ended + other.ended,
            size_bytes=self.size_bytes + other.size_bytes,
            finished_bytes=self.finished_bytes + other.finished_bytes,
            spans_done=self.spans_done + other.spans_done,
            spans_known=self.spans_known + other.spans_known,
        )

    def __sub__(self, other: Totals) -> Totals:
        """Return the totals without *other*: of recordings of which nothing was done yet."""
        return replace(
            self, recordings=self.recordings - other.recordings, size_bytes=self.size_bytes - other.size_bytes
        )

    @property
    def percent(self) -> float:
        """The finished percentage, weighted by size."""
        return 100.0 * self.finished_bytes / self.size_bytes if self.size_bytes else 0.0

    @property
    def waiting(self) -> int:
        """The number of recordings that have not ended."""
        return self.recordings - self.ended


NO_TOTALS = Totals()


def totals(run: Progress) -> Totals:
    """Return the figures of one run."""
    size_bytes = max(run.size_bytes, 1)
    return Totals(
        recordings=1,
        ended=int(run.state in ENDED),
        size_bytes=size_bytes,
        finished_bytes=run.percent * size_bytes / 100,
        spans_done=run.spans_done,
        spans_known=run.spans_known,
    )


def totals_of_waiting(size_bytes: int) -> Totals:
    """Return the figures of a recording of which nothing was done yet."""
    return Totals(recordings=1, size_bytes=max(size_bytes, 1))


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
    """Return the progress of a run; the percentage is at least *floor*. *state* None: only its name is known.

    *seen*: the state to show. *started*: jobs that were started after *state* was read.
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
    """Return the progress of a run from the status that its leader has written."""
    figures: dict[str, Any] = dict(_NOTHING_YET)
    if status:
        figures = status.model_dump(include=set(RunFigures.model_fields))
    figures["percent"] = 100.0 if seen in ("complete", "partial") else max(floor, figures["percent"])
    return Progress(run=run, name=name, size_bytes=size_bytes, state=seen, **figures)


def waiting(state: RunState) -> int:
    """Return the number of spans that are cut and have neither a result nor a job."""
    return sum(1 for span in without_job(state) if span is not None)


def without_job(state: RunState) -> list[int | None]:
    """Return the spans that are cut and have neither a result nor a job, and None if the recording is to be cut."""
    busy = {view.span for view in state.jobs}
    spans: list[int | None] = [span for span in state.tasks if span not in state.answered and span not in busy]
    return spans if state.planned or None in busy else [None, *spans]


def done_ms(state: RunState) -> int:
    """Return the audio transcribed so far; running jobs count with the progress that they report."""
    finished = sum(length for span, length in state.tasks.items() if span in state.answered)
    running = sum(
        min(view.progress_ms, state.tasks.get(view.span, 0))
        for view in state.jobs
        if view.span is not None and view.span not in state.answered
    )
    return finished + running


def percent(state: RunState) -> float:
    """Return the progress in percent: 5 while the file is being cut, 10 to 90 by audio while it is transcribed."""
    total = sum(state.tasks.values())
    if not state.planned or not total:
        return 5.0
    return 10.0 + 80.0 * done_ms(state) / total
