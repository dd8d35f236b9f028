"""Notes when the attempts of one run waited, started and ended, and what they used: an object in the store for people.

Touches: the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice

from chunk_job.document import MAX_AUDIO_MS
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import MOST_ATTEMPTS, AttemptResult, Attempts, AttemptTimes
from controller.domain.jobs import Attempt, JobView
from controller.domain.keys import RunKeys

_EVERY_MS = 5_000
_EVERY_ATTEMPT_MS = 5
"""Added for each attempt: the object grows with the run, so it is written less often."""
_SOON_MS = 1_000
"""After an attempt has begun or ended, and always in a folder: a killed process loses what it has not written."""
_FEW = 1_000
"""Attempts of a run that is written that soon."""
_LONGEST_LINE = 8_000
_LONGEST_MS = 10**10
_LONGEST_JOB = 200
_OVER = ("ended", "gone")

_Key = tuple[int | None, int]


class AttemptLog:
    """The attempts of one run, those of earlier processes too."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._keys = RunKeys(run)
        self._known: dict[_Key, AttemptTimes] = {}
        self._past: list[AttemptTimes] = []
        """Attempts whose number another job has since: it was started again without knowing of this one."""
        self._open: set[_Key] = set()
        """Attempts that were not seen to end."""
        self._again: dict[_Key, AttemptTimes] = {}
        """Attempts that were started under a known number: whether it is the same job is seen when it is observed."""
        self._here: set[_Key] = set()
        """Attempts that this process started as its own: a signal may come before one is observed."""
        self._ready: dict[int | None, int] = {}
        """Since when a chunk, or the recording, waits for a job."""
        self._process = secrets.token_hex(4)
        self._log = ""
        self._began_ms: int | None = None
        self._observed_ms: int | None = None
        self._done_before_ms = self._left_out = 0
        self._put_ms: int | None = None
        self._changed = self._news = False
        self._failed: int | None = None
        """How many attempts failed; None: to be counted again. It is asked for at each tick, and rarely changes."""

    def begin(self, now_ms: int, *, done_ms: int, found: Iterable[AttemptTimes] = ()) -> None:
        """Read what earlier processes wrote. *done_ms*: audio that is transcribed already.

        *found*: attempts with a result or a failure in the store: an earlier process may have noted nothing of them.
        """
        before = stored_documents.valid(self._store, Attempts, self._keys.attempts)
        self._log = before.log if before else secrets.token_hex(8)
        self._known, self._past, self._again, self._ready, self._failed = {}, [], {}, {}, None
        self._here.clear()
        self._observed_ms, self._left_out = None, before.left_out if before else 0
        for one in before.attempts if before else ():
            if (same := self._known.get(_key(one))) is not None:
                self._past.append(same)
            alive = one.phase not in _OVER
            self._known[_key(one)] = one.model_copy(update={"seen_ms": before.observed_ms}) if alive and before else one
        self._open = {key for key, one in self._known.items() if one.phase not in _OVER}
        self._began_ms, self._done_before_ms, self._put_ms = now_ms, done_ms, None
        for one in found:
            known = self._known.get(_key(one))
            if known is None and not self._left_out:
                self._put(one)
            elif known is not None:
                self._put(known.model_copy(update={"result": one.result, "failure": one.failure or known.failure}))

    @property
    def failed(self) -> int:
        """How many attempts failed, or were lost with their controller: of all processes that worked on the run."""
        if self._failed is None:
            self._failed = sum(one.failed for one in chain(self._past, self._known.values()))
        return self._failed

    def waits(self, spans: Collection[int | None], now_ms: int) -> None:
        """Note that *spans*, and no others, could have a job and have none; None is the recording."""
        self._ready = {span: self._ready.get(span, max(now_ms, 0)) for span in spans}

    def submitted(self, job: Attempt, now_ms: int, *, here: bool = False) -> None:
        """Note a new attempt. *here*: its job ends with this process."""
        made = AttemptTimes(
            span=job.span,
            attempt=job.attempt,
            phase="queued",
            submitted_ms=max(now_ms, 0),
            ready_ms=self._ready.pop(job.span, None),
        )
        known = self._known.get(_key(made))
        if known is not None and known.job:
            self._again[_key(made)] = made
            return
        if known is not None and known.phase not in _OVER:
            self._keep_past(known)
        self._put(made)
        if here:
            self._here.add(_key(made))

    def observed(self, jobs: Sequence[JobView], now_ms: int) -> None:
        """Note the phases of *jobs*: all jobs of the run."""
        for view in jobs:
            self._put(self._noted(view, now_ms))
        # Local jobs end with their controller, so those of an earlier process are not observed any more.
        for key in self._open - {(view.span, view.attempt) for view in jobs}:
            if self._known[key].phase != "queued":
                self._put(self._known[key].model_copy(update={"phase": "gone"}))
        self._observed_ms = max(now_ms, 0)

    def deleted(self, view: JobView, now_ms: int, *, failure: str = "", result: AttemptResult | None = None) -> None:
        """Note the end of an attempt that is removed, whether it has ended or not.

        *failure*: the class of its failure. *result*: what it measured, if its result is used.
        """
        noted = self._noted(view, now_ms)
        end = {"phase": "ended", "ended_ms": noted.ended_ms or max(now_ms, 0), "failure": failure}
        self._put(noted.model_copy(update=end | ({"result": result} if result else {})))

    def refused(self, span: int, attempt: int, failure: str) -> None:
        """Note that the result of an attempt is not valid any more."""
        if known := self._known.get((span, attempt)):
            self._put(known.model_copy(update={"failure": failure, "result": None}))

    def stopped(self, now_ms: int) -> None:
        """Note that this process ends, and with it the jobs that are its own."""
        for key in list(self._open):
            job = self._known[key].job
            if job.startswith(f"{self._process}-") or (not job and key in self._here):
                self._put(self._known[key].model_copy(update={"phase": "ended", "ended_ms": max(now_ms, 0)}))

    def put_if_due(self, now_ms: int) -> None:
        """Write the object, at most every five seconds, and less often for a run with many attempts.

        Of a run with few of them it is written every second in a folder, and elsewhere after one has begun or ended.
        """
        pause_ms = _EVERY_MS + _EVERY_ATTEMPT_MS * len(self._known)
        if len(self._known) <= _FEW and (self._news or not self._store.remote):
            pause_ms = _SOON_MS
        if self._put_ms is None or not 0 <= now_ms - self._put_ms < pause_ms:
            self.put(now_ms)

    def put(self, now_ms: int) -> None:
        """Write the object if anything has changed; while an attempt is not over, the time of the last look has."""
        if self._began_ms is None or not (self._changed or self._open):
            return
        self._put_ms = now_ms
        noted = Attempts(
            run=self._keys.run,
            log=self._log,
            began_ms=max(self._began_ms, 0),
            done_before_ms=self._done_before_ms,
            observed_ms=self._observed_ms,
            left_out=self._left_out,
            attempts=(*self._past, *self._known.values()),
        )
        self._store.put(self._keys.attempts, noted.encode())
        self._changed = self._news = False

    def _noted(self, view: JobView, now_ms: int) -> AttemptTimes:
        """What is known of an attempt, with what is observed now."""
        known = self._known.get((view.span, view.attempt))
        job = f"{self._process}-{view.uid}" if view.here else view.uid
        again = self._again.pop((view.span, view.attempt), None)
        job = job[:_LONGEST_JOB]
        if known is not None and known.job and job and known.job != job:
            self._keep_past(known)
            known = again
        elif known is not None and known.phase in ("starting", "running") and view.phase == "queued":
            # A queue of the cluster took its pod away: it gets another one.
            self._keep_past(known.model_copy(update={"phase": "ended", "ended_ms": max(now_ms, 0)}))
            known = AttemptTimes(span=view.span, attempt=view.attempt, phase="queued", submitted_ms=max(now_ms, 0))
        known = known or AttemptTimes(span=view.span, attempt=view.attempt, phase=view.phase)
        return _with(known, view, job=job, now_ms=now_ms)

    def _keep_past(self, known: AttemptTimes) -> None:
        if known.phase not in _OVER:
            known = known.model_copy(update={"phase": "gone"})
        self._past.append(known)
        self._failed = None
        self._changed = self._news = True
        self._limit()

    def _put(self, one: AttemptTimes) -> None:
        key = _key(one)
        known = self._known.get(key)
        if known == one:
            return
        self._news = self._news or known is None or known.phase != one.phase
        self._known[key], self._changed = one, True
        if one.failed != (known is not None and known.failed):
            self._failed = None
        (self._open.discard if one.phase in _OVER else self._open.add)(key)
        self._limit()

    def _limit(self) -> None:
        excess = len(self._past) + len(self._known) - MOST_ATTEMPTS
        if excess <= 0:
            return
        self._left_out += excess
        self._failed = None
        del self._past[:excess]
        for old in list(islice(self._known, max(0, len(self._past) + len(self._known) - MOST_ATTEMPTS))):
            del self._known[old]
            self._open.discard(old)


