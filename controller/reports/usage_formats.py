"""The ledger as lines: for people, as CSV, and for Prometheus.

Touches: nothing. Names are untrusted text: they cannot become a formula of a spreadsheet, or another metric.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chunk_job.text import cell, printable
from controller.domain.usage_documents import RunUsage, UsageFigures, UsageReport
from controller.reports.cost import NO_PRICES, Prices, amount
from controller.reports.figures import took
from controller.reports.usage import priced

UNKNOWN = "unknown"
_MONEY = ("cost", "cost_per_audio_hour", "unpriced_s")
_UPPER_LIMITS = ("realtime_factor", "useful_share")
"""What is paid is below them: less is known of it."""
_FIGURES = tuple(name for name in UsageFigures.model_fields if name not in ("runs", "unknown"))

_WORDS: Mapping[str, str] = {
    "audio_s": "audio",
    "transcribed_s": "  of it transcribed",
    "speech_s": "  speech in it",
    "queue_s": "queue: waiting for a slot, a node",
    "paid_s": "paid: all time of all jobs",
    "gpu_s": "  on a GPU",
    "cpu_s": "  without a GPU",
    "pull_s": "    images, volumes",
    "cut_s": "    cutting the recording",
    "startup_s": "    starting programs",
    "fetch_s": "    reading audio",
    "load_s": "    loading the model",
    "kernels_s": "    first use of the GPU",
    "transcribe_s": "    transcribing",
    "commit_s": "    checking results",
    "failed_s": "    failed attempts",
    "useful_s": "useful: decoding, word times",
    "useful_share": "  as a part of what is paid",
    "realtime_factor": "times faster than real time",
    "attempts": "attempts",
    "failed_attempts": "  failed",
    "cost": "cost",
    "unpriced_s": "  time without a price",
    "cost_per_audio_hour": "  for an hour of audio",
}
"""Lines for people, in order."""
_HELP: Mapping[str, str] = {
    "transcribed_s": "audio that was transcribed",
    "speech_s": "speech in the audio that was transcribed",
    "gpu_s": "paid time of jobs on a GPU",
    "cpu_s": "paid time of jobs without a GPU",
    "pull_s": "paid time for images and volumes",
    "failed_s": "paid time of failed attempts",
    "failed_attempts": "failed attempts",
    "useful_share": "decoding and word times as a part of what is paid, from 0 to 1",
    "cost": "cost of the paid time, in the currency of the prices",
    "unpriced_s": "paid time without a price",
    "cost_per_audio_hour": "cost for an hour of audio that was transcribed",
}
"""Of metrics that stand alone, where the line for people needs the one above it."""
_COLUMNS = ("paid_s", "gpu_s", "cpu_s", "failed_attempts", "useful_share", "realtime_factor", "cost")
_TITLES = ("audio", "paid", "GPU", "CPU", "failed", "useful", "x real time", "cost")


def lines(of: UsageReport) -> Iterator[str]:
    """Yield the ledger for people: a line for each run if there are several, and the sum."""
    if len(of.runs) > 1:
        yield from _rows([("run", *_TITLES, "state", "name"), *(_row(run.run, run) for run in of.runs)])
        yield ""
        if len(of.tenants) > 1:
            yield from _rows([("tenant", *_TITLES), *(_row(one.tenant, one) for one in of.tenants)])
            yield ""
        yield f"{of.total.runs} runs"
    for run in of.runs if len(of.runs) == 1 else ():
        yield f"{run.name}: {run.state} (run {run.run})"
    for name, words in _WORDS.items():
        if name not in _MONEY or _is_priced(of):
            yield f"{words:36} {_shown(of.total, name)}"
    if of.total.unknown:
        yield "at least, at most: some attempts, or some of their times, are not known (docs/how-to/usage.md)"


def csv_lines(runs: Iterable[RunUsage], prices: Prices) -> Iterator[str]:
    """Yield the ledger as CSV (RFC 4180), without the line ends: a header, then a row for each run, one by one."""
    yield _csv(["run", "name", "tenant", "state", *_FIGURES, "unknown"])
    for run in (priced(one, prices) for one in runs):
        unknown = " ".join(f"{name}={count}" for name, count in run.unknown.items())
        texts = [run.run, cell(printable(run.name)), run.tenant, run.state]
        yield _csv([*texts, *(_cell(run, name, prices) for name in _FIGURES), unknown])


def prometheus_lines(of: UsageReport) -> Iterator[str]:
    """Yield the ledger in the text format of Prometheus. What is not known has no sample."""
    for name in _FIGURES:
        metric = _metric(name)
        yield f"# HELP {metric} {_help(name)}"
        yield f"# TYPE {metric} gauge"
        for run in of.runs:
            value: float | None = getattr(run, name)
            if value is not None:
                yield f"{metric}{{{_labels(run)}}} {value}"
    metric = "stenofleet_usage_unknown_parts"
    yield f"# HELP {metric} Attempts that are missing in a figure of a run, wholly or in part."
    yield f"# TYPE {metric} gauge"
    for run in of.runs:
        for name, count in run.unknown.items():
            yield f'{metric}{{{_labels(run)},figure="{name}"}} {count}'


# ------------------------------------------------------------ for people


def _row(key: str, of: UsageFigures) -> tuple[str, ...]:
    # What is not transcribed is paid too, but the audio is what was asked for.
    figures = tuple(_shown(of, name, short=True) for name in ("audio_s", *_COLUMNS))
    return (key, *figures, of.state, printable(of.name)) if isinstance(of, RunUsage) else (key, *figures)


def _rows(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _shown(of: UsageFigures, name: str, *, short: bool = False) -> str:
    value: float | None = getattr(of, name)
    if value is None:
        return "-" if short and name in _MONEY else UNKNOWN
    if name in ("attempts", "failed_attempts"):
        text = str(value)
    elif name == "useful_share":
        text = f"{value:.0%}"
    elif name == "realtime_factor":
        text = f"{value:.2f}"
    elif name in ("cost", "cost_per_audio_hour"):
        text = amount(value)
    else:
        text = took(round(1000 * value))
    if not of.unknown.get(name):
        return text
    upper = name in _UPPER_LIMITS
    return f"{'<=' if upper else '>='} {text}" if short else f"at {'most' if upper else 'least'} {text}"


def _is_priced(of: UsageReport) -> bool:
    return of.gpu_hour_price is not None or of.cpu_hour_price is not None


# ------------------------------------------------------------ for programs


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(run: RunUsage, name: str, prices: Prices) -> str:
    value: float | None = getattr(run, name)
    if value is None:
        return "" if name in _MONEY and prices == NO_PRICES else UNKNOWN
    return str(value)


def _metric(name: str) -> str:
    base = name.removesuffix("_s")
    return f"stenofleet_usage_{base}{'_seconds' if base != name else ''}"


def _help(name: str) -> str:
    return f"Of a run: {_HELP.get(name, _WORDS[name].strip())}."


def _labels(run: RunUsage) -> str:
    values = {"run": run.run, "name": printable(run.name), "tenant": run.tenant, "state": run.state}
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
