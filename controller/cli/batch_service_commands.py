"""``batch wait``, ``status``, ``report``, ``cancel`` and ``retry`` with ``--server``.

Touches: the network (through ``client``), the terminal, the files of the report, signals.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from chunk_job.text import json_line, printable
from controller.cli import output_options
from controller.cli.batch_folders import kept_folder
from controller.cli.batch_service import Service, batch_id, check_options, interruptible, no_batch
from controller.cli.batch_service_delivery import Delivery
from controller.cli.batch_service_wait import Waiting, write_junit
from controller.cli.batch_verdict import conclude, line_of, timed_out
from controller.cli.checks import Checks
from controller.cli.execute import report_one
from controller.cli.report_files import checking_batch
from controller.cli.terminal import print_data, print_message, write_path
from controller.client.http import Refused
from controller.client.replies import RunLine
from controller.domain.batches import BatchEnd, BatchEntry
from controller.domain.interfaces import RunOutcome, RunVerdict
from controller.domain.output import Format
from controller.domain.served_batches import Placement, ServedEntry, entry_of
from controller.reports import batch_report
from controller.reports.cost import Prices, amount
from controller.runs.batches import Counts
from controller.runs.lookup import in_parallel
from controller.runs.output_folders import check_folder

_AT_ONCE = 4
_PRICES = ("gpu_hour_price", "cpu_hour_price")
_YEAR_S = 365 * 24 * 3600
_ADVICE = "leave it out: the service decides about its jobs"


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A batch of which only this is known."""

    id: str
    created_ms: int = 0


def wait(
    service: Service,
    batch: str,
    folder: str | None,
    formats: tuple[Format, ...] | None,
    checks: Checks,
    *,
    timeout_s: int | None,
    overwrite: bool,
    as_json: bool,
    null: bool,
) -> int:
    """Write the transcripts of a batch until it has ended. Returns the exit code.

    *folder*: None: that of the submission, if it was on this machine.
    """
    named = _Named(id=batch_id(batch))
    folder = kept_folder(named.id) if folder is None else folder
    check_folder(folder)
    rules = output_options.output_rules(overwrite=overwrite, store=None)
    end_s = _now_s() + (timeout_s or _YEAR_S)
    with checking_batch(checks, None) as checked:

        def say(outcome: RunOutcome) -> None:
            report_one(outcome, as_json=as_json, quiet=False, null=null)
            if checked.events:
                checked.events.recording(outcome)

        delivery = Delivery(
            folder=folder,
            formats=formats,
            rules=rules,
            fetched=output_options.fetched_transcripts(),
            checks=checks,
            say=say,
        )
        with interruptible(service) as rest:
            waiting = Waiting(
                service=service, batch=named, delivery=delivery, rest=rest, end_s=end_s, quiet=as_json
            )  # fmt: skip
            in_time = waiting.until_ended()
        if not in_time:
            return checked.ended(timed_out(named.id, timeout_s))
        if checks.junit:
            write_junit(checks.junit, waiting)
        return conclude(named, waiting.found(), checked, as_json=as_json)


