"""The requests of a batch: its recordings are identified a few at a time, and how each ended is recorded.

Touches: media (to identify them), the store, the clock, a thread. What was not recorded because the store was away is
recorded later; a batch that is stopped at any moment continues with what has no end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreUnavailable
from controller.cli.batch_entries import Workplace
from controller.cli.batch_unfinished import Unfinished
from controller.cli.execute import refused
from controller.cli.input_names import hinted
from controller.domain.batch_limits import EnvironmentFailures
from controller.domain.batches import BatchEnd, BatchEntry, BatchRecord, Shard
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.keys import RunKeys
from controller.domain.progress import NO_TOTALS, Progress, Totals, progress, totals_of_waiting
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.known_files import KnownFiles
from controller.runs.batches import BatchStore

_AHEAD = 8
_MOST_LATER = 1_000
_LOOK_S = 2.0
"""How often a cancel of the batch is looked for."""
_ALIVE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An entry that has become a run."""

    entry: BatchEntry
    identity: str = ""
    """Of its content; empty: it could not be read."""
    known: bool = False
    """Whether its run was complete before the batch was made."""
    was_complete: bool = False
    """Whether the batch had a complete end of it when the command began to look at it."""
    is_recorded: bool = False
    """Whether the batch has its complete end with this run: only outputs may be missing."""


