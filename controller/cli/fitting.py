"""Text that fits a terminal: cut and wrapped by columns, with signs that it can show.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from chunk_job.text import printable
from controller.reports.marks import Tone

STYLES: Mapping[Tone, str] = {"good": "green", "warn": "yellow", "bad": "red", "live": "cyan", "off": "dim"}
"""Colours by what they mean; a sign and words say it too."""

_PLAIN = {
    "✓": "=", "✕": "X", "▶": ">", "↑": "^", "…": ".", "↻": "!", "·": "-", "◐": "%", "■": "#", "‖": "|", "◆": "*",
    "│": "|", "─": "-", "━": "=", "░": ":", "▒": "+", "█": "#", "▓": "%", "▆": "~", "×": "x", "┊": "'",
}  # fmt: skip
"""Signs for terminals without these characters."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A terminal, or the part of it that is free."""

    width: int
    """Columns."""
    height: int
    """Lines."""
    encoding: str = "utf-8"
    """Of the characters that it can show."""
    plain: bool = False
    """Whether signs are drawn in ASCII."""

    @property
    def between(self) -> str:
        """What stands between two figures."""
        return " | " if self.plain else " · "

    def sign(self, sign: str) -> str:
        """*sign*, or what stands for it."""
        return _PLAIN.get(sign, sign) if self.plain else sign

    def safe(self, text: str) -> str:
        """Untrusted *text* as one line of characters that the terminal can show."""
        line = printable(" ".join(text.split("\n")))
        return line.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def line(self, *parts: tuple[str, str]) -> Text:
        """Parts with their styles as one line, cut at the width."""
        text = Text(no_wrap=True)
        for part, style in parts:
            text.append(self.safe(part), style)
        return self.cut(text)

    def signs(self, text: Text, signs: Iterable[tuple[str, str]]) -> None:
        """Append *signs* with their styles to *text*; equal ones that follow each other as one part."""
        for (sign, style), some in groupby(signs):
            text.append(self.sign(sign) * len(list(some)), style)

    def cut(self, text: Text) -> Text:
        """*text*, cut at the width, with dots at its end if something is missing."""
        if text.cell_len > self.width:
            dots = "..." if self.plain else "…"
            text.truncate(max(0, self.width - len(dots)))
            text.append(dots[: self.width])
        return text

    def bar(self, share: float, width: int) -> str:
        """A bar of *width* columns with a *share* of it filled."""
        full = round(width * min(1.0, max(0.0, share)))
        return self.sign("━") * full + self.sign("─") * (width - full)


def heading(text: str, space: Space) -> Text:
    """The first line of a section."""
    rule = space.sign("─")
    return space.line(
        (f"{rule}{rule} ", "dim"), (text, "bold"), (f" {rule * max(0, space.width - len(text) - 4)}", "dim")
    )


def wrapped(space: Space, text: str, *, most: int, indent: int = 0, style: str = "") -> list[Text]:
    """Untrusted *text* on at most *most* lines; words are kept whole where they fit."""
    lines, width = [""], max(1, space.width - indent)
    for word in space.safe(text).split():
        if not lines[-1]:
            lines[-1] = word
        elif cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines[most - 1 :] = [" ".join(lines[most - 1 :])]
    return [space.line((" " * indent + line, style)) for line in lines if line]


def flowing(space: Space, parts: Sequence[Text], between: str) -> list[Text]:
    """*parts* one after the other on as few lines as possible; none is divided unless it is wider than a line."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(between) + part.cell_len <= space.width:
            lines[-1].append(between).append(part)
        else:
            lines.append(part.copy())
    return [space.cut(line) for line in lines]


def shares(height: int, wants: Sequence[tuple[int, int]]) -> list[int]:
    """Divide *height* lines: *wants* has the least and the most that each takes, the most important first.

    Each gets its least if there is room for it, else nothing. The rest is dealt evenly.
    """
    given = []
    for least, most in wants:
        given.append(min(least, most) if min(least, most) <= height else 0)
        height -= given[-1]
    while height > 0:
        hungry = [at for at, (_, most) in enumerate(wants) if 0 < given[at] < most]
        if not hungry:
            break
        for at in hungry[:height]:
            given[at] += 1
        height -= len(hungry[:height])
    return given
