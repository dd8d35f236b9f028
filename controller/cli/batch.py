"""``batch``: thousands of recordings under one id: submitted, followed, reported, cancelled, tried again."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from chunk_job.store.base import Store
from controller.cli import (
    batch_detach,
    batch_service,
    kubernetes,
    output_options,
)
from controller.cli import options as shared
from controller.cli.batch_entries import record_of, rows_named
from controller.cli.batch_folders import keep_submission, kept_submission
from controller.cli.batch_known import Known, reported
from controller.cli.batch_status import cancel_command, list_command, report_command, status_command, wait_command
from controller.cli.batch_verdict import conclude, counted, line_of, verdict_of
from controller.cli.batch_work import Work, work
from controller.cli.caption_options import CaptionOptions, caption_options, check_speakers, taken
from controller.cli.checks import Checks
from controller.cli.gate_options import gate_options, taken_checks
from controller.cli.models import check_model_name, ensure_model
from controller.cli.prices import price_options, taken_prices
from controller.cli.run_options import run_options, work_options
from controller.cli.sections import Sectioned
from controller.cli.terminal import print_data, print_message
from controller.domain.batches import MOST_ENTRIES, MOST_ROUNDS, WHOLE, BatchRecord, Shard
from controller.domain.output import Format
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import UsageProblem
from controller.runs.batches import BatchStore, Counts

_WORK = ("runner", "max_parallel", "max_attempts", "max_disruptions", "store_patience", "scratch_dir", "download",
         "overwrite")  # fmt: skip


@click.group("batch")
def batch_command() -> None:
    """Transcribe thousands of recordings under one id: submit, wait, status, report, cancel, retry."""


def _parse_shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard:
    if value is None:
        return WHOLE
    index, slash, count = value.partition("/")
    if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise click.BadParameter(f"{value[:40]!r} is not i/n, such as 1/4")
    if not 1 <= int(index) <= int(count) <= 10_000:
        raise click.BadParameter(f"{value[:40]}: i is from 1 to n, and n at most 10000")
    return Shard(int(index) - 1, int(count))


_batch_options = shared.together(
    shared.option("--detach", is_flag=True, help="Work on it in the background, and print its id."),
    shared.option("--fail-fast", is_flag=True, help="Begin no other recording when one has failed."),
    shared.option(
        "--max-failures",
        type=click.IntRange(1, MOST_ENTRIES),
        metavar="N",
        help="Begin no other recording when N have failed.",
    ),
    shared.option(
        "--shard",
        callback=_parse_shard,
        metavar="i/n",
        help="Only part i of n: one for each of n machines that run the same command.",
    ),
)


@batch_command.command("submit", cls=Sectioned)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@shared.output_option
@shared.formats_option
@output_options.overwrite_option
@caption_options
@run_options
@_batch_options
@shared.store_option
@gate_options
@output_options.print_options
@price_options
@kubernetes.options
@batch_service.service_options
def submit_command(
    files: tuple[str, ...],
    output_dir: str,
    formats: tuple[Format, ...],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    on_chunk_failure: Literal["fail", "gap"],
    *,
    keep_chunks: bool,
    rendition: bool,
    shard: Shard,
    store: str | None,
    detach: bool,
    as_json: bool,
    quiet: bool,
    **rest: Any,
) -> int:
    """Transcribe many recordings as one batch; the same command again resumes it.

    FILE is a recording, a folder, s3://bucket/folder/, a list (.csv or .jsonl with options for each recording, or .txt
    with one name per line), or - for a list on stdin. Recordings that are complete in the store are not computed again.
    """
    captions, prices = taken(rest), taken_prices(rest)
    checks = taken_checks(rest, prices, captions)
    check_speakers(captions, channels)
    if service := batch_service.service_of(rest):
        from controller.cli import batch_service_submit

        return batch_service_submit.submit(service, files, output_dir, formats, captions, quiet=quiet, as_json=as_json)
    opened = shared.store_at(store)
    how = _how(rest, shard, checks, quiet=quiet, as_json=as_json)
    options = {name: rest.pop(name) for name in _WORK}
    cluster, model = kubernetes.divided(rest, options["runner"])
    jobs = kubernetes.jobs_at_once(options["max_parallel"], cluster=bool(cluster))
    wanted = shared.transcribe_options(jobs=0 if cluster else jobs, **model)
    if cluster:
        wanted = kubernetes.on_gpus(wanted)
    else:
        check_model_name(wanted.model)
        ensure_model(wanted.model, download=options["download"])
    plan = shared.plan_options(
        wanted,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=clips,
        channels=channels,
        # The cuts must not depend on how many recordings there are, nor on the machine of a shard.
        jobs=1,
        cluster=bool(cluster),
    )
    fields = {
        "plan": plan,
        "options": wanted,
        "audio_track": audio_track,
        "on_chunk_failure": on_chunk_failure,
        "keep_chunks": keep_chunks,
        "rendition": rendition,
    }
    record, lost = _made(opened, files, output_dir, formats, captions, fields, quiet=quiet or as_json)
    if detach:
        _continued(BatchStore(opened), record, shard)
        log = batch_detach.detach(record.id, sys.argv[1:])
        print_message(f"batch {record.id}: {counted(record.entries)}; messages are in {log}")
        print_message(f"to wait for its end: stenofleet batch wait {record.id} --store {opened.url}")
        print_data(record.id)
        return 0
    code = _worked(opened, record, how, checks, Path.cwd(), {**options, **(cluster or _cluster_of(rest))})
    # What could not be read when the batch was made is not part of it.
    return 4 if lost and code == 0 else code


def _how(rest: dict[str, Any], shard: Shard, checks: Checks, *, quiet: bool, as_json: bool) -> Work:
    """Take the options of the work out of *rest*."""
    fail_fast, most = rest.pop("fail_fast"), rest.pop("max_failures")
    if fail_fast and most is not None:
        raise UsageProblem("--fail-fast and --max-failures contradict each other", "leave one of them out")
    return Work(
        shard=shard,
        most_failures=1 if fail_fast else most,
        prices=checks.prices,
        quiet=quiet,
        as_json=as_json,
        null=rest.pop("null"),
    )


def _cluster_of(rest: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the cluster among *rest*."""
    return dict(kubernetes.divided(rest, "kubernetes")[0] or {})


