"""Transcript → txt, srt, vtt, tsv, json.

Touches: nothing. Each format is a pure function of the transcript; ``render`` creates any of them again from the JSON.
The segments can be added a few at a time, so that a long transcript is never completely in memory.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pydantic_core
from pydantic import TypeAdapter

from chunk_job.segment import Segment
from controller.domain.output import Format
from controller.transcript.model import Gap, Transcript, TranscriptSummary

_SHORTEST_CUE_MS = 20

_SEGMENTS = TypeAdapter(list[Segment])
_TIME = r"(\d{2,4}):(\d\d):(\d\d)"
_STATED_GAP = re.compile(rf"\[no transcript(?: from)? {_TIME} to {_TIME}\]")
"""As :func:`gap_line` writes it; earlier versions left out the first word."""


class Cue(NamedTuple):
    """A line with its time. All text formats consist of cues."""

    start_ms: int
    end_ms: int
    text: str
    speaker: str | None = None

    @property
    def attributed(self) -> str:
        """The text after the name of its speaker, if that is known."""
        return f"{self.speaker}: {self.text}" if self.speaker else self.text


class CueStream:
    """The cues of a transcript in order, with a cue for each gap. Each ends before the next starts.

    Line breaks inside a text would end a cue early in every format, so they become spaces.
    """

    def __init__(self, gaps: Sequence[Gap], duration_ms: int) -> None:
        """*gaps*: all gaps, in order."""
        self._gaps = deque(gaps)
        self._duration_ms = duration_ms
        self._longest_ms = 0
        """The latest end of all segments so far."""
        self._gap_lines: list[tuple[int, int, Cue]] = []
        """A heap of the cues of gaps, by start and order: cues of segments may still come before them."""
        self._last: Cue | None = None
        """Not returned yet: its end depends on the next cue."""

    def add(self, segments: Sequence[Segment]) -> list[Cue]:
        """Add the next *segments*, and return the cues that are complete now."""
        found: list[Cue] = []
        for segment in segments:
            if text := " ".join(segment.text.split()):
                if self._gaps or self._gap_lines:
                    self._put_gaps(found, segment.start_ms)
                self._longest_ms = max(self._longest_ms, segment.end_ms)
                self._put(found, Cue(segment.start_ms, segment.end_ms, text, segment.speaker))
        return found

    def finish(self) -> list[Cue]:
        """The remaining cues, after the last segment."""
        found: list[Cue] = []
        self._put_gaps(found, None)
        if self._last:
            found.append(_widened(self._last, self._duration_ms))
        return found

    def _put_gaps(self, found: list[Cue], next_ms: int | None) -> None:
        """Add the cues of gaps that start before *next_ms*, the start of the next segment; None: there is none."""
        while self._gaps and (next_ms is None or self._gaps[0].start_ms <= next_ms):
            gap = self._gaps.popleft()
            line = gap_line(gap, self._longest_ms, gap.end_ms if next_ms is None else next_ms)
            heapq.heappush(self._gap_lines, (line.start_ms, -len(self._gaps), line))
        # Of cues with the same start, that of the gap is the last.
        while self._gap_lines and (next_ms is None or self._gap_lines[0][0] < next_ms):
            self._put(found, heapq.heappop(self._gap_lines)[2])

    def _put(self, found: list[Cue], cue: Cue) -> None:
        if self._last:
            found.append(_widened(self._last, cue.start_ms))
        self._last = cue


def cues(transcript: Transcript) -> list[Cue]:
    """All cues of a transcript."""
    stream = CueStream(transcript.gaps, transcript.duration_ms)
    return [*stream.add(transcript.segments), *stream.finish()]


def to_txt(lines: Sequence[Cue], _: int = 1) -> str:
    """One line per segment."""
    return "".join(f"{cue.attributed}\n" for cue in lines)


def to_srt(lines: Sequence[Cue], first: int = 1) -> str:
    """SubRip: numbered, always with hours. It has no escapes, so text that looks like a time line is changed."""
    return "".join(
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n{unlike_times(cue.attributed)}\n\n"
        for number, cue in enumerate(lines, first)
    )


def to_vtt(lines: Sequence[Cue], _: int = 1) -> str:
    """WebVTT: ``&``, ``<`` and ``>`` are escaped, so that text is never read as markup or as a time line."""
    return "".join(
        f"\n{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n{voiced(escaped(cue.text), cue.speaker)}\n"
        for cue in lines
    )


def to_tsv(lines: Sequence[Cue], _: int = 1) -> str:
    """Tab-separated, whole milliseconds, as Whisper writes it."""
    return "".join(f"{cue.start_ms}\t{cue.end_ms}\t{cue.attributed}\n" for cue in lines)


class TextFormat(NamedTuple):
    """A format that consists of cues."""

    start: str
    """The header, before all cues."""
    body: Callable[[Sequence[Cue], int], str]
    """Formats some cues. The number is that of the first one, counted from 1."""


TEXT_FORMATS: dict[Format, TextFormat] = {
    "txt": TextFormat("", to_txt),
    "srt": TextFormat("", to_srt),
    "vtt": TextFormat("WEBVTT\n", to_vtt),
    "tsv": TextFormat("start\tend\ttext\n", to_tsv),
}


def to_json(transcript: Transcript) -> str:
    """A superset of Whisper's JSON, with times in seconds. It consists of the parts below."""
    return f"{transcript.model_dump_json()}\n"


