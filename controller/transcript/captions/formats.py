"""Captions → srt, vtt, ass, lrc.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from controller.domain.output import Format
from controller.transcript.captions.layout import Line
from controller.transcript.captions.stream import Caption
from controller.transcript.captions.width import RIGHT_TO_LEFT_MARK, is_right_to_left
from controller.transcript.formats import clock, escaped, unlike_times, voiced

_ASS_START = """[Script Info]
ScriptType: v4.00+
WrapStyle: 0
ScaledBorderAndShadow: yes
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,60,&H00FFFFFF,&H0000FFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,60,60,60,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""

_Mark = Callable[[str], str]


class CaptionFormat(NamedTuple):
    """A format of captions."""

    start: str
    """The header, before all captions."""
    body: Callable[[Sequence[Caption], int, bool], str]
    """Formats some captions. *first*: the number of the first one. *highlight*: mark each word while it is spoken."""


def to_srt(captions: Sequence[Caption], first: int, highlight: bool) -> str:  # noqa: FBT001
    """SubRip. In a cue of two speakers, each line starts with a dash."""
    shown = [one for caption in captions for one in _shown(caption, unlike_times, highlight=highlight, dashes=True)]
    return "".join(
        f"{number}\n{clock(start_ms, ',')} --> {clock(end_ms, ',')}\n{chr(10).join(lines)}\n\n"
        for number, (start_ms, end_ms, lines) in enumerate(shown, first)
    )


def to_vtt(captions: Sequence[Caption], _: int, highlight: bool) -> str:  # noqa: FBT001
    """WebVTT. Each line of a known speaker has a voice tag."""
    parts = []
    for caption in captions:
        for start_ms, end_ms, lines in _shown(caption, escaped, highlight=highlight, dashes=False):
            text = "\n".join(voiced(one, line[0].speaker) for one, line in zip(lines, caption.lines, strict=True))
            parts.append(f"\n{clock(start_ms, '.')} --> {clock(end_ms, '.')}\n{text}\n")
    return "".join(parts)


def to_ass(captions: Sequence[Caption], _: int, highlight: bool) -> str:  # noqa: FBT001
    """Advanced SubStation Alpha. A highlighted word changes its colour when it starts."""
    rows = []
    for caption in captions:
        lines = _karaoke(caption) if highlight else list(_lines(caption, _ass_text, dashes=True))
        name = (caption.lines[0][0].speaker or "").replace(",", " ")
        times = f"{_centiseconds(caption.start_ms)},{_centiseconds(caption.end_ms)}"
        rows.append(f"Dialogue: 0,{times},Default,{name},0,0,0,," + "\\N".join(lines))
    return "".join(f"{row}\n" for row in rows)


def to_lrc(captions: Sequence[Caption], _: int, highlight: bool) -> str:  # noqa: FBT001
    """Lyrics: one line for each cue, with its start; with the start of each word if words are highlighted."""
    rows = []
    for caption in captions:
        lines = _timed_words(caption) if highlight else _lines(caption, str, dashes=True)
        rows.append(f"[{_minutes(caption.start_ms)}]{' '.join(lines)}\n")
    return "".join(rows)


CAPTION_FORMATS: dict[Format, CaptionFormat] = {
    "srt": CaptionFormat("", to_srt),
    "vtt": CaptionFormat("WEBVTT\n", to_vtt),
    "ass": CaptionFormat(_ASS_START, to_ass),
    "lrc": CaptionFormat("", to_lrc),
}
"""By file extension."""


def first_cues(captions: Sequence[Caption], *, highlight: bool) -> int:
    """How many cues of SubRip some captions are."""
    return sum(len(list(_moments(caption))) if highlight else 1 for caption in captions)


def _shown(caption: Caption, mark: _Mark, *, highlight: bool, dashes: bool) -> Iterator[tuple[int, int, list[str]]]:
    """What is on the screen, and when: with highlighted words, once for each word."""
    if not highlight:
        yield caption.start_ms, caption.end_ms, list(_lines(caption, mark, dashes=dashes))
        return
    for start_ms, end_ms, number in _moments(caption):
        yield start_ms, end_ms, list(_lines(caption, mark, dashes=dashes, underlined=number))


def _moments(caption: Caption) -> Iterator[tuple[int, int, int]]:
    """When each word is highlighted: from its start to that of the next one. The last lasts to the end of the cue."""
    tokens = [token for line in caption.lines for token in line]
    starts = [caption.start_ms, *(token.start_ms for token in tokens[1:]), caption.end_ms]
    start_ms = caption.start_ms
    for number in range(len(tokens)):
        end_ms = caption.end_ms if number + 1 == len(tokens) else min(starts[number + 1], caption.end_ms)
        if end_ms > start_ms:
            yield start_ms, end_ms, number
            start_ms = end_ms


def _lines(caption: Caption, mark: _Mark, *, dashes: bool, underlined: int | None = None) -> Iterator[str]:
    """The text of each line."""
    several = dashes and len({line[0].speaker for line in caption.lines}) > 1
    number = 0
    for line in caption.lines:
        text = "- " if several else ""
        for index, token in enumerate(line):
            word = mark(token.text)
            text += f"{' ' if token.spaced and index else ''}{f'<u>{word}</u>' if number == underlined else word}"
            number += 1
        yield _directed(text, line)


def _directed(text: str, line: Line) -> str:
    """Punctuation at both ends of a line of a right-to-left script stays on its side, in any player."""
    right_to_left = is_right_to_left("".join(token.text for token in line))
    return f"{RIGHT_TO_LEFT_MARK}{text}{RIGHT_TO_LEFT_MARK}" if right_to_left else text


def _karaoke(caption: Caption) -> list[str]:
    """The lines with the duration of each word, in hundredths of a second."""
    at_ms = caption.start_ms
    tokens = [token for line in caption.lines for token in line]
    ends = [*(max(at_ms, min(token.start_ms, caption.end_ms)) for token in tokens[1:]), caption.end_ms]
    lines, number = [], 0
    for line in caption.lines:
        text = ""
        for index, token in enumerate(line):
            duration = max(0, ends[number] // 10 - at_ms // 10)
            at_ms = max(at_ms, ends[number])
            text += f"{{\\k{duration}}}{' ' if token.spaced and index else ''}{_ass_text(token.text)}"
            number += 1
        lines.append(_directed(text, line))
    return lines


def _timed_words(caption: Caption) -> Iterator[str]:
    """The lines with the start of each word."""
    for line in caption.lines:
        text = ""
        for index, token in enumerate(line):
            start_ms = min(max(token.start_ms, caption.start_ms), caption.end_ms)
            text += f"{' ' if token.spaced and index else ''}<{_minutes(start_ms)}>{token.text}"
        yield _directed(text, line)


def _ass_text(text: str) -> str:
    # Braces contain commands, and a backslash starts one. Neither can be escaped in every player.
    return text.replace("{", "｛").replace("}", "｝").replace("\\", "＼")


def _centiseconds(ms: int) -> str:
    seconds = ms // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms % 1000 // 10:02d}"


def _minutes(ms: int) -> str:
    return f"{ms // 60_000:02d}:{ms // 1000 % 60:02d}.{ms % 1000 // 10:02d}"
