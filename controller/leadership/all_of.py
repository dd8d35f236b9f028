"""Several lock domains at once: a machine's lock, the cluster's Lease, the store's lease.

Touches: nothing itself.
"""

from __future__ import annotations

from controller.domain.interfaces import Leadership, LeaseState


class AllOf:
    """Leads a run where each of its parts does: a wider one is asked only by whoever has the narrower ones."""

    def __init__(self, *parts: Leadership) -> None:
        """*parts*, from the narrowest domain to the widest."""
        self._parts = parts

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """The state of the first part that does not lead; *leading* where all do."""
        for part in self._parts:
            state = part.try_acquire_or_renew(run, now_ms)
            if state != "leading":
                return state
        return "leading"

    def check(self, run: str) -> None:
        """Check every part."""
        for part in self._parts:
            part.check(run)

    def domain(self, run: str) -> str:
        """The widest one."""
        return self._parts[-1].domain(run)

    def cancelled(self, run: str) -> bool:
        """Whether it was cancelled in any of them."""
        return any(part.cancelled(run) for part in self._parts)

    def release(self, run: str, *, ended: bool) -> None:
        """Release the widest first: who has a narrower one may ask for the wider one at once."""
        for part in reversed(self._parts):
            part.release(run, ended=ended)

    def close(self) -> None:
        """Close all, the widest last: a store that is away must not keep the others."""
        for part in self._parts:
            part.close()
