"""A window on its way through the decodings.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine.checks import Decoding
from chunk_job.engine.windows import Window
from chunk_job.engine.words import TimedWord
from chunk_job.segment import DecodedWindow, Try

Outcome = Literal["text", "empty", "no_speech", "doubtful", "split", "unused"]


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
    depth: int = 0
    """How many rests it is a part of."""
    unused: bool = False
    """It is the rest of a window whose own words are better."""
    cut_before: int | None = None
    """Number of the first word that is replaced by what was decoded again; None: none is."""

    @property
    def is_pending(self) -> bool:
        """Whether it has to be decoded at the next temperature."""
        return self.decoding is None and bool(self.failed)

    def take(self, other: WindowState) -> None:
        """Take over all fields of *other*."""
        vars(self).update(vars(other))

    @property
    def text(self) -> str:
        """The text that is used."""
        return "".join(word.text for word in self.words)

    def complete_with(self, again: Sequence[WindowState]) -> None:
        """Replace the words from :attr:`cut_before` on by those of *again*, the rest of the window.

        If they are fewer, doubtful, or the same as before the cut, they are not used.
        """
        if self.cut_before is None:
            return
        kept = self.words[: self.cut_before]
        same = "".join(word.text for word in kept).casefold().split()
        words = [word.text.casefold().strip() for state in again for word in state.words]
        if (
            len(words) <= len(self.words) - self.cut_before
            or any(state.doubtful for state in again)
            or words == same[-len(words) :]
        ):
            for state in again:
                state.unused, state.words = True, ()
            self.cut_before = None
        else:
            self.words = kept

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
        if self.unused:
            return "unused"
        if self.decoding is None:
            return "split"
        if self.words:
            return "doubtful" if self.doubtful else "text"
        return "no_speech" if self.decoding.text.strip() else "empty"
