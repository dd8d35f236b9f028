"""How a batch stands: its counts, what failed, its quality gates, its report for CI, and the exit code.

Touches: the store, the terminal, the file of the report for CI (through ``reports``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

from chunk_job.store.base import Store
from chunk_job.text import json_line, printable
from controller.cli.checks import Checks
from controller.cli.execute import GATE_FAILED, summary
from controller.cli.judging import Checked
from controller.cli.terminal import print_data, print_message
from controller.domain.batches import WHOLE, BatchEnd, BatchEntry, BatchRecord, Shard, as_name
from controller.domain.batches import counted as is_counted
from controller.domain.interfaces import RunOutcome, RunVerdict
from controller.reports.gates import GateResult, judge, unmeasured
from controller.reports.run_view import RunView
from controller.reports.stored_report import view_and_transcript
from controller.runs.batches import BatchStore, Counts
from controller.runs.lookup import of_each

TIMED_OUT = 6
"""The exit code of ``wait`` if the batch has not ended in time."""
UNATTENDED_S = 120.0
"""``wait`` ends when nobody has worked on what is left, nor submitted it, for so long."""
MOST_FAILURES = 1_000
"""Kept for messages and for JSON; ``batch report`` has all."""


class Batch(Protocol):
    """What is said of a batch: its record, or only its id."""

    @property
    def id(self) -> str: ...


@dataclass(kw_only=True)
class Verdict:
    """How a batch stands."""

    counts: Counts
    known: int = 0
    """Complete ones that were complete before the batch."""
    below: int = 0
    """Complete ones that do not keep a limit."""
    failures: list[RunOutcome] = field(default_factory=list)
    """The first of those that have failed, or do not keep a limit."""
    judged: dict[RunOutcome, Sequence[GateResult]] = field(default_factory=dict)
    cancelled: bool = False
    """Whether the end of the batch was asked for."""
    environment: bool = True
    """Whether no failure was caused by a recording."""

    @property
    def code(self) -> int:
        """The exit code: as that of ``transcribe``, and 4 or 5 if some were not begun."""
        ended = self.counts.ended
        complete, some = ended["complete"], ended["complete"] + ended["partial"]
        if complete == self.counts.entries:
            return GATE_FAILED if self.below else 0
        if some:
            return 4
        if (self.cancelled or ended["cancelled"]) and not ended["failed"]:
            return 8
        return 3 if ended["failed"] and self.environment else 5

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        counts = {verdict: self.counts.ended[verdict] for verdict in get_args(RunVerdict)}
        return {
            "exit_code": self.code,
            "entries": self.counts.entries,
            **counts,
            "left": self.counts.left,
            "known": self.known,
            "below": self.below,
            "failures": [dataclasses.asdict(one) for one in self.failures],
        }


def verdict_of(
    store: Store, record: BatchRecord, round_: int, shard: Shard = WHOLE, checks: Checks | None = None
) -> Verdict:
    """Read how a batch, or a part of it, stands; and write its report for CI. Raises :class:`StoreUnavailable`."""
    checks = checks or Checks()
    found = Verdict(counts=Counts(), cancelled=BatchStore(store).is_cancelled(record.id, round_))
    each = _each(store, record, round_, shard, checks, found)
    if checks.junit:
        from controller.reports import junit

        suites = (
            junit.suite(outcome, view, judged) if end else junit.left_out(outcome.name, f"it {outcome.summary}")
            for outcome, end, view, judged in each
        )
        junit.write(checks.junit, suites)
        return found
    for _ in each:
        pass
    return found


_One = tuple[RunOutcome, BatchEnd | None, RunView | None, Sequence[GateResult]]


def _each(
    store: Store, record: BatchRecord, round_: int, shard: Shard, checks: Checks, found: Verdict
) -> Iterator[_One]:
    """Yield how each recording ended in a round, with what it keeps, and count it in *found*.

    An end counts only if its document is valid.
    """

    def counted_ends() -> Iterator[tuple[BatchEntry, BatchEnd | None]]:
        for entry, ended in BatchStore(store).with_keys(record, shard):
            found.counts.entries += 1
            if ended:
                found.counts.add(ended[0], round_)
            yield entry, ended[1] if ended and is_counted(ended[0], round_) else None

    def read(one: tuple[BatchEntry, BatchEnd | None]) -> _One:
        entry, end = one
        outcome = outcome_of(entry, end)
        wanted = end is not None and end.run_id and (checks.junit or (checks.gates and end.verdict == "complete"))
        view, transcript = view_and_transcript(store, outcome.run, prices=checks.prices) if wanted else (None, None)
        judged: Sequence[GateResult] = ()
        if outcome.verdict in ("complete", "partial") and wanted:
            judged = (
                judge(checks.gates, view, checks.measures(store, outcome, transcript))
                if view
                else unmeasured(checks.gates, "its run is not in the store any more")
            )
        return outcome, end, view, judged

    for outcome, end, view, judged in of_each(store, read, counted_ends()):
        if end:
            below = any(not gate.kept for gate in judged)
            found.known += end.known
            found.below += below and end.verdict == "complete"
            found.environment &= end.verdict != "failed" or end.environment
            if (end.verdict != "complete" or below) and len(found.failures) < MOST_FAILURES:
                found.failures.append(outcome)
                found.judged[outcome] = judged
        yield outcome, end, view, judged


def outcome_of(entry: BatchEntry, end: BatchEnd | None) -> RunOutcome:
    """How a recording ended, as for a command that transcribes it alone."""
    name = as_name(entry.name)
    if end is None:
        return RunOutcome(run="", name=name, verdict="cancelled", summary="was not begun", source=name)
    return RunOutcome(
        run=end.run_id,
        name=name.rpartition("/")[2],
        verdict=end.verdict,
        summary=end.summary,
        advice=end.advice,
        warnings=end.warnings,
        environment=end.environment,
        source=name,
    )


def conclude(record: Batch, found: Verdict, checked: Checked, *, shard: Shard = WHOLE, as_json: bool) -> int:
    """Print how a batch ended, note it in *checked*, and return the exit code."""
    checked.note(found.counts.ended, found.judged, left=found.counts.left)
    checked.ended(found.code)
    if as_json:
        print_data(json_line({"batch": record.id, "shard": str(shard)} | found.facts()), exact=True)
        return found.code
    print_message(printable(line_of(record, found.counts, shard, known=found.known)))
    if found.failures:
        failed = [one for one in found.failures if one.verdict != "complete"]
        print_message("\n".join(summary(failed, 0).split("\n")[1:]) if failed else "")
    if found.counts.environment:
        print_message(
            f"{found.counts.environment} failed because of the environment: the same submit command tries them again,"
            f" or stenofleet batch resume {record.id}"
        )
    for outcome, gates in _below(found.judged):
        print_message(printable(f"{outcome.source}: {'; '.join(f'{one.gate}: {one.text}' for one in gates)}"))
    return found.code


def timed_out(batch: str, timeout_s: int | None) -> int:
    """Print that a batch has not ended in time, and return the exit code."""
    print_message(f"batch {batch}: has not ended after {timeout_s} s")
    return TIMED_OUT


def _below(judged: Mapping[RunOutcome, Sequence[GateResult]]) -> Iterator[tuple[RunOutcome, list[GateResult]]]:
    for outcome, gates in judged.items():
        if broken := [gate for gate in gates if not gate.kept]:
            yield outcome, broken


def line_of(record: Batch, counts: Counts, shard: Shard = WHOLE, *, known: int = 0) -> str:
    """The counts of a batch in one line."""
    parts = [f"{counts.ended[verdict]} {verdict}" for verdict in get_args(RunVerdict) if counts.ended[verdict]]
    if known:
        parts.append(f"{known} of these complete before")
    if counts.left:
        again = counts.before.total()
        parts.append(f"{counts.left} left" + (f" ({again} of them to be tried again)" if again else ""))
    part = f" (shard {shard})" if shard.count > 1 else ""
    return ": ".join(filter(None, [f"batch {record.id}{part}", counted(counts.entries), ", ".join(parts)]))


def counted(recordings: int) -> str:
    """A number of recordings, for people."""
    return f"{recordings} recording{'' if recordings == 1 else 's'}"
