"""``resume``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from chunk_job.store.base import Store
from controller.cli import kubernetes, option_values, output_options
from controller.cli import options as shared
from controller.cli.execute import execute, report
from controller.cli.gate_options import gate_options, taken_checks
from controller.cli.models import ensure_model
from controller.cli.prices import price_options, taken_prices
from controller.cli.report_files import checking
from controller.cli.requests import keep_local, known_run_request, same_files, stored_run_request
from controller.cli.sections import Sectioned
from controller.domain.interfaces import RunRequest
from controller.domain.output import Format, Output
from controller.errors import UsageProblem
from controller.intake.source import shown
from controller.orchestrator.command_runs import KnownRequests
from controller.runs.lookup import existing_run
from controller.runs.output_folders import check_folder
from controller.runs.outputs import base_of
from controller.runs.run_requests import output_stem
from controller.runs.service_runs import request_of_run


@click.command("resume", cls=Sectioned)
@click.argument("run")
@shared.option(
    "-o",
    "--output-dir",
    "--output",
    type=option_values.Place(),
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
@gate_options
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
    checks = taken_checks(rest, prices)
    cluster, _ = kubernetes.divided(rest, runner)
    wanted = run_request.record.options
    if not cluster:
        ensure_model(wanted.model, download=download)
    with checking(checks, opened, [shown(run_request.request.source)]) as checked:
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
            on_end=checked.add,
            events=checked.events,
        )
        judged = checked.judge(ended, ())
        return checked.ended(report(ended, as_json=as_json, quiet=quiet, null=null, judged=judged))


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
