"""``transcribe``, ``resume`` and ``plan``: from file names to runs, and from runs to an exit code."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from chunk_job.contract import UNHASHED, JobError, TranscribeOptions, sha256_hex
from chunk_job.names import MODEL_FILES, MODELS, is_published
from chunk_job.store import ObjectMissing, Store
from controller import local, source
from controller.cli import options as shared
from controller.cli.runs import existing_run
from controller.decide import RetryPolicy
from controller.errors import EnvironmentProblem, Interrupted, MediaProblem, UsageProblem
from controller.keys import RunKeys
from controller.plan import PLANNER, Plan, PlanOptions
from controller.progress import Bars, Heartbeat, clock, printable, say, tell
from controller.records import Output, Request, RunRecord, Source
from controller.run import Settled, Ticket, drive

_VERSIONED = ("stenofleet", "faster-whisper", "ctranslate2")


@click.command("transcribe")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@shared.option("-o", "--output-dir", type=click.Path(path_type=Path), default=Path(), help="Default: here.")
@shared.formats_option
@shared.model_options
@shared.cut_options
@shared.option(
    "--max-parallel",
    type=click.IntRange(1),
    metavar="N",
    help="Jobs at once (default: cores / 4, at least 1).",
)
@shared.option("--max-attempts", type=click.IntRange(1), default=3, show_default=True, help="Tries of a failing chunk.")
@shared.patience_option
@shared.option(
    "--on-chunk-failure",
    type=click.Choice(["fail", "gap"]),
    default="fail",
    show_default=True,
    help="gap: write the rest, with the gap marked.",
)
@shared.option("--keep-chunks", is_flag=True, help="Keep chunk audio in the store.")
@shared.option("--download", is_flag=True, help="Fetch the model from the hub where it is missing.")
@shared.option("--force", is_flag=True, help="A new run, even if this one is done.")
@shared.store_option
@shared.json_option
@shared.option("-q", "--quiet", is_flag=True, help="No progress.")  # fmt: skip
def transcribe_command(
    files: tuple[Path, ...],
    output_dir: Path,
    formats: tuple[str, ...],
    chunk_duration: int,
    chunking_threshold: int,
    audio_track: int | None,
    max_parallel: int | None,
    max_attempts: int,
    on_chunk_failure: str,
    *,
    store_patience: int | None,
    keep_chunks: bool,
    download: bool,
    force: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    **model: Any,
) -> int:
    """Transcribe media files.

    FILE is any audio or video ffmpeg reads; - reads a list of names from stdin, one a line (or NUL-separated).
    Outputs are named after the file: OUTPUT_DIR/<stem>.{txt,srt,vtt,tsv,json}. A run that was interrupted goes on
    when the same command is given again.
    """
    jobs = max_parallel or max(1, shared.cores() // 4)
    wanted = shared.transcribe_options(jobs=jobs, **model)
    plan = PlanOptions(threshold_ms=chunking_threshold * 1000, chunk_ms=chunk_duration * 1000)
    opened = shared.store_at(store)
    paths = list(_listed(files))
    outputs = _outputs(paths, output_dir, formats)
    ensure_model(wanted.model, download=download)
    tickets: dict[str, Ticket] = {}
    refused = []
    for path in paths:
        try:
            src = source.inspect(path)
        except MediaProblem as error:
            refused.append(_refused(path, error))
            continue
        ticket = make_ticket(
            src,
            outputs[path],
            plan=plan,
            options=wanted,
            audio_track=audio_track,
            on_chunk_failure=on_chunk_failure,
            keep_chunks=keep_chunks,
            salt=secrets.token_hex(8) if force else "",
        )
        tickets[ticket.record.run] = _joined(tickets.get(ticket.record.run), ticket)
    policy = shared.retry_policy(opened, max_attempts=max_attempts, store_patience=store_patience)
    settled = execute(list(tickets.values()), opened, policy=policy, window=jobs, quiet=quiet or as_json)
    return report([*refused, *settled], as_json=as_json, quiet=quiet)


@click.command("resume")
@click.argument("run")
@shared.option(
    "--max-parallel",
    type=click.IntRange(1),
    metavar="N",
    help="Jobs at once (default: cores / 4, at least 1).",
)
@shared.option("--max-attempts", type=click.IntRange(1), default=3, show_default=True, help="Tries of a failing chunk.")
@shared.patience_option
@shared.store_option
@shared.json_option
@shared.option("-q", "--quiet", is_flag=True, help="No progress.")
def resume_command(
    run: str,
    max_parallel: int | None,
    max_attempts: int,
    *,
    store_patience: int | None,
    store: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Go on with RUN: same recording, model and outputs. How many jobs and tries is asked anew."""
    opened = shared.store_at(store)
    ticket = stored_ticket(opened, existing_run(opened, run))
    ensure_model(ticket.record.options.model, download=False)
    settled = execute(
        [ticket],
        opened,
        policy=shared.retry_policy(opened, max_attempts=max_attempts, store_patience=store_patience),
        window=max_parallel or max(1, shared.cores() // 4),
        quiet=quiet or as_json,
    )
    return report(settled, as_json=as_json, quiet=quiet)


@click.command("plan")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@shared.cut_options
@shared.json_option
def plan_command(
    files: tuple[Path, ...],
    chunk_duration: int,
    chunking_threshold: int,
    audio_track: int | None,
    *,
    as_json: bool,
) -> int:
    """Show where files would be cut, and change nothing: decodes them once."""
    # Only here does a command decode media itself: numpy and ffmpeg stay out of every other one.
    from controller.intake import plan_only

    wanted = PlanOptions(threshold_ms=chunking_threshold * 1000, chunk_ms=chunk_duration * 1000)
    plans: dict[str, Plan] = {}
    refused = []
    for path in _listed(files):
        try:
            plans[str(path)] = plan_only(source.inspect(path), wanted, audio_track=audio_track)
        except MediaProblem as error:
            told = error.summary.startswith(f"{path}: ")
            refused.append(
                _refused(path, MediaProblem(error.summary if told else f"{path}: {error.summary}", error.advice))
            )
    if as_json:
        click.echo(json.dumps({name: json.loads(plan.encode()) for name, plan in plans.items()}))
    else:
        for name, plan in plans.items():
            _print_plan(name, plan)
    for item in refused:
        say(f"{item.summary}\n  {item.advice}")
    return _exit_code([*refused, *(_planned(name) for name in plans)])


def make_ticket(
    src: Source,
    output: Output,
    *,
    plan: PlanOptions,
    options: TranscribeOptions,
    audio_track: int | None,
    on_chunk_failure: Any,
    keep_chunks: bool,
    salt: str = "",
) -> Ticket:
    """The run this source and these options are, and the request for it."""
    hashed = options.model_dump_json(exclude=set(UNHASHED))
    identity = "\0".join([src.identity, plan.model_dump_json(), hashed, str(audio_track), str(PLANNER), salt])
    run = sha256_hex(identity.encode())[:16]
    path = source.local_path(src.uri)
    record = RunRecord(
        run=run,
        identity=src.identity,
        size_bytes=src.size_bytes,
        name=path.name.encode("utf-8", "replace").decode(),
        audio_track=audio_track,
        plan=plan,
        options=options,
        planner=PLANNER,
        versions={name: importlib.metadata.version(name) for name in _VERSIONED},
    )
    request = Request(
        run=run,
        source=src,
        record_key=RunKeys(run).record,
        record_sha256=sha256_hex(record.encode()),
        outputs=(output,),
        on_chunk_failure=on_chunk_failure,
        keep_chunks=keep_chunks,
    )
    return Ticket(record=record, request=request)


def stored_ticket(store: Store, run: str) -> Ticket:
    """The ticket of a run in the store. Raises :class:`UsageProblem` where there is none."""
    keys = RunKeys(run)
    try:
        return Ticket(record=RunRecord.decode(store.get(keys.record)), request=Request.decode(store.get(keys.request)))
    except ObjectMissing:
        raise UsageProblem(f"no run {run} in {store.url}", "see stenofleet list") from None
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error


def ensure_model(reference: str, *, download: bool) -> None:
    """Check that jobs on this machine will find the model; on a terminal, offer to fetch it.

    Raises :class:`EnvironmentProblem` where it is missing and :class:`UsageProblem` where there is no such model.
    """
    folder = Path(reference)
    if all((folder / name).is_file() for name in MODEL_FILES):
        return
    if not folder.is_dir() and not is_published(reference):
        raise UsageProblem(
            f"no model {reference!r}: neither a folder here nor a known name",
            f"known names: {', '.join(MODELS)}",
        )
    if download:
        say(f"fetching model {reference} where it is missing")
    try:
        local.resolve_model(reference, download=download)
    except EnvironmentProblem as error:
        if download or not (sys.stdin.isatty() and sys.stderr.isatty()) or folder.is_dir():
            raise
        if not click.confirm(f"{error.summary}. Download it now?", err=True):
            raise
        local.resolve_model(reference, download=True)


def execute(tickets: Sequence[Ticket], store: Store, *, policy: RetryPolicy, window: int, quiet: bool) -> list[Settled]:
    """Drive the runs with processes of this machine. Prints the resume commands when a signal or the store ends it."""
    if not tickets:
        return []
    arguments: dict[str, Any] = {
        "store": store,
        "runner": shared.runner_for(store),
        "policy": policy,
        "window": window,
        "clock": _Clock(),
    }
    try:
        if sys.stderr.isatty() and not quiet:
            with Bars() as bars:
                return drive(tickets, reporter=bars, **arguments)
        return drive(tickets, reporter=Heartbeat(quiet=quiet), **arguments)
    except (Interrupted, EnvironmentProblem):
        if len(tickets) > 1:
            say("to go on: give the same command again (without --force)")
        else:
            say(f"to go on: stenofleet resume {tickets[0].record.run} --store {store.url}")
        raise


def report(settled: Sequence[Settled], *, as_json: bool, quiet: bool) -> int:
    """Tell how everything ended: files on stdout, words on stderr; the exit code."""
    for item in settled:
        if item.verdict != "complete" and not as_json:
            say(f"{item.name}: {item.verdict}: {item.summary}" if item.name not in item.summary else item.summary)
            if item.advice:
                say(f"  {item.advice}")
        elif not quiet and not as_json:
            say(f"{item.name}: {item.summary} (run {item.run})")
        for warning in item.warnings:
            say(f"{item.name}: warning: {warning}")
        if not as_json:
            for file in item.files:
                tell(printable(file))
    code = _exit_code(settled)
    if as_json:
        tell(json.dumps({"exit_code": code, "runs": [dataclasses.asdict(item) for item in settled]}))
    return code


class _Clock:
    """The system's clock, and the signals this process has been sent."""

    def __init__(self) -> None:
        self._signal: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def signal(self) -> int | None:
        return self._signal

    def _hear(self, number: int, _: object) -> None:
        # Only the reason is kept; the loop sees it at its next tick, between two whole steps.
        self._signal = number


def _listed(files: Sequence[Path]) -> Iterator[Path]:
    """The named files, ``-`` replaced by the list on stdin; a file named twice counts once."""
    seen = set()
    for file in files:
        names = _from_stdin() if str(file) == "-" else [file]
        for name in names:
            place = os.path.join(os.path.realpath(name.parent), name.name)  # noqa: PTH118 (a link is a name of its own)
            if place not in seen:
                seen.add(place)
                yield name


def _from_stdin() -> list[Path]:
    data = sys.stdin.buffer.read()
    separator = b"\0" if b"\0" in data else b"\n"
    # Lists made on Windows end their lines in two characters; between NULs every byte is the name's.
    parts = [part.rstrip(b"\r") if separator == b"\n" else part for part in data.split(separator)]
    names = [Path(os.fsdecode(part)) for part in parts if part.strip()]
    if not names:
        raise UsageProblem("the list on stdin is empty", "give one file name a line")
    return names


def _outputs(paths: Sequence[Path], folder: Path, formats: tuple[str, ...]) -> dict[Path, Output]:
    """Where each file's transcript goes. Raises :class:`UsageProblem` where two would go to one place."""
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"{folder}: is no folder", "name a folder for --output-dir")
    by_base: dict[Path, Path] = {}
    for path in paths:
        # A name of dots has a stem that would lead out of the folder.
        base = folder.absolute() / (path.stem if path.stem.strip(".") else path.name)
        if base in by_base:
            raise UsageProblem(
                f"{by_base[base]} and {path} would both write {base.name}.txt",
                "rename one, or transcribe them with different --output-dir",
            )
        by_base[base] = path
    media = {os.path.realpath(path) for path in paths}
    for base, path in by_base.items():
        for extension in formats:
            target = base.with_name(f"{base.name}.{extension}")
            if os.path.realpath(target) in media:
                raise UsageProblem(f"{target} is a recording: {path} would overwrite it", "name another --output-dir")
    return {path: Output(base=base.as_uri(), formats=formats) for base, path in by_base.items()}


