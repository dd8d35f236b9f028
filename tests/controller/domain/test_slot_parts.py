"""The parts of several processes that share the chunk slots, and what one may hold beside the others."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controller.domain.shares import Claim, Share
from controller.domain.slot_parts import (
    ALL,
    Holder,
    left_for,
    limits_of,
    live_within,
    most_urgent,
    parts,
    remains,
)


def claim(run: str, group: str = "a", *, live: int = 0, waiting: int = 0, weight: int = 1, **share: int) -> Claim:
    return Claim(run=run, share=Share(group=group, weight=weight, **share), live=live, waiting=waiting)


def most(total: int, *holders: Holder, limit: str = ALL) -> list[int]:
    """The parts of all holders."""
    return [
        parts(me, [other for other in holders if other is not me], limits_of(me.claims, total)).most.get(limit, 0)
        for me in holders
    ]


def test_each_gets_the_part_of_its_tenants_by_weight() -> None:
    two = Holder(name="1", claims=[claim("x", "two", waiting=99, weight=2)])
    one = Holder(name="2", claims=[claim("y", "one", waiting=99)])
    assert most(9, two, one) == [6, 3]


def test_a_long_run_of_one_process_leaves_the_next_slot_to_a_short_run_of_another() -> None:
    long = Holder(name="1", claims=[claim("long", live=7, waiting=300)])
    short = Holder(name="2", claims=[claim("short", waiting=1)])
    assert most(8, long, short) == [7, 1]
    # Nothing is taken from a job that runs.
    assert most(7, long, short) == [7, 0]


def test_what_nobody_needs_yet_is_divided_between_those_that_have_runs() -> None:
    busy, begins, idle = (
        Holder(name="1", claims=[claim("x", live=1)]),
        Holder(name="2", claims=[claim("y")]),
        Holder(name="0"),
    )
    assert most(8, busy, begins, idle) == [5, 3, 0]
    assert most(8, busy, idle) == [8, 0]


def test_the_limit_of_a_tenant_counts_over_all_processes() -> None:
    one = Holder(name="1", claims=[claim("x", live=2, waiting=9, most_live=3)])
    two = Holder(name="2", claims=[claim("y", waiting=9, most_live=3), claim("z", "b", waiting=9)])
    assert most(20, one, two, limit="a") == [2, 1]


def test_one_holds_what_it_says_and_everything_if_it_is_alone() -> None:
    some, alone = Holder(name="1", held={ALL: 3}), Holder(name="2", everything=True)
    assert left_for(ALL, 8, [some]) == 5
    assert left_for("a", 8, [some, alone]) == 0
    # A tenant of which it says nothing: as many as its runs have.
    assert left_for("a", 8, [Holder(name="1", claims=[claim("x", live=2)])]) == 6


def test_jobs_of_one_that_has_ended_count_until_another_leads_their_runs() -> None:
    gone = Holder(name="1", claims=[claim("x", live=2, waiting=5), claim("y", live=1), claim("z")], held={ALL: 8})
    left = remains(gone, {"y"})
    assert (left.holds(ALL, 8), left.living) == (2, False)
    assert most(8, Holder(name="2", claims=[claim("new", waiting=99)]), left)[0] == 6


def test_if_there_are_too_many_runs_the_others_are_told_of_those_that_have_jobs_or_come_next() -> None:
    claims = [claim(f"a{number}", waiting=5) for number in range(9)] + [claim("b", "b", waiting=1), claim("x", live=1)]
    assert {one.run for one in most_urgent(claims, 4)} >= {"x", "b"}
    assert most_urgent(claims, 11) == tuple(claims)


GROUPS = {"a": (1, None), "b": (2, None), "c": (3, 4)}
"""Weight and limit of each tenant."""
HOLDERS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(sorted(GROUPS)), st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=4
    ),
    min_size=1,
    max_size=4,
)


def holders(rows: Sequence[Sequence[tuple[str, int, int, int]]]) -> list[Holder]:
    return [
        Holder(
            name=str(place),
            claims=[
                Claim(
                    run=f"{place}-{number}",
                    share=Share(group=group, weight=GROUPS[group][0], most_live=GROUPS[group][1], priority=priority),
                    live=live,
                    waiting=waiting,
                )
                for number, (group, live, waiting, priority) in enumerate(claims)
            ],
        )
        for place, claims in enumerate(rows)
    ]


@given(HOLDERS, st.integers(1, 30))
def test_parts_of_processes_that_know_the_same_fit_together_and_leave_nothing_unused(
    rows: list[list[tuple[str, int, int, int]]], total: int
) -> None:
    all_of_them = holders(rows)
    claims = [one for holder in all_of_them for one in holder.claims]
    sums = sum(most(total, *all_of_them))
    live = live_within(ALL, claims)
    assert sums == (max(total, live) if claims else 0)
    limited = [one for one in claims if one.share.group == "c"]
    assert sum(most(total, *all_of_them, limit="c")) == (max(4, live_within("c", limited)) if limited else 0)


@given(HOLDERS, st.integers(1, 30))
def test_the_processes_give_their_runs_what_one_process_with_all_runs_would(
    rows: list[list[tuple[str, int, int, int]]], total: int
) -> None:
    several = holders(rows)
    claims = sorted((one for holder in several for one in holder.claims), key=lambda one: one.run)
    alone = parts(Holder(name="x", claims=claims), [], limits_of(claims, total)).given
    given_slots: dict[str, int] = {}
    for me in several:
        given_slots.update(
            parts(me, [other for other in several if other is not me], limits_of(me.claims, total)).given
        )
    assert given_slots == alone
