"""The state of a run as plain data: the input of ``decide``.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from chunk_job.contract import Language
from controller.domain.documents import Evidence
from controller.domain.jobs import JobView


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The current state of a run: from the objects in the store and the live jobs."""

    run: str
    tasks: Mapping[int, int]
    """Span → length of its audio in ms, the sum of its channels, for every task in the store."""
    planned: bool
    """Whether all tasks of the run exist."""
    answered: frozenset[int]
    """Spans with a valid result."""
    evidence: tuple[Evidence, ...]
    """Failures of this round."""
    answered_by: Mapping[int, int] = field(default_factory=dict)
    """Span → attempt number of the result that is used."""
    used_attempts: Mapping[int | None, int] = field(default_factory=dict)
    """Span → highest attempt number of any round, so that no name is used twice."""
    jobs: tuple[JobView, ...] = ()
    language_open: bool = False
    """Whether no language was given and none is frozen yet."""
    language_candidates: Mapping[int, Language] = field(default_factory=dict)
    """Languages detected in spans with too little speech to decide."""
    degradation_levels: int = 0
    """Number of steps by which the run's options can be changed to need less GPU memory."""
    removed: frozenset[int] = frozenset()
    """Spans whose task was removed since the last intake began, so that another intake has to write it."""
    gaps_allowed: bool = False
    cancelled: bool = False

    def failures_of(self, span: int | None) -> Sequence[Evidence]:
        """Return this round's failures of one span (None: of the intake)."""
        return self._failures.get(span, ())

    @cached_property
    def _failures(self) -> Mapping[int | None, Sequence[Evidence]]:
        """The evidence by span; grouped once, because it is read for every task."""
        found: dict[int | None, list[Evidence]] = {}
        for item in self.evidence:
            found.setdefault(item.span, []).append(item)
        return found
