"""Which runs get the free chunk slots, if tenants share them: by weight between tenants, then between a tenant's runs.

Touches: nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


NO_SHARE = Share()
"""Of a run that shares its jobs with no other tenant."""


def divided(claims: Sequence[Claim], free: int) -> dict[str, int]:
    """Return how many of the *free* slots each run gets, by its id; runs that get none are left out.

    Each slot goes to the group with the fewest jobs for its weight. In this group it goes to the runs of the highest
    priority, and of these to the one with the fewest jobs, so that a short recording does not wait for a long one.
    """
    given: Counter[str] = Counter()
    live: Counter[str] = Counter()
    for claim in claims:
        live[claim.share.group] += claim.live
    for _ in range(max(0, free)):
        wanting = [claim for claim in claims if claim.waiting > given[claim.run] and not _is_full(claim.share, live)]
        if not wanting:
            break
        group = min(wanting, key=lambda claim: live[claim.share.group] / claim.share.weight).share.group
        chosen = min(
            (claim for claim in wanting if claim.share.group == group),
            key=lambda claim: (-claim.share.priority, claim.live + given[claim.run]),
        )
        given[chosen.run] += 1
        live[group] += 1
    return dict(given)


def _is_full(share: Share, live: Counter[str]) -> bool:
    return share.most_live is not None and live[share.group] >= share.most_live