@dataclass(kw_only=True)
class _Listed:
    """What the lists of the service say of a batch."""

    entries: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Recordings that have no run."""
        return self.entries - self.statuses.total()

    def counts(self) -> Counts:
        """The same as of a store."""
        ended = {verdict: self.statuses[verdict] for verdict in get_args(RunVerdict)}
        return Counts(entries=self.entries, ended=Counter(ended))


def _each(service: Service, batch: str, found: _Listed) -> Iterator[tuple[RunLine, ServedEntry]]:
    """Yield the runs of a batch, and count them in *found*. Raises :class:`UsageProblem` if there are none."""
    seen = bytearray()
    for line in service.of_batch(batch):
        entry = entry_of(line.labels)
        if entry is None:
            continue
        if not seen:
            seen, found.entries = bytearray(entry.entries), entry.entries
        # While it is listed, runs can be deleted and submitted again.
        if entry.entries == len(seen) and not seen[entry.number]:
            seen[entry.number] = 1
            found.statuses[line.status] += 1
            yield line, entry
    if not seen:
        raise no_batch(service, batch)


def status(service: Service, batch: str, *, as_json: bool) -> int:
    """Print how far a batch is."""
    check_options(("as_json",), _ADVICE)
    named, found = _Named(id=batch_id(batch)), _Listed()
    for _ in _each(service, named.id, found):
        pass
    if as_json:
        facts = {
            "batch": named.id,
            "entries": found.entries,
            **{one: found.statuses[one] for one in ("complete", "partial", "failed", "cancelled", "queued", "running")},
            "not_submitted": found.missing,
        }
        print_data(json_line(facts), exact=True)
        return 0
    print_data(printable(line_of(named, found.counts())))
    print_data(f"{found.statuses['running']} running, {found.statuses['queued']} queued")
    if found.missing:
        print_data(f"{found.missing} not submitted: the same batch submit submits them")
    return 0


def cancel(service: Service, batch: str) -> int:
    """Cancel the runs of a batch that have not ended."""
    check_options((), _ADVICE)
    named = _Named(id=batch_id(batch))
    count = _ask(service, named.id, service.runs.cancel, lambda line: not line.has_ended)
    print_message(
        f"batch {named.id}: {count} runs are cancelled" if count else f"batch {named.id} has ended already"
    )  # fmt: skip
    return 0


def retry(service: Service, batch: str) -> int:
    """Try the runs of a batch again that have ended without a complete transcript."""
    check_options(("store_patience", "quiet"), _ADVICE)
    named = _Named(id=batch_id(batch))
    count = _ask(service, named.id, service.runs.retry, lambda line: line.has_ended and line.status != "complete")
    print_message(f"batch {named.id}: " + (f"{count} runs are tried again" if count else "nothing has failed"))
    return 0


def _ask(service: Service, batch: str, do: Callable[[str], bool], wanted: Callable[[RunLine], bool]) -> int:
    """Ask for something of the runs that are *wanted*. Returns of how many it was possible."""
    with interruptible(service) as rest:
        chosen = (line.id for line, _ in _each(service, batch, _Listed()) if wanted(line))
        count = 0
        for done in in_parallel(do, chosen, at_once=_AT_ONCE):
            count += done
            rest(0)
    return count


def report(service: Service, batch: str, folder: str, prices: Prices, *, null: bool) -> int:
    """Write the report of a batch."""
    check_options(("output_dir", "null", *_PRICES), _ADVICE)
    found, ids, labels = _Listed(), dict[int, str](), dict[str, None]()
    first_ms: list[int] = []
    with interruptible(service) as rest:
        for line, entry in _each(service, batch_id(batch), found):
            ids[entry.number] = line.id
            labels |= dict.fromkeys(entry.labels)
            first_ms = [min([round(line.created_at.timestamp() * 1000), *first_ms])]
            rest(0)
        names, sums = batch_report.write(
            folder,
            _Named(id=batch_id(batch), created_ms=first_ms[0]),
            1,
            _rows(service, found.entries, ids, rest),
            labels=sorted(labels),
            prices=prices,
        )
    for name in names:
        write_path(name, null=null)
    counts = ", ".join(f"{sums.statuses[name]} {name.replace('_', ' ')}" for name in batch_report.STATUSES)
    paid = f"; cost {amount(sums.cost)}" if sums.cost is not None and not sums.unpriced else ""
    print_message(
        f"batch {batch_id(batch)}: {counts}; {sums.audio_s:.0f} s of audio, {sums.compute_s:.0f} s of jobs{paid}"
    )
    return 0


def _rows(
    service: Service, entries: int, ids: dict[int, str], rest: Callable[[float], None]
) -> Iterator[tuple[BatchEntry, BatchEnd | None]]:
    """Yield each recording with how its run ended, in order."""
    for row in in_parallel(partial(_row, service, ids), range(entries), at_once=_AT_ONCE):
        rest(0)
        yield row


def _row(service: Service, ids: dict[int, str], number: int) -> tuple[BatchEntry, BatchEnd | None]:
    unknown = BatchEntry(number=number, name="", output="", size_bytes=0)
    if number not in ids:
        return unknown, None
    try:
        run = service.runs.get(ids[number])
    except Refused as error:
        if error.status == 404:
            # It was deleted after it was listed.
            return unknown, None
        raise
    found = entry_of(run.labels)
    assert found
    place: Placement = found.placement
    entry = BatchEntry(
        number=number, name=place.source, output=place.output, size_bytes=0, labels=dict(found.labels)
    )  # fmt: skip
    if run.status == "queued" or run.status == "running":  # noqa: PLR1714 (mypy understands this)
        return entry, None
    measured = service.runs.report(run.id) if run.status in ("complete", "partial") else None
    devices = set(measured.devices) if measured else set[str]()
    return entry, BatchEnd(
        number=number,
        verdict=run.status,
        run_id=run.run or "",
        failure=run.failure,
        environment=run.environment,
        summary=run.summary,
        advice=run.advice,
        warnings=tuple(run.warnings),
        audio_s=measured.audio_s if measured else None,
        compute_s=measured.compute_s if measured else None,
        device=devices.pop() if len(devices) == 1 else "",
    )


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (of the time-out)