def _made(
    store: Store,
    files: Sequence[str],
    output_dir: str,
    formats: tuple[Format, ...],
    captions: CaptionOptions,
    fields: dict[str, Any],
    *,
    quiet: bool,
) -> tuple[BatchRecord, int]:
    """Make the batch, if it is not there. Returns its record, and how many folders could not be read."""
    style: dict[str, Any] = {
        "formats": formats,
        "captions": captions.style,
        "name_template": captions.names,
        "speakers": captions.speakers,
    }
    rows, lost = rows_named(files, output_dir, quiet=quiet)
    record, pages = record_of(rows, output_dir, style, fields)
    record = BatchStore(store).create(record, pages)
    keep_submission(store.url, record.id)
    return record, lost


def _continued(batches: BatchStore, record: BatchRecord, shard: Shard) -> tuple[int, Counts]:
    """Begin the newest round of a batch, or continue it. Returns its number, and the counts of the part.

    Before a process in the background is started: ``wait`` must see at once that something is left.
    """
    round_ = batches.round(record.id)
    if batches.is_cancelled(record.id, round_):
        raise UsageProblem(f"batch {record.id} is cancelled", f"to try it again: stenofleet batch retry {record.id}")
    counts = batches.counts(record, round_, shard)
    if counts.environment:
        batches.try_again(record, round_, shard)
        counts = batches.counts(record, round_, shard)
    batches.unstop(record.id, round_)
    return round_, counts


