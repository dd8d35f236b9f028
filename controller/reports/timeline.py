"""When the attempts of a run waited and worked, and which of them decided how long the run took.

Touches: nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from controller.domain.attempt_documents import AttemptTimes
from controller.domain.documents import SpanReport
from controller.reports.run_view import Bar, BarKind, Timeline, TimelineRow

MOST_ROWS = 300
_IDLE_MS = 30_000
"""A shorter time without any attempt is shown."""
_IDLE_SHARE = 0.05
"""Of the rest of the timeline: a smaller part without any attempt is shown."""
_BREAK_SHARE = 0.01
"""How wide a part that is left out is drawn."""
_LONGEST_PAUSE_MS = 120_000
"""Pauses between attempts last up to a minute. After a longer one, something else was waited for."""

Key = tuple[int | None, int]
"""Span and number of an attempt."""


class _Placed(NamedTuple):
    """An attempt with its begin and its end, since the epoch."""

    times: AttemptTimes
    begin_ms: int
    end_ms: int

    @property
    def key(self) -> Key:
        return self.times.span, self.times.attempt


def timeline(
    attempts: Sequence[AttemptTimes],
    *,
    winners: Mapping[int, int],
    reports: Mapping[int, SpanReport],
    failed: Collection[Key],
    now_ms: int | None,
) -> Timeline | None:
    """The timeline of a run; None if nothing is known.

    *winners*: span → attempt with the result. *reports*: the times of these attempts. *failed*: attempts that failed.
    *now_ms*: until when attempts without an end are drawn, in a run that is being worked on.
    """
    placed = [found for one in attempts if (found := _placed(one, now_ms))]
    if not placed:
        return _relative(reports)
    critical = {one.key for one in critical_path(placed)}
    rows: dict[int | None, list[Bar]] = {}
    squeeze = _Squeeze(placed)
    for one in placed:
        bars = _bars(one, winners.get(one.times.span) if one.times.span is not None else None, reports, failed)
        rows.setdefault(one.times.span, []).extend(
            Bar(
                kind=kind,
                attempt=one.times.attempt,
                start_ms=squeeze.at(start_ms),
                end_ms=squeeze.at(end_ms),
                critical=one.key in critical,
            )
            for kind, start_ms, end_ms in bars
        )
    # An attempt that ended at once, before it ran, has no bar.
    of_all = [TimelineRow(span=span, bars=tuple(rows[span])) for span in sorted(rows, key=_order) if rows[span]]
    if not of_all:
        return None
    shown = _shown(of_all)
    return Timeline(
        total_ms=max(1, squeeze.total_ms), rows=shown, breaks=squeeze.breaks, left_out=len(of_all) - len(shown)
    )


def _order(span: int | None) -> int:
    return -1 if span is None else span


def _placed(one: AttemptTimes, now_ms: int | None) -> _Placed | None:
    known = [at for at in (one.submitted_ms, one.starting_ms, one.running_ms) if at is not None]
    if not known:
        return None
    begin_ms = min(known)
    alive = one.phase not in ("ended", "gone") and now_ms is not None
    # Of a lost one, the last time at which it was seen is known at most.
    end_ms = one.ended_ms if one.ended_ms is not None else now_ms if alive else one.seen_ms
    # Times of another controller's clock may be out of order.
    return _Placed(one, begin_ms, max(*known, begin_ms, end_ms or 0))


def critical_path(placed: Sequence[_Placed]) -> list[_Placed]:
    """The attempts that decided when the run ended, the last one first.

    Before each of them is the one whose end it waited for: of those that ended before it began, the last. The cutting
    comes first, because chunks begin while it still works.
    """
    by_end = sorted(placed, key=lambda one: one.end_ms)
    if not by_end:
        return []
    ends = [one.end_ms for one in by_end]
    path = [by_end[-1]]
    while True:
        begin_ms = path[-1].begin_ms
        # A slot is free from the tick on in which the end of its job is seen.
        before = bisect_right(ends, begin_ms) - 1
        # One without any length ended when it began.
        while before >= 0 and by_end[before].begin_ms >= begin_ms:
            before -= 1
        if before < 0 or begin_ms - ends[before] > _LONGEST_PAUSE_MS:
            break
        path.append(by_end[before])
    first = path[-1]
    cutting = [one for one in placed if one.times.span is None and one.begin_ms <= first.begin_ms <= one.end_ms]
    if first.times.span is not None and cutting:
        path.append(cutting[-1])
    return path


def _bars(
    one: _Placed, winner: int | None, reports: Mapping[int, SpanReport], failed: Collection[Key]
) -> Iterator[tuple[BarKind, int, int]]:
    """What an attempt did, in order: kind, start and end."""
    times = one.times
    running_ms = times.running_ms
    report = reports.get(times.span) if times.span is not None else None
    waited_ms = next((at for at in (times.starting_ms, running_ms) if at is not None), one.end_ms)
    if times.submitted_ms is not None and waited_ms > times.submitted_ms:
        yield "queued", times.submitted_ms, waited_ms
    if times.starting_ms is not None:
        yield "starting", times.starting_ms, max(times.starting_ms, running_ms or one.end_ms)
    if running_ms is None:
        if one.key in failed:
            yield "failed", one.end_ms, one.end_ms
    elif one.key in failed and not times.lost:
        yield "failed", running_ms, one.end_ms
    elif times.phase == "gone":
        yield "unseen", running_ms, one.end_ms
    elif report and times.attempt == winner and report.total_s:
        yield from _parts(report, running_ms, one.end_ms)
    else:
        yield "running", running_ms, one.end_ms


def _parts(report: SpanReport, start_ms: int, end_ms: int) -> Iterator[tuple[BarKind, int, int]]:
    """The work of a job: model and audio, decoding, result. What was measured is made to fit in."""
    commit_ms, decode_ms = round(report.commit_s * 1000), round(report.transcribe_s * 1000)
    load_ms = max(0, round(report.total_s * 1000) - commit_ms - decode_ms)
    loaded_ms = min(start_ms + load_ms, end_ms)
    decoded_ms = min(loaded_ms + decode_ms, end_ms)
    yield "loading", start_ms, loaded_ms
    yield "decoding", loaded_ms, decoded_ms
    yield "committing", decoded_ms, end_ms


def _relative(reports: Mapping[int, SpanReport]) -> Timeline | None:
    """How long each job took, of a run without times: by versions before 0.4."""
    rows = []
    for span in sorted(reports):
        report = reports[span]
        took_ms = round(1000 * (report.total_s or report.fetch_s + report.load_s + report.transcribe_s))
        if took_ms:
            whole = report.model_copy(update={"total_s": took_ms / 1000})
            bars = (
                Bar(kind=kind, attempt=max(1, report.attempts), start_ms=start_ms, end_ms=end_ms)
                for kind, start_ms, end_ms in _parts(whole, 0, took_ms)
            )
            rows.append(TimelineRow(span=span, bars=tuple(bars)))
    if not rows:
        return None
    total_ms = max(row.bars[-1].end_ms for row in rows)
    shown = _shown(rows)
    return Timeline(total_ms=total_ms, rows=shown, absolute=False, left_out=len(rows) - len(shown))


def _shown(rows: Sequence[TimelineRow]) -> tuple[TimelineRow, ...]:
    """All rows, or those that matter most: on the critical path, with failures, the first ones."""
    if len(rows) <= MOST_ROWS:
        return tuple(rows)

    def worth(row: TimelineRow) -> tuple[bool, bool]:
        return row.critical, any(bar.kind in ("failed", "unseen") for bar in row.bars)

    kept = sorted(rows, key=worth, reverse=True)[:MOST_ROWS]
    return tuple(sorted(kept, key=lambda row: _order(row.span)))


class _Squeeze:
    """Converts times since the epoch to times of the timeline: long parts without any attempt are left out."""

    def __init__(self, placed: Sequence[_Placed]) -> None:
        busy: list[tuple[int, int]] = []
        for start_ms, end_ms in sorted((one.begin_ms, one.end_ms) for one in placed):
            if busy and start_ms <= busy[-1][1]:
                busy[-1] = busy[-1][0], max(busy[-1][1], end_ms)
            else:
                busy.append((start_ms, end_ms))
        worked_ms = sum(end_ms - start_ms for start_ms, end_ms in busy)
        least_ms = max(_IDLE_MS, round(_IDLE_SHARE * worked_ms))
        self._zero_ms = busy[0][0]
        self._cuts: list[tuple[int, int]] = []
        """After which time how much was left out in all."""
        breaks, left_out_ms = [], 0
        for (_, end_ms), (start_ms, _) in pairwise(busy):
            if (idle_ms := start_ms - end_ms) > least_ms:
                drawn_ms = round(_BREAK_SHARE * worked_ms)
                breaks.append((end_ms - self._zero_ms - left_out_ms + drawn_ms // 2, idle_ms))
                left_out_ms += idle_ms - drawn_ms
                self._cuts.append((start_ms, left_out_ms))
        self.breaks = tuple(breaks)
        self.total_ms = self.at(busy[-1][1])

    def at(self, ms: int) -> int:
        """The place of a time on the timeline."""
        passed = bisect_right(self._cuts, (ms, 1 << 62)) - 1
        return ms - self._zero_ms - (self._cuts[passed][1] if passed >= 0 else 0)
