"""How a command ended, as CI systems are told: what went wrong, warnings, numbers.

Touches: nothing. Texts are raw: each system has its own characters to escape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chunk_job.text import printable

if TYPE_CHECKING:
    # This module is loaded at the start of every command.
    from controller.domain.interfaces import RunOutcome, RunVerdict
    from controller.reports.gates import GateResult

_VERDICTS: tuple[RunVerdict, ...] = ("complete", "partial", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The exit *code* of a command, and how its recordings ended. *skipped* were left out: their outputs exist."""

    code: int
    judged: Mapping[RunOutcome, Sequence[GateResult]]
    skipped: Collection[str] = ()
    measured: frozenset[RunOutcome] = frozenset()
    """The stored runs of skipped recordings, which only quality gates judge: they are in *judged* too."""
    counts: Mapping[str, int] | None = None
    """Of a batch: how all ended, where *judged* has only the first of those that went wrong."""

    left: int = 0
    """Recordings that have not ended."""
    problem: tuple[str, str] | None = None
    """What ended the command before its recordings had ended, and what to do; a signal is none."""

    @property
    def errors(self) -> list[tuple[str, str]]:
        """Name and text: of what ended the command, each recording that was not transcribed, each limit not kept."""
        whole = [("stenofleet", "\n".join(filter(None, self.problem)))] if self.problem else []
        failed = [
            (name_of(item), "\n".join(filter(None, (item.summary or item.verdict, item.advice))))
            for item in self.judged
            if item.verdict != "complete" and item not in self.measured
        ]
        return whole + failed + [(name_of(item), text) for item in self.judged for text in self.below(item)]

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Name and text of each warning."""
        return [(name_of(item), warning) for item in self.judged for warning in item.warnings]

    def below(self, item: RunOutcome) -> list[str]:
        """Return the limits that a recording does not keep."""
        return [f"{gate.gate}: {gate.text}" for gate in self.judged.get(item, ()) if not gate.kept]

    @property
    def numbers(self) -> dict[str, int]:
        """The exit code, and the number of recordings by how they ended: what later steps of a pipeline read."""
        judged = Counter[str](item.verdict for item in self.judged if item not in self.measured)
        counts = judged if self.counts is None else self.counts
        verdicts = {str(one): counts.get(one, 0) for one in _VERDICTS}
        return {"exit-code": self.code, **verdicts, "skipped": len(self.skipped)}

    @property
    def recordings(self) -> int:
        """The number of recordings, without skipped ones."""
        return sum(self.numbers[one] for one in _VERDICTS) + self.left


def name_of(item: RunOutcome) -> str:
    """Return the path of a recording, or its name where it did not become a run."""
    return printable(item.source or item.name)
