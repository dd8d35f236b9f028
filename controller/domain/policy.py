"""How often, how soon and how long something is tried again.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, how soon, how long."""

    max_attempts: int = 3
    """Failures of its own a chunk may have. 1: no retry."""
    max_disruptions: int = 20
    """Times the surroundings may take a chunk's job away: more than any bad day, fewer than for ever."""
    backoff_ms: int = 1_000
    """Before the second attempt; doubles with each failure. 0: at once."""
    backoff_max_ms: int = 60_000
    breaker: int = 5
    """So many equal failures and no success at all: the cause is not in the chunks, stop. 0: never."""
    deadline_base_ms: int = 900_000
    """For start-up: a cold model from a slow disk included."""
    deadline_factor: int = 30
    """And so many times the chunk's length: a large model on an old CPU is that slow (a GPU: 4)."""
    intake_deadline_ms: int = 6 * 3_600_000
    """Decoding runs at a thousand times real time; only a file that never ends takes this long."""
    store_patience_ms: int = 0
    """How long a store that answered before may be away. 0: a folder does not come back by itself."""


def patient(policy: RetryPolicy, *, since_ms: int, now_ms: int) -> bool:
    """Whether a store that has been away *since_ms* is still waited for."""
    return now_ms - since_ms < policy.store_patience_ms
