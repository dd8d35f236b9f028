"""``plan``: what ``transcribe`` would do, without doing it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from chunk_job.text import json_line, printable
from controller.cli import kubernetes, plan_lines
from controller.cli import options as shared
from controller.cli.devices import device_of
from controller.cli.estimates import Basis, SpeedOptions, estimate_options
from controller.cli.execute import exit_code, refused
from controller.cli.input_names import hinted, report_refused
from controller.cli.manifests import documents, planned_job_options, print_manifests
from controller.cli.name_lists import OnStdin, read_stdin
from controller.cli.plan_lines import Planned
from controller.cli.prices import price_options, taken_prices
from controller.cli.recordings import named_recordings
from controller.cli.sections import Sectioned
from controller.cli.terminal import print_data, print_message
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import MediaProblem, UsageProblem
from controller.intake import source
from controller.reports.cost import NO_PRICES
from controller.runs.run_requests import make_run_request


@click.command("plan", cls=Sectioned)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@shared.option(
    "-o",
    "--show",
    type=click.Choice(["table", "yaml"]),
    default="table",
    show_default=True,
    help="yaml: the Jobs that would be created on a cluster.",
)
@shared.model_options
@shared.cut_options
@shared.rendition_option
@kubernetes.runner_option
@shared.parallel_option
@estimate_options
@price_options
@shared.json_option
@kubernetes.options
def plan_command(
    files: tuple[str, ...],
    show: Literal["table", "yaml"],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    runner: str,
    max_parallel: int | None,
    *,
    rendition: bool,
    store: str | None,
    as_json: bool,
    **rest: Any,
) -> int:
    """Show what transcribe would do with the same options: decodes each FILE once, changes nothing.

    For each recording: its audio tracks, where it would be cut and how good the cuts are, its run, the number of jobs,
    the size of its chunks in the store, and what the jobs would take. Whether the run exists already is not looked up.

    With -o yaml and --runner kubernetes: the Jobs of the cluster, as kubectl apply --dry-run=server -f - checks them.
    """
    prices, speed_options = taken_prices(rest), SpeedOptions.taken(rest)
    cluster, model = kubernetes.divided(rest, runner)
    _check_show(show, as_json=as_json, on_cluster=bool(cluster))
    at_once = kubernetes.jobs_at_once(max_parallel, cluster=bool(cluster))
    wanted = shared.transcribe_options(jobs=0 if cluster else at_once, **model)
    wanted = kubernetes.on_gpus(wanted) if cluster else wanted
    device = device_of(wanted)
    basis = Basis(
        speed=speed_options.speed(store, wanted, device=device, cluster=bool(cluster)),
        origin=speed_options.origin,
        at_once=at_once,
        gpus=kubernetes.gpus_of_a_job(device, cluster),
        hour_price=prices.of([device]),
    )
    if basis.hour_price is None and prices != NO_PRICES:
        print_message(f"no cost is shown: for these jobs it takes --{'gpu' if device == 'cuda' else 'cpu'}-hour-price")
    job_options = planned_job_options(store, wanted, cluster) if show == "yaml" and cluster else None
    given = named_recordings(files, _only_names, quiet=as_json)
    cutting = shared.plan_options(
        wanted,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=clips,
        channels=channels,
        jobs=-(-at_once // len(given.named)),
        cluster=bool(cluster),
    )

    def request(src: Source) -> RunRequest:
        return make_run_request(
            src,
            None,
            plan=cutting,
            options=wanted,
            audio_track=audio_track,
            on_chunk_failure="fail",
            keep_chunks=False,
            rendition=rendition,
        )

    planned: list[Planned] = []
    shown: set[str] = set()
    without: list[RunOutcome] = []
    for one in _each([one.name for one in given.named], request, without):
        planned.append(one)
        # Recordings of equal content are one run: its Jobs are created once.
        if job_options and one.dry.plan.run not in shown:
            print_manifests(one.name, list(documents(one.run_request, one.dry, job_options)))
        elif not job_options and not as_json:
            _print_plan(one, basis, on_cluster=bool(cluster))
        shown.add(one.dry.plan.run)
    if as_json:
        print_data(json_line(plan_lines.all_facts(planned, basis)), exact=True)
    elif planned and not job_options:
        _print_end(planned, basis)
    for item in without:
        report_refused(item)
    return exit_code([*given.refused, *without, *(_outcome(one) for one in planned)])


def _check_show(show: str, *, as_json: bool, on_cluster: bool) -> None:
    if show == "yaml" and as_json:
        raise UsageProblem("-o yaml and --json contradict each other", "leave one of them out")
    if show == "yaml" and not on_cluster:
        raise UsageProblem("-o yaml: shows the Jobs of a cluster, but jobs run here", "add --runner kubernetes")


def _only_names() -> OnStdin:
    with tempfile.TemporaryDirectory(prefix="stenofleet-stdin-") as folder:
        there = read_stdin(Path(folder), "stdin")
    if there.recording:
        raise UsageProblem("a recording on stdin is not planned", "save it as a file first")
    return there


def _each(
    names: Sequence[str], request: Callable[[Source], RunRequest], without: list[RunOutcome]
) -> Iterator[Planned]:
    """Yield every recording that can be cut; the others are added to *without*."""
    # Imported here: no other command decodes media itself, so no other one needs to load numpy.
    from controller.intake.dry_run import dry_run

    for name in names:
        try:
            src = source.inspect(name)
            run_request = request(src)
            dry = dry_run(src, run_request.record)
        except MediaProblem as error:
            without.append(refused(name, hinted(name, error)))
        else:
            yield Planned(name=name, run_request=run_request, dry=dry)


def _outcome(one: Planned) -> RunOutcome:
    return RunOutcome(run=one.dry.plan.run, name=one.name, verdict="complete", summary="planned")


def _print_plan(one: Planned, basis: Basis, *, on_cluster: bool) -> None:
    print_data(plan_lines.first_line(one), exact=True)
    for line in plan_lines.lines(one, basis, on_cluster=on_cluster):
        print_data(line)
    for warning in one.dry.plan.warnings:
        print_message(f"{printable(one.name)}: warning: {warning}")


def _print_end(planned: Sequence[Planned], basis: Basis) -> None:
    if len(planned) > 1:
        for line in plan_lines.total_lines(planned, basis):
            print_data(line)
    if reason := basis.reason():
        print_message(reason)
