"""``batch wait --server``: transcripts of runs that have ended are fetched and written, until the batch has ended.

Touches: the network (through ``client``), output folders and S3, the file of the report for CI, the clock, signals.
Memory does not grow with the batch, except by a byte for each recording.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from controller.cli.batch_service import Service, no_batch
from controller.cli.batch_service_delivery import Delivered, Delivery
from controller.cli.batch_verdict import UNATTENDED_S, Batch, Verdict, line_of
from controller.cli.terminal import print_message
from controller.client.replies import RunLine
from controller.domain.interfaces import RunVerdict
from controller.domain.served_batches import ServedEntry, entry_of
from controller.runs.batches import Counts
from controller.runs.lookup import in_parallel

if TYPE_CHECKING:
    from controller.reports.junit import Suite

_AT_ONCE = 4
_FIRST_S, _LONGEST_S = 1.0, 15.0
_SAY_S = 30.0
_MOST_FAILURES = 1_000
_NO_RUN, _NOT_ENDED = 0, 1
_VERDICTS: tuple[RunVerdict, ...] = ("complete", "partial", "failed", "cancelled")
_FIRST_VERDICT = 2


@dataclass(kw_only=True)
class Waiting:
    """A batch that is waited for."""

    service: Service
    batch: Batch
    delivery: Delivery
    rest: Callable[[float], None]
    end_s: float
    """When the time is over, by the monotonic clock."""
    quiet: bool
    states: bytearray = field(default_factory=bytearray)
    """By recording: no run, not ended, or its verdict."""
    verdict: Verdict = field(default_factory=lambda: Verdict(counts=Counts()))
    suites: dict[int, Suite] = field(default_factory=dict)
    """By recording, if a report for CI is wanted."""

    def until_ended(self) -> bool:
        """Wait until nothing is left, or nobody submits what is missing. Returns False if the time is over before.

        Raises :class:`UsageProblem` if there is no such batch, :class:`EnvironmentProblem` and :class:`Interrupted`.
        """
        pause_s, before, changed_s, said_s = _FIRST_S, -1, _now_s(), _now_s() - _SAY_S
        while True:
            began_s = _now_s()
            if not self._look():
                return False
            if not self.states:
                raise no_batch(self.service, self.batch.id)
            missing, running = self.states.count(_NO_RUN), self.states.count(_NOT_ENDED)
            now_s = _now_s()
            if missing != before:
                before, changed_s = missing, now_s
            if not running and (not missing or now_s - changed_s >= UNATTENDED_S):
                return True
            if not self.quiet and now_s - said_s >= _SAY_S:
                said_s = now_s
                print_message(line_of(self.batch, self.counts()))
                if missing:
                    print_message(f"{missing} recordings were not submitted yet: the same batch submit submits them")
            if now_s >= self.end_s:
                return False
            # A look into a batch of a hundred thousand takes many requests.
            self.rest(min(max(pause_s, now_s - began_s), self.end_s - now_s))
            pause_s = min(1.5 * pause_s, _LONGEST_S)

    def counts(self) -> Counts:
        """How many recordings are in which state."""
        ended = {one: self.states.count(_FIRST_VERDICT + place) for place, one in enumerate(_VERDICTS)}
        return Counts(entries=len(self.states), ended=Counter(cast("dict[str, int]", ended)))

    def found(self) -> Verdict:
        """How the batch stands."""
        self.verdict.counts = self.counts()
        return self.verdict

    def _look(self) -> bool:
        """List the runs, and deliver those that have ended since the last look. Returns False if the time is over."""

        def deliver(one: tuple[RunLine, ServedEntry]) -> Delivered:
            return self.delivery.deliver(self.service.runs, *one)

        for done in in_parallel(deliver, self._ended(), at_once=_AT_ONCE):
            self.states[done.number] = _FIRST_VERDICT + _VERDICTS.index(done.outcome.verdict)
            self._count(done)
            self.rest(0)
            if _now_s() >= self.end_s:
                return False
        return True

    def _ended(self) -> Iterator[tuple[RunLine, ServedEntry]]:
        """Yield what has ended and was not delivered, and note the state of all others."""
        asked: set[int] = set()
        for line in self.service.of_batch(self.batch.id):
            entry = entry_of(line.labels)
            if entry is None:
                continue
            if not self.states:
                self.states = bytearray(entry.entries)
            if entry.entries != len(self.states) or entry.number in asked:
                continue
            if not line.has_ended:
                # Also of one that had ended and is tried again.
                self.states[entry.number] = _NOT_ENDED
            elif self.states[entry.number] in (_NO_RUN, _NOT_ENDED):
                asked.add(entry.number)
                yield line, entry

    def _count(self, done: Delivered) -> None:
        found, outcome = self.verdict, done.outcome
        below = any(not gate.kept for gate in done.judged)
        found.below += below and outcome.verdict == "complete"
        found.environment &= outcome.verdict != "failed" or outcome.environment
        if (outcome.verdict != "complete" or below) and len(found.failures) < _MOST_FAILURES:
            found.failures.append(outcome)
            found.judged[outcome] = done.judged
        if done.suite:
            self.suites[done.number] = done.suite
        self.delivery.say(outcome)


def write_junit(path: str, waiting: Waiting) -> None:
    """Write the report for CI, with all recordings of the batch."""
    from controller.reports import junit

    missing = (junit.left_out(f"recording {number + 1}", "it has not ended, or was not submitted")
               for number in range(len(waiting.states)) if number not in waiting.suites)  # fmt: skip
    junit.write(path, [*(waiting.suites[number] for number in sorted(waiting.suites)), *missing])


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (of the time-out and the pauses)