def _worked(
    store: Store, record: BatchRecord, how: Work, checks: Checks, folder: Path, options: Mapping[str, Any]
) -> int:
    """Work on the newest round of a batch, and report. Returns the exit code."""
    round_, counts = _continued(BatchStore(store), record, how.shard)
    if not (how.quiet or how.as_json):
        print_message(line_of(record, counts, how.shard))
    known = Known(store=store, record=record, shard=how.shard, round=round_, counts=copy.deepcopy(counts))
    with reported(checks, known) as (checked, clock):
        work(known, replace(how, events=checked.events), clock, folder, options)
        if failed := counts.ended["failed"] + counts.ended["partial"]:
            print_message(f"{failed} had failed before; to try them again: stenofleet batch retry {record.id}")
        found = verdict_of(store, record, round_, how.shard, checks)
        return conclude(record, found, checked, shard=how.shard, as_json=how.as_json)


_again_options = shared.together(
    output_options.overwrite_option,
    work_options,
    _batch_options,
    shared.store_option,
    gate_options,
    output_options.print_options,
    price_options,
    kubernetes.options,
)


def _again(batch: str, shard: Shard, store: str | None, rest: dict[str, Any], *, retry: bool) -> int:
    checks = taken_checks(rest, taken_prices(rest))
    opened = shared.store_at(store)
    record = BatchStore(opened).existing(batch)
    folder = _folder_of(opened, record.id)
    quiet, as_json, detach = (rest.pop(name) for name in ("quiet", "as_json", "detach"))
    how = _how(rest, shard, checks, quiet=quiet, as_json=as_json)
    if retry:
        _begin_round(opened, record, how)
    if detach:
        _continued(BatchStore(opened), record, shard)
        log = batch_detach.detach(record.id, ["batch", "resume", *sys.argv[3:]])
        print_message(f"batch {record.id}: messages are in {log}")
        print_data(record.id)
        return 0
    return _worked(opened, record, how, checks, folder, rest)


def _folder_of(store: Store, batch: str) -> Path:
    """Where relative names of a batch begin.

    Raises :class:`UsageProblem` if it was not made on this machine: a store does not decide which of its files are read
    and written.
    """
    folder = kept_submission(store.url, batch)
    if folder is None:
        raise UsageProblem(
            f"batch {batch} was not made on this machine",
            "run its submit command here: the same command is the same batch, and resumes it",
        )
    if not folder.is_dir():
        raise UsageProblem(f"{folder}, in which batch {batch} was made, is not there any more", "put it back")
    return folder


def _begin_round(store: Store, record: BatchRecord, how: Work) -> None:
    """Begin the next round, if anything in this one has failed or was cancelled."""
    batches = BatchStore(store)
    round_ = batches.round(record.id)
    # Of this part alone: the other ones begin the same round.
    counts = batches.counts(record, round_, how.shard)
    if counts.ended.total() > counts.ended["complete"] or batches.is_cancelled(record.id, round_):
        if round_ == MOST_ROUNDS:
            raise UsageProblem(f"batch {record.id} was tried {MOST_ROUNDS} times", "make another one")
        batches.begin_round(record.id, round_ + 1)
    elif not counts.left and not how.quiet:
        print_message(f"batch {record.id}: nothing has failed")


@batch_command.command("resume", cls=Sectioned)
@click.argument("batch")
@_again_options
def resume_command(batch: str, *, shard: Shard, store: str | None, **rest: Any) -> int:
    """Work on what is left of BATCH. Options of the runner, parallelism and retries are given again.

    Only on a machine where it was made: a store does not decide which files of a machine are read and written.
    Elsewhere, the same submit command is the same batch, and resumes it.
    """
    return _again(batch, shard, store, rest, retry=False)


@batch_command.command("retry", cls=Sectioned)
@click.argument("batch")
@_again_options
@batch_service.service_options
def retry_command(batch: str, *, shard: Shard, store: str | None, **rest: Any) -> int:
    """Try again what has failed or was cancelled in BATCH; what is complete is kept."""
    if service := batch_service.service_of(rest):
        from controller.cli import batch_service_commands

        return batch_service_commands.retry(service, batch)
    return _again(batch, shard, store, rest, retry=True)


for _one in (wait_command, status_command, report_command, cancel_command, list_command):
    batch_command.add_command(_one)
