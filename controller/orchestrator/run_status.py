"""The progress of one run: for the terminal, and as an object in the store for people on other machines.

Touches: the store.
"""

from __future__ import annotations

from typing import Any

from controller.domain import progress as figures
from controller.domain.documents import RunFigures, Status
from controller.domain.interfaces import RunOutcome
from controller.domain.progress import Progress, State
from controller.domain.state import RunState
from controller.orchestrator.attempt_log import AttemptLog
from controller.runs.repository import RunRepository

_EVERY_MS = 2_000


class RunStatus:
    """The progress of one run; its percentage never decreases."""

    def __init__(self, repository: RunRepository, name: str, attempts: AttemptLog) -> None:
        self._repository = repository
        self._name = name
        self._percent = 0.0
        self._due_ms = 0
        self._leader: Status | None = None
        self._last: Progress | None = None
        """Of a run that has ended."""
        self.attempts = attempts
        self.started = 0
        """Number of jobs that were started at the last tick: the state does not contain them yet."""

    def read_leader(self) -> None:
        """Read the status that the leader of the run has written."""
        self._leader = self._repository.status()

    def progress(
        self, state: RunState | None, ended: RunOutcome | None, *, follows: bool, held: bool = False
    ) -> Progress:
        """Return the progress, from *state* or from the leader's status; the percentage never decreases.

        *held*: there is an outage.
        """
        if ended is None:
            self._last = None
        elif self._last is not None:
            # Of ten thousand runs nearly all have ended.
            return self._last
        seen: State = ended.verdict if ended else "running" if state else "following" if follows else "waiting"
        common: dict[str, Any] = {
            "name": self._name,
            "run": self._repository.record.run,
            "size_bytes": self._repository.record.size_bytes,
            "seen": seen,
            "floor": self._percent,
        }
        if state is None and seen == "following":
            progress = figures.from_status(self._leader, **common)
        else:
            progress = figures.progress(state, started=self.started, held=held, **common).model_copy(
                update={"useful_share": self._repository.useful_share}
            )
        self._percent = progress.percent
        self._last = progress if ended else None
        return progress

    def put_if_due(self, progress: Progress, now_ms: int) -> None:
        """Put the status into the store, at most every two seconds, and the attempts less often."""
        if now_ms >= self._due_ms:
            self.put(progress, now_ms)
            self.attempts.put_if_due(now_ms)

    def put(self, progress: Progress, now_ms: int, *, interrupted: bool = False) -> None:
        """Put the status into the store. *interrupted*: no process works on the run any more, and it has not ended."""
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
