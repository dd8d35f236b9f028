"""What one attempt used: how long it waited, and how long its job was paid for.

Touches: nothing. Times that are subtracted are of one clock: of the controller, or of the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.attempt_documents import AttemptTimes

_NEVER_RAN = frozenset({"", "CREATE_DENIED", "UNSCHEDULABLE"})
"""Failures, without what follows the point, of jobs that no node took."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A sum of milliseconds, or a count, of which parts may not be known."""

    value: int = 0
    known: int = 0
    """How many parts are in it, if only in part."""
    unknown: int = 0
    """How many parts are not in it, or not all of them."""

    def __add__(self, other: Amount) -> Amount:
        """Return the sum of both."""
        return Amount(
            value=self.value + other.value, known=self.known + other.known, unknown=self.unknown + other.unknown
        )

    @property
    def is_known(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.known) or not self.unknown


NOTHING = Amount()
UNKNOWN = Amount(unknown=1)


def exact(value: int) -> Amount:
    """Return one part that is known."""
    return Amount(value=max(0, value), known=1)


def at_least(value: int) -> Amount:
    """Return one part of which the rest is not known."""
    return Amount(value=max(0, value), known=1, unknown=1)


def one_of(*amounts: Amount) -> Amount:
    """Return the sum of the phases of one attempt, as one part."""
    total = sum(amounts, NOTHING)
    return Amount(value=total.value, known=min(1, total.known), unknown=min(1, total.unknown))


@dataclass(frozen=True, kw_only=True)
class Look:
    """Until when attempts that are not over were observed."""

    at_ms: int | None
    working: bool
    """Whether a process works on the run, so that it is the time now; else nobody knows what came after it."""


def queued(one: AttemptTimes, look: Look) -> Amount:
    """How long it waited for a slot and a node."""
    if one.submitted_ms is None:
        return UNKNOWN
    begin_ms = one.submitted_ms if one.ready_ms is None else min(one.ready_ms, one.submitted_ms)
    if one.starting_ms is not None:
        return exact(one.starting_ms - begin_ms)
    if one.running_ms is not None:
        return exact(one.running_ms - (one.pull_ms or 0) - begin_ms)
    if one.phase == "ended" and one.ended_ms is not None:
        return exact(one.ended_ms - (one.ran_ms or 0) - (one.pull_ms or 0) - begin_ms)
    return _until_now(begin_ms, look) if one.phase == "queued" and one.job else UNKNOWN


def pulled(one: AttemptTimes, look: Look) -> Amount:
    """How long its node needed to start its container."""
    if one.pull_ms is not None:
        return exact(one.pull_ms)
    if one.starting_ms is not None:
        if one.running_ms is not None:
            return exact(one.running_ms - one.starting_ms)
        return _until_its_end(one, one.starting_ms, look)
    return exact(0) if _never_ran(one) else UNKNOWN


def ran(one: AttemptTimes, look: Look) -> Amount:
    """How long its container or process ran."""
    total_ms = one.result.usage.total_ms if one.result else 0
    if total_ms:
        # What the job measured itself ends before its result is written.
        measured_ms = (one.ran_ms or 0) if one.phase == "ended" else 0
        return exact(max(measured_ms, total_ms))
    if one.ran_ms is not None and one.phase == "ended":
        return exact(one.ran_ms)
    if one.running_ms is not None:
        known = _until_its_end(one, one.running_ms, look)
        return Amount(value=max(known.value, one.ran_ms or 0), known=1, unknown=known.unknown)
    if one.starting_ms is not None or _never_ran(one):
        return exact(0)
    return UNKNOWN


def _until_its_end(one: AttemptTimes, begin_ms: int, look: Look) -> Amount:
    """The time since *begin_ms* of a phase that nobody measured but the controller."""
    if one.seen_ms is not None:
        # Its controller was stopped, and it was over when the next one looked, or it was not there any more.
        return at_least(one.seen_ms - begin_ms)
    if one.phase == "ended" and one.ended_ms is not None:
        return exact(one.ended_ms - begin_ms)
    return at_least(0) if one.phase in ("ended", "gone") else _until_now(begin_ms, look)


def _until_now(begin_ms: int, look: Look) -> Amount:
    if look.at_ms is None:
        return at_least(0)
    return exact(look.at_ms - begin_ms) if look.working else at_least(look.at_ms - begin_ms)


def _never_ran(one: AttemptTimes) -> bool:
    """Whether no node has taken it, as far as can be known."""
    if one.starting_ms is not None or one.running_ms is not None or one.result or one.ran_ms or one.node:
        return False
    if one.phase == "queued":
        return bool(one.job)
    return one.phase == "ended" and one.submitted_ms is not None and one.failure.partition(".")[0] in _NEVER_RAN
