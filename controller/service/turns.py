"""One call for each request at a time: clients repeat a call that seems to hang while it is still carried out.

Touches: the clock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from controller.domain.service_keys import RequestKey
from controller.service.limits import LimitExceeded

WAIT_S = 1.0
"""For the end of another call. Longer, whoever repeats one would keep all threads of the process waiting."""
_RETRY_S = 1


class Turns:
    """The requests that are changed now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[RequestKey] = set()

    @contextlib.contextmanager
    def of(self, key: RequestKey, *, most: int | None = None) -> Iterator[None]:
        """Return a context in which no other thread changes this request. Raises :class:`LimitExceeded`.

        *most*: begin only if fewer requests of its tenant are changed.
        """

        def is_free() -> bool:
            return key not in self._busy and (most is None or self._number(key.prefix) < most)

        with self._changed:
            if not self._changed.wait_for(is_free, timeout=WAIT_S):
                same = most is None or key in self._busy
                what = "changes of one run at the same time" if same else "runs that are changed at the same time"
                raise LimitExceeded(what, 1 if same else most or 0, _RETRY_S)
            self._busy.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(key)
                self._changed.notify_all()

    def _number(self, prefix: str) -> int:
        return sum(one.prefix == prefix for one in self._busy)
