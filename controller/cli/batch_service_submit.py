"""``batch submit --server``: recordings are sent to the transcription service, each with one request for a run.

Touches: media (sends them), the network (through ``client``), the state folder, signals, threads. The labels of the
runs say what was submitted before, and the names of uploads what was sent: so the same command continues on any
machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from chunk_job.contract import TranscribeOptions
from chunk_job.text import json_line, masked_name, printable
from controller.cli.batch_entries import record_of, rows_named
from controller.cli.batch_folders import keep_folder
from controller.cli.batch_service import Service, check_options, interruptible
from controller.cli.caption_options import NAMES, CaptionOptions
from controller.cli.output_names import BESIDE
from controller.cli.terminal import print_data, print_message
from controller.client.http import Refused
from controller.client.uploads import Uploads
from controller.domain.batches import BatchEntry, BatchRecord, as_name
from controller.domain.output import Format
from controller.domain.plan import Clip, PlanOptions
from controller.domain.served_batches import entry_of, key_of, labels_of, served_id
from controller.errors import MediaProblem, UsageProblem
from controller.intake.source import is_object
from controller.runs.lookup import in_parallel

_AT_ONCE = 4
"""Recordings that are sent at the same time."""
_SAY_S = 15.0
_LONGEST_NAME = 200
_SENT = (
    "model", "language", "task", "compute_type", "beam_size", "temperature", "temperature_increment_on_fallback",
    "no_speech_threshold", "logprob_threshold", "compression_ratio_threshold", "batch_size", "vad_filter",
    "vad_threshold", "vad_min_silence_duration_ms", "condition_on_previous_text", "initial_prompt", "hotwords",
    "glossary", "chunk_duration", "chunking_threshold", "clips", "audio_track", "channels", "speaker_names",
    "on_chunk_failure", "keep_chunks", "rendition",
)  # fmt: skip
"""Options that the service takes. What is not given has its defaults."""
_KEPT = ("output_dir", "formats", "name_template", "store_patience", "quiet", "as_json", "null", *NAMES)
"""Options that this machine needs."""
_ADVICE = "the service decides about its jobs; limits and reports are options of batch wait --server"


@dataclass(kw_only=True)
class _Submission:
    """What is to be submitted, and how far it is."""

    service: Service
    record: BatchRecord
    pages: list[bytes]
    """The entries, encoded: there may be a million."""
    options: Mapping[str, Any]
    uploads: Uploads
    sent_bytes: int = 0
    known: int = 0
    submitted: int = 0
    refused: list[tuple[BatchEntry, str, str]] = field(default_factory=list)
    """With the summary and the advice."""


def submit(
    service: Service,
    files: tuple[str, ...],
    output_dir: str,
    formats: tuple[Format, ...],
    captions: CaptionOptions,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Submit what *files* name. Returns 0: all, 4: some, 5: none.

    Raises :class:`UsageProblem`, :class:`EnvironmentProblem` and :class:`Interrupted`; the same command continues.
    """
    check_options((*_SENT, *_KEPT), _ADVICE)
    if output_dir == BESIDE:
        raise UsageProblem("-o source: not possible with --server", "name a folder; batch wait writes there")
    options = _options()
    style = {
        "formats": formats, "captions": captions.style, "name_template": captions.names, "speakers": captions.speakers
    }  # fmt: skip
    rows, lost = rows_named(files, output_dir, quiet=quiet or as_json)
    # The service decides about all that is not given: its defaults are not known here.
    fields = {"plan": PlanOptions(), "options": TranscribeOptions()}
    record, pages = record_of(rows, output_dir, style, fields)
    record = record.model_copy(update={"id": served_id(record, json.dumps(options, sort_keys=True))})
    size = 0
    for entry in _entries(pages):
        # Before anything is sent.
        _labels(record, entry)
        size += 0 if is_object(as_name(entry.name)) else entry.size_bytes
    keep_folder(record.id, output_dir)
    if not (quiet or as_json):
        print_message(f"batch {record.id}: {record.entries} recordings, {_written(size)} to send")
    done = _Submission(
        service=service,
        record=record,
        pages=pages,
        options=options,
        uploads=Uploads(service.connection, record.id, on_part=lambda size: _add(done, size)),
    )
    with interruptible(service) as rest:
        _submit_all(done, rest, quiet=quiet or as_json)
    return _conclude(done, lost, as_json=as_json)


def _add(done: _Submission, size_bytes: int) -> None:
    done.sent_bytes += size_bytes


def _options() -> dict[str, Any]:
    """The options that were given, as the API has them."""
    context = click.get_current_context()
    given = {
        name: context.params[name]
        for name in _SENT
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and context.params[name] not in (None, ())
    }
    if clips := given.pop("clips", ()):
        given["clip_timestamps"] = _times(clips)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _times(clips: tuple[Clip, ...]) -> list[float]:
    marks = [mark for clip in clips for mark in (clip.start_ms, clip.end_ms) if mark is not None]
    return [mark / 1000 for mark in marks]