def _key(one: AttemptTimes) -> _Key:
    return one.span, one.attempt


def _with(known: AttemptTimes, view: JobView, *, job: str, now_ms: int) -> AttemptTimes:
    """*known*, with what is observed now."""
    update: dict[str, object] = {"phase": view.phase, "job": job or known.job}
    since_ms = max(view.since_ms, 0)
    if view.phase == "starting" and known.starting_ms is None:
        update["starting_ms"] = since_ms
    if view.phase == "running" and known.running_ms is None:
        update["running_ms"] = since_ms
    if view.phase in ("ending", "ended"):
        if known.ended_ms is None:
            # Not ``since_ms``: of a process of this machine, that is its start.
            update["ended_ms"] = max(now_ms, 0)
    else:
        update["seen_ms"] = None
    update |= {"node": view.node} if view.node else {}
    update |= {"gpu": view.gpu} if view.gpu is not None else {}
    update |= {"pull_ms": min(max(view.pull_ms, 0), _LONGEST_MS)} if view.pull_ms is not None else {}
    update |= {"ran_ms": min(max(view.ran_ms, 0), _LONGEST_MS)} if view.ran_ms is not None else {}
    update |= {"waits_for": view.waits_for[:_LONGEST_LINE]} if view.waits_for else {}
    update |= {"progress_ms": min(view.progress_ms, MAX_AUDIO_MS)} if view.progress_ms > known.progress_ms else {}
    return known.model_copy(update=update)
