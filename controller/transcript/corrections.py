"""Corrections of a transcript by people: which text each segment has, and which corrections contradict each other.

Touches: nothing. A correction names those that it replaces. What no other one replaces is valid; if that is more than
one text, people have corrected the segment at the same time: all texts are kept, the last one is used until a
correction replaces both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from chunk_job.segment import Segment
from controller.domain.correction_documents import Correction
from controller.transcript.clean_text import cleaned
from controller.transcript.model import Corrected, TranscriptSummary
from controller.transcript.word_times import one_line, with_text

_ISOLATES = re.compile("[\u2066-\u2069]")


class MachineLine(NamedTuple):
    """A segment as the model wrote it: what says whether a correction is of it."""

    segment: int
    start_ms: int
    end_ms: int
    channel: int | None
    text: str

    @property
    def identity(self) -> tuple[object, ...]:
        """All but the number of the segment, which another transcript of the same recording may give to another one."""
        return self[1:]


@dataclass(frozen=True, kw_only=True)
class CorrectedLine:
    """A segment with corrections."""

    line: MachineLine
    valid: tuple[Correction, ...]
    """Those that no other one replaces, the last one at the end. Never empty."""

    @cached_property
    def numbers(self) -> frozenset[int]:
        """The numbers of the valid ones: thousands, if a program writes them without reading."""
        return frozenset(one.number for one in self.valid)

    @property
    def text(self) -> str:
        """The text that is used: that of the last valid correction."""
        return self.valid[-1].text

    @property
    def is_conflict(self) -> bool:
        """Whether the valid corrections have different texts."""
        return len({one.text for one in self.valid}) > 1

    @property
    def is_changed(self) -> bool:
        """Whether the text differs from that of the model."""
        return self.text != one_line(self.line.text)


def machine_line(segment: Segment) -> MachineLine:
    """What identifies a segment."""
    return MachineLine(segment.id, segment.start_ms, segment.end_ms, segment.channel, segment.text)


def typed(text: str) -> str:
    """A text that a person typed, as one line without control characters."""
    # An isolate that ends in another word would be open in each of them.
    return one_line(_ISOLATES.sub("", cleaned(text)[0]))


class Corrections:
    """The corrections of a transcript. Their order does not matter."""

    def __init__(self, corrections: Iterable[Correction], lines: Iterable[MachineLine]) -> None:
        """*lines*: the segments as the model wrote them."""
        self.all: Sequence[Correction] = sorted(
            {one.number: one for one in corrections}.values(), key=lambda one: one.number
        )
        wanted = {_identity(one) for one in self.all}
        self._places: dict[tuple[object, ...], list[MachineLine]] = {}
        for place in lines:
            if place.identity in wanted:
                self._places.setdefault(place.identity, []).append(place)
        by_segment: dict[int, list[Correction]] = {}
        lines_of: dict[int, MachineLine] = {}
        for one in self.all:
            if line := self.line_of(one):
                by_segment.setdefault(line.segment, []).append(one)
                lines_of[line.segment] = line
        self.lines: Mapping[int, CorrectedLine] = {
            segment: CorrectedLine(line=lines_of[segment], valid=tuple(_valid(some)))
            for segment, some in by_segment.items()
        }
        """By segment. What is of an older transcript, with another text or other times, is left out."""

    @property
    def version(self) -> int:
        """The number of the last correction; 0: there is none."""
        return self.all[-1].number if self.all else 0

    def line_of(self, one: Correction) -> MachineLine | None:
        """The segment that a correction is of; None: it is of an older transcript, and is not used."""
        places = self._places.get(_identity(one), [])
        return next((line for line in places if line.segment == one.segment), places[0] if places else None)

    def up_to(self, version: int) -> Corrections:
        """The corrections up to this one."""
        lines = [line for some in self._places.values() for line in some]
        return Corrections([one for one in self.all if one.number <= version], lines)

    def facts(self) -> Corrected:
        """What a transcript with these corrections says of them."""
        return Corrected(
            version=self.version,
            segments=sum(line.is_changed for line in self.lines.values()),
            conflicts=sum(line.is_conflict for line in self.lines.values()),
        )

    def segments(self, segments: Iterable[Sequence[Segment]]) -> Iterator[tuple[Segment, ...]]:
        """The segments of the model's transcript with the corrected texts."""
        for some in segments:
            yield tuple(self._corrected(segment) for segment in some)

    def _corrected(self, segment: Segment) -> Segment:
        line = self.lines.get(segment.id)
        # The run may have got another transcript between the two reads.
        return with_text(segment, line.text) if line and line.line == machine_line(segment) else segment

    def summary(self, summary: TranscriptSummary) -> TranscriptSummary:
        """The summary of the model's transcript, for the corrected one."""
        return summary.model_copy(update={"corrected": self.facts()})


def _identity(one: Correction) -> tuple[object, ...]:
    return one.start_ms, one.end_ms, one.channel, one.machine_text


def _valid(corrections: Sequence[Correction]) -> list[Correction]:
    """Those that no later one replaces."""
    replaced = {number for one in corrections for number in one.based_on if number < one.number}
    return [one for one in corrections if one.number not in replaced]
