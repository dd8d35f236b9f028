"""Draws runs as lines of text that fit a terminal: chunks, jobs, failures and when attempts worked.

Touches: nothing. The same view as page and report (:class:`RunView`). Its text is untrusted: each part of it is escaped
and cut here, and never read as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.text import Text

from controller.cli.bar_lines import timeline_height, timeline_lines
from controller.cli.fitting import STYLES, Space, flowing, heading, shares, wrapped
from controller.reports.cost import amount
from controller.reports.figures import clock, lost_attempts, took
from controller.reports.marks import CHUNK_STATES, RUN_STATES
from controller.reports.run_view import ChunkGrid, ChunkMark, ChunkView, Failure, Header, RunView

_GROUP = 10
"""Chunks between two spaces."""
_MOST_GRID_LINES = 8
_MOST_LOG_LINES = 3
"""Log lines of a failure; ``stenofleet logs`` has all."""
_WORST: Sequence[ChunkMark] = ("lost", "retry", "running", "starting", "queued", "waiting", "again", "done")
"""Which of several chunks is shown where there is no room for each."""
_AT_WORK = ("running", "starting", "queued")


class _Section(NamedTuple):
    """A part of the picture of a run, and how many lines it takes."""

    least: int
    most: int
    draw: Callable[[int], list[Text]]
    """Its lines: at most as many as given."""
    order: int
    """Where it is."""


def picture(views: Sequence[RunView], space: Space) -> list[Text]:
    """*views* as at most ``space.height`` lines of at most ``space.width`` columns; those not ended come first."""
    if len(views) == 1:
        return _run(views[0], space, space.height)
    ordered = sorted(views, key=lambda view: view.header.state not in ("running", "waiting"))
    lines = [_overall(views, space)] if space.height > 1 else []
    free = space.height - len(lines)
    shown = ordered if len(ordered) <= free else ordered[: max(0, free - 1)]
    wants = [(1, 1 if view.header.state == "complete" else len(_run(view, space, space.height))) for view in shown]
    more = len(ordered) - len(shown)
    for view, height in zip(shown, shares(free - (more > 0), wants), strict=True):
        lines += _run(view, space, height)
    if more and len(lines) < space.height:
        lines.append(space.line((f"{more} more runs are not shown", "dim")))
    return lines


def _overall(views: Sequence[RunView], space: Space) -> Text:
    counts = Counter(view.header.state for view in views)
    parts = [
        f"{len(views)} runs",
        *(f"{counts[state]} {RUN_STATES[state].word}" for state in RUN_STATES if counts[state]),
    ]
    return space.line((space.between.join(parts), "bold"))


def _run(view: RunView, space: Space, height: int) -> list[Text]:
    """One run, in at most *height* lines: in one line its state and its progress, else what there is room for."""
    if height <= 1:
        return [_in_one_line(view.header, space)][:height]
    sections = [one for one in _sections(view, space) if one.most]
    given = shares(height, [(one.least, one.most) for one in sections])
    drawn = zip(sections, given, strict=True)
    return [
        line
        for one, count in sorted(drawn, key=lambda pair: pair[0].order)
        if count
        for line in one.draw(count)[:count]
    ]


def _sections(view: RunView, space: Space) -> Iterator[_Section]:
    """The parts of a picture, the most important first."""
    header, grid = view.header, view.grid
    yield _Section(1, 1, lambda _: [_title(header, space)], order=0)
    if header.state in ("running", "waiting"):
        yield _Section(1, 1, lambda _: [_progress(header, space)], order=1)
    if header.state != "complete" and (header.summary or header.advice):
        parts = wrapped(space, header.summary, most=3)
        parts += wrapped(space, f"What to do: {header.advice}", most=3) if header.advice else []
        yield _Section(1, len(parts), lambda _: parts, order=2)
    if grid.marks:
        counts = _counts(grid, space)
        rows = min(_MOST_GRID_LINES, -(-len(grid.marks) // _per_row(len(grid.marks), space)))
        yield _Section(3, 1 + len(counts) + rows, lambda count: _chunks(grid, counts, space, count), order=5)
    failed = list(_failed(view, space))
    if failed:
        lines = sum(map(len, failed))
        yield _Section(4, 1 + lines, lambda count: _failures(header, failed, space, count), order=7)
    jobs = sorted((one for one in grid.chunks if one.state in _AT_WORK), key=lambda one: _AT_WORK.index(one.state))
    if jobs:
        yield _Section(2, 1 + len(jobs), lambda count: _jobs(jobs, space, count), order=6)
    if view.timeline:
        line = view.timeline
        most = timeline_height(line, space)
        yield _Section(min(5, most), most, lambda count: timeline_lines(line, space, count), order=8)
    figures = flowing(space, [space.line((one, "")) for one in _figures(header)], space.between)
    yield _Section(1, len(figures), lambda count: figures[:count], order=3)
    warnings = [wrapped(space, f"Warning: {one}", most=3, style="yellow") for one in view.findings.warnings]
    yield _Section(1, sum(map(len, warnings)), lambda count: _warnings(warnings, space, count), order=4)


# ---------------------------------------------------------------- the run as a whole


def _title(header: Header, space: Space) -> Text:
    sign, word, tone = RUN_STATES[header.state]
    return space.line((f"{space.sign(sign)} {word}", f"bold {STYLES[tone]}"), ("  ", ""), (header.name, "bold"))


def _progress(header: Header, space: Space) -> Text:
    text = f" {header.percent:3.0f} %" + (f", about {took(header.left_ms)} left" if header.left_ms is not None else "")
    return space.line((space.bar(header.percent / 100, max(0, min(60, space.width - len(text)))), "cyan"), (text, ""))


def _in_one_line(header: Header, space: Space) -> Text:
    sign, word, tone = RUN_STATES[header.state]
    live = header.state in ("running", "waiting")
    left = f", about {took(header.left_ms)} left" if header.left_ms is not None else ""
    return space.line(
        (f"{space.sign(sign)} {word}", STYLES[tone]),
        (f" {header.percent:3.0f} %" if live else "", ""),
        ("  ", ""),
        (header.name, "bold"),
        (f"  {_chunks_done(header)}{left}", "dim"),
    )


def _chunks_done(header: Header) -> str:
    return f"{header.chunks_done} of {header.chunks_known}{'' if header.planned else '+'} chunks"


def _figures(header: Header) -> Iterator[str]:
    """The figures of a run, as its page names them."""
    if header.duration_ms is not None:
        yield f"length {clock(header.duration_ms)}"
    if header.took_ms is not None:
        yield f"took {took(header.took_ms)}" + (f" ({header.speed:.1f} x real time)" if header.speed else "")
    if header.compute_ms:
        kind = "GPU time" if header.on_gpu else "CPU time" if header.devices else "job time"
        yield f"{kind} {took(header.compute_ms)}"
    if header.cost is not None and header.hour_price is not None:
        yield f"cost {amount(header.cost)} (at {amount(header.hour_price)} an hour)"
    if header.useful_share is not None:
        yield f"useful {100 * header.useful_share:.0f} %"
    yield _chunks_done(header)
    if header.failures:
        yield f"failed attempts {header.failures}"
    if header.words is not None:
        yield f"{header.words} words"
    if header.language:
        yield f"language {header.language}"
    if header.model:
        yield f"model {header.model}"
    yield f"run {header.run}"


def _warnings(warnings: Sequence[Sequence[Text]], space: Space, height: int) -> list[Text]:
    lines = [line for one in warnings for line in one]
    if len(lines) <= height:
        return lines
    return [*lines[: height - 1], space.line((f"{len(warnings)} warnings in all: stenofleet report", "yellow"))]


# ---------------------------------------------------------------- the chunks


def _counts(grid: ChunkGrid, space: Space) -> list[Text]:
    """The key of the signs, with the number of each."""
    counts = grid.counts
    parts = [
        space.line((f"{space.sign(mark.sign)} {mark.word} {counts[name]}", STYLES[mark.tone]))
        for name, mark in CHUNK_STATES.items()
        if counts[name]
    ]
    return flowing(space, parts, "   ")


def _per_row(chunks: int, space: Space) -> int:
    """How many chunks a line has, in groups, after the number of its first one."""
    free = space.width - len(str(chunks)) - 1
    return max(1, (free + 1) // (_GROUP + 1) * _GROUP or free)


def _chunks(grid: ChunkGrid, counts: Sequence[Text], space: Space, height: int) -> list[Text]:
    key = list(counts[: max(1, height - 2)])
    rows = max(1, height - 1 - len(key))
    per_row = _per_row(len(grid.marks), space)
    each = -(-len(grid.marks) // (rows * per_row))
    note = f" ({each} to a sign: the worst of them)" if each > 1 else ""
    lines = [heading(f"Chunks{note}", space), *key]
    cells = [min(grid.marks[at : at + each], key=_WORST.index) for at in range(0, len(grid.marks), each)]
    digits = len(str(len(grid.marks)))
    for row in range(0, len(cells), per_row):
        text = Text(f"{row * each:>{digits}} ", "dim", no_wrap=True)
        marks = [CHUNK_STATES[name] for name in cells[row : row + per_row]]
        for at in range(0, len(marks), _GROUP):
            text.append(" " if at else "")
            space.signs(text, ((mark.sign, STYLES[mark.tone]) for mark in marks[at : at + _GROUP]))
        lines.append(space.cut(text))
    return lines


def _jobs(jobs: Sequence[ChunkView], space: Space, height: int) -> list[Text]:
    """The chunks that are being worked on."""
    rows = height - 1
    shown = jobs if len(jobs) <= rows else jobs[: rows - 1]
    lines = [heading("Jobs", space), *(_job(one, space) for one in shown)]
    if len(jobs) > len(shown):
        lines.append(space.line((f"  {len(jobs) - len(shown)} more", "dim")))
    return lines


def _job(chunk: ChunkView, space: Space) -> Text:
    sign, word, tone = CHUNK_STATES[chunk.state]
    parts = [(f"{space.sign(sign)} chunk {chunk.index:<4} {word:<8}", STYLES[tone])]
    if chunk.progress is not None:
        parts += [(f" {space.bar(chunk.progress, 10)}", "cyan"), (f" {100 * chunk.progress:3.0f} %", "")]
    if chunk.node:
        parts.append((f"  on {chunk.node}", ""))
    if chunk.attempts > 1:
        parts.append((f"  attempt {chunk.attempts}", "yellow"))
    if chunk.waits_for:
        parts.append((f"  {chunk.waits_for}", "dim"))
    return space.line(*parts)


# ---------------------------------------------------------------- why attempts failed


def _failed(view: RunView, space: Space) -> Iterator[list[Text]]:
    """The failures: what stands in the way of the run first."""
    if view.grid.lost_intakes:
        yield [_lost(view.grid.lost_intakes, "cutting", space)]
    for one in view.grid.intake:
        yield _failure(one, "cutting", space)
    for chunk in sorted(view.grid.chunks, key=lambda chunk: _WORST.index(chunk.mark)):
        for one in reversed(chunk.failures):
            yield _failure(one, f"chunk {chunk.index}", space)
        if chunk.lost_attempts:
            yield [_lost(chunk.lost_attempts, f"chunk {chunk.index}", space)]


def _lost(count: int, what: str, space: Space) -> Text:
    return space.line((f"{space.sign('✕')} {what}: ", "bold red"), (lost_attempts(count), "red"))


def _failure(one: Failure, what: str, space: Space) -> list[Text]:
    tries = f"attempt{'s' if len(one.attempts) > 1 else ''} {', '.join(map(str, one.attempts))}"
    where = f" on {', '.join(one.nodes)}" if one.nodes else ""
    lines = [line for line in one.lines if line.strip()]
    return [
        space.line((f"{space.sign('✕')} {what}, {tries}{where}: ", "bold red"), (one.failure, "red")),
        *wrapped(space, one.summary, most=2, indent=2),
        *(wrapped(space, f"What to do: {one.advice}", most=2, indent=2) if one.advice else ()),
        *(space.line((f"  {space.sign('│')} {line}", "dim")) for line in lines[-_MOST_LOG_LINES:]),
    ]


def _failures(header: Header, failed: Sequence[Sequence[Text]], space: Space, height: int) -> list[Text]:
    lines = [heading("Failed attempts", space)]
    for number, one in enumerate(failed):
        left = height - len(lines)
        if number + 1 < len(failed) and left <= len(one):
            # A part of one failure says more than nothing, and then where the others are.
            lines += one[: max(0, left - 1)] if number == 0 else ()
            more = len(failed) - number - (number == 0)
            lines.append(space.line((f"  {more} more: stenofleet logs {header.run}", "dim")))
            break
        lines += one[:left]
    return lines
