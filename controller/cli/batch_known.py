"""What is known of a batch when its command ends before the batch: by a signal, the environment or a time-out.

Touches: signals, the store (a thread, for a limited time), the file of the report for CI, the clock. CI systems kill a
job a few seconds after the signal, so not everything is read.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.cli.batch_requests import Begun
from controller.cli.batch_verdict import MOST_FAILURES, counted, outcome_of
from controller.cli.checks import Checks
from controller.cli.execute import SystemClock
from controller.cli.judging import Checked
from controller.cli.report_files import checking_batch
from controller.domain.batches import WHOLE, BatchEntry, BatchRecord, Shard, as_name
from controller.domain.batches import counted as is_counted
from controller.domain.interfaces import RunOutcome, Stopped
from controller.errors import Interrupted, StenofleetError
from controller.runs.batches import BatchStore, Counts

if TYPE_CHECKING:
    from controller.reports import junit

_READ_S = 2.0
"""How long the recordings are read for the report."""
_AHEAD = 4
"""Pages that are read before they are written."""


@dataclass(kw_only=True)
class Known:
    """How a batch, or a part of it, stands, as far as its command knows."""

    store: Store
    record: BatchRecord
    shard: Shard = WHOLE
    round: int = 1
    counts: Counts = field(default_factory=Counts)
    failures: list[RunOutcome] = field(default_factory=list)
    """The first of those that have failed in this command."""

    def ended(self, begun: Begun, outcome: RunOutcome) -> None:
        """Note how a recording ended."""
        self.counts.ended["complete"] -= begun.was_complete
        self.counts.ended[outcome.verdict] += 1
        if outcome.verdict != "complete" and len(self.failures) < MOST_FAILURES:
            self.failures.append(outcome if outcome.source else replace(outcome, source=as_name(begun.entry.name)))

    def write(self, checked: Checked, path: str | None) -> None:
        """Note this in *checked*, and write the report in JUnit XML to *path*.

        Raises :class:`EnvironmentProblem` if it cannot be written, and :class:`StoreUnavailable`.
        """
        checked.note(self.counts.ended, dict.fromkeys(self.failures, ()), left=self.counts.left)
        if path:
            from controller.reports import junit

            junit.write(path, self._suites(_now_s() + _READ_S))

    def _suites(self, end_s: float) -> Iterator[junit.Suite]:
        """Yield the suites that can be read in time, then the failures of this command, then one for all others."""
        from controller.reports import junit

        listed, named = 0, set[str]()
        for entry, outcome in self._read(end_s):
            listed += 1
            if outcome is None:
                yield junit.left_out(as_name(entry.name), "the command ended before this recording")
                continue
            if outcome.verdict != "complete":
                named.add(outcome.source)
            yield junit.suite(outcome, None)
        others = [one for one in self.failures if one.source not in named and listed < self.counts.entries]
        yield from (junit.suite(one, None) for one in others)
        if rest := max(0, self.counts.entries - listed - len(others)):
            why = (
                f"this file does not name {counted(rest)} of {self.counts.entries}: there was no time to read how they"
                f" ended. stenofleet batch wait {self.record.id} --junit FILE names all of them"
            )
            yield junit.left_out(f"{counted(rest)} of batch {self.record.id}", why, not_named=rest)

    def _read(self, end_s: float) -> Iterator[tuple[BatchEntry, RunOutcome | None]]:
        """Yield recordings with how they ended, until this time, or until the store does not answer."""
        pages = Queue[list[tuple[BatchEntry, RunOutcome | None]]](_AHEAD)
        # A request to a store that is away takes longer than there is time.
        Thread(target=self._read_pages, args=(pages,), daemon=True).start()
        while (left_s := end_s - _now_s()) > 0:
            try:
                page = pages.get(timeout=left_s)
            except Empty:
                return
            if not page:
                return
            for one in page:
                if _now_s() >= end_s:
                    return
                yield one

    def _read_pages(self, pages: Queue[list[tuple[BatchEntry, RunOutcome | None]]]) -> None:
        with contextlib.suppress(JobError):
            for page in range(len(self.record.pages)):
                if found := self._page(page):
                    pages.put(found)
        pages.put([])

    def _page(self, page: int) -> list[tuple[BatchEntry, RunOutcome | None]]:
        """Only the documents of what has failed are read: the keys tell the rest."""
        batches = BatchStore(self.store)
        ends = batches.page_ends(self.record.id, page)
        found: list[tuple[BatchEntry, RunOutcome | None]] = []
        for entry in batches.page(self.record, page):
            key = ends.get(entry.number)
            if entry.number not in self.shard:
                continue
            if key is None or not is_counted(key, self.round):
                found.append((entry, None))
                continue
            end = None if key.kind == "complete" else batches.read_end(self.record.id, key)
            outcome = outcome_of(entry, end)
            found.append((entry, outcome if end else replace(outcome, verdict=key.verdict, summary="")))
        return found


@contextlib.contextmanager
def reported(checks: Checks, known: Known) -> Iterator[tuple[Checked, SystemClock]]:
    """A command that works on a batch, or waits for it. If an error or a signal ends it, its reports are written too.

    What is in the block keeps *known* up to date. Raises :class:`Interrupted` on a signal.
    """
    clock = SystemClock()
    with checking_batch(checks, known.store) as checked:
        try:
            try:
                yield checked, clock
            except Stopped:
                raise Interrupted(clock.signal() or signal.SIGINT) from None
        except (StenofleetError, JobError):
            known.write(checked, checks.junit)
            raise


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (how long there is to read)
