"""When a batch begins nothing more: the environment would fail every other recording too.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.batches import BatchEnd
from controller.domain.failures import FailureClass

IN_SUCCESSION = 5
"""So many failures of the environment, one after the other: the cause is not in the recordings."""

_OF_ALL = frozenset(
    {
        FailureClass.MODEL,
        FailureClass.MODEL_DAMAGED,
        FailureClass.STORE_FULL,
        FailureClass.CREATE_DENIED_ADMISSION,
        FailureClass.CREATE_DENIED_RBAC,
        FailureClass.UNSCHEDULABLE_RESOURCES,
        FailureClass.UNSCHEDULABLE_AFFINITY,
        FailureClass.UNSCHEDULABLE_TAINT,
    }
)
"""All recordings of a batch have one model, store and kind of job: the first of these failures meets all."""


@dataclass(kw_only=True)
class EnvironmentFailures:
    """The failures of the environment in a command, in the order in which recordings end."""

    cause: BatchEnd | None = None
    """The failure that would meet every other recording too."""
    _in_succession: int = 0

    def count(self, end: BatchEnd) -> None:
        """Count how a recording ended. What needed no work now says nothing about the environment."""
        if end.verdict == "failed" and end.environment:
            self._in_succession += 1
            if self.cause is None and (end.failure in _OF_ALL or self._in_succession >= IN_SUCCESSION):
                self.cause = end
        elif end.run_id and not end.known:
            self._in_succession = 0
