"""Which part of the chunk slots each of several processes may use, from what each of them has and wants.

Touches: nothing. All processes that share a store share the slots, and each computes its own part. If all know the
same, the parts fit together: their sum is the limit. Until then, what each one *holds* decides: the most jobs that it
may have, as the others read it. A process holds more only after it has published that and has seen then that the sum
fits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.domain.shares import Claim, divided

ALL = ""
"""The name of the limit for all groups together. The limit of one group has the name of the group."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process, its runs, and how many chunk jobs it may have."""

    name: str
    claims: Sequence[Claim] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    """By limit."""
    everything: bool = False
    """It knows of no other process, and holds every limit in full."""
    living: bool = True
    """False: only its jobs are left."""

    def holds(self, limit: str, most: int) -> int:
        """Return how many jobs it may have within a limit of *most* jobs."""
        return most if self.everything else self.held.get(limit, live_within(limit, self.claims))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What one process should have."""

    given: Mapping[str, int]
    """Slots that are free and should go to these of its runs, by id."""
    most: Mapping[str, int]
    """Chunk jobs altogether, by limit: those it has, the given slots, and its part of those that nobody needs yet."""


def limits_of(claims: Sequence[Claim], total: int) -> dict[str, int]:
    """Return the limits that count for these runs, of which *total* is the one for all groups together."""
    limits = {ALL: total}
    without = {claim.share.group for claim in claims if claim.share.most_live is None}
    for claim in claims:
        group, most = claim.share.group, claim.share.most_live
        if most is not None and group not in without:
            # They differ after the operator has changed it: a run keeps what it began with.
            limits[group] = max(limits.get(group, 0), most)
    return limits


def live_within(limit: str, claims: Iterable[Claim]) -> int:
    """Return how many chunk jobs count for a limit."""
    return sum(claim.live for claim in claims if limit in (ALL, claim.share.group))


def parts(me: Holder, others: Sequence[Holder], limits: Mapping[str, int]) -> Parts:
    """Return the part of *me*. *limits*: those of its runs, as :func:`limits_of` returns them.

    Processes that know the same of each other get parts of which the sum is the limit, or the jobs there are if these
    are more.
    """
    claims = _different(me, others)
    given = divided(claims, limits[ALL] - live_within(ALL, claims))
    most = {}
    for limit, jobs in limits.items():
        used = live_within(limit, claims) + _given_within(limit, claims, given)
        mine = live_within(limit, me.claims) + _given_within(limit, me.claims, given)
        most[limit] = mine + _spare(max(0, jobs - used), limit, me, others)
    return Parts(given={claim.run: given[claim.run] for claim in me.claims if claim.run in given}, most=most)


def left_for(limit: str, most: int, others: Iterable[Holder]) -> int:
    """Return how many of *most* jobs no other process holds; negative if they hold more."""
    return most - sum(other.holds(limit, most) for other in others)


def remains(gone: Holder, led: Collection[str]) -> Holder:
    """Return what counts of a process that has ended: its jobs of runs that are not *led* by another one yet."""
    claims = tuple(replace(claim, waiting=0, cutting=0) for claim in gone.claims if claim.live and claim.run not in led)
    return Holder(name=gone.name, claims=claims, living=False)


def most_urgent(claims: Sequence[Claim], most: int) -> tuple[Claim, ...]:
    """Return at most *most* of the runs: first those with jobs, then those that would get the next slots."""
    if len(claims) <= most:
        return tuple(claims)
    following = {run: place for place, run in enumerate(divided(claims, most))}
    order = sorted(claims, key=lambda claim: (not claim.live, not claim.cutting, following.get(claim.run, most)))
    return tuple(order[:most])


def _different(me: Holder, others: Sequence[Holder]) -> list[Claim]:
    """Return each run once, in the same order everywhere. A run that just goes from one process to another is twice."""
    claims = {claim.run: claim for other in reversed(others) for claim in other.claims}
    claims.update((claim.run, claim) for claim in me.claims)
    # A process that is alone keeps the order of the requests.
    return [claims[run] for run in sorted(claims)] if others else list(me.claims)


def _given_within(limit: str, claims: Iterable[Claim], given: Mapping[str, int]) -> int:
    return sum(given.get(claim.run, 0) for claim in claims if limit in (ALL, claim.share.group))


def _spare(free: int, limit: str, me: Holder, others: Sequence[Holder]) -> int:
    """Return the part of *me* of slots that no known chunk needs: equal for all whose runs may soon need them."""
    names = sorted(
        holder.name
        for holder in (me, *others)
        if holder.living and any(limit in (ALL, claim.share.group) for claim in holder.claims)
    )
    if me.name not in names:
        return 0
    return free // len(names) + (names.index(me.name) < free % len(names))
