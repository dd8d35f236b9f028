"""Commands about runs in the store: ``status``, ``list``, ``render``, ``cancel``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from chunk_job.text import json_line, printable
from controller.cli import kubernetes, output_options
from controller.cli import options as shared
from controller.cli.caption_options import caption_options, taken
from controller.cli.sections import Sectioned
from controller.cli.switches import CommandWithSwitches
from controller.cli.terminal import print_data, print_message, write_path
from controller.domain import stored_documents
from controller.domain.documents import Outcome, Request, RunRecord
from controller.domain.keys import MARKERS, RunKeys, is_run_prefix
from controller.domain.output import Format, Output
from controller.domain.service_keys import is_id
from controller.errors import UsageProblem
from controller.runs import stored_transcript
from controller.runs.corrected_files import MACHINE, VERSION_PATTERN, CorrectionStore, NoSuchVersion, in_version
from controller.runs.lookup import existing_run, is_worked_on, of_each, read_run, run_ids
from controller.runs.opened_files import open_file
from controller.runs.output_folders import check_folder
from controller.runs.outputs import base_of, file_of, write_protected
from controller.runs.run_requests import output_stem
from controller.runs.service_runs import request_of_run
from controller.runs.transcript_files import TranscriptFiles
from controller.runs.whisper_json import NotJson, NotWhispers, rendered_whisper
from controller.transcript.model import Transcript

_PLACES = frozenset({"name", "recording", "outputs"})
"""Facts of a run that are file names, paths and addresses of objects: printed without masking."""


@click.command("status")
@click.argument("run")
@shared.store_option
@shared.json_option
def status_command(run: str, *, store: str | None, as_json: bool) -> int:
    """Show the progress of RUN, or how it ended."""
    opened = shared.store_at(store)
    run = existing_run(opened, run)
    found = _facts(opened, run)
    if found is None:
        raise UsageProblem(f"run {run} was removed just now from {opened.url}", "see stenofleet list")
    facts = found | _of_service(opened, run, found) | _places(opened, run)
    if as_json:
        print_data(json_line(facts), exact=True)
        return 0
    facts["updated"] = _minute(facts.pop("updated_ms", 0)).strip()
    if (share := facts.pop("useful_share", None)) is not None:
        facts["useful"] = f"{share:.0%} of the jobs' time is decoding and word times"
    if facts.get("failures"):
        facts["failures"] = f"{facts['failures']} (stenofleet explain {run})"
    for name, value in facts.items():
        if value:
            text = f"{name:12} {', '.join(value) if isinstance(value, list) else value}"
            print_data(printable(text), exact=name in _PLACES)
    return 0


@click.command("list")
@shared.store_option
@shared.json_option
def list_command(*, store: str | None, as_json: bool) -> int:
    """All runs in the store."""
    opened = shared.store_at(store)
    # None: an empty folder, or removed in the meantime.
    found = (facts for facts in of_each(opened, lambda run: _facts(opened, run), run_ids(opened)) if facts)
    if as_json:
        print_data(json_line({"runs": list(found)}), exact=True)
        return 0
    empty = True
    for facts in found:
        empty = False
        row = (facts["run"], f"{facts['state']:11}", f"{facts['percent']:5.1f}%", _minute(facts.get("updated_ms", 0)))
        print_data("  ".join((*row, facts["name"])), exact=True)
    if empty:
        print_message(f"no runs in {opened.url}")
    return 0


def _checked_version(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(VERSION_PATTERN, value):
        raise click.BadParameter(f"{value} is not a version: give machine, latest, or a number")
    return value


@click.command("render", cls=CommandWithSwitches)
@click.argument("transcript", metavar="RUN|FILE.json")
@shared.formats_option
@click.option(
    "--version",
    default=MACHINE,
    show_default=True,
    metavar="VERSION",
    callback=_checked_version,
    help="Of a run that people corrected: machine, latest, or a number of its history.",
)
@caption_options
@shared.output_option
@output_options.overwrite_option
@shared.null_option
@shared.store_option
def render_command(
    transcript: str,
    version: str,
    formats: tuple[Format, ...],
    output_dir: str,
    *,
    overwrite: bool,
    null: bool,
    store: str | None,
    **captions: Any,
) -> int:
    """Make any format again from a transcript's JSON: no model, no media. The JSON of Whisper is taken too.

    A file that was changed since is kept.
    """
    chosen = taken(captions)
    check_folder(output_dir)
    path, whisper, opened = Path(transcript), False, None
    try:
        if not path.exists() and (is_run_prefix(transcript) or is_id(transcript.lower())):
            opened = shared.store_at(store)
            files = _stored_transcript(opened, transcript, version)
        else:
            files, whisper = _file_transcript(path, version)
    except NotJson as error:
        raise UsageProblem(f"{transcript} is not JSON", "give the .json file of a transcript") from error
    except DocumentInvalid as error:
        raise UsageProblem(f"{transcript} is not a transcript of stenofleet or Whisper: {error.summary}") from error
    except OSError as error:
        raise UsageProblem(f"{transcript}: {error.strerror}", "give a run or a transcript's JSON file") from error
    if whisper and formats == ("json",):
        raise UsageProblem(
            f"{transcript} is Whisper's JSON, and lacks data that stenofleet's must have", "use another format"
        )
    if chosen.speakers and files.summary.source.channels != "split":
        raise UsageProblem(
            f"{transcript}: its channels were not transcribed one by one, so --speaker-names has no speakers to name",
            "transcribe the recording with --channels split, or leave the option out",
        )
    formats = tuple(extension for extension in formats if not (whisper and extension == "json"))
    stem = path.stem if path.exists() else _stem_of(shared.store_at(store), transcript)
    base = base_of(output_dir, stem)
    output = Output(
        base=base, formats=formats, captions=chosen.style, name_template=chosen.names, speakers=chosen.speakers
    )
    targets = {extension: file_of(output, extension, files.summary.language) for extension in formats}
    wanted = [
        extension
        for extension, target in targets.items()
        if not (path.exists() and Path(target).exists() and path.samefile(target))
    ]
    rules = output_options.output_rules(overwrite=overwrite, store=opened)
    kept, replaced = write_protected(output, files, rules, formats=wanted)
    for why in (*kept.values(), *([replaced] if replaced else [])):
        print_message(printable(f"warning: {why}"))
    for extension, target in targets.items():
        if extension not in kept:
            write_path(target, null=null)
    return 0


def _file_transcript(path: Path, version: str) -> tuple[TranscriptFiles, bool]:
    """The transcript in a file, and whether it is Whisper's. Raises :class:`DocumentInvalid` and :class:`OSError`."""
    if version != MACHINE:
        raise UsageProblem(f"{path} is a file: --version is of a run", "give the id of a run, or leave --version out")
    with open_file(path, max_bytes=Transcript.max_bytes) as file:
        try:
            return stored_transcript.rendered(file, most_whole_bytes=Transcript.max_bytes), False
        except DocumentInvalid as error:
            try:
                return rendered_whisper(file), True
            except NotWhispers:
                raise error from None


