"""``batch wait``, ``status``, ``report``, ``cancel`` and ``list``."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import click

from chunk_job.errors import JobError
from chunk_job.store.base import StoreUnavailable
from chunk_job.text import json_line, printable
from controller.cli import batch_service, output_options
from controller.cli import options as shared
from controller.cli.batch_known import Known, reported
from controller.cli.batch_verdict import TIMED_OUT, UNATTENDED_S, conclude, line_of, timed_out, verdict_of
from controller.cli.execute import SystemClock
from controller.cli.gate_options import gate_options, taken_checks
from controller.cli.option_values import Place, parse_formats
from controller.cli.prices import price_options, taken_prices
from controller.cli.sections import Sectioned
from controller.cli.terminal import print_data, print_message, write_path
from controller.domain.output import Format
from controller.errors import EnvironmentProblem, Interrupted
from controller.reports import batch_report
from controller.reports.cost import amount
from controller.runs.batches import BatchStore, living

_FIRST_S, _LONGEST_S = 1.0, 15.0
_SAY_S = 30.0
_MOST_S = 365 * 24 * 3600


def _parse_formats(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[Format, ...] | None:
    return None if value is None else parse_formats(ctx, option, value)


_delivery_options = shared.together(
    shared.option("-o", "--output-dir", "--output", type=Place(), metavar="DIR|s3://…",
                  help="With --server: where transcripts are written (default: as at the submission on this machine)."),
    shared.option("-f", "--output-format", "formats", callback=_parse_formats,
                  help="With --server: other formats than those of the submission."),
    output_options.overwrite_option,
)  # fmt: skip


@click.command("wait", cls=Sectioned)
@click.argument("batch")
@shared.option(
    "--timeout", type=click.IntRange(1, _MOST_S), metavar="SECONDS", help=f"Exit code {TIMED_OUT} if it takes longer."
)
@_delivery_options
@shared.patience_option
@shared.store_option
@gate_options
@shared.null_option
@shared.json_option
@price_options
@batch_service.service_options
def wait_command(
    batch: str,
    *,
    timeout: int | None,
    store_patience: int | None,
    store: str | None,
    as_json: bool,
    null: bool,
    output_dir: str | None,
    formats: tuple[Format, ...] | None,
    overwrite: bool,
    **rest: Any,
) -> int:
    """Wait until BATCH has ended, completely or not: the exit code tells how, as that of transcribe.

    With --server, the transcripts are fetched as they end, and written to the output folder.
    """
    checks = taken_checks(rest, taken_prices(rest))
    if service := batch_service.service_of(rest, needed=("output_dir", "formats", "overwrite", "null")):
        from controller.cli import batch_service_commands

        return batch_service_commands.wait(
            service, batch, output_dir, formats, checks,
            timeout_s=timeout, overwrite=overwrite, as_json=as_json, null=null,
        )  # fmt: skip
    opened = shared.store_at(store)
    record = BatchStore(opened).existing(batch)
    patience_s = 600 if store_patience is None else store_patience
    known = Known(store=opened, record=record)
    with reported(checks, known) as (checked, clock):
        if not _ended(known, clock, timeout_s=timeout, patience_s=patience_s, quiet=as_json):
            known.write(checked, checks.junit)
            return checked.ended(timed_out(record.id, timeout))
        found = verdict_of(opened, record, known.round, checks=checks)
        return conclude(record, found, checked, as_json=as_json)


def _ended(known: Known, clock: SystemClock, *, timeout_s: int | None, patience_s: float, quiet: bool) -> bool:
    """Wait until nothing is left, or nobody works on it. Returns False after the time-out.

    Raises :class:`Interrupted`, and :class:`EnvironmentProblem` if the store is away for too long.
    """
    follower = _Follower(known, quiet=quiet)
    end_s, answered_s, pause_s = _now_s() + (timeout_s or _MOST_S), _now_s(), _FIRST_S
    while True:
        if number := clock.signal():
            raise Interrupted(number)
        try:
            if follower.has_ended():
                return True
            answered_s = _now_s()
        except StoreUnavailable as error:
            if _now_s() - answered_s > patience_s:
                raise EnvironmentProblem(error.summary, error.advice) from error
        left_s = end_s - _now_s()
        if left_s <= 0:
            return False
        clock.rest(partial(time.sleep, min(pause_s, left_s)))
        pause_s = min(1.5 * pause_s, _LONGEST_S)


class _Follower:
    """Looks at a batch regularly, and says how far it is."""

    def __init__(self, known: Known, *, quiet: bool) -> None:
        self._known, self._quiet = known, quiet
        self._batches = BatchStore(known.store)
        self._signs: object = None
        """What changes while somebody works on the batch."""
        self._attended_s = _now_s()
        self._said_s = self._attended_s - _SAY_S

    def has_ended(self) -> bool:
        """Whether nothing is left, nothing more is begun, or nobody works on it. Raises :class:`StoreUnavailable`."""
        known, batch = self._known, self._known.record.id
        known.round = self._batches.round(batch)
        known.counts = self._batches.counts(known.record, known.round)
        heard = self._batches.heard(batch)
        over = self._batches.is_cancelled(batch, known.round) or self._batches.is_stopped(batch, known.round)
        if not known.counts.left or (over and not living(heard)):
            return True
        now_s = _now_s()
        # Not by the clocks of the processes, which may be on other machines: what they say changes.
        signs = known.round, known.counts, heard
        if signs != self._signs:
            self._signs, self._attended_s = signs, now_s
        if now_s - self._attended_s >= UNATTENDED_S:
            print_message(
                f"batch {batch}: for {UNATTENDED_S:.0f} s no process has worked on it, {known.counts.left} left: give"
                f" the same submit command again (with its --shard), or stenofleet batch resume {batch}"
            )
            return True
        if not self._quiet and now_s - self._said_s >= _SAY_S:
            self._said_s = now_s
            print_message(line_of(known.record, known.counts))
        return False


@click.command("status")
@click.argument("batch")
@shared.store_option
@shared.json_option
@batch_service.service_options
def status_command(batch: str, *, store: str | None, as_json: bool, **rest: Any) -> int:
    """Show how far BATCH is."""
    if service := batch_service.service_of(rest):
        from controller.cli import batch_service_commands

        return batch_service_commands.status(service, batch, as_json=as_json)
    opened = shared.store_at(store)
    batches = BatchStore(opened)
    record = batches.existing(batch)
    round_ = batches.round(record.id)
    counts, workers = batches.counts(record, round_), batches.workers(record.id)
    cancelled = batches.is_cancelled(record.id, round_)
    if as_json:
        facts: dict[str, Any] = {
            "batch": record.id,
            "round": round_,
            "entries": record.entries,
            **{verdict: counts.ended[verdict] for verdict in ("complete", "partial", "failed", "cancelled")},
            "left": counts.left,
            "is_cancelled": cancelled,
            "workers": [worker.model_dump(include={"host", "shard", "updated_ms"}) for worker in workers],
        }
        print_data(json_line(facts), exact=True)
        return 0
    print_data(printable(line_of(record, counts)))
    if cancelled:
        print_data("cancelled")
    for worker in workers:
        print_data(printable(f"worked on by {worker.host}, shard {worker.shard}"))
    if counts.left and not workers and not cancelled:
        print_data(f"no process works on it: stenofleet batch resume {record.id}")
    return 0


@click.command("report")
@click.argument("batch")
@shared.output_option
@shared.store_option
@shared.null_option
@price_options
@batch_service.service_options
def report_command(batch: str, output_dir: str, *, store: str | None, null: bool, **rest: Any) -> int:
    """Write report.json and report.csv of BATCH: each recording, how it ended, what to do, audio, job time, cost."""
    prices = taken_prices(rest)
    if service := batch_service.service_of(rest):
        from controller.cli import batch_service_commands

        return batch_service_commands.report(service, batch, output_dir, prices, null=null)
    opened = shared.store_at(store)
    batches = BatchStore(opened)
    record = batches.existing(batch)
    labels: dict[str, None] = {}
    for page in range(len(record.pages)):
        for entry in batches.page(record, page):
            labels |= dict.fromkeys(entry.labels)
    names, sums = batch_report.write(
        output_dir,
        record,
        batches.round(record.id),
        batches.with_ends(record),
        labels=sorted(labels),
        prices=prices,
    )
    for name in names:
        write_path(name, null=null)
    counts = ", ".join(f"{sums.statuses[name]} {name.replace('_', ' ')}" for name in batch_report.STATUSES)
    paid = f"; cost {amount(sums.cost)}" if sums.cost is not None and not sums.unpriced else ""
    print_message(f"batch {record.id}: {counts}; {sums.audio_s:.0f} s of audio, {sums.compute_s:.0f} s of jobs{paid}")
    return 0


@click.command("cancel")
@click.argument("batch")
@shared.store_option
@batch_service.service_options
def cancel_command(batch: str, *, store: str | None, **rest: Any) -> int:
    """Cancel BATCH: the processes that work on it stop within a few seconds. What is complete is kept."""
    if service := batch_service.service_of(rest):
        from controller.cli import batch_service_commands

        return batch_service_commands.cancel(service, batch)
    opened = shared.store_at(store)
    batches = BatchStore(opened)
    record = batches.existing(batch)
    round_ = batches.round(record.id)
    if not batches.counts(record, round_).left:
        print_message(f"batch {record.id} has ended already")
        return 0
    batches.cancel(record.id, round_)
    print_message(f"batch {record.id} is cancelled")
    return 0


@click.command("list")
@shared.store_option
@shared.json_option
def list_command(*, store: str | None, as_json: bool) -> int:
    """All batches in the store."""
    opened = shared.store_at(store)
    batches = BatchStore(opened)
    found = []
    for batch in batches.ids():
        try:
            record = batches.find(batch)
        except JobError as error:
            raise EnvironmentProblem(error.summary, error.advice) from error
        if record:
            counts = batches.counts(record, batches.round(batch))
            found.append({"batch": batch, "entries": record.entries, "left": counts.left, **counts.ended})
            if not as_json:
                print_data(printable(line_of(record, counts)))
    if as_json:
        print_data(json_line({"batches": found}), exact=True)
    elif not found:
        print_message(f"no batches in {opened.url}")
    return 0


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (of the time-out and the pauses)
