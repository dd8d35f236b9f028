"""The progress of one run: for the terminal, and as an object in the store for people on other machines.

Touches: the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from controller.domain import progress as figures
from controller.domain.actions import Delete
from controller.domain.attempt_documents import AttemptTimes
from controller.domain.documents import RunFigures, Status
from controller.domain.interfaces import RunOutcome
from controller.domain.jobs import JobView
from controller.domain.progress import ENDED, Progress, State
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

    def begin(self, state: RunState, now_ms: int) -> None:
        """Note that this process begins to work on the run."""
        self.attempts.begin(now_ms, done_ms=figures.done_ms(state), found=self._found(state))

    def observed(self, state: RunState, jobs: Sequence[JobView], now_ms: int) -> None:
        """Note the *jobs* of the run, and what waits for one."""
        self.attempts.observed(jobs, now_ms)
        self.attempts.waits(figures.without_job(state), now_ms)

    def deleted(self, delete: Delete, now_ms: int) -> None:
        """Note the end of an attempt."""
        view = delete.view
        result = self._repository.result(view.span, view.attempt)
        failure = delete.failure.failure.value if delete.failure and result is None else ""
        self.attempts.deleted(view, now_ms, failure=failure, result=result)

    def _found(self, state: RunState) -> Iterator[AttemptTimes]:
        """The attempts of which the store has a failure or the result that counts."""
        for one in self._repository.failures:
            yield AttemptTimes(
                span=one.span, attempt=one.attempt, phase="ended", ended_ms=one.ended_ms, failure=one.failure
            )
        for span, attempt in sorted(state.answered_by.items()):
            result = self._repository.result(span, attempt)
            yield AttemptTimes(span=span, attempt=attempt, phase="ended", result=result)

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
            progress = figures.progress(state, started=self.started, held=held, **common)
            # More than the evidence of this round: also attempts that were lost with their controller.
            failures = max(progress.failures, self.attempts.failed)
            update = {"useful_share": self._repository.useful_share, "failures": failures}
            progress = progress.model_copy(update=update)
        self._percent = progress.percent
        self._last = progress if ended else None
        return progress

    def put_if_due(self, progress: Progress, now_ms: int) -> None:
        """Put the status into the store, at most every two seconds, and the attempts when that is due."""
        if now_ms >= self._due_ms:
            self.put(progress, now_ms)
        self.attempts.put_if_due(now_ms)

    def put(self, progress: Progress, now_ms: int, *, interrupted: bool = False) -> None:
        """Put the status into the store. *interrupted*: no process works on the run any more, and it has not ended."""
        self._due_ms = now_ms + _EVERY_MS
        assert progress.state != "identifying"
        if interrupted or progress.state in ENDED:
            self.attempts.stopped(now_ms)
            self.attempts.put(now_ms)
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