def _stem_of(store: Store, typed: str) -> str:
    """Return the file name for a run's files: as kept on this machine, else the run id. Never a name from the store."""
    run = existing_run(store, typed)
    known = shared.local_requests().find(store.url, run)
    return output_stem(known.request.source.uri) if known else run


def _stored_transcript(store: Store, typed: str, version: str) -> TranscriptFiles:
    run = existing_run(store, typed)
    record = stored_documents.valid(store, RunRecord, RunKeys(run).record)
    found = stored_transcript.stored(store, record) if record else None
    if record is None or found is None:
        raise UsageProblem(f"run {run} has no transcript yet", "see stenofleet status")
    corrected = CorrectionStore(store).find(record) if version != MACHINE else None
    try:
        return in_version(found, corrected.corrections, version) if corrected else found
    except NoSuchVersion as error:
        raise UsageProblem(f"run {run}: {error}", "leave --version out, or use --version latest") from None


@click.command("cancel", cls=Sectioned)
@click.argument("run")
@kubernetes.runner_option
@shared.store_option
@kubernetes.place_options
def cancel_command(run: str, *, runner: str, store: str | None, context: str, namespace: str) -> int:
    """Cancel RUN: the process that works on it stops within a few seconds. Finished chunks are kept for later.

    With --runner kubernetes its Jobs are deleted too, even if no process works on the run.
    """
    opened = shared.store_at(store)
    keys = RunKeys(existing_run(opened, run))
    if opened.stat(keys.marker("complete")):
        print_message(f"run {keys.run} is complete already")
        return 0
    opened.put(keys.cancel, b"")
    if runner == "kubernetes":
        kubernetes.sweep(kubernetes.api_of({"context": context, "namespace": namespace}), keys.run)
    print_message(f"run {keys.run} is cancelled")
    return 0


def _facts(store: Store, run: str) -> dict[str, Any] | None:
    """Return the facts of a run in the store. A running state that was not renewed for long becomes *interrupted*.

    None if the store has no object of it. At most three requests to the store.
    """
    found = read_run(store, run)
    if found is None:
        return None
    status = found.status
    # The last object, not the status, shows how a run has ended: so it is known without a status too.
    percent = 100.0 if found.end in ("complete", "partial") else 0.0
    facts: dict[str, Any] = {"run": run, "name": "", "state": "interrupted", "percent": percent}
    if status is not None:
        facts |= {
            "name": status.name,
            "state": status.state,
            "percent": status.percent,
            "chunks": f"{status.spans_done}/{status.spans_known}{'' if status.planned else '+'}",
            "failures": status.failures,
            "useful_share": status.useful_share,
            "updated_ms": status.updated_ms,
        }
    if found.end in MARKERS:
        try:
            outcome = stored_documents.find(store, Outcome, RunKeys(run).marker(found.end))
        except DocumentInvalid as error:
            return facts | {"state": "damaged", "summary": error.summary}
        # None: removed in the meantime by a command that works on the run again.
        if outcome:
            return facts | {"state": outcome.verdict, "summary": outcome.summary, "advice": outcome.advice}
    if found.end == "cancelled":
        facts["state"] = "cancelled"
    elif status is not None and status.state == "running" and not is_worked_on(status):
        facts["state"] = "interrupted"
    if facts["state"] in ("cancelled", "interrupted", "failed"):
        facts["advice"] = f"stenofleet resume {run} --store {store.url}"
    return facts


def _minute(when_ms: int) -> str:
    """Format a time in this machine's time zone; spaces if it is missing or not valid."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(when_ms / 1000)) if when_ms else f"{'':16}"
    except (ValueError, OverflowError, OSError):
        return f"{'':16}"


def _of_service(store: Store, run: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the request of the service that a run belongs to; it is tried again there."""
    request = request_of_run(store, run)
    if request is None:
        return {}
    advice = {"advice": f"POST /v1/runs/{request.id}:retry tries it again"} if facts.get("advice") else {}
    return {"request": request.id, "tenant": request.prefix, **advice}


def _places(store: Store, run: str) -> dict[str, Any]:
    """Return the location of the recording and of the outputs."""
    request = stored_documents.valid(store, Request, RunKeys(run).request)
    if request is None:
        return {}
    outputs = [file_of(output, extension) for output in request.outputs for extension in output.formats]
    return {"recording": request.source.uri, "outputs": outputs}
