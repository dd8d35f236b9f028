"""Leadership in several lock domains at once: a machine's lock, the cluster's Lease, the store's lease.

Touches: nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection

from controller.domain.interfaces import Leadership, LeaseState


class AllOf:
    """Leads a run if each of its parts leads it. A wider part is tried only when all narrower ones lead."""

    def __init__(self, *parts: Leadership) -> None:
        """*parts*: from the narrowest lock domain to the widest."""
        self._parts = parts

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Return the state of the first part that does not lead; *leading* if all do."""
        for part in self._parts:
            state = part.try_acquire_or_renew(run, now_ms)
            if state != "leading":
                return state
        return "leading"

    def check(self, run: str) -> None:
        """Check every part; raises as they do."""
        for part in self._parts:
            part.check(run)

    def domain(self, run: str) -> str:
        """Return the widest lock domain."""
        return self._parts[-1].domain(run)

    def cancelled(self, run: str) -> bool:
        """Whether the run was cancelled in any part."""
        return any(part.cancelled(run) for part in self._parts)

    def observe(self, runs: Collection[str]) -> None:
        """Note the leases in every part."""
        for part in self._parts:
            part.observe(runs)

    def release(self, run: str, *, ended: bool) -> None:
        """Release the widest part first: the next holder of a narrower part can then take the wider one at once."""
        for part in reversed(self._parts):
            part.release(run, ended=ended)

    def close(self) -> None:
        """Close all parts, the widest last: an unavailable store must not delay the others."""
        for part in self._parts:
            part.close()
