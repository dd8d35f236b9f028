"""How many chunk jobs this process may have now, if several processes share the slots of one store.

Touches: a lock. The loop asks before each tick, and another thread exchanges with the other processes what
each holds: it publishes the offer of this process first and reads those of the others afterwards. Of two processes that
do so at the same time, at least one sees the other, so the sum of what they may have is never above the limit.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.shares import Claim
from controller.domain.slot_parts import Holder, left_for, limits_of, live_within, most_urgent, parts, remains

MOST_CLAIMS = 2_000
"""Runs that a process tells the others of."""
VALID_S = 5.0
"""How long an offer counts. The others count a process as dead later than this, so its slots are not used twice."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What this process may do in one tick."""

    most: Mapping[str, int]
    """Chunk jobs altogether, by limit; as many as there are: none may be started."""
    given: Mapping[str, int]
    """Slots that are meant for certain runs, by id."""
    elsewhere: Sequence[Claim]
    """The runs of the other processes."""


class HeldSlots:
    """The slots of this process. Safe to use by two threads."""

    def __init__(self, total: int, *, now_s: Callable[[], float]) -> None:
        """*total*: chunk jobs at a time of all processes together. None may be started before the first exchange.

        *now_s*: seconds of a clock that only goes forward.
        """
        self.total = total
        self.name = secrets.token_hex(8)
        self.changed = threading.Event()
        """Set when the others should know something soon."""
        self._now_s = now_s
        self._claims: Sequence[Claim] = ()
        self._needed: dict[str, int] = {}
        """By limit: the jobs that there may be until the end of the tick, whatever is exchanged meanwhile."""
        self._unmet = False
        """Whether this process should have more than it may have."""
        self._others: list[Holder] = []
        self._led: dict[str, set[str]] = {}
        """By process that has ended: its runs that were seen to be led by another one since."""
        self._offered = Holder(name=self.name)
        self._most: dict[str, int] = {}
        """By limit: the jobs that this process may have. Never more than the others read, or may soon read."""
        self._everything = False
        """Whether it may have all jobs of each limit."""
        self._valid_until_s = float("-inf")
        self._lock = threading.Lock()
        """Protects all fields above: the loop and the exchange share them."""

    # ------------------------------------------------------------ for the loop

    def begin(self, claims: Sequence[Claim]) -> Terms:
        """Return what may be started in a tick. *claims*: all runs of this process that have jobs or may need some."""
        with self._lock:
            self._claims = claims
            limits = limits_of(claims, self.total)
            found = parts(self._me(), self._others, limits)
            live = {limit: live_within(limit, claims) for limit in limits}
            valid = self._now_s() < self._valid_until_s
            may = {limit: self._may(limit, limits) if valid else 0 for limit in limits}
            self._unmet = any(found.most[limit] > may[limit] for limit in limits)
            self._needed = {limit: max(live[limit], min(found.most[limit], may[limit])) for limit in limits}
            elsewhere = [claim for other in self._others for claim in other.claims]
            return Terms(most=dict(self._needed), given=found.given, elsewhere=elsewhere)

    def end(self, claims: Sequence[Claim]) -> None:
        """Note how the runs are after the tick."""
        with self._lock:
            self._claims = claims
            self._needed = {limit: live_within(limit, claims) for limit in self._needed}
            news = self._unmet or most_urgent(claims, MOST_CLAIMS) != self._offered.claims
            if news and not self._everything:
                self.changed.set()

    # ------------------------------------------------------------ for the exchange

    def offer(self) -> Holder:
        """Return what the others must know from now on. It has to be published next, and then :meth:`saw` be called."""
        with self._lock:
            limits = limits_of(self._claims, self.total)
            claims = most_urgent(self._claims, MOST_CLAIMS)
            if not self._others:
                self._offered = Holder(name=self.name, claims=claims, held=limits, everything=True)
                return self._offered
            should = parts(self._me(), self._others, limits).most
            held = {limit: max(should[limit], self._needed.get(limit, 0)) for limit in limits}
            # What is given back is given back before the others know it, and what is added counts afterwards.
            self._most = {limit: min(self._may(limit, limits), held[limit]) for limit in limits}
            self._everything = False
            self._offered = Holder(name=self.name, claims=claims, held=held)
            return self._offered

    def saw(self, living: Sequence[Holder], gone: Sequence[Holder], *, began_s: float) -> bool:
        """Note what was read of the others after the offer was published. Returns whether another one is due at once.

        *gone*: those that have ended, whose jobs may still be there. *began_s*: a time before the offer was published.
        """
        with self._lock:
            if self._now_s() >= self._valid_until_s:
                # The others may have counted this process as dead meanwhile: it has nothing but its jobs.
                self._most, self._everything = {}, False
            self._valid_until_s = began_s + VALID_S
            self._others = [*living, *self._remains(living, gone)]
            offered = self._offered
            limits = limits_of(self._claims, self.total)
            if offered.everything:
                self._everything = self._everything or not self._others
            for limit, held in offered.held.items():
                left = left_for(limit, limits.get(limit, held), self._others)
                self._most[limit] = min(held, max(self._most.get(limit, 0), left))
            should = parts(self._me(), self._others, limits).most
            if any(should[limit] > self._may(limit, limits) for limit in limits):
                # Another one has given something back.
                self.changed.set()
            return offered.everything and bool(self._others)

    def left_behind(self) -> Sequence[Claim]:
        """Return the runs that have jobs, when this process ends."""
        with self._lock:
            return most_urgent([claim for claim in self._claims if claim.live], MOST_CLAIMS)

    def _me(self) -> Holder:
        return Holder(name=self.name, claims=self._claims)

    def _may(self, limit: str, limits: Mapping[str, int]) -> int:
        return limits[limit] if self._everything else self._most.get(limit, 0)

    def _remains(self, living: Sequence[Holder], gone: Sequence[Holder]) -> list[Holder]:
        """Return the jobs of processes that have ended. A run that another one leads is counted there."""
        led = {claim.run for holder in living for claim in holder.claims} | {claim.run for claim in self._claims}
        self._led = {
            one.name: self._led.get(one.name, set()) | {claim.run for claim in one.claims if claim.run in led}
            for one in gone
        }
        left = [remains(one, self._led[one.name]) for one in gone]
        return [one for one in left if one.claims]
