"""How far one run is: for the terminal, and as an object in the store for people on other machines.

Touches: the store.
"""

from __future__ import annotations

from typing import Any

from controller.domain import progress as figures
from controller.domain.documents import RunFigures, Status
from controller.domain.progress import Progress, State
from controller.domain.state import RunState
from controller.runs.repository import RunRepository

_EVERY_MS = 2_000


class RunStatus:
    """The progress of one run, whose percentage never goes back."""

    def __init__(self, repository: RunRepository, name: str) -> None:
        self._repository = repository
        self._name = name
        self._percent = 0.0
        self._due_ms = 0
        self._leader: Status | None = None
        self.started = 0
        """Jobs that were started at the last tick: no picture shows them yet."""

    def read_leader(self) -> None:
        """Read what whoever leads the run says of it."""
        self._leader = self._repository.status()

    def progress(self, state: RunState | None, without: State, *, held: bool = False) -> Progress:
        """How far it is, by its *state*, or by what its leader says.

        *without* is how it is where it has ended, or has no *state* here. *held*: something that it needs is away.
        """
        seen: State = "running" if state and without in ("following", "waiting") else without
        whose: dict[str, Any] = {
            "name": self._name,
            "run": self._repository.record.run,
            "size_bytes": self._repository.record.size_bytes,
            "seen": seen,
            "floor": self._percent,
        }
        if state is None and seen == "following":
            progress = figures.from_status(self._leader, **whose)
        else:
            progress = figures.progress(state, started=self.started, held=held, **whose)
        self._percent = progress.percent
        return progress

    def put_if_due(self, progress: Progress, now_ms: int) -> None:
        """Put it, if that was not done a moment ago."""
        if now_ms >= self._due_ms:
            self.put(progress, now_ms)

    def put(self, progress: Progress, now_ms: int, *, interrupted: bool = False) -> None:
        """Put it into the store. *interrupted*: nobody works on the run any more, and it has not ended."""
        self._due_ms = now_ms + _EVERY_MS
        assert progress.state != "identifying"
        figures = progress.model_dump(include=set(RunFigures.model_fields))
        figures["percent"] = round(progress.percent, 1)
        self._repository.put_status(
            Status(
                run=progress.run,
                name=self._name,
                state="interrupted" if interrupted else progress.state,
                **figures,
                updated_ms=now_ms,
            )
        )
