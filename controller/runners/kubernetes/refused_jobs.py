"""Jobs that the API server refused to create: which of them are posted again, and when.

Touches: nothing; the time is an argument. Most Jobs are refused for the same reason, usually an exceeded quota. So the
Jobs of one failure class wait together: one of them is posted as a test, and if it is accepted, the others follow.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from controller.domain.failures import FailureClass
from controller.domain.jobs import Job
from controller.runners.kubernetes.labels import job_name
from controller.runners.kubernetes.startup_diagnosis import StartupProblem, refused

_PAUSE_MS, _LONGEST_PAUSE_MS = 3_000, 60_000


@dataclass(kw_only=True)
class _Pause:
    """Until when no Job of a class is posted again."""

    length_ms: int = 0
    due_ms: int = 0
    tries: int = 0

    def begin(self, now_ms: int, *, problem: StartupProblem) -> None:
        """Start the pause after a refusal: twice as long as before, with a random part to spread controllers."""
        longest_ms = min(_PAUSE_MS << min(self.tries, 20), _LONGEST_PAUSE_MS)
        self.tries += 1
        self.length_ms = round(longest_ms * random.uniform(0.5, 1.0))
        self.due_ms = now_ms + self.length_ms
        end_ms = problem.since_ms + (problem.patience_ms or 0)
        if now_ms < end_ms < self.due_ms:
            # Post once more before the wait counts as a failure: the cause may be fixed by then.
            self.due_ms, self.length_ms = end_ms, end_ms - now_ms

    def is_over(self, now_ms: int) -> bool:
        """Whether the pause is over. It also ends if the clock was set back."""
        return not 0 < self.due_ms - now_ms <= self.length_ms


@dataclass
class Refusals:
    """The refused Jobs of one namespace, by name."""

    _waiting: dict[str, tuple[Job, StartupProblem]] = field(default_factory=dict)
    """In the order in which they are posted again. A Job that is refused again moves to the end."""
    _pauses: dict[FailureClass, _Pause] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        """Whether the Job of this name is waiting."""
        return name in self._waiting

    def __iter__(self) -> Iterator[tuple[Job, StartupProblem]]:
        """All waiting Jobs, with the reasons."""
        return iter(list(self._waiting.values()))

    def add(self, job: Job, message: str, *, now_ms: int) -> None:
        """Record that the server has refused *job* with this *message*."""
        _, before = self._waiting.pop(job_name(job), (job, None))
        problem = refused(message, before=before, now_ms=now_ms)
        self._waiting[job_name(job)] = (job, problem)
        pause = self._pauses.setdefault(problem.diagnosis.failure, _Pause())
        if pause.is_over(now_ms):  # of several refusals in one tick, only the first counts
            pause.begin(now_ms, problem=problem)
        self._keep_pauses()

    def hold_back(self, job: Job, *, now_ms: int) -> bool:
        """Add the new *job* to the waiting Jobs without posting it, if possible. Returns whether it was added.

        Only if other Jobs wait until something else ends (an exceeded quota). Such a wait is never a failure, so a Job
        that was never posted cannot fail either.
        """
        for _, problem in self._waiting.values():
            if problem.patience_ms is None:
                self._waiting[job_name(job)] = (job, replace(problem, since_ms=now_ms))
                return True
        return False

    def due(self, now_ms: int) -> Iterator[list[Job]]:
        """For each class whose pause is over, its Jobs. Post the first one, and each next one only after a success."""
        for failure, pause in list(self._pauses.items()):
            if pause.is_over(now_ms):
                yield [job for job, problem in self._waiting.values() if problem.diagnosis.failure is failure]

    def taken(self, name: str) -> None:
        """Record that the server has accepted this Job. The next refusal starts with a short pause again."""
        _, problem = self._waiting[name]
        self._pauses.pop(problem.diagnosis.failure, None)
        self.drop(name)

    def hurry(self) -> None:
        """End all pauses, because a resource was freed: the next tick posts again."""
        self._pauses = {failure: _Pause() for failure in self._pauses}

    def drop(self, name: str) -> None:
        """Do not post this Job again."""
        del self._waiting[name]
        self._keep_pauses()

    def drop_run(self, run: str) -> None:
        """Do not post any Job of *run* again."""
        self._waiting = {name: it for name, it in self._waiting.items() if it[0].run != run}
        self._keep_pauses()

    def _keep_pauses(self) -> None:
        """Keep one pause for every class that has waiting Jobs, and no others. Without one, none would be posted."""
        classes = {problem.diagnosis.failure for _, problem in self._waiting.values()}
        self._pauses = {failure: self._pauses.get(failure, _Pause()) for failure in classes}
