"""``plan``: where files would be cut."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import click

from chunk_job.contract import TranscribeOptions
from chunk_job.text import json_line, printable
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.devices import device_of
from controller.cli.estimates import estimate_options, estimates, facts, line, taken_speed, together
from controller.cli.execute import exit_code, refused
from controller.cli.input_names import hinted, report_refused
from controller.cli.name_lists import OnStdin, read_stdin
from controller.cli.prices import price_options, taken_prices
from controller.cli.recordings import named_recordings
from controller.cli.terminal import clock, print_data, print_message
from controller.domain.interfaces import RunOutcome
from controller.domain.plan import ChannelChoice, Clip, Plan
from controller.errors import MediaProblem, UsageProblem
from controller.intake import source


@click.command("plan")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@shared.cut_options
@shared.language_option
@shared.model_option
@shared.device_option
@kubernetes.runner_option
@shared.parallel_option
@estimate_options
@price_options
@shared.json_option
def plan_command(
    files: tuple[str, ...],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    language: str | None,
    model: str,
    device: Literal["auto", "cuda", "cpu"],
    runner: str,
    max_parallel: int | None,
    *,
    as_json: bool,
    **rest: Any,
) -> int:
    """Show where files would be cut: decodes them once, changes nothing.

    --language counts only for the choice of the audio track; model, device and runner only for --chunk-duration auto;
    --max-parallel for that and for estimates. With --like or --speed it also says what the jobs would take.
    """
    # Imported here: no other command decodes media itself, so no other one needs to load numpy.
    from controller.intake.cutter import plan_only

    speed, prices = taken_speed(rest), taken_prices(rest)
    cluster = runner == "kubernetes"
    at_once = kubernetes.jobs_at_once(max_parallel, cluster=cluster)
    options = TranscribeOptions(model=model, device=device)
    given = named_recordings(files, _only_names, quiet=as_json)
    names = [one.name for one in given.named]
    wanted = shared.plan_options(
        kubernetes.on_gpus(options) if cluster else options,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=clips,
        channels=channels,
        jobs=-(-at_once // len(names)),
        cluster=cluster,
    )
    plans: dict[str, Plan] = {}
    without: list[RunOutcome] = []
    for name in names:
        try:
            plans[name] = plan_only(source.inspect(name), wanted, audio_track=audio_track, language=language)
        except MediaProblem as error:
            without.append(refused(name, hinted(name, error)))
    device = device_of(kubernetes.on_gpus(options) if cluster else options)
    hour_price = prices.of([device])
    taking = estimates(plans, speed, at_once=at_once, hour_price=hour_price)
    if as_json:
        planned = {name: json.loads(plan.encode()) for name, plan in plans.items()}
        for name, found in taking.items():
            planned[name]["estimate"] = facts(found)
        print_data(json_line(planned), exact=True)
    else:
        for name, plan in plans.items():
            _print_plan(name, plan)
            if name in taking:
                print_data(f"  {line(taking[name], at_once=at_once)}")
        if speed and len(plans) > 1:
            whole = together(plans, speed, at_once=at_once, hour_price=hour_price)
            print_data(f"all {len(plans):,}: {line(whole, at_once=at_once)}")
    for item in without:
        report_refused(item)
    return exit_code([*given.refused, *without, *(_planned(name) for name in plans)])


def _only_names() -> OnStdin:
    with tempfile.TemporaryDirectory(prefix="stenofleet-stdin-") as folder:
        there = read_stdin(Path(folder), "stdin")
    if there.recording:
        raise UsageProblem("a recording on stdin is not planned", "save it as a file first")
    return there


def _planned(name: str) -> RunOutcome:
    return RunOutcome(run="", name=name, verdict="complete", summary="planned")


def _print_plan(name: str, plan: Plan) -> None:
    whole_ms = sum(span.end_ms - span.start_ms for span in plan.spans)
    chunks = f"{len(plan.spans)} chunk{'s' if len(plan.spans) > 1 else ''}{' (direct)' if plan.direct else ''}"
    print_data(f"{name}: {clock(whole_ms / 1000)}, {chunks}", exact=True)
    if plan.chosen:
        print_data(f"  {plan.chosen.reason}")
    for span in plan.spans:
        print_data(
            f"  {span.index:5d}  {clock(span.start_ms / 1000)} - {clock(span.end_ms / 1000)}"
            f"  {(span.end_ms - span.start_ms) / 1000:8.2f} s  {span.cut}"
        )
    for warning in plan.warnings:
        print_message(f"{printable(name)}: warning: {warning}")
