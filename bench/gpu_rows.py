"""Rows of measurements: printed and written to files as they come, so that a bench that is stopped loses nothing."""

import json
import time
from pathlib import Path
from typing import Any

from bench.tables import machine, table

TITLES = {
    "environment": "Environment",
    "start": "Where the time of a chunk job goes, with an empty and a warm cache of kernels (seconds; parts overlap)",
    "jobs": "Whole chunk jobs, as processes",
    "batches": "Windows of a batch, each size in a process of its own",
    "together": "Two chunk jobs at once on one device",
    "peers": "faster-whisper alone, its start included; the ratio is ours / theirs in wall seconds",
    "behaviour": "Repeats and memory",
    "bars": "Bars",
}


class Rows:
    """The rows of all sections. *folder* gets ``rows.json`` and ``table.md``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._begin_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._begin_s

    def add(self, section: str, **values: Any) -> None:
        """Print and write one row. Seconds and factors are rounded to hundredths."""
        rounded = {name: round(value, 2) if isinstance(value, float) else value for name, value in values.items()}
        self._rows.append({"section": section, **rounded, "at_s": round(self.elapsed_s, 1)})
        print(json.dumps(self._rows[-1]), flush=True)
        (self._folder / "rows.json").write_text(json.dumps(self._rows, indent=1) + "\n", encoding="utf-8")
        (self._folder / "table.md").write_text(self.table(), encoding="utf-8")

    def table(self) -> str:
        """All rows as Markdown: one table for each section."""
        parts = [machine()]
        for section, title in TITLES.items():
            rows = [
                {name: value for name, value in row.items() if name not in ("section", "at_s")}
                for row in self._rows
                if row["section"] == section
            ]
            if rows:
                columns = list(dict.fromkeys(name for row in rows for name in row))
                lines = [[_cell(row.get(name)) for name in columns] for row in rows]
                parts.append(f"### {title}\n\n{table(columns, lines)}")
        return "\n\n".join(parts) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("|", "/").replace("\n", " ")
