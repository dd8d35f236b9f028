"""An evaluation as lines for people.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.evaluation.align import Kind
from controller.evaluation.documents import Errors, Evaluation, Measured, Passage, RecordingErrors, headline
from controller.reports.figures import between, clock, percent
from controller.transcript.captions.width import columns

MOST_IN_DETAIL = 3
"""Of more recordings, only the table is shown."""
_HEAD = ("", "error rate", "95 % interval", "character rate", "words", "wrong", "missing", "added")
_MARKS: dict[Kind, tuple[str, str]] = {
    "equal": ("", ""),
    "substitute": ("[", "]"),
    "delete": ("{", "}"),
    "insert": ("{", "}"),
}


def lines(found: Evaluation) -> Iterator[str]:
    """The table, then where the errors of each recording are."""
    if not found.total:
        return
    rows = [_row(one.name, one) for one in found.recordings]
    if len(rows) > 1:
        rows.append(_row("all", found.total))
    yield from _table([_HEAD, *rows])
    if len(found.recordings) <= MOST_IN_DETAIL:
        for one in found.recordings:
            yield from _details(one)
    if whole := headline(found):
        interval = f" (95 % interval {between(whole.interval)})" if whole.interval else ""
        yield ""
        yield f"{whole.name}: {percent(whole.rate)}{interval}"


def _row(name: str, of: Measured) -> tuple[str, ...]:
    rates = (percent(of.words.rate), between(of.words_interval), percent(of.character_rate))
    return (name, *rates, *_counts(of.words))


def _counts(of: Errors) -> tuple[str, ...]:
    return tuple(f"{count:,}" for count in (of.reference, of.substitutions, of.deletions, of.insertions))


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns: the first is text, the others are numbers."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first = row[0] + " " * (widths[0] - columns(row[0]))
        yield "  ".join((first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)))).rstrip()


def _details(one: RecordingErrors) -> Iterator[str]:
    rows = [(f"  {name}", percent(errors.rate), *_counts(errors)) for name, errors in _parts(one)]
    if rows or one.worst:
        unit = "; words are characters" if one.unit == "characters" else ""
        yield ""
        yield f"{one.name} (rules: {one.normalizer}{unit})"
    if rows:
        yield from _table([("", "error rate", "words", "wrong", "missing", "added"), *rows])
    for passage in one.worst:
        yield from _passage(passage, one.unit.removesuffix("s"))


def _parts(one: RecordingErrors) -> Iterator[tuple[str, Errors]]:
    if one.seams:
        near_s = one.seams.near_ms / 1000
        yield f"up to {near_s:g} s from {one.seams.seams} seam{'s' if one.seams.seams > 1 else ''}", one.seams.at_seams
        for cut, errors in one.seams.cuts.items():
            yield f"  cut: {cut}", errors
        yield "elsewhere", one.seams.elsewhere
    for speaker in one.speakers:
        yield f"speaker {speaker.speaker or '(nobody)'}, as the {one.speakers_of} says", speaker.words
    wrong = [chunk for chunk in one.chunks if chunk.words.wrong]
    for chunk in sorted(wrong, key=lambda chunk: -chunk.words.wrong)[:3] if len(one.chunks) > 1 else ():
        yield f"chunk {chunk.index}, {clock(chunk.start_ms)} - {clock(chunk.end_ms)}", chunk.words


def _passage(passage: Passage, unit: str) -> Iterator[str]:
    where = [f"line {passage.line}"]
    if passage.start_ms is not None:
        where.insert(0, f"at {clock(passage.start_ms)}")
    if passage.chunk is not None:
        where.append(f"chunk {passage.chunk}")
    counts = f"{_count(passage.words.wrong, 'error')}, {_count(passage.words.reference, unit)}"
    yield f"  {', '.join(where)}: {counts}"
    yield f"    reference:  {_marked((piece.kind, piece.reference) for piece in passage.pieces)}"
    yield f"    transcript: {_marked((piece.kind, piece.transcript) for piece in passage.pieces)}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _marked(pieces: Iterable[tuple[Kind, str]]) -> str:
    """The words of one side: wrong ones in square brackets, those that the other side does not have in braces."""
    return " ".join(f"{_MARKS[kind][0]}{text}{_MARKS[kind][1]}" for kind, text in pieces if text)
