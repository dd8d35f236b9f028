"""Retry limits: how often, how soon and for how long to try again.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """The limits of one command."""

    max_attempts: int = 3
    """Attempts of a chunk that may fail for its own reasons. 1: no retry."""
    max_disruptions: int = 20
    """How often disruptions may end a chunk's job: more than happens on a bad day, but limited."""
    backoff_ms: int = 1_000
    """Pause before the second attempt; doubles with each failure. 0: no pause."""
    backoff_max_ms: int = 60_000
    breaker: int = 5
    """Stop after this number of equal failures without any success: the chunks are not the cause. 0: never stop."""
    deadline_base_ms: int = 900_000
    """Time for the start of a job, including loading a model from a slow disk."""
    deadline_factor: int = 30
    """Added to the deadline: this factor times the chunk's length, enough for a large model on an old CPU (GPU: 4)."""
    intake_deadline_ms: int = 6 * 3_600_000
    """Decoding is about a thousand times faster than real time; only an endless file takes this long."""
    store_patience_ms: int = 0
    """How long a store that was available before may be unavailable. 0: a folder does not come back by itself."""


def patient(policy: RetryPolicy, *, since_ms: int, now_ms: int) -> bool:
    """Whether to wait longer for a store that has been unavailable since *since_ms*."""
    return now_ms - since_ms < policy.store_patience_ms