class BatchRequests:
    """The recordings of a batch that have not ended, in order."""

    def __init__(
        self,
        store: Store,
        record: BatchRecord,
        round_: int,
        place: Workplace,
        *,
        shard: Shard,
        request: Callable[[BatchEntry, Source], RunRequest],
        describe: Callable[[Begun, RunOutcome], BatchEnd],
        on_end: Callable[[Begun, RunOutcome], None],
        on_refused: Callable[[RunOutcome], None],
        known: KnownFiles,
        most_failures: int | None,
        at_once: int,
        patience_s: float,
        say_alive: Callable[[], None],
    ) -> None:
        """*request*: makes the request of an entry. *describe*: makes the document of its end. *on_end*: is told it.

        *on_refused*: called with each recording that does not become a run.
        *most_failures*: after so many nothing more is begun. *at_once*: how many jobs there may be.
        *patience_s*: how long the store may be away.
        """
        self._store, self._record, self._round, self._place = store, record, round_, place
        self._batches = BatchStore(store)
        self._request = request
        self._unfinished = Unfinished(
            store=store,
            record=record,
            round=round_,
            place=place,
            shard=shard,
            known=known,
            patience_s=patience_s,
        )
        self._describe, self._on_end, self._on_refused = describe, on_end, on_refused
        self._most_failures, self._at_once, self._say_alive = most_failures, at_once, say_alive
        self._ready: deque[tuple[Begun, RunRequest]] = deque()
        self._refused: deque[tuple[Begun, RunOutcome]] = deque()
        self._later: deque[tuple[Begun, RunRequest]] = deque()
        """Recordings whose run is worked on for another one of equal content: they follow when it has ended."""
        self._pending: dict[str, Begun] = {}
        """By run."""
        self._begun_runs: set[str] = set()
        self._ends: deque[tuple[Begun, RunOutcome]] = deque()
        """Not recorded yet."""
        self._away = False
        """Whether the store was away when they were to be recorded."""
        self._reading: BatchEntry | None = None
        self._left = NO_TOTALS
        self._done = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        """Protects all fields above that the thread shares with the loop."""
        self.failures = 0
        self.environment = EnvironmentFailures()
        self.cancelled = False
        self._looked_s, self._said_s, self._flushed_s = 0.0, 0.0, _now_s()
        self.taken: dict[str, object] = {}
        """Always empty: how to resume is told by the batch."""
        threading.Thread(target=self._identify, name="identify", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether nothing more is begun: the batch was cancelled, too many have failed, or all others would fail."""
        return self.cancelled or self._too_many_failed or self.environment.cause is not None

    @property
    def _too_many_failed(self) -> bool:
        return self._most_failures is not None and self.failures >= self._most_failures

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return up to *most* identified requests, of different runs.

        Raises an unexpected error of the thread, and :class:`StoreUnavailable` if the store is away for too long.
        """
        self.flush()
        self._look()
        if self.stopped:
            return []
        with self._changed:
            if self._error is not None:
                raise self._error
            most = min(most, self._room())
            taken: list[RunRequest] = []
            for queue in (self._later, self._ready):
                # Each once: what has to wait is added at the end of the other ones that wait.
                for _ in range(len(queue)):
                    if len(taken) == most:
                        break
                    begun, run_request = queue.popleft()
                    run = run_request.record.run
                    if run in self._pending:
                        self._later.append((begun, run_request))
                    else:
                        self._pending[run] = begun
                        taken.append(run_request)
            self._changed.notify_all()
        for run in (run_request.record.run for run_request in taken):
            # A run in the batch counts for one of its recordings.
            known = run in self._begun_runs or self._was_complete(run)
            self._pending[run] = replace(self._pending[run], known=known)
            self._begun_runs.add(run)
        return taken

    def _room(self) -> int:
        """How many more recordings may be begun: of those at work when too many have failed, all are finished."""
        if self._most_failures is None:
            return sys.maxsize
        return max(0, max(self._at_once, self._most_failures - self.failures) - len(self._pending))

    def end(self, outcome: RunOutcome) -> None:
        """Note how a run ended."""
        begun = self._pending.pop(outcome.run, None)
        if begun is None:
            return
        self._ended(begun, outcome)

    def _ended(self, begun: Begun, outcome: RunOutcome) -> None:
        self._ends.append((begun, outcome))
        self._on_end(begun, outcome)
        self.failures += outcome.verdict == "failed"

    def flush(self) -> None:
        """Record the ends that are known; what cannot be recorded while the store is away is kept.

        Raises :class:`StoreUnavailable` if it is away for too long.
        """
        with self._changed:
            refusals = list(self._refused)
            self._refused.clear()
        for begun, outcome in refusals:
            if self._too_many_failed:
                # Read ahead, but not begun: they are left, as those that were not read.
                break
            self._ended(begun, outcome)
            self._on_refused(outcome)
        try:
            while self._ends:
                begun, outcome = self._ends[0]
                if not (begun.is_recorded and outcome.verdict == "complete"):
                    end = self._describe(begun, outcome)
                    self._batches.put_end(self._record.id, self._round, end)
                    self.environment.count(end)
                self._ends.popleft()
                with self._changed:
                    self._left -= totals_of_waiting(begun.entry.size_bytes)
                self._flushed_s = _now_s()
        except StoreUnavailable:
            if _now_s() - self._flushed_s > self._unfinished.patience_s:
                raise
            self._away = True
        else:
            self._flushed_s, self._away = _now_s(), False

    def _look(self) -> None:
        """Say that this process works on the batch, and see whether it was cancelled."""
        now_s = _now_s()
        try:
            if now_s - self._said_s > _ALIVE_S:
                self._say_alive()
                self._said_s = now_s
            if not self.cancelled and now_s - self._looked_s > _LOOK_S:
                self._looked_s = now_s
                self.cancelled = self._batches.is_cancelled(self._record.id, self._round)
            if self.cancelled:
                for run in self._pending:
                    self._store.put(RunKeys(run).cancel, b"")
        except StoreUnavailable:
            return

    def wait(self, seconds: float) -> None:
        """Wait until there is something to take or to record, at most *seconds*."""
        with self._changed:
            self._changed.wait_for(self._has_work, timeout=seconds)

    def _has_work(self) -> bool:
        """Whether :meth:`take` has something to do; what the store has just refused has to wait."""
        if self._ready or self._refused or self._error or (self._done and not self._ends):
            return True
        follows = any(run_request.record.run not in self._pending for _, run_request in self._later)
        return not self._away and (bool(self._ends) or follows)

    def unknown(self) -> Sequence[Progress]:
        """Return nothing: what was not begun has no end, and the same command begins it."""
        return ()

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        """Return the progress of the recording that is being read, and the totals of the others."""
        with self._changed:
            waiting = self._left - sum(
                (totals_of_waiting(begun.entry.size_bytes) for begun in self._pending.values()), NO_TOTALS
            )
            reading = self._reading
            if reading is None:
                return (), waiting
            shown = progress(
                None,
                name=self._place.name(reading).rpartition("/")[2],
                run="",
                size_bytes=reading.size_bytes,
                seen="identifying",
                floor=0.0,
            )
            return [shown], waiting - totals_of_waiting(reading.size_bytes)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more is begun, and all that is known was recorded."""
        with self._changed:
            idle = self._done and not self._ready and not self._later
            return (self.stopped or (idle and self._error is None)) and not self._refused and not self._ends

    def _identify(self) -> None:
        try:
            for page in self._unfinished.pages():
                with self._changed:
                    self._left = sum((totals_of_waiting(entry.size_bytes) for entry, _ in page), self._left)
                for entry, end in page:
                    if self.stopped:
                        return
                    self._identify_one(entry, end)
        except BaseException as error:  # noqa: BLE001 (raised again in `take`)
            with self._changed:
                self._error = error
        finally:
            with self._changed:
                self._done, self._reading = True, None
                self._changed.notify_all()

    def _identify_one(self, entry: BatchEntry, end: BatchEnd | None) -> None:
        """Identify a recording. *end*: its complete end, which counts no longer if it has another content now."""
        with self._changed:
            self._changed.wait_for(
                lambda: (len(self._ready) < _AHEAD and len(self._later) < _MOST_LATER) or self.stopped
            )
            self._reading = entry
        name = self._place.name(entry)
        try:
            found = self._unfinished.patiently(lambda: source.inspect(name, self._unfinished.known))
            run_request = self._request(entry, found)
        except MediaProblem as error:
            self._drop(end)
            begun = Begun(entry=entry, was_complete=end is not None)
            with self._changed:
                self._refused.append((begun, refused(name, hinted(name, error))))
                self._reading = None
                self._changed.notify_all()
            return
        same = end is not None and end.run_id == run_request.record.run
        if not same:
            self._drop(end)
        begun = Begun(entry=entry, identity=found.identity, was_complete=end is not None, is_recorded=same)
        with self._changed:
            self._ready.append((begun, run_request))
            self._reading = None
            self._changed.notify_all()

    def _drop(self, end: BatchEnd | None) -> None:
        if end:
            number = end.number
            self._unfinished.patiently(lambda: self._batches.drop_end(self._record.id, number))

    def _was_complete(self, run: str) -> bool:
        """Whether a run was complete before the batch was made, by the clock of the store: only for reports."""
        try:
            found = self._store.stat(RunKeys(run).marker("complete"))
        except JobError:
            return False
        return found is not None and found.modified_s * 1000 < self._record.created_ms


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (for pauses, and how long the store is away)
