"""The style of captions: how wide, how long and how fast they may be.

Touches: nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from chunk_job.document import Document

Profile = Literal["whisper", "broadcast", "netflix"]
"""``whisper``: one cue for each segment of the model, without any limit."""

NARROWEST = 10
"""Columns of the narrowest line. The gaps of a transcript and the marks of speakers must fit."""
WIDEST = 1000
LONGEST_CUE_MS = 60_000


class CaptionStyle(Document):
    """Limits of captions, as numbers. All of them hold for every cue, except the reading speed, which is a target.

    A line is measured in columns: a wide character of East Asia takes two, a combining mark none.
    """

    max_line_width: int = Field(default=WIDEST, ge=NARROWEST, le=WIDEST)
    """Columns."""
    max_line_count: int = Field(default=2, ge=1, le=4)
    max_words_per_line: int | None = Field(default=None, ge=1, le=WIDEST)
    max_cue_ms: int = Field(default=30_000, ge=500, le=LONGEST_CUE_MS)
    min_cue_ms: int = Field(default=20, ge=20, le=LONGEST_CUE_MS)
    max_cps: float | None = Field(default=None, ge=1, le=1000)
    """Columns of text per second of display."""
    min_gap_ms: int = Field(default=0, ge=0, le=10_000)
    """Time between the end of a cue and the start of the next one."""
    joins_segments: bool = Field(default=True, exclude_if=lambda joins: joins)
    """Whether a cue may have words of several segments of the model."""
    highlight_words: bool = False
    """Each word is marked while it is spoken."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_cue_ms > self.max_cue_ms:
            raise ValueError(
                f"the shortest cue ({self.min_cue_ms} ms) is longer than the longest ({self.max_cue_ms} ms)"
            )
        return self


PROFILES: MappingProxyType[Profile, CaptionStyle] = MappingProxyType({
    # Only used with other options: alone, this profile has no style.
    "whisper": CaptionStyle(joins_segments=False),
    "broadcast": CaptionStyle(
        max_line_width=37, max_line_count=2, max_cue_ms=7_000, min_cue_ms=1_000, max_cps=20, min_gap_ms=120
    ),
    # The shortest cue is 5/6 s, and the gap is two frames at 24 frames per second.
    "netflix": CaptionStyle(
        max_line_width=42, max_line_count=2, max_cue_ms=7_000, min_cue_ms=834, max_cps=20, min_gap_ms=84
    ),
})  # fmt: skip
"""Each profile's limits."""