def _entries(pages: list[bytes]) -> Iterator[BatchEntry]:
    """Yield the entries of a batch."""
    for page in pages:
        yield from map(BatchEntry.decode, page.splitlines())


def _labels(record: BatchRecord, entry: BatchEntry) -> dict[str, str]:
    try:
        return labels_of(record.id, record, entry)
    except ValueError as error:
        raise UsageProblem(f"{masked_name(as_name(entry.name))}: {error}", "correct the list") from None


def _submit_all(done: _Submission, rest: Callable[[float], None], *, quiet: bool) -> None:
    """Submit what has no run yet, a few at the same time."""
    there = bytearray(done.record.entries)
    for line in done.service.of_batch(done.record.id):
        found = entry_of(line.labels)
        if found and found.number < len(there):
            there[found.number] = 1
    done.known = sum(there)
    left = (entry for entry in _entries(done.pages) if not there[entry.number])

    def one(entry: BatchEntry) -> tuple[BatchEntry, MediaProblem | Refused | None]:
        try:
            _submit_one(done, entry)
        except (MediaProblem, Refused) as error:
            if isinstance(error, Refused) and error.status == 422:
                # What is wrong with the options is wrong with those of other recordings too.
                what = f"{masked_name(as_name(entry.name))}: {error.summary}"
                raise UsageProblem(what, "correct the option or the list") from error
            if isinstance(error, Refused) and (error.status in (401, 429) or error.status > 499):
                raise
            return entry, error
        return entry, None

    said_s = _now_s()
    for entry, problem in in_parallel(one, left, at_once=_AT_ONCE):
        rest(0)
        if problem is None:
            done.submitted += 1
        else:
            done.refused.append((entry, problem.summary, problem.advice))
            print_message(printable(f"{masked_name(as_name(entry.name))}: {problem.summary}"))
        if not quiet and _now_s() - said_s >= _SAY_S:
            said_s = _now_s()
            print_message(_line(done))


def _submit_one(done: _Submission, entry: BatchEntry) -> None:
    """Send a recording, and request its run."""
    name = as_name(entry.name)
    body: dict[str, Any] = {"options": {**done.options, **_own(entry)}, "labels": _labels(done.record, entry)}
    if is_object(name):
        _request(done, entry, body | {"source": name})
        return
    shown = "".join(one if one.isprintable() else "_" for one in Path(name).name)[-_LONGEST_NAME:]
    again = False
    while True:
        upload = done.uploads.send(entry.number, Path(name), again=again)
        try:
            _request(done, entry, body | {"upload": upload, "name": shown})
        except Refused as error:
            if error.name == "idempotency-key-reused":
                # Another process has submitted this recording, with an upload of its own.
                done.uploads.delete(upload)
                return
            if again or error.name not in ("upload-expired", "upload-used", "not-found"):
                raise
            again = True
        else:
            return


def _request(done: _Submission, entry: BatchEntry, body: dict[str, Any]) -> None:
    done.service.runs.submit(body, key_of(done.record.id, entry.number))


def _own(entry: BatchEntry) -> dict[str, Any]:
    """The options of a list for one recording, as the API has them."""
    return entry.options.model_dump(mode="json", exclude_none=True)


def _conclude(done: _Submission, lost: int, *, as_json: bool) -> int:
    failed = len(done.refused) + lost
    code = 0 if not failed else 4 if done.submitted + done.known else 5
    if as_json:
        facts = {
            "batch": done.record.id,
            "exit_code": code,
            "entries": done.record.entries,
            "submitted": done.submitted,
            "known": done.known,
            "refused": [
                {"source": as_name(entry.name), "summary": summary, "advice": advice}
                for entry, summary, advice in done.refused
            ],
        }
        print_data(json_line(facts), exact=True)
        return code
    print_message(_line(done))
    if done.refused:
        print_message("to submit those that were refused when the cause is removed: the same command")
    url = done.service.connection.url
    print_message(f"to wait for the transcripts: stenofleet batch wait {done.record.id} --server {url}")
    print_data(done.record.id)
    return code


def _line(done: _Submission) -> str:
    parts = [f"{done.submitted} submitted"]
    parts += [f"{done.known} were submitted before"] if done.known else []
    parts += [f"{len(done.refused)} refused"] if done.refused else []
    left = done.record.entries - done.submitted - done.known - len(done.refused)
    parts += [f"{left} left"] if left else []
    return f"batch {done.record.id}: {', '.join(parts)}; {_written(done.sent_bytes)} sent"


def _written(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (when a line is due)
