"""The report of a batch: every recording with how it ended, as JSON and as CSV.

Touches: the files that are written. Both are written a recording at a time.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from chunk_job.text import cell, masked_name, printable
from controller.domain.batches import BatchEnd, BatchEntry, as_name
from controller.errors import UsageProblem
from controller.intake.source import is_object
from controller.reports.cost import Prices, cost
from controller.runs.outputs import write_output
from controller.runs.transcript_files import PrivateFolder, disk_errors

COLUMNS = (
    "number", "source", "output", "status", "run", "failure", "environment", "summary", "advice", "warnings",
    "audio_s", "compute_s", "cost",
)  # fmt: skip
"""Of the CSV; a column ``label.NAME`` follows for each label."""
STATUSES = ("succeeded", "skipped", "partial", "failed", "cancelled", "not_begun")
"""*skipped*: its transcript was complete before the batch."""
_JSON_HEAD = '{"schema": "stenofleet.batch-report/'


class Reported(Protocol):
    """The batch of a report."""

    @property
    def id(self) -> str: ...

    @property
    def created_ms(self) -> int: ...


@dataclass(kw_only=True)
class Sums:
    """What the recordings of a batch add up to."""

    statuses: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    compute_s: float = 0.0
    """Of recordings that were not complete before the batch."""
    cost: float | None = None
    """None: not known for one of them, or no prices."""
    unpriced: int = 0
    """Recordings that were computed in the batch, and whose cost is not known."""
    runs: set[int] = field(default_factory=set)
    """Those whose jobs are counted: recordings of equal content have one run, also in other shards and commands."""

    def counts_first(self, end: BatchEnd) -> bool:
        """Whether the jobs of this recording are not counted yet. They are then."""
        if end.known or end.compute_s is None:
            return False
        if not end.run_id:
            return True
        run = int(end.run_id, 16)
        is_first = run not in self.runs
        self.runs.add(run)
        return is_first


def rows(
    each: Iterable[tuple[BatchEntry, BatchEnd | None]], prices: Prices, sums: Sums
) -> Iterator[tuple[BatchEntry, dict[str, Any]]]:
    """Yield the facts of each recording, and add them to *sums*."""
    for entry, end in each:
        status = _status(end)
        # What was computed before, or for another recording of the batch, is not paid again.
        compute_s = end.compute_s if end and sums.counts_first(end) else None
        price = prices.of([end.device]) if end and end.device else None
        paid = None if compute_s is None else cost(round(1000 * compute_s), price)
        sums.statuses[status] += 1
        if end and end.audio_s is not None:
            sums.audio_s += end.audio_s
        if compute_s is not None:
            sums.compute_s += compute_s
            if paid is None:
                sums.unpriced += 1
            else:
                sums.cost = (sums.cost or 0.0) + paid
        elif end and (end.known or end.compute_s is not None):
            compute_s = 0.0
        yield (
            entry,
            {
                "number": entry.number,
                "source": printable(masked_name(as_name(entry.name))),
                "output": printable(as_name(entry.output)),
                "status": status,
                "run": end.run_id if end else "",
                "failure": end.failure if end else "",
                "environment": end.environment if end else False,
                "summary": end.summary if end else "",
                "advice": end.advice if end else "",
                "warnings": list(end.warnings) if end else [],
                "audio_s": end.audio_s if end else None,
                "compute_s": compute_s,
                "cost": paid,
            },
        )


def _status(end: BatchEnd | None) -> str:
    """As Azure's batches have it: succeeded, failed; and what else can be."""
    if end is None:
        return "not_begun"
    if end.verdict == "complete":
        return "skipped" if end.known else "succeeded"
    return end.verdict


def write(
    folder: str,
    record: Reported,
    round_: int,
    each: Iterable[tuple[BatchEntry, BatchEnd | None]],
    *,
    labels: Sequence[str],
    prices: Prices,
) -> tuple[list[str], Sums]:
    """Write ``report.json`` and ``report.csv`` to a folder, or below ``s3://bucket/prefix``. Returns their names.

    *labels*: all that the recordings have. Raises :class:`EnvironmentProblem` if they cannot be written,
    :class:`UsageProblem` if they would replace other files, and :class:`StoreUnavailable`.
    """
    sums = Sums()
    names = [f"{folder.rstrip('/') or '.'}/{name}" for name in ("report.json", "report.csv")]
    for name, head in zip(names, (_JSON_HEAD, ",".join(COLUMNS[:3])), strict=True):
        _check_replaceable(name, head)
    with disk_errors("a report"):
        private = PrivateFolder()
        paths = [private.path / "report.json", private.path / "report.csv"]
        with (
            paths[0].open("x", encoding="utf-8") as document,
            paths[1].open("x", encoding="utf-8", newline="") as table,
        ):
            _write_both(document, table, record, round_, rows(each, prices, sums), labels, sums)
    for name, path in zip(names, paths, strict=True):
        write_output(name, path)
    return names, sums


def _write_both(
    document: TextIO,
    table: TextIO,
    record: Reported,
    round_: int,
    found: Iterable[tuple[BatchEntry, dict[str, Any]]],
    labels: Sequence[str],
    sums: Sums,
) -> None:
    head = {"schema": "stenofleet.batch-report/1", "batch": record.id, "created_ms": record.created_ms, "round": round_}
    document.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "recordings": [')
    lines = csv.writer(table, lineterminator="\r\n")
    lines.writerow([*COLUMNS, *(_cell(f"label.{name}") for name in labels)])
    for number, (entry, facts) in enumerate(found):
        document.write((",\n" if number else "\n") + json.dumps(facts | {"labels": entry.labels}, ensure_ascii=False))
        flat = facts | {"warnings": " | ".join(facts["warnings"])}
        lines.writerow([*(_cell(flat[name]) for name in COLUMNS), *(_cell(entry.labels.get(one)) for one in labels)])
    tail = {
        "counts": {name: sums.statuses[name] for name in STATUSES},
        "audio_s": round(sums.audio_s, 3),
        "compute_s": round(sums.compute_s, 3),
        "cost": None if sums.unpriced else sums.cost,
    }
    document.write("\n], " + json.dumps(tail, ensure_ascii=False)[1:] + "\n")


def _check_replaceable(name: str, head: str) -> None:
    """Raise :class:`UsageProblem` if there is a file with this name that is not a report of a batch."""
    if is_object(name):
        return
    try:
        with Path(name).open("rb") as file:
            found = file.read(len(head))
    except OSError:
        return
    if found and found != head.encode():
        raise UsageProblem(f"{name}: is not a report of a batch, and is not replaced", "name another folder: -o FOLDER")


def _cell(value: object) -> str:
    """A value for a cell, which is text for a spreadsheet too."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return cell(value) if isinstance(value, str) else str(value)
