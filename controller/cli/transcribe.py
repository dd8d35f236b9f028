"""``transcribe``."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from controller.cli import kubernetes, option_values, output_options
from controller.cli import options as shared
from controller.cli.caption_options import caption_options, check_speakers, taken
from controller.cli.execute import execute, report, report_one, reports_at_once
from controller.cli.gate_options import gate_options, taken_checks
from controller.cli.identification import Identification
from controller.cli.input_names import find_all
from controller.cli.judging import Checked
from controller.cli.models import check_model_name, ensure_model
from controller.cli.output_names import existing, outputs_of
from controller.cli.prices import price_options, taken_prices
from controller.cli.report_files import checking
from controller.cli.requests import keep_local
from controller.cli.run_options import run_options
from controller.cli.sections import Sectioned
from controller.cli.skipped_runs import skipped_runs
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.output import Format
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import UsageProblem
from controller.runs.run_requests import make_run_request


@click.command("transcribe", cls=Sectioned)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@shared.output_option
@shared.formats_option
@output_options.overwrite_option
@output_options.skip_option
@output_options.name_option
@caption_options
@run_options
@shared.option(
    "--round",
    "round_id",
    default="",
    callback=option_values.text(most=200),
    metavar="ID",
    help="For a program that restarts this command after a crash: with the same ID, a verdict is final.",
)
@shared.option("--force", is_flag=True, help="Start a new run, even if this one is complete.")
@shared.store_option
@gate_options
@output_options.print_options
@price_options
@kubernetes.options
def transcribe_command(
    files: tuple[str, ...],
    output_dir: str,
    formats: tuple[Format, ...],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    max_parallel: int | None,
    max_attempts: int,
    max_disruptions: int,
    on_chunk_failure: str,
    *,
    store_patience: int | None,
    keep_chunks: bool,
    rendition: bool,
    scratch_dir: Path | None,
    download: bool,
    overwrite: bool,
    skip_existing: bool,
    stdin_name: str,
    round_id: str,
    force: bool,
    store: str | None,
    null: bool,
    as_json: bool,
    quiet: bool,
    runner: str,
    **rest: Any,
) -> int:
    """Transcribe media files.

    FILE is any audio or video that ffmpeg reads: a path or s3://bucket/key; a folder or s3://bucket/folder/ stands for
    all recordings in it; - reads a list of names from stdin, one per line (or NUL-separated), or a recording. Outputs
    are named after the file: OUTPUT_DIR/<stem>.{txt,srt,vtt,tsv,json}; folders are mirrored below OUTPUT_DIR. The same
    command resumes an interrupted run.
    """
    captions, prices = taken(rest), taken_prices(rest)
    checks = taken_checks(rest, prices, captions)
    if overwrite and skip_existing:
        raise UsageProblem("--overwrite and --skip-existing contradict each other", "leave one of them out")
    check_speakers(captions, channels)
    cluster, model = kubernetes.divided(rest, runner)
    jobs = kubernetes.jobs_at_once(max_parallel, cluster=bool(cluster))
    wanted = shared.transcribe_options(jobs=0 if cluster else jobs, **model)
    opened = shared.store_at(store)
    given = output_options.recordings(
        files,
        stdin_name=stdin_name,
        folder=output_dir,
        scratch=scratch_dir,
        cluster=bool(cluster),
        quiet=quiet or as_json,
    )
    outputs, unnamed = outputs_of(given.named, output_dir, formats, captions)
    skipped = existing(outputs) if skip_existing else frozenset[str]()
    found, missing = find_all(name for name in outputs if name not in skipped)
    reported = [*given.refused, *unnamed, *missing]
    if cluster:
        wanted = kubernetes.on_gpus(wanted)
    else:
        check_model_name(wanted.model)
    plan = shared.plan_options(
        wanted,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=clips,
        channels=channels,
        # All recordings of a command share its jobs.
        jobs=-(-jobs // max(1, len(found))),
        cluster=bool(cluster),
    )

    rules = output_options.output_rules(overwrite=overwrite, store=opened)

    def request(name: str, src: Source) -> RunRequest:
        return make_run_request(
            src,
            outputs[name],
            plan=plan,
            options=wanted,
            audio_track=audio_track,
            on_chunk_failure=on_chunk_failure,
            keep_chunks=keep_chunks,
            rendition=rendition,
            # With --round, the same command after a crash resumes the new run that it has started.
            salt=(round_id or secrets.token_hex(8)) if force else "",
            round_id=round_id,
            rules=rules,
        )

    known = shared.known_files()

    def concluded(checked: Checked, ended: list[RunOutcome], shown: list[RunOutcome], *, summarized: bool) -> int:
        """Judge and report everything; *shown*: what was reported before."""
        left_out = skipped if checks.gates else ()
        stored = skipped_runs(left_out, request, opened, known, quiet=quiet or as_json)
        code = report(
            ended,
            as_json=as_json,
            quiet=quiet,
            null=null,
            judged=checked.judge(ended, skipped, stored),
            reported=shown,
            skipped=skipped,
            summarized=summarized,
            measured=stored,
        )
        return given.ended(checked.ended(code))

    if not found:
        with checking(checks, opened, ()) as checked:
            return concluded(checked, reported, reported, summarized=False)
    if not cluster:
        ensure_model(wanted.model, download=download)
    workplace = kubernetes.runner_of(opened, wanted, scratch=scratch_dir, cluster=cluster)
    requests = Identification(found, request, known=known, keep=partial(keep_local, opened))
    policy = shared.retry_policy(
        opened, wanted, max_attempts=max_attempts, max_disruptions=max_disruptions, store_patience=store_patience
    )
    at_once = reports_at_once(len(found), as_json=as_json, quiet=quiet)
    with checking(checks, opened, found) as checked:
        checked.runs = requests.runs

        def on_end(outcome: RunOutcome) -> None:
            checked.add(outcome)
            if at_once:
                report_one(outcome, as_json=as_json, quiet=quiet, null=null)

        ended = execute(
            requests,
            opened,
            workplace,
            policy=policy,
            max_parallel=jobs,
            quiet=quiet or as_json,
            new_runs=force and not round_id,
            prices=prices,
            on_end=on_end,
            events=checked.events,
        )
        shown = [*reported, *ended] if at_once else reported
        return concluded(checked, [*reported, *requests.refused, *ended], shown, summarized=at_once)
