"""Which files may still be written.

Touches: nothing. A file is complete if two looks that are far enough from each other find it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.service.inbox.names import Version

_MOST = 10_000
"""Files that are observed at once; others wait."""


@dataclass
class _Growing:
    """A file that may still be written."""

    version: Version
    since_s: float
    seen: int
    """The number of the last look that has seen it."""


class Settling:
    """The files of one inbox that are new."""

    def __init__(self, settle_s: float, now_s: Callable[[], float]) -> None:
        """*settle_s*: how long a file must be unchanged; 0: what is listed is complete."""
        self._settle_s, self._now_s = settle_s, now_s
        self._growing: dict[str, _Growing] = {}
        """By path."""

    def is_complete(self, path: str, version: Version, number: int) -> bool:
        """Whether an object is complete. *number*: of the look that sees this version of it."""
        if not self._settle_s:
            return True
        now_s = self._now_s()
        before = self._growing.get(path)
        if before and before.version == version:
            before.seen = max(before.seen, number)
            if now_s - before.since_s < self._settle_s:
                return False
            del self._growing[path]
            return True
        if before or len(self._growing) < _MOST:
            self._growing[path] = _Growing(version, now_s, number)
        return False

    def forget_before(self, number: int) -> None:
        """Forget the files that no look since this one has seen."""
        self._growing = {path: each for path, each in self._growing.items() if each.seen >= number}
