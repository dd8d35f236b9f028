"""Which cues of a file break the limits of a style.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from controller.domain.captions import CaptionStyle
from controller.transcript.captions.read import FileCue
from controller.transcript.captions.width import columns

Rule = Literal["width", "lines", "words", "shortest", "longest", "speed", "overlap", "gap", "backwards"]

SENTENCES: dict[Rule, str] = {
    "width": "too wide: {value:g} columns (at most {limit:g})",
    "lines": "too many lines: {value:g} (at most {limit:g})",
    "words": "too many words in a line: {value:g} (at most {limit:g})",
    "shortest": "too short: {value:g} s (at least {limit:g} s)",
    "longest": "too long: {value:g} s (at most {limit:g} s)",
    "speed": "too fast: {value:g} columns per second (at most {limit:g})",
    "overlap": "begins {value:g} s before the cue before it ends",
    "gap": "too near: {value:g} s after the cue before it (at least {limit:g} s)",
    "backwards": "ends {value:g} s before it begins",
}
"""What is said about a cue that breaks a rule."""

SHORT: dict[Rule, str] = {
    "width": "too wide",
    "lines": "with too many lines",
    "words": "with too many words in a line",
    "shortest": "too short",
    "longest": "too long",
    "speed": "too fast",
    "overlap": "over another one",
    "gap": "too near to another one",
    "backwards": "with an end before the beginning",
}
"""The same in a list of counts."""

_MARKS = "\u200e\u200f\u202a\u202b\u2066\u2067"
"""Invisible characters before the first one of a line, which give its direction."""


class Violation(NamedTuple):
    """A limit that a cue breaks."""

    cue: int
    """Number of the cue in the file, counted from 1."""
    start_ms: int
    rule: Rule
    value: float
    limit: float


def violations(cues: Sequence[FileCue], style: CaptionStyle) -> list[Violation]:
    """All violations, in the order of the cues.

    Cues that follow each other at once with the same text are one: they highlight one word after the other.
    """
    found: list[Violation] = []
    before: FileCue | None = None
    for cue in _joined(cues):
        found += (
            Violation(cue.number, cue.start_ms, rule, value, limit)
            for rule, value, limit in (*_text(cue, style), *_time(cue, style), *_distance(before, cue, style))
        )
        before = cue
    return found


_Broken = Iterator[tuple[Rule, float, float]]


def _joined(cues: Sequence[FileCue]) -> Iterator[FileCue]:
    last: FileCue | None = None
    for cue in cues:
        if last and last.lines == cue.lines and last.end_ms == cue.start_ms:
            last = last._replace(end_ms=cue.end_ms)
            continue
        if last:
            yield last
        last = cue
    if last:
        yield last


def _text(cue: FileCue, style: CaptionStyle) -> _Broken:
    widest = max(map(columns, cue.lines), default=0)
    if widest > style.max_line_width:
        yield "width", widest, style.max_line_width
    if len(cue.lines) > style.max_line_count:
        yield "lines", len(cue.lines), style.max_line_count
    # A dash in front of the words of a speaker is no word.
    words = max((len(line.lstrip(_MARKS).removeprefix("- ").split()) for line in cue.lines), default=0)
    if style.max_words_per_line and words > style.max_words_per_line:
        yield "words", words, style.max_words_per_line


def _time(cue: FileCue, style: CaptionStyle) -> _Broken:
    shown_ms = cue.end_ms - cue.start_ms
    if shown_ms < 0:
        yield "backwards", -shown_ms / 1000, 0
        return
    if shown_ms < style.min_cue_ms:
        yield "shortest", shown_ms / 1000, style.min_cue_ms / 1000
    if shown_ms > style.max_cue_ms:
        yield "longest", shown_ms / 1000, style.max_cue_ms / 1000
    size = sum(map(columns, cue.lines))
    if style.max_cps and size * 1000 > style.max_cps * max(1, shown_ms):
        yield "speed", round(size * 1000 / max(1, shown_ms), 1), style.max_cps


def _distance(before: FileCue | None, cue: FileCue, style: CaptionStyle) -> _Broken:
    if before is None:
        return
    gap_ms = cue.start_ms - max(before.start_ms, before.end_ms)
    if gap_ms < 0:
        yield "overlap", -gap_ms / 1000, 0
    elif gap_ms < style.min_gap_ms:
        yield "gap", gap_ms / 1000, style.min_gap_ms / 1000
