"""The words of a transcript or a reference, with what is known of each: its line, time and speaker.

Touches: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chunk_job.segment import Segment
from controller.transcript.captions.read import FileCue
from controller.transcript.captions.tokens import Token, tokens_of, tokens_of_text
from controller.transcript.captions.width import without_spaces
from controller.transcript.clean_text import cleaned
from controller.transcript.formats import without_stated_gaps
from controller.transcript.model import Chunk

Unit = Literal["words", "characters"]
"""What is counted: words, or characters in scripts that put no spaces between words."""

_WIDEST = 1 << 30
_LINE_END = re.compile(r"\r\n|[\r\n]")
"""Where editors begin a new line. Other separators divide words."""


class Word(NamedTuple):
    """A word as it is written."""

    text: str
    line: int
    """Number of its line, segment or cue in the file, counted from 0: those without words count too."""
    spaced: bool
    """A space is before it, or the beginning of a line."""
    start_ms: int | None = None
    """None: not known."""
    end_ms: int | None = None
    speaker: str | None = None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A transcript or a reference."""

    words: Sequence[Word]
    language: str | None = None
    chunks: Sequence[Chunk] = ()
    """Of a transcript that says how it was cut."""

    @property
    def has_speakers(self) -> bool:
        """Whether any of its words names its speaker."""
        return any(word.speaker for word in self.words)


def of_segments(segments: Iterable[Sequence[Segment]]) -> list[Word]:
    """The words of segments, with times: where segments have no words, their time is shared by its width."""
    every = (segment for some in segments for segment in some)
    return [word for line, segment in enumerate(every) for word in _words(line, tokens_of(segment, _WIDEST))]


def of_cues(cues: Sequence[FileCue]) -> list[Word]:
    """The words of captions; a cue shares its time among its words. What states a gap is left out."""
    texts = ((cue, without_stated_gaps(cleaned(" ".join(cue.lines))[0])) for cue in cues)
    return [
        word
        for cue, text in texts
        for word in _words(cue.number - 1, tokens_of_text(text, cue.start_ms, max(cue.start_ms, cue.end_ms), _WIDEST))
    ]


def of_lines(text: str) -> list[Word]:
    """The words of plain text, without times. What states a gap is left out."""
    lines = (without_stated_gaps(cleaned(line)[0]) for line in _LINE_END.split(text))
    return [
        word._replace(start_ms=None, end_ms=None)
        for number, line in enumerate(lines)
        for word in _words(number, tokens_of_text(line, 0, 0, _WIDEST))
    ]


def unit_of(words: Sequence[Word]) -> Unit:
    """Characters, if most letters of a text are of a script without spaces between words."""
    letters = [character for word in words for character in word.text if character.isalpha()]
    return "characters" if 2 * sum(map(without_spaces, letters)) > len(letters) else "words"


def whole(words: Sequence[Word]) -> list[Word]:
    """Words that no space divides, joined. Each begins with its first part."""
    found: list[Word] = []
    for word in words:
        if found and not word.spaced and word.line == found[-1].line:
            found[-1] = found[-1]._replace(text=found[-1].text + word.text, end_ms=word.end_ms)
        else:
            found.append(word)
    return found


def _words(line: int, tokens: Iterable[Token]) -> Iterator[Word]:
    for number, token in enumerate(tokens):
        spaced = token.spaced or not number
        yield Word(token.text, line, spaced, token.start_ms, token.end_ms, token.speaker)
