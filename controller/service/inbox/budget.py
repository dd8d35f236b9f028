"""How many listings an inbox may cost.

Touches: nothing. A request to list objects returns up to a thousand of them, and is paid for like an upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

PAGE = 1_000
"""Objects in one listing."""
_T = TypeVar("_T")


class Pause(Exception):
    """Continue later. *at_once*: as soon as others have had their turn; else after the usual pause."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__("pause")
        self.at_once = at_once


class Budget:
    """Requests to list objects: so many a minute, and those of one minute at once."""

    def __init__(self, per_minute: int, now_s: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._now_s = now_s
        self._left = float(per_minute)
        self._at_s = now_s()
        self.spent = 0
        """In total."""

    @property
    def is_spent(self) -> bool:
        """Whether no request is left now."""
        now_s = self._now_s()
        gained = (now_s - self._at_s) * self._per_minute / 60
        self._left, self._at_s = min(self._left + gained, float(self._per_minute)), now_s
        return self._left < 1

    def spend(self) -> None:
        """Count one request. It may be one too many: the next ones wait for longer."""
        self._left -= 1
        self.spent += 1

    def paged(self, entries: Iterable[_T], *, most_pages: int | None = None) -> Iterator[_T]:
        """Yield the *entries* of a listing, and count its requests. Raises :class:`Pause` before one too many.

        The first page is always read, so that each look gets further.
        """
        listed, number = iter(entries), 0
        while True:
            if number % PAGE == 0:
                if number and (self.is_spent or number == (most_pages or 0) * PAGE):
                    raise Pause(at_once=False)
                self.spend()
            try:
                entry = next(listed)
            except StopIteration:
                return
            number += 1
            yield entry
