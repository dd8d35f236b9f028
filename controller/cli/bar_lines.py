"""Draws when the attempts of a run waited and worked as lines of text.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.text import Text

from controller.cli.fitting import Space, flowing, heading
from controller.reports.figures import clock, ticks, took
from controller.reports.marks import BAR_WORDS
from controller.reports.run_view import BarKind, Timeline, TimelineRow

_Cell = BarKind | Literal["break", "nothing"]

_SIGNS: Mapping[_Cell, tuple[str, str]] = {
    "queued": ("·", "dim"),
    "starting": ("░", "yellow"),
    "loading": ("▒", "blue"),
    "decoding": ("█", "green"),
    "committing": ("▓", "magenta"),
    "running": ("▆", "cyan"),
    "failed": ("×", "red"),
    "unseen": ("?", "yellow"),
    "break": ("┊", "dim"),
    "nothing": (" ", ""),
}
_CRITICAL = "◆"
_NARROW = 50
"""A narrower terminal shows no times behind the bars."""
_TOOK = 10
"""Columns of the time behind each bar."""


def timeline_height(line: Timeline, space: Space) -> int:
    """How many lines the timeline has where there is room for all."""
    return 2 + len(_key(line, space)) + len(line.rows) + (line.left_out > 0)


def timeline_lines(line: Timeline, space: Space, height: int) -> list[Text]:
    """At most *height* lines: a key, an axis, and as many chunks as there is room for, those that matter most."""
    key = _key(line, space)
    if height < len(key) + 4:
        key = key[: max(1, height - 4)]
    title = f"{'Timeline' if line.absolute else 'Time of each job'}, {took(line.total_ms)}"
    digits = max(3, len(str(max((row.span or 0 for row in line.rows), default=0))))
    # Before a bar are the flag of the critical path and the number of the chunk, behind it is its time.
    before = digits + 3
    width = max(1, space.width - before - (_TOOK + 1 if space.width >= _NARROW else 0))
    head = [heading(title, space), *key, _axis(line, space, before, width)]
    free = max(0, height - len(head))
    rows, left_out = line.rows, line.left_out
    if len(rows) + (left_out > 0) > free:
        kept = sorted(rows, key=_worth, reverse=True)[: max(0, free - 1)]
        left_out += len(rows) - len(kept)
        rows = tuple(sorted(kept, key=lambda row: -1 if row.span is None else row.span))
    lines = [*head, *(_row(row, line, space, digits, width) for row in rows)]
    if left_out:
        lines.append(space.line((f"{left_out} more chunks are not shown", "dim")))
    return lines


def _worth(row: TimelineRow) -> tuple[bool, bool, int]:
    """Which rows are kept: on the critical path, with failures, and the latest."""
    return row.critical, any(bar.kind in ("failed", "unseen") for bar in row.bars), row.bars[-1].end_ms


def _key(line: Timeline, space: Space) -> list[Text]:
    kinds = {bar.kind for row in line.rows for bar in row.bars}
    signs = [(*_SIGNS[kind], words) for kind, words in BAR_WORDS.items() if kind in kinds]
    if any(row.critical for row in line.rows):
        signs.append((_CRITICAL, "bold", "critical path"))
    parts = [space.line((space.sign(sign), style), (f" {words}", "")) for sign, style, words in signs]
    return flowing(space, parts, "   ")


def _axis(line: Timeline, space: Space, before: int, width: int) -> Text:
    text = "0:00"
    for at in ticks(line.total_ms):
        column = round(width * at / line.total_ms)
        if column > len(text) and column + len(clock(at)) <= width:
            text = f"{text:<{column}}{clock(at)}"
    return space.line((" " * before + text, "dim"))


def _row(row: TimelineRow, line: Timeline, space: Space, digits: int, width: int) -> Text:
    label = "cut" if row.span is None else str(row.span)
    text = Text(no_wrap=True)
    text.append(f"{space.sign(_CRITICAL) if row.critical else ' '} ", "bold")
    text.append(f"{label:>{digits}} ")
    space.signs(text, (_SIGNS[cell] for cell in _cells(row, line, width)))
    if space.width >= _NARROW:
        text.append(f" {took(row.bars[-1].end_ms - row.bars[0].start_ms):>{_TOOK}}", "dim")
    return space.cut(text)


def _cells(row: TimelineRow, line: Timeline, width: int) -> Sequence[_Cell]:
    """What fills each column: what was done during most of its time. A failure is never hidden by it."""
    a_column = line.total_ms / width
    longest = [0.0] * width
    cells: list[_Cell] = ["nothing"] * width
    for at_ms, _ in line.breaks:
        cells[min(width - 1, int(at_ms / a_column))] = "break"
    for bar in row.bars:
        first = min(width - 1, int(bar.start_ms / a_column))
        for column in range(first, min(width, max(first + 1, -int(-bar.end_ms // a_column)))):
            part = min(bar.end_ms, (column + 1) * a_column) - max(bar.start_ms, column * a_column)
            if part > longest[column]:
                longest[column], cells[column] = part, bar.kind
    for bar in row.bars:
        if bar.kind == "failed":
            cells[min(width - 1, max(0, -int(-bar.end_ms // a_column) - 1))] = "failed"
    return cells