def _joined(known: Ticket | None, ticket: Ticket) -> Ticket:
    """Equal content with equal options is one run, whatever the files are called; it is written for each."""
    if known is None:
        return ticket
    outputs = known.request.outputs + ticket.request.outputs
    return Ticket(record=known.record, request=known.request.model_copy(update={"outputs": outputs}))


def _refused(path: Path, error: MediaProblem) -> Settled:
    return Settled(run="", name=str(path), verdict="failed", summary=error.summary, advice=error.advice)


def _planned(name: str) -> Settled:
    return Settled(run="", name=name, verdict="complete", summary="planned")


def _exit_code(settled: Sequence[Settled]) -> int:
    """0 all, 4 some, and of none: 8 cancelled, 3 the environment's fault, 5."""
    verdicts = [item.verdict for item in settled]
    if all(verdict == "complete" for verdict in verdicts):
        return 0
    if any(verdict in ("complete", "partial") for verdict in verdicts):
        return 4
    if all(verdict == "cancelled" for verdict in verdicts):
        return 8
    return 3 if all(item.environment for item in settled) else 5


def _print_plan(name: str, plan: Plan) -> None:
    chunks = f"{len(plan.spans)} chunk{'s' if len(plan.spans) > 1 else ''}{' (direct)' if plan.direct else ''}"
    click.echo(f"{printable(name)}: {clock(plan.duration_ms / 1000)}, {chunks}")
    for span in plan.spans:
        click.echo(
            f"  {span.index:5d}  {clock(span.start_ms / 1000)} - {clock(span.end_ms / 1000)}"
            f"  {(span.end_ms - span.start_ms) / 1000:8.2f} s  {span.cut}"
        )
    for warning in plan.warnings:
        say(f"{name}: warning: {warning}")