JSON_START = b'{"text":"'
"""The bytes before the text in :func:`to_json`."""
JSON_SEGMENTS = b'","segments":['
"""The bytes between the text and the segments."""
JSON_SUMMARY = b"],"
"""The bytes between the segments and the summary."""


def json_text(text: str) -> bytes:
    """A part of a text, encoded for a JSON string."""
    return pydantic_core.to_json(text)[1:-1]


def json_segments(segments: Sequence[Segment]) -> bytes:
    """Some segments as JSON, with commas between them."""
    return _SEGMENTS.dump_json(list(segments), by_alias=True)[1:-1]


def json_summary(summary: TranscriptSummary) -> bytes:
    """The JSON after the segments, to the end."""
    return summary.model_dump_json()[1:].encode() + b"\n"


class StrippedText:
    """Joins the texts of all segments without white space at both ends, one part at a time."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, segments: Sequence[Segment]) -> tuple[str, str]:
        """The text of *segments*, and separately its trailing white space, which is used only if more text follows."""
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
"""By file extension: the function that formats a complete transcript."""


def gap_line(gap: Gap, after_ms: int, before_ms: int) -> Cue:
    """The cue of a gap, between its neighbours: they may have transcribed a bit of it."""
    start = max(gap.start_ms, after_ms)
    end = min(gap.end_ms, before_ms)
    # Whole seconds: with milliseconds SubRip parsers read the text as a time line.
    text = f"[no transcript from {_seconds(gap.start_ms // 1000)} to {_seconds(-(-gap.end_ms // 1000))}]"
    return Cue(start, max(start, end), text)


def stated_gaps_s(text: str) -> int:
    """The total length of the gaps, in seconds, that the lines in *text* state, in any text format."""
    return sum(
        max(0, 3600 * (int(c) - int(a)) + 60 * (int(d) - int(b)) + int(f) - int(e))
        for a, b, e, c, d, f in _STATED_GAP.findall(text)
    )


def without_stated_gaps(text: str) -> str:
    """*text* without what states gaps in it."""
    return _STATED_GAP.sub(" ", text)


def _widened(cue: Cue, limit_ms: int) -> Cue:
    """Extend a cue of length 0 into the pause after it: Whisper creates such cues, and players ignore them."""
    end = max(cue.end_ms, min(cue.start_ms + _SHORTEST_CUE_MS, limit_ms), cue.start_ms + 1)
    return cue._replace(end_ms=end)


def clock(ms: int, point: str) -> str:
    """A time as in subtitles, with *point* before the milliseconds."""
    return f"{_seconds(ms // 1000)}{point}{ms % 1000:03d}"


def _seconds(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def unlike_times(text: str) -> str:
    """A text without anything that SubRip parsers would read as a time line."""
    return re.sub(r"(?<=\d)\s*-->\s*(?=\d)", " -> ", text) if "-->" in text else text


def voiced(text: str, speaker: str | None) -> str:
    """An escaped text of WebVTT, with the name of its speaker if that is known."""
    return f"<v {escaped(speaker)}>{text}</v>" if speaker else text


def escaped(text: str) -> str:
    """A text of WebVTT that contains no markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
