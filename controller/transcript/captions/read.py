"""Reads SubRip and WebVTT files of any program.

Touches: nothing. Tolerates what players tolerate: missing hours, missing numbers, any line ends, settings, tags.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

_TIME = r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMES = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"</?(?:[biusvc]|ruby|rt|lang|font)(?:[.\s][^>]*)?>|<[\d:.]+>|\{\\[^}]*\}", re.IGNORECASE)
_NO_CUE = ("WEBVTT", "NOTE", "STYLE", "REGION", "X-TIMESTAMP-MAP")


class CaptionsInvalid(Exception):
    """A file that is neither SubRip nor WebVTT. The message says where and why."""


class FileCue(NamedTuple):
    """A cue of a file, without markup."""

    number: int
    """Counted from 1."""
    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark. Raises :class:`CaptionsInvalid`."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CaptionsInvalid(f"line {line}: is not {'UTF-16' if wide else 'UTF-8'}") from error


def file_cues(text: str) -> list[FileCue]:
    """The cues of a file. Raises :class:`CaptionsInvalid` if a time is not valid, or if there is no cue at all."""
    found: list[FileCue] = []
    vtt = text.lstrip().startswith("WEBVTT")
    blocks = ((at + first, piece) for at, block in _blocks(text) for first, piece in _cues_in(block, vtt=vtt))
    for at, block in blocks:
        head = next((index for index, line in enumerate(block[:3]) if "-->" in line), None)
        if head is None:
            if vtt and (block[0].startswith(_NO_CUE) or not found):
                continue
            if not found:
                raise CaptionsInvalid(f"line {at}: {block[0][:60]!r} is not a cue: it has no line with times")
            # A blank line in the text of a cue.
            found[-1] = found[-1]._replace(lines=found[-1].lines + _shown(block, vtt=vtt))
            continue
        start_ms, end_ms = _times(block[head], at + head)
        found.append(FileCue(len(found) + 1, start_ms, end_ms, _shown(block[head + 1 :], vtt=vtt)))
    if not found and not vtt and text.strip():
        raise CaptionsInvalid("has no cue")
    return found


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines between blank lines, with the number of their first one."""
    block: list[str] = []
    number = 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def _cues_in(block: list[str], *, vtt: bool) -> Iterator[tuple[int, list[str]]]:
    """The lines of each cue, with the index of their first one: blank lines may be missing between cues."""
    heads = [index for index, line in enumerate(block) if _TIMES.match(line)]
    # The lines before the first time are a number or a name, unless there are many.
    inside = heads if heads and heads[0] > 2 else heads[1:]
    starts = [index - 1 if not vtt and _is_cue_number(block[index - 1]) else index for index in inside]
    for start, end in pairwise([0, *starts, len(block)]):
        yield start, block[start:end]


def _is_cue_number(line: str) -> bool:
    return line.strip().isdecimal()


def _times(line: str, number: int) -> tuple[int, int]:
    found = _TIMES.match(line)
    if not found:
        raise CaptionsInvalid(f"line {number}: {line[:60]!r} has no valid times (HH:MM:SS,mmm --> HH:MM:SS,mmm)")
    parts = found.groups()
    return _ms(*parts[:4]), _ms(*parts[4:])


def _ms(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _shown(lines: list[str], *, vtt: bool) -> tuple[str, ...]:
    """The lines as a player shows them."""
    plain = (_TAG.sub("", line).strip() for line in lines)
    return tuple(html.unescape(line) if vtt else line for line in plain if line)
