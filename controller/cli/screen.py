"""A terminal that shows the state of runs until they end.

Touches: the terminal, signals, the clock, the environment (which characters the terminal shows).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, Self

from rich.console import Console, Group
from rich.live import Live

from controller.cli.ci import is_watched
from controller.cli.fitting import Space
from controller.cli.run_lines import picture
from controller.reports.run_view import RunView

_LOOK_S = 0.2
"""How soon a changed size of the terminal is seen."""


class Screen:
    """Fills the terminal while it is open, and leaves its last picture behind. SIGTERM ends the process in order."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        # Not by a thread: it draws when there is something new.
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._views: Sequence[RunView] = ()
        self._drawn = (0, 0)

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, end_in_order)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        signal.signal(signal.SIGTERM, self._before)
        if self._views:
            # Two lines are left for the prompt and what is said at the end.
            self._console.print(self._picture(less=2))

    def show(self, views: Sequence[RunView]) -> None:
        """Show these runs."""
        self._views = views
        self._draw()

    def wait(self, seconds: float) -> None:
        """Wait. If the size of the terminal changes, the picture is made to fit."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
            if self._console.size != self._drawn:
                self._draw()

    def _draw(self) -> None:
        self._drawn = self._console.size
        self._live.update(self._picture(), refresh=True)

    def _picture(self, *, less: int = 0) -> Group:
        width, height = self._console.size
        encoding = characters(self._console.encoding, os.environ)
        space = Space(
            width=width, height=max(1, height - less), encoding=encoding, plain=not encoding.startswith("utf")
        )
        return Group(*picture(self._views, space))


def can_show() -> bool:
    """Whether stderr is a terminal that can be filled, and that a person looks at."""
    return is_watched(sys.stderr) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def characters(encoding: str, environment: Mapping[str, str]) -> str:
    """The characters that a terminal shows, as an encoding: ASCII where the user chose the locale ``C``.

    The console of Linux has too few of UTF-8, too.
    """
    chosen = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environment.get(name))), "")
    few = chosen in ("C", "POSIX") or environment.get("TERM") == "linux"
    return "ascii" if few and encoding.startswith("utf") else encoding


def end_in_order(number: int, _: object) -> NoReturn:
    """End the process by an exception, so that what was begun is tidied up: the terminal, unfinished copies."""
    raise SystemExit(128 + number)
