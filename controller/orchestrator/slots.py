"""How many jobs each run may start in one tick: in the order of a command's recordings, or shared between tenants.

Touches: nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from controller.domain.jobs import FreeSlots, JobView
from controller.domain.progress import waiting
from controller.domain.shares import NO_SHARE, Claim, Share, divided
from controller.domain.slot_parts import ALL
from controller.domain.state import RunState
from controller.orchestrator.held_slots import HeldSlots

_SPARE_RUNS = 2
"""Open runs without a job yet: kept ready so that the next intake does not wait until its run is opened."""

_LAST_CUT = 16
"""Recordings whose numbers of chunks tell how many the next ones have."""

_ANY_NUMBER = 1_000_000
"""The source of the requests limits the open runs of each tenant."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A run that is about to be ticked: what is known of it since its last tick."""

    run: str
    share: Share
    chunks: int
    """All of its chunks; 0: its recording is not cut, or not to its end."""
    waiting: int
    """Chunks that are cut and have no job yet."""
    not_started: bool
    """It has no job, no task and no failure yet."""

    @classmethod
    def of(cls, run: str, share: Share, state: RunState | None) -> Self:
        """Return what *state* says of a run. None: it has a transcript to write, and no jobs."""
        return cls(
            run=run,
            share=share,
            chunks=len(state.tasks) if state and state.planned else 0,
            waiting=waiting(state) if state else 0,
            not_started=bool(state and not (state.tasks or state.planned or state.jobs or state.evidence)),
        )


class TickSlots(Protocol):
    """The slots of one tick."""

    def of(self, run: str) -> FreeSlots:
        """Return how many jobs *run* may start now."""

    def used(self, run: str, *, chunks: int, intakes: int, waiting: int, not_started: bool) -> None:
        """Record what *run* has started, how many of its chunks wait now, and whether it has not begun."""

    @property
    def openable(self) -> int:
        """How many more runs are useful in the next tick."""


class Slots(Protocol):
    """A way to divide slots between runs."""

    endless: bool
    """Whether the set of runs grows without an end. Then several processes divide the runs between them, no outcomes
    are kept, a run that comes again is worked on again, and a bug ends only the run that meets it."""
    most_open: int
    """How many runs may be open at the same time."""

    def tick(self, ready: Sequence[Ready], jobs: Sequence[JobView], *, burst: int) -> TickSlots:
        """Return the slots of a tick of these runs. *jobs*: all jobs. *burst*: the most jobs to start at once."""

    def idle(self) -> None:
        """Note that no run is open, so that there are no jobs."""


def uses_slot(view: JobView) -> bool:
    """Whether a job counts towards the limits. A job on a lost node does not: its retry need not wait."""
    return view.phase != "ended" and not view.lost


class _Cut:
    """How many recordings to cut at the same time, from the numbers of chunks that the last ones had.

    A recording of an hour gives dozens of jobs something to do. Of those with a single chunk as many have to be cut as
    there are jobs, or the jobs wait for the cutting.
    """

    def __init__(self, expected: int) -> None:
        """*expected*: the chunks of a recording, before any is known."""
        self._expected = expected
        self._open: set[str] = set()
        self._last: deque[int] = deque(maxlen=_LAST_CUT)

    def saw(self, ready: Sequence[Ready], jobs: Sequence[JobView]) -> None:
        """Note the recordings that were cut since the last tick. *jobs*: all jobs."""
        cut = {one.run: one.chunks for one in ready if one.chunks}
        self._last += [chunks for run, chunks in cut.items() if run not in self._open]
        # A run with jobs may be left out for a while, and does not count again after that.
        self._open = self._open & {view.run for view in jobs} | set(cut)

    def recordings(self, chunks: int) -> int:
        """Return how many recordings have *chunks* chunks together."""
        each = sum(self._last) / len(self._last) if self._last else self._expected
        return int(chunks / min(each, self._expected))


class InOrder:
    """The first runs get the free slots first: they are finished first."""

    endless = False

    def __init__(self, max_parallel: int) -> None:
        """*max_parallel*: the most chunk jobs at a time."""
        self._max_parallel = max_parallel
        # Ten thousand files must not need ten thousand locks: the next run is opened when one of these has ended. While
        # each job has a recording of its own, as many others are cut.
        self.most_open = 2 * max_parallel + 1
        self._cut = _Cut(expected=8)

    def tick(self, ready: Sequence[Ready], jobs: Sequence[JobView], *, burst: int) -> TickSlots:
        """Return the slots of a tick."""
        self._cut.saw(ready, jobs)
        chunks, intakes = _live(jobs)
        return _InOrderTick(
            chunks=min(burst, self._max_parallel - chunks),
            intakes=max(1, self._cut.recordings(self._max_parallel)) - intakes,
            max_parallel=self._max_parallel,
        )

    def idle(self) -> None:
        """Nothing is remembered between two ticks."""


class _InOrderTick:
    def __init__(self, *, chunks: int, intakes: int, max_parallel: int) -> None:
        self._chunks, self._intakes, self._max_parallel = chunks, intakes, max_parallel
        self._waiting = self._spare = 0

    def of(self, run: str) -> FreeSlots:
        # Cut the next file only when workers would soon be idle, so that few chunks are stored at the same time.
        del run
        return FreeSlots(self._chunks, self._intakes if self._waiting < self._max_parallel else 0)

    def used(self, run: str, *, chunks: int, intakes: int, waiting: int, not_started: bool) -> None:
        del run
        self._chunks -= chunks
        self._intakes -= intakes
        self._waiting += waiting
        self._spare += not_started

    @property
    def openable(self) -> int:
        startable = max(0, self._intakes) if self._waiting < self._max_parallel else 0
        return max(0, startable + _SPARE_RUNS - self._spare)


