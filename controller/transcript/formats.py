"""Transcript → txt, srt, vtt, tsv, json.

Touches: nothing. Each format is a pure function of the transcript; ``render`` makes any of them again from the JSON.
The words may come a few segments at a time: then no more of a long recording is in memory.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pydantic_core
from pydantic import TypeAdapter

from chunk_job.contract import Segment
from controller.domain.documents import Format
from controller.transcript.model import Gap, Transcript, TranscriptSummary

_SHORTEST_CUE_MS = 20

_SEGMENTS = TypeAdapter(list[Segment])


class Cue(NamedTuple):
    """A line with its time: what all text formats are made of."""

    start_ms: int
    end_ms: int
    text: str


class CueStream:
    """The transcript's lines in order, gaps as lines of their own; each ends after it starts and before the next
    starts.

    Line breaks inside a text would end a cue early in every format: they become spaces.
    """

    def __init__(self, gaps: Sequence[Gap], duration_ms: int) -> None:
        """*gaps*: all that there are, in order."""
        self._gaps = deque(gaps)
        self._duration_ms = duration_ms
        self._longest_ms = 0
        """Where the longest of the segments so far ends."""
        self._gap_lines: list[tuple[int, int, Cue]] = []
        """A heap of gaps' lines, by start and order: lines of segments may come before them yet."""
        self._last: Cue | None = None
        """Not returned yet: where it ends depends on the one behind it."""

    def add(self, segments: Sequence[Segment]) -> list[Cue]:
        """The lines that are known now. *segments* follow those that were added before."""
        found: list[Cue] = []
        for segment in segments:
            if text := " ".join(segment.text.split()):
                if self._gaps or self._gap_lines:
                    self._put_gaps(found, segment.start_ms)
                self._longest_ms = max(self._longest_ms, segment.end_ms)
                self._put(found, Cue(segment.start_ms, segment.end_ms, text))
        return found

    def finish(self) -> list[Cue]:
        """The lines that are left, when there are no more segments."""
        found: list[Cue] = []
        self._put_gaps(found, None)
        if self._last:
            found.append(_widened(self._last, self._duration_ms))
        return found

    def _put_gaps(self, found: list[Cue], next_ms: int | None) -> None:
        """Put the gaps' lines that start before *next_ms*, where a segment starts; None: there is no other segment."""
        while self._gaps and (next_ms is None or self._gaps[0].start_ms <= next_ms):
            gap = self._gaps.popleft()
            line = _gap_line(gap, self._longest_ms, gap.end_ms if next_ms is None else next_ms)
            heapq.heappush(self._gap_lines, (line.start_ms, -len(self._gaps), line))
        # Of lines that start together, the gap's is the last.
        while self._gap_lines and (next_ms is None or self._gap_lines[0][0] < next_ms):
            self._put(found, heapq.heappop(self._gap_lines)[2])

    def _put(self, found: list[Cue], cue: Cue) -> None:
        if self._last:
            found.append(_widened(self._last, cue.start_ms))
        self._last = cue


def cues(transcript: Transcript) -> list[Cue]:
    """All lines of a transcript."""
    stream = CueStream(transcript.gaps, transcript.duration_ms)
    return [*stream.add(transcript.segments), *stream.finish()]


def to_txt(lines: Sequence[Cue], _: int = 1) -> str:
    """One line a segment."""
    return "".join(f"{cue.text}\n" for cue in lines)


def to_srt(lines: Sequence[Cue], first: int = 1) -> str:
    """SubRip: numbered, hours always there. It has no escapes: what would read as a time line is changed."""
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_unlike_times(cue.text)}\n\n"
        for number, cue in enumerate(lines, first)
    )


def to_vtt(lines: Sequence[Cue], _: int = 1) -> str:
    """WebVTT: ``&``, ``<`` and ``>`` escaped, so that a text is never markup nor a time line."""
    return "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escaped(cue.text)}\n" for cue in lines
    )


