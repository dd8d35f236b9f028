"""Transcript → txt, srt, vtt, tsv, json.

Touches: nothing. Each format is a pure function of the transcript; ``render`` makes any of them again from the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from controller.domain.documents import Format
from controller.transcript.model import Gap, Transcript

_SHORTEST_CUE_MS = 20


class Cue(NamedTuple):
    """A line with its time: what all text formats are made of."""

    start_ms: int
    end_ms: int
    text: str


def cues(transcript: Transcript) -> list[Cue]:
    """The transcript's lines in order, gaps as lines of their own; each ends after it starts and before the next
    starts.

    Line breaks inside a text would end a cue early in every format: they become spaces.
    """
    lines = [
        Cue(segment.start_ms, segment.end_ms, text)
        for segment in transcript.segments
        if (text := " ".join(segment.text.split()))
    ]
    lines += [_gap_line(gap, lines) for gap in transcript.gaps]
    lines.sort(key=lambda cue: cue.start_ms)
    return list(_widened(lines, transcript.duration_ms))


def to_txt(lines: Sequence[Cue]) -> str:
    """One line a segment."""
    return "".join(f"{cue.text}\n" for cue in lines)


def to_srt(lines: Sequence[Cue]) -> str:
    """SubRip: numbered from 1, hours always there. It has no escapes: what would read as a time line is changed."""
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_unlike_times(cue.text)}\n\n"
        for number, cue in enumerate(lines, 1)
    )


def to_vtt(lines: Sequence[Cue]) -> str:
    """WebVTT: ``&``, ``<`` and ``>`` escaped, so that a text is never markup nor a time line."""
    body = "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escaped(cue.text)}\n" for cue in lines
    )
    return f"WEBVTT\n{body}"


def to_tsv(lines: Sequence[Cue]) -> str:
    """Tab-separated, whole milliseconds, as Whisper writes it."""
    rows = "".join(f"{cue.start_ms}\t{cue.end_ms}\t{cue.text}\n" for cue in lines)
    return f"start\tend\ttext\n{rows}"


def to_json(transcript: Transcript) -> str:
    """Whisper's JSON and more, times in seconds."""
    return f"{transcript.model_dump_json()}\n"


_OF_LINES: dict[Format, Callable[[Sequence[Cue]], str]] = {"txt": to_txt, "srt": to_srt, "vtt": to_vtt, "tsv": to_tsv}


def every_format(transcript: Transcript) -> Iterator[tuple[Format, str]]:
    """All formats by file extension; what the text formats share is made once."""
    lines = cues(transcript)
    for extension, write in _OF_LINES.items():
        yield extension, write(lines)
    yield "json", to_json(transcript)


def _alone(write: Callable[[Sequence[Cue]], str]) -> Callable[[Transcript], str]:
    return lambda transcript: write(cues(transcript))


FORMATS: dict[Format, Callable[[Transcript], str]] = {
    **{extension: _alone(write) for extension, write in _OF_LINES.items()},
    "json": to_json,
}
"""Each by its file extension, for who wants one."""


def _gap_line(gap: Gap, lines: Sequence[Cue]) -> Cue:
    """A line for what is missing, between the lines around it: a neighbour may have heard a little of it."""
    start = max([gap.start_ms, *(cue.end_ms for cue in lines if cue.start_ms < gap.start_ms)])
    end = min([gap.end_ms, *(cue.start_ms for cue in lines if cue.start_ms >= gap.start_ms)])
    # Whole seconds: with milliseconds SubRip parsers take the text for a time line.
    text = f"[no transcript from {_seconds(gap.start_ms // 1000)} to {_seconds(-(-gap.end_ms // 1000))}]"
    return Cue(start, max(start, end), text)


def told_gaps_s(text: str) -> int:
    """How many seconds without a transcript the lines of any text format say that there are."""
    clock = r"(\d{2,4}):(\d\d):(\d\d)"
    return sum(
        max(0, 3600 * (int(c) - int(a)) + 60 * (int(d) - int(b)) + int(f) - int(e))
        for a, b, e, c, d, f in re.findall(rf"\[no transcript from {clock} to {clock}\]", text)
    )


def _widened(lines: list[Cue], end_ms: int) -> Iterator[Cue]:
    """Players drop cues without length, and Whisper makes some: give them a little of the pause behind them."""
    for cue, limit in zip(lines, [*(cue.start_ms for cue in lines[1:]), end_ms], strict=False):
        end = max(cue.end_ms, min(cue.start_ms + _SHORTEST_CUE_MS, limit), cue.start_ms + 1)
        yield Cue(cue.start_ms, end, cue.text)


def _clock(ms: int, point: str) -> str:
    return f"{_seconds(ms // 1000)}{point}{ms % 1000:03d}"


def _seconds(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _unlike_times(text: str) -> str:
    return re.sub(r"(?<=\d)\s*-->\s*(?=\d)", " -> ", text) if "-->" in text else text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