class Shared:
    """Tenants share the slots by weight, and the runs of a tenant share its part; also with other processes."""

    endless = True
    most_open = _ANY_NUMBER

    def __init__(self, held: HeldSlots) -> None:
        """*held*: the slots of this process."""
        self._held = held
        self._shares: dict[str, Share] = {}
        """Of the runs that have jobs: one that is left out for a while still uses the slots of its tenant."""
        self._cut = _Cut(expected=4)

    def tick(self, ready: Sequence[Ready], jobs: Sequence[JobView], *, burst: int) -> TickSlots:
        """Return the slots of a tick."""
        runs = {view.run for view in jobs}
        shares = {**self._shares, **{one.run: one.share for one in ready}}
        self._shares = {run: share for run, share in shares.items() if run in runs}
        self._cut.saw(ready, jobs)
        return _SharedTick(_claims(ready, jobs, self._shares), ready, self._held, burst=burst, cut=self._cut)

    def idle(self) -> None:
        """Note that this process needs no slots."""
        self._shares = {}
        self._held.begin(())
        self._held.end(())


class _SharedTick:
    openable = _ANY_NUMBER

    def __init__(
        self, claims: dict[str, Claim], ready: Sequence[Ready], held: HeldSlots, *, burst: int, cut: _Cut
    ) -> None:
        """*claims*: of the runs that are ready, and of others that have jobs."""
        self._held, self._claims = held, claims
        terms = held.begin(list(claims.values()))
        free = min(burst, terms.most[ALL] - sum(claim.live for claim in claims.values()))
        mine = [
            replace(claim, waiting=terms.given.get(run, 0), share=_limited(claim.share, terms.most))
            for run, claim in claims.items()
        ]
        self._chunks = divided(mine, free)
        self._left = max(0, free - sum(self._chunks.values()))
        """Slots that no known chunk needs: for chunks that are found in this tick."""
        self._shares = {claim.run: claim.share for claim in mine}
        self._live_of_group = Counter[str]()
        for claim in mine:
            self._live_of_group[claim.share.group] += claim.live + self._chunks.get(claim.run, 0)
        most = max(2, cut.recordings(held.total))
        self._intakes = _intakes(ready, claims, terms.elsewhere, max_parallel=held.total, most=most)
        self._pending = {one.run for one in ready}
        self._end_if_done()

    def of(self, run: str) -> FreeSlots:
        share = self._shares[run]
        left = self._left
        if share.most_live is not None:
            left = min(left, max(0, share.most_live - self._live_of_group[share.group]))
        return FreeSlots(self._chunks.get(run, 0) + left, self._intakes.get(run, 0))

    def used(self, run: str, *, chunks: int, intakes: int, waiting: int, not_started: bool) -> None:
        del not_started
        beyond = max(0, chunks - self._chunks.get(run, 0))
        self._left -= beyond
        self._live_of_group[self._shares[run].group] += beyond
        before = self._claims[run]
        self._claims[run] = replace(
            before, live=before.live + chunks, cutting=before.cutting + intakes, waiting=max(0, waiting - chunks)
        )
        self._pending.discard(run)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._pending:
            self._held.end(list(self._claims.values()))


def _claims(ready: Sequence[Ready], jobs: Sequence[JobView], shares: Mapping[str, Share]) -> dict[str, Claim]:
    """Return by run what it has and wants: first those that are ready, in their order."""
    live = Counter(view.run for view in jobs if view.span is not None and uses_slot(view))
    cutting = Counter(view.run for view in jobs if view.span is None and uses_slot(view))
    known = {one.run: (one.share, one.waiting) for one in ready}
    for run in (*live, *cutting):
        known.setdefault(run, (shares.get(run, NO_SHARE), 0))
    return {
        run: Claim(run=run, share=share, live=live[run], waiting=waiting, cutting=cutting[run])
        for run, (share, waiting) in known.items()
    }


def _limited(share: Share, most: Mapping[str, int]) -> Share:
    """Return the share with the limit of this process, of the limit of its group."""
    own = most.get(share.group) if share.group else None
    known = [limit for limit in (share.most_live, own) if limit is not None]
    return replace(share, most_live=min(known, default=None))


def _intakes(
    ready: Sequence[Ready], claims: Mapping[str, Claim], elsewhere: Sequence[Claim], *, max_parallel: int, most: int
) -> dict[str, int]:
    """Return which runs may be cut now. *elsewhere*: the runs of other processes.

    Each group may always cut one recording, and all together *most*. A group with enough runs whose
    chunks wait for their first slot cuts no further one.
    """
    begun = [one for one in ready if not one.not_started]
    cut, stored = Counter[str](), Counter[str]()
    for claim in (*claims.values(), *elsewhere):
        cut[claim.share.group] += bool(claim.cutting)
        stored[claim.share.group] += bool(claim.waiting and not claim.live)
    free = most - sum(claim.cutting for claim in (*claims.values(), *elsewhere))
    # A run that has begun and asks for an intake again has lost some of its chunks.
    allowed = {one.run: 1 for one in begun if not claims[one.run].cutting}
    for one in sorted((one for one in ready if one.not_started), key=lambda one: -one.share.priority):
        group = one.share.group
        if stored[group] + cut[group] < max(2, max_parallel) and (free > 0 or not cut[group]):
            allowed[one.run] = 1
            cut[group] += 1
            free -= 1
    return allowed


def _live(jobs: Sequence[JobView]) -> tuple[int, int]:
    """Return the numbers of chunk jobs and of intakes that use a slot."""
    used = [view.span is None for view in jobs if uses_slot(view)]
    return used.count(False), used.count(True)
