"""Notes when the attempts of one run waited, started and ended: an object in the store for people.

Touches: the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from chunk_job.document import MAX_AUDIO_MS
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import MOST_ATTEMPTS, Attempts, AttemptTimes
from controller.domain.jobs import Attempt, JobView
from controller.domain.keys import RunKeys

_EVERY_MS = 5_000
_EVERY_ATTEMPT_MS = 5
"""Added for each attempt: the object grows with the run, so it is written less often."""
_LONGEST_LINE = 8_000

_Key = tuple[int | None, int]


class AttemptLog:
    """The attempts of one run, those of earlier processes too."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._keys = RunKeys(run)
        self._known: dict[_Key, AttemptTimes] = {}
        self._open: set[_Key] = set()
        """Attempts that were not seen to end."""
        self._began_ms: int | None = None
        self._done_before_ms = 0
        self._due_ms = 0
        self._changed = False

    def begin(self, now_ms: int, *, done_ms: int) -> None:
        """Read what earlier processes wrote. *done_ms*: audio that is transcribed already."""
        before = stored_documents.valid(self._store, Attempts, self._keys.attempts)
        self._known = {(one.span, one.attempt): one for one in before.attempts} if before else {}
        self._open = {key for key, one in self._known.items() if one.phase not in ("ended", "gone")}
        self._began_ms, self._done_before_ms, self._due_ms = now_ms, done_ms, 0

    def submitted(self, job: Attempt, now_ms: int) -> None:
        """Note a new attempt."""
        self._put(AttemptTimes(span=job.span, attempt=job.attempt, phase="queued", submitted_ms=max(now_ms, 0)))

    def observed(self, jobs: Sequence[JobView], now_ms: int) -> None:
        """Note the phases of *jobs*: all jobs of the run."""
        for view in jobs:
            self._put(_noted(self._known.get((view.span, view.attempt)), view, now_ms))
        # Local jobs end with their controller, so those of an earlier process are not observed any more.
        for key in self._open - {(view.span, view.attempt) for view in jobs}:
            if self._known[key].phase != "queued":
                self._put(self._known[key].model_copy(update={"phase": "gone"}))

    def deleted(self, view: JobView, now_ms: int) -> None:
        """Note the end of an attempt that is removed, whether it has ended or not."""
        noted = _noted(self._known.get((view.span, view.attempt)), view, now_ms)
        self._put(noted.model_copy(update={"phase": "ended", "ended_ms": noted.ended_ms or max(now_ms, 0)}))

    def put_if_due(self, now_ms: int) -> None:
        """Write the object, at most every five seconds, and less often for a run with many attempts."""
        if now_ms >= self._due_ms:
            self.put(now_ms)

    def put(self, now_ms: int) -> None:
        """Write the object if anything has changed."""
        if self._began_ms is None or not self._changed:
            return
        self._due_ms = now_ms + _EVERY_MS + _EVERY_ATTEMPT_MS * len(self._known)
        noted = Attempts(
            run=self._keys.run,
            began_ms=max(self._began_ms, 0),
            done_before_ms=self._done_before_ms,
            attempts=tuple(self._known.values()),
        )
        self._store.put(self._keys.attempts, noted.encode())
        self._changed = False

    def _put(self, one: AttemptTimes) -> None:
        key = one.span, one.attempt
        if self._known.get(key) == one:
            return
        self._known[key], self._changed = one, True
        (self._open.discard if one.phase in ("ended", "gone") else self._open.add)(key)
        if len(self._known) > MOST_ATTEMPTS:
            for old in list(islice(self._known, len(self._known) - MOST_ATTEMPTS)):
                del self._known[old]
                self._open.discard(old)


def _noted(before: AttemptTimes | None, view: JobView, now_ms: int) -> AttemptTimes:
    """What is known of an attempt, with what is observed now."""
    known = before or AttemptTimes(span=view.span, attempt=view.attempt, phase=view.phase)
    update: dict[str, object] = {"phase": view.phase}
    since_ms = max(view.since_ms, 0)
    if view.phase == "starting" and known.starting_ms is None:
        update["starting_ms"] = since_ms
    if view.phase == "running" and known.running_ms is None:
        update["running_ms"] = since_ms
    if view.phase in ("ending", "ended") and known.ended_ms is None:
        # Not ``since_ms``: of a process of this machine, that is its start.
        update["ended_ms"] = max(now_ms, 0)
    update |= {"node": view.node} if view.node else {}
    update |= {"waits_for": view.waits_for[:_LONGEST_LINE]} if view.waits_for else {}
    update |= {"progress_ms": min(view.progress_ms, MAX_AUDIO_MS)} if view.progress_ms > known.progress_ms else {}
    return known.model_copy(update=update)
