"""A window on its way through the decodings.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from chunk_job.contract import SAMPLE_RATE, DecodedWindow, Try
from chunk_job.engine.checks import Decoding
from chunk_job.engine.windows import Window
from chunk_job.engine.words import TimedWord

Outcome = Literal["text", "empty", "no_speech", "doubtful", "split"]


@dataclass(kw_only=True)
class WindowState:
    """A window on its way through the decodings."""

    window: Window
    tries: list[Try] = field(default_factory=list)
    failed: list[Decoding] = field(default_factory=list)
    decoding: Decoding | None = None
    """The decoding that is used. None: not yet, or it was cut in two."""
    doubtful: bool = False
    loop_removed: bool = False
    words: tuple[TimedWord, ...] = ()
    cut_before: int | None = None
    """Number of the first word that is replaced by what was decoded again; None: none is."""

    @property
    def is_pending(self) -> bool:
        """Whether it has to be decoded at the next temperature."""
        return self.decoding is None and bool(self.failed)

    def take(self, other: WindowState) -> None:
        """Take over all fields of *other*."""
        vars(self).update(vars(other))

    def complete_with(self, again: Sequence[WindowState]) -> bool:
        """Whether *again*, the states of the window's parts that were decoded again, are used.

        The rest of a window replaces its words from there on, unless it has fewer.
        """
        if self.cut_before is None:
            return bool(again)
        if sum(len(state.words) for state in again) <= len(self.words) - self.cut_before:
            self.cut_before = None
            return False
        self.words = self.words[: self.cut_before]
        return True

    def take_unless_worse(self, other: WindowState, *, repeated: bool) -> None:
        """Use *other*, a second decoding of a window that repeats the one before, unless it does that too."""
        last = self.tries.pop()
        tries = [*self.tries, last.model_copy(update={"failed": "repeats_previous"}), *other.tries]
        if repeated or other.doubtful or other.decoding is None:
            self.doubtful = True
        else:
            self.take(other)
        self.tries = tries

    def record(self) -> DecodedWindow:
        """What the result says of the window."""
        return DecodedWindow(
            start_ms=self.window.start * 1000 // SAMPLE_RATE,
            end_ms=self.window.end * 1000 // SAMPLE_RATE,
            outcome=self._outcome(),
            loop_removed=self.loop_removed,
            incomplete=self.cut_before is not None,
            tries=tuple(self.tries),
        )

    def _outcome(self) -> Outcome:
        if self.decoding is None:
            return "split"
        if self.words:
            return "doubtful" if self.doubtful else "text"
        return "no_speech" if self.decoding.text.strip() else "empty"