def to_tsv(lines: Sequence[Cue], _: int = 1) -> str:
    """Tab-separated, whole milliseconds, as Whisper writes it."""
    return "".join(f"{cue.start_ms}\t{cue.end_ms}\t{cue.text}\n" for cue in lines)


class TextFormat(NamedTuple):
    """A format that is made of lines."""

    start: str
    """What stands before all lines."""
    body: Callable[[Sequence[Cue], int], str]
    """Any lines, of which the first has this number, counted from 1."""


TEXT_FORMATS: dict[Format, TextFormat] = {
    "txt": TextFormat("", to_txt),
    "srt": TextFormat("", to_srt),
    "vtt": TextFormat("WEBVTT\n", to_vtt),
    "tsv": TextFormat("start\tend\ttext\n", to_tsv),
}


def to_json(transcript: Transcript) -> str:
    """Whisper's JSON and more, times in seconds: the parts below, one behind the other."""
    return f"{transcript.model_dump_json()}\n"


JSON_START = b'{"text":"'
"""What stands before the text in :func:`to_json`, then what stands between it and the segments."""
JSON_SEGMENTS = b'","segments":['
JSON_SUMMARY = b"],"
"""What stands between the segments and the rest."""


def json_text(text: str) -> bytes:
    """A part of a text, as it stands in JSON."""
    return pydantic_core.to_json(text)[1:-1]


def json_segments(segments: Sequence[Segment]) -> bytes:
    """Some segments, as they stand in the JSON, with commas between them."""
    return _SEGMENTS.dump_json(list(segments), by_alias=True)[1:-1]


def json_summary(summary: TranscriptSummary) -> bytes:
    """What stands behind the segments, to the end."""
    return summary.model_dump_json()[1:].encode() + b"\n"


class StrippedText:
    """All segments' texts, joined and without white space at either end, a part at a time."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, segments: Sequence[Segment]) -> tuple[str, str]:
        """What these add for certain, and the white space behind it, which counts where more follows."""
        text = "".join(segment.text for segment in segments)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        certain = text.rstrip()
        return certain, text[len(certain) :]


def _of_text(extension: Format) -> Callable[[Transcript], str]:
    start, body = TEXT_FORMATS[extension]
    return lambda transcript: start + body(cues(transcript), 1)


FORMATS: dict[Format, Callable[[Transcript], str]] = {
    **{extension: _of_text(extension) for extension in TEXT_FORMATS},
    "json": to_json,
}
"""Each by its file extension, of a transcript that is whole in memory."""


def _gap_line(gap: Gap, after_ms: int, before_ms: int) -> Cue:
    """A line for what is missing, between the lines around it: a neighbour may have heard a little of it."""
    start = max(gap.start_ms, after_ms)
    end = min(gap.end_ms, before_ms)
    # Whole seconds: with milliseconds SubRip parsers take the text for a time line.
    text = f"[no transcript from {_seconds(gap.start_ms // 1000)} to {_seconds(-(-gap.end_ms // 1000))}]"
    return Cue(start, max(start, end), text)


def stated_gaps_s(text: str) -> int:
    """How many seconds without a transcript the lines of any text format say that there are."""
    clock = r"(\d{2,4}):(\d\d):(\d\d)"
    return sum(
        max(0, 3600 * (int(c) - int(a)) + 60 * (int(d) - int(b)) + int(f) - int(e))
        for a, b, e, c, d, f in re.findall(rf"\[no transcript from {clock} to {clock}\]", text)
    )


def _widened(cue: Cue, limit_ms: int) -> Cue:
    """Players drop cues without length, and Whisper makes some: give them a little of the pause behind them."""
    end = max(cue.end_ms, min(cue.start_ms + _SHORTEST_CUE_MS, limit_ms), cue.start_ms + 1)
    return Cue(cue.start_ms, end, cue.text)


def _clock(ms: int, point: str) -> str:
    return f"{_seconds(ms // 1000)}{point}{ms % 1000:03d}"


def _seconds(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _unlike_times(text: str) -> str:
    return re.sub(r"(?<=\d)\s*-->\s*(?=\d)", " -> ", text) if "-->" in text else text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
