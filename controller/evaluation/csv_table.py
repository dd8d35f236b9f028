"""An evaluation as a table for spreadsheets: a row for each recording.

Touches: nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from chunk_job.text import cell
from controller.evaluation.documents import Evaluation, RecordingErrors

COLUMNS = (
    "recording", "unit", "rate", "low", "high", "reference", "right", "substitutions", "deletions", "insertions",
    "character_rate", "character_low", "character_high", "characters", "character_errors", "language", "normalizer",
    "transcript_file", "reference_file",
)  # fmt: skip


def rows(found: Evaluation) -> Iterator[str]:
    """The lines of the table."""
    yield _line(COLUMNS)
    for one in found.recordings:
        yield _line(_values(one))


def is_table(head: bytes) -> bool:
    """Whether a file with this beginning is such a table."""
    return head.startswith(_line(COLUMNS).encode())


def _values(one: RecordingErrors) -> tuple[object, ...]:
    words, intervals = one.words, (one.words_interval, one.character_interval)
    (low, high), (character_low, character_high) = ((each.low, each.high) if each else ("", "") for each in intervals)
    return (
        one.name, one.unit, words.rate, low, high, words.reference, words.right, words.substitutions, words.deletions,
        words.insertions, one.character_rate, character_low, character_high, one.characters, one.character_errors,
        one.language or "", one.normalizer, one.transcript_file, one.reference_file,
    )  # fmt: skip


def _line(values: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cell(value) if isinstance(value, str) else value for value in values)
    return text.getvalue()
