"""Free slots between tenants and their runs."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controller.domain.shares import Claim, Share, divided


def claim(run: str, group: str, *, live: int = 0, waiting: int = 0, weight: int = 1, **share: int) -> Claim:
    return Claim(run=run, share=Share(group=group, weight=weight, **share), live=live, waiting=waiting)


def test_a_short_recording_gets_the_next_free_slot() -> None:
    long, short = claim("long", "a", live=7, waiting=43), claim("short", "a", waiting=1)
    assert divided([long, short], 1) == {"short": 1}
    assert divided([long, claim("short", "b", waiting=1)], 1) == {"short": 1}
    assert divided([long, short], 3) == {"short": 1, "long": 2}


def test_tenants_share_by_weight() -> None:
    two, one = claim("x", "two", waiting=100, weight=2), claim("y", "one", waiting=100)
    assert divided([two, one], 9) == {"x": 6, "y": 3}
    # Who has more than its part waits.
    assert divided([claim("x", "two", live=6, waiting=9, weight=2), claim("y", "one", waiting=9)], 3) == {"y": 3}


def test_the_runs_of_a_tenant_share_its_part_whatever_their_number() -> None:
    many = [claim(f"a{number}", "a", waiting=10) for number in range(4)]
    given_slots = divided([*many, claim("b", "b", waiting=10)], 8)
    assert given_slots == {"a0": 1, "a1": 1, "a2": 1, "a3": 1, "b": 4}


def test_priority_counts_only_within_a_tenant() -> None:
    high, low = claim("high", "a", waiting=3, priority=9), claim("low", "a", waiting=3, priority=1)
    assert divided([low, high], 3) == {"high": 3}
    assert divided([low, high, claim("other", "b", waiting=3, priority=0)], 4) == {"high": 2, "other": 2}


def test_a_tenant_never_has_more_than_its_own_limit() -> None:
    limited = claim("x", "a", live=1, waiting=9, most_live=3)
    assert divided([limited, claim("y", "b", waiting=1)], 9) == {"x": 2, "y": 1}


def test_nothing_is_given_without_free_slots() -> None:
    assert divided([claim("x", "a", waiting=3)], 0) == divided([claim("x", "a", waiting=3)], -2) == {}


CLAIMS = st.lists(
    st.builds(
        lambda group, weight, live, waiting, priority: (group, weight, live, waiting, priority),
        st.sampled_from("abc"),
        st.integers(1, 5),
        st.integers(0, 5),
        st.integers(0, 8),
        st.integers(0, 9),
    ),
    max_size=8,
)


@given(CLAIMS, st.integers(0, 20))
def test_all_slots_are_used_and_no_tenant_waits_while_another_exceeds_its_part(
    rows: list[tuple[str, int, int, int, int]], free: int
) -> None:
    weights = {group: weight for group, weight, *_ in rows}
    claims = [
        claim(str(number), group, live=live, waiting=waiting, weight=weights[group], priority=priority)
        for number, (group, _, live, waiting, priority) in enumerate(rows)
    ]
    found = divided(claims, free)
    assert sum(found.values()) == min(free, sum(one.waiting for one in claims))
    assert all(found.get(one.run, 0) <= one.waiting for one in claims)
    live: Counter[str] = Counter()
    got: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for one in claims:
        live[one.share.group] += one.live + found.get(one.run, 0)
        got[one.share.group] += found.get(one.run, 0)
        left[one.share.group] += one.waiting - found.get(one.run, 0)
    for group in (group for group in left if left[group]):
        for other in (other for other in got if got[other] and other != group):
            # Its last slot was given when it had less for its weight.
            assert (live[other] - 1) / weights[other] <= live[group] / weights[group]
