"""``transcribe`` and ``resume``."""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from chunk_job.names import MODEL_FILES, is_published, unknown_model
from chunk_job.store.base import Store
from controller.cli import kubernetes, option_values, output_options
from controller.cli import options as shared
from controller.cli.caption_options import caption_options, taken
from controller.cli.execute import execute, report, report_one, reports_at_once
from controller.cli.gate_options import gate_options, taken_checks
from controller.cli.identification import Identification
from controller.cli.input_names import find_all
from controller.cli.output_names import existing, outputs_of
from controller.cli.prices import price_options, taken_prices
from controller.cli.requests import keep_local, known_run_request, same_files, stored_run_request
from controller.cli.terminal import ask, print_message
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.output import Format, Output
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import EnvironmentProblem, UsageProblem
from controller.orchestrator.command_runs import KnownRequests
from controller.runners import local
from controller.runs.lookup import existing_run
from controller.runs.outputs import base_of, check_folder
from controller.runs.run_requests import make_run_request, output_stem
from controller.runs.service_runs import request_of_run


@click.command("transcribe", cls=shared.Sectioned)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@shared.output_option
@shared.formats_option
@output_options.overwrite_option
@output_options.skip_option
@output_options.name_option
@caption_options
@shared.model_options
@shared.cut_options
@kubernetes.runner_option
@shared.parallel_option
@shared.attempts_options
@shared.patience_option
@shared.option(
    "--on-chunk-failure",
    type=click.Choice(["fail", "gap"]),
    default="fail",
    show_default=True,
    help="gap: write the other chunks, and mark the gap.",
)
@shared.option("--keep-chunks", is_flag=True, help="Keep chunk audio in the store.")
@shared.rendition_option
@shared.scratch_option
@shared.download_option
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
    captions, checks, prices = taken(rest), taken_checks(rest), taken_prices(rest)
    if overwrite and skip_existing:
        raise UsageProblem("--overwrite and --skip-existing contradict each other", "leave one of them out")
    if captions.speakers and channels != "split":
        raise UsageProblem(
            f"--speaker-names: with --channels {channels}, the speakers are not told apart", "add --channels split"
        )
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
    if not cluster:
        check_model_name(wanted.model)
    if not found:
        with checks.of(opened, ()) as checked:
            judged = checked.judge(reported, skipped)
        code = report(
            reported, as_json=as_json, quiet=quiet, null=null, reported=reported, skipped=skipped, judged=judged
        )
        return given.ended(code)
    if cluster:
        wanted = kubernetes.on_gpus(wanted)
    else:
        ensure_model(wanted.model, download=download)
    workplace = kubernetes.runner_of(opened, wanted, scratch=scratch_dir, cluster=cluster)
    plan = shared.plan_options(
        wanted,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=clips,
        channels=channels,
        # All recordings of a command share its jobs.
        jobs=-(-jobs // len(found)),
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

    requests = Identification(found, request, known=shared.known_files(), keep=partial(keep_local, opened))
    policy = shared.retry_policy(
        opened, wanted, max_attempts=max_attempts, max_disruptions=max_disruptions, store_patience=store_patience
    )
    at_once = reports_at_once(len(found), as_json=as_json, quiet=quiet)
    with checks.of(opened, found) as checked:

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
        )
        everything = [*reported, *requests.refused, *ended]
        judged = checked.judge(everything, skipped)
    code = report(
        everything,
        as_json=as_json,
        quiet=quiet,
        null=null,
        reported=[*reported, *ended] if at_once else reported,
        skipped=skipped,
        summarized=at_once,
        judged=judged,
    )
    return given.ended(code)


@click.command("resume", cls=shared.Sectioned)
@click.argument("run")
@shared.option(
    "-o",
    "--output-dir",
    type=click.Path(),
    metavar="DIR|s3://…",
    help="Folder for its transcript (default: as in the latest command for it on this machine).",
)
@shared.option(
    "-f",
    "--output-format",
    "formats",
    default="all",
    callback=option_values.parse_formats,
    show_default=True,
    help="With --output-dir: txt, srt, vtt, tsv, json, or all.",
)
@kubernetes.runner_option
@output_options.overwrite_option
@shared.parallel_option
@shared.attempts_options
@shared.patience_option
@shared.scratch_option
@shared.download_option
@shared.store_option
@output_options.print_options
@price_options
@kubernetes.options
def resume_command(
    run: str,
    output_dir: str | None,
    formats: tuple[Format, ...],
    max_parallel: int | None,
    max_attempts: int,
    max_disruptions: int,
    *,
    store_patience: int | None,
    scratch_dir: Path | None,
    download: bool,
    overwrite: bool,
    store: str | None,
    null: bool,
    as_json: bool,
    quiet: bool,
    runner: str,
    **rest: Any,
) -> int:
    """Resume RUN: same recording, model and outputs. Options of the runner, parallelism and retries are given again.

    A run that was not started on this machine needs --output-dir: a store does not decide where files are written.
    """
    opened = shared.store_at(store)
    rules = output_options.output_rules(overwrite=overwrite, store=opened)
    run = existing_run(opened, run)
    if request := request_of_run(opened, run):
        # Its request would not know of it.
        raise UsageProblem(
            f"run {run} is that of request {request.id} of the service",
            f"try it again there: POST /v1/runs/{request.id}:retry",
        )
    run_request = _resumed(opened, run, output_dir, formats)
    run_request = replace(run_request, overwrite=rules.overwrite, written=rules.written)
    keep_local(opened, run_request)
    prices = taken_prices(rest)
    cluster, _ = kubernetes.divided(rest, runner)
    wanted = run_request.record.options
    if not cluster:
        ensure_model(wanted.model, download=download)
    ended = execute(
        KnownRequests([run_request]),
        opened,
        kubernetes.runner_of(opened, wanted, scratch=scratch_dir, cluster=cluster),
        policy=shared.retry_policy(
            opened,
            wanted,
            max_attempts=max_attempts,
            max_disruptions=max_disruptions,
            store_patience=store_patience,
        ),
        max_parallel=kubernetes.jobs_at_once(max_parallel, cluster=bool(cluster)),
        quiet=quiet or as_json,
        prices=prices,
    )
    return report(ended, as_json=as_json, quiet=quiet, null=null)


def _resumed(store: Store, run: str, folder: str | None, formats: tuple[Format, ...]) -> RunRequest:
    """Return the request of a run by its id. Raises :class:`UsageProblem` if its outputs are not known here."""
    # A folder from the environment or a settings file is meant for new runs.
    typed = click.get_current_context().get_parameter_source("output_dir") is ParameterSource.COMMANDLINE
    folder = folder if typed else None
    if folder is not None:
        check_folder(folder)
    known = shared.local_requests().find(store.url, run)
    if known is None:
        return stored_run_request(store, run, folder, formats)
    stem = output_stem(known.request.source.uri)
    if folder is None:
        return known_run_request(known, None)
    output = Output(base=base_of(folder, stem), formats=formats, **same_files(known.request))
    return known_run_request(known, output)


def check_model_name(reference: str) -> None:
    """Raises :class:`UsageProblem` if there is no such model, neither a folder nor a published one."""
    if not Path(reference).is_dir() and not is_published(reference):
        raise UsageProblem(*unknown_model(reference))


def ensure_model(reference: str, *, download: bool) -> None:
    """Check that jobs on this machine will find the model; on a terminal, offer to fetch it.

    Raises :class:`EnvironmentProblem` if it is missing, and :class:`UsageProblem` if there is no such model.
    """
    folder = Path(reference)
    if all((folder / name).is_file() for name in MODEL_FILES):
        return
    check_model_name(reference)
    if download:
        print_message(f"fetching model {reference} if it is missing")
    try:
        local.resolve_model(reference, download=download)
    except EnvironmentProblem as error:
        if download or not (sys.stdin.isatty() and sys.stderr.isatty()) or folder.is_dir():
            raise
        if not ask(f"{error.summary}. Download it now?"):
            raise
        local.resolve_model(reference, download=True)
