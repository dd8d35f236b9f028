"""Which runs get the free chunk slots, if tenants share them: by weight between tenants, then between a tenant's runs.

Touches: nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_PRIORITY = 9
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, kw_only=True)
class Share:
    """To whom a run belongs, and how much of the slots its group may use."""

    group: str = ""
    """The tenant."""
    weight: int = 1
    """Slots of a group, compared with those of other groups."""
    most_live: int | None = None
    """The most chunk jobs of the group at once; None: no limit of its own."""
    priority: int = DEFAULT_PRIORITY
    """Among the runs of its group: higher ones come first."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one run could use now."""

    run: str
    share: Share
    live: int
    """Its chunk jobs that use a slot."""
    waiting: int
    """Its chunks that are cut and have neither a result nor a job."""
    cutting: int = 0
    """Its intake jobs that use a slot."""


NO_SHARE = Share()
"""Of a run that shares its jobs with no other tenant."""


def live_by_group(claims: Iterable[Claim]) -> Counter[str]:
    """Return the chunk jobs of each group."""
    live: Counter[str] = Counter()
    for claim in claims:
        live[claim.share.group] += claim.live
    return live


def divided(claims: Sequence[Claim], free: int) -> dict[str, int]:
    """Return how many of the *free* slots each run gets, by its id; runs that get none are left out.

    Each slot goes to the group with the fewest jobs for its weight. In this group it goes to the runs of the highest
    priority, and of these to the one with the fewest jobs, so that a short recording does not wait for a long one.
    """
    given: Counter[str] = Counter()
    live = live_by_group(claims)
    runs: dict[str, list[tuple[int, int, int]]] = {}
    """By group: a heap of its runs that want a slot, the next one first. The last number is the place in *claims*."""
    weights: dict[str, int] = {}
    for number, claim in enumerate(claims):
        group = claim.share.group
        if claim.waiting > 0:
            runs.setdefault(group, []).append((-claim.share.priority, claim.live, number))
            weights[group] = max(weights.get(group, 1), claim.share.weight)
    # Heaps, because ten thousand slots may be free while a thousand runs wait.
    groups = [(live[group] / weights[group], place, group) for place, group in enumerate(runs)]
    heapq.heapify(groups)
    for heap in runs.values():
        heapq.heapify(heap)
    while groups and free > 0:
        _, place, group = heapq.heappop(groups)
        heap = runs[group]
        while heap and _is_full(claims[heap[0][2]].share, live[group]):
            heapq.heappop(heap)
        if not heap:
            continue
        priority, jobs, number = heapq.heappop(heap)
        claim = claims[number]
        given[claim.run] += 1
        live[group] += 1
        free -= 1
        if claim.waiting > given[claim.run]:
            heapq.heappush(heap, (priority, jobs + 1, number))
        heapq.heappush(groups, (live[group] / weights[group], place, group))
    return dict(given)


def _is_full(share: Share, live: int) -> bool:
    return share.most_live is not None and live >= share.most_live
