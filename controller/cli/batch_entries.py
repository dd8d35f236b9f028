"""Makes the entries of a batch of what a command names, and of each entry the request of its run.

Touches: the recordings that are named (whether they exist, not their content), lists, stdin (through other modules).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunk_job.contract import TranscribeOptions, sha256_hex
from controller.cli import output_options
from controller.cli.batch_lists import Listed, is_list, read_list
from controller.cli.output_names import BESIDE, bases_of, check_no_recording, too_long
from controller.cli.recordings import Named, Resolved, contents
from controller.domain.batches import MOST_ENTRIES, BatchEntry, BatchRecord, as_name, as_text
from controller.domain.documents import Source
from controller.domain.interfaces import RunRequest
from controller.domain.output import Output
from controller.errors import MediaProblem, UsageProblem
from controller.intake import source
from controller.runs.batches import encoded_pages
from controller.runs.lookup import AT_ONCE, in_parallel
from controller.runs.outputs import base_of
from controller.runs.protection import OutputRules
from controller.runs.run_requests import make_run_request


@dataclass(frozen=True)
class Row:
    """A recording that is to become an entry."""

    named: Named
    listed: Listed | None = None


def listed_in(files: Sequence[str], *, quiet: bool) -> list[Row]:
    """The recordings of the lists among *files*. Folders in a list stand for the recordings in them.

    Raises :class:`UsageProblem`.
    """
    found: list[Row] = []
    names = list(filter(is_list, files))
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageProblem(f"{twice} is named twice", "name each list once")
    for name in names:
        for one in read_list(name):
            inside = list(_inside(one, quiet=quiet))
            if one.output and len(inside) > 1:
                raise UsageProblem(f"{one.where}: {len(inside)} recordings have one output", "leave the output out")
            found += inside
    return found


def _inside(one: Listed, *, quiet: bool) -> Iterator[Row]:
    try:
        for named in contents(one.named, [], quiet=quiet):
            yield Row(named, one)
    except MediaProblem as error:
        raise UsageProblem(f"{one.where}: {error.summary}", error.advice) from error


def merged(listed: Sequence[Row], others: Sequence[Named]) -> list[Row]:
    """All recordings: those of lists, and the *others* that no list names.

    Raises :class:`UsageProblem` if a recording is in lists twice and would write the same files.
    """
    resolve = Resolved()
    seen: dict[str, str] = {}
    for row in listed:
        assert row.listed
        if row.listed.output:
            continue
        name = resolve.name(row.named.name)
        if before := seen.get(name):
            raise UsageProblem(
                f"{row.listed.where}: {row.named.name} is named before: {before}", "give each an output of its own"
            )
        seen[name] = row.listed.where
    for row in listed:
        seen.setdefault(resolve.name(row.named.name), "")
    return [*listed, *(Row(named) for named in others if resolve.name(named.name) not in seen)]


def entries_of(rows: Sequence[Row], folder: str, files: Mapping[str, Any]) -> Iterator[BatchEntry]:
    """Yield the entries of these recordings. *files*: fields of an output, without its base.

    Raises :class:`UsageProblem` if two recordings would write the same files, and :class:`EnvironmentProblem` if S3
    cannot be reached.
    """
    bases = _bases(rows, folder)
    root = base_of(folder, "x")[:-1]
    names = [row.named.name for row in rows]
    check_no_recording(names, (Output(base=base, **files) for base in bases), Output(base=bases[0], **files))
    each = in_parallel(_find, names, at_once=AT_ONCE) if any(map(source.is_object, names)) else map(_find, names)
    for number, (row, base, found) in enumerate(zip(rows, bases, each, strict=True)):
        yield _entry(number, row, _below(root, base, beside=folder == BESIDE and not _output(row)), found)


def _output(row: Row) -> str:
    return row.listed.output if row.listed else ""


def _bases(rows: Sequence[Row], folder: str) -> list[str]:
    """The base of the outputs of each recording."""
    given: dict[str, str] = {}
    for row in rows:
        if row.listed and row.listed.output:
            above, _, last = row.listed.output.rpartition("/")
            if folder == BESIDE:
                raise UsageProblem(f"{row.listed.where}: has an output, but -o source has no folder", "name one: -o")
            given[row.listed.where] = base_of(_joined(folder, above), last)
    plain = bases_of([row.named for row in rows if not _output(row)], folder, given)
    return [given[row.listed.where] if row.listed and row.listed.output else plain[row.named.name] for row in rows]


def _joined(folder: str, below: str) -> str:
    if not below:
        return folder
    return f"{folder.rstrip('/')}/{below}" if source.is_object(folder) else os.path.join(folder, below)  # noqa: PTH118


def _below(root: str, base: str, *, beside: bool) -> str:
    """The path of an output below the output folder."""
    if source.is_object(base):
        return base.rpartition("/")[2] if beside else base.removeprefix(root)
    path = str(source.local_path(base))
    return path.rpartition("/")[2] if beside else path.removeprefix(f"{source.local_path(root)}/")


def _find(name: str) -> source.Found | None:
    """What is known of a recording without reading it; None: it cannot be a recording, which its turn will show."""
    try:
        return source.find(name)
    except MediaProblem:
        return None


def _entry(number: int, row: Row, output: str, found: source.Found | None) -> BatchEntry:
    own: dict[str, Any] = {}
    if row.listed:
        own = {"options": row.listed.options, "labels": dict(row.listed.labels)}
    return BatchEntry(
        number=number,
        name=as_text(row.named.name),
        output=as_text(output),
        size_bytes=found.size_bytes if found else 0,
        revision=found.source.identity if found and found.source else "",
        **own,
    )


def rows_named(files: Sequence[str], output_dir: str, *, quiet: bool) -> tuple[list[Row], int]:
    """The recordings that a command names, and how many folders could not be read.

    Raises :class:`UsageProblem` and :class:`EnvironmentProblem`.
    """
    listed = listed_in(files, quiet=quiet)
    others = [name for name in files if not is_list(name)]
    given: list[Named] = []
    lost = 0
    if others:
        found = output_options.recordings(
            others, stdin_name="stdin", folder=output_dir, scratch=None, cluster=True, quiet=quiet
        )
        given, lost = found.named, len(found.refused)
    rows = merged(listed, given)
    if len(rows) > MOST_ENTRIES:
        raise UsageProblem(f"{len(rows)} recordings: a batch has at most {MOST_ENTRIES}", "divide it")
    return rows, lost


def record_of(
    rows: Sequence[Row], output_dir: str, style: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[BatchRecord, list[bytes]]:
    """The record of a batch of these recordings, and its pages. *style*: of its outputs. *fields*: of the record.

    Raises the errors of :func:`entries_of`.
    """
    pages = list(encoded_pages(entries_of(rows, output_dir, style)))
    record = BatchRecord(
        id="0" * 16,
        created_ms=time.time_ns() // 1_000_000,
        entries=len(rows),
        pages=tuple(map(sha256_hex, pages)),
        output=as_text(output_dir),
        **style,
        **fields,
    )
    return record.model_copy(update={"id": record.hashed()}), pages


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where relative names of a batch begin, and how outputs are replaced."""

    folder: Path
    rules: OutputRules

    def name(self, entry: BatchEntry) -> str:
        """The absolute name of a recording."""
        return self._absolute(as_name(entry.name))

    def output(self, record: BatchRecord, entry: BatchEntry) -> Output:
        """Where the transcript of a recording is written. Raises :class:`MediaProblem` if it cannot have its name."""
        folder, name, below = as_name(record.output), self.name(entry), as_name(entry.output)
        folder = name.rpartition("/")[0] if folder == BESIDE else self._absolute(folder)
        above, _, last = below.rpartition("/")
        output = Output(
            base=base_of(_joined(folder, above), last),
            formats=record.formats,
            captions=record.captions,
            name_template=record.name_template,
            speakers=record.speakers,
        )
        if problem := too_long(name, output):
            raise problem
        return output

    def _absolute(self, name: str) -> str:
        return name if source.is_object(name) else os.path.join(self.folder, name)  # noqa: PTH118


def request_of(
    record: BatchRecord, entry: BatchEntry, src: Source, place: Workplace, options: TranscribeOptions, round_id: str
) -> RunRequest:
    """The request of the run of an entry. *options*: of the batch, for where jobs run.

    Raises :class:`MediaProblem` if its outputs cannot have their names.
    """
    own: dict[str, Any] = entry.options.model_dump(exclude={"audio_track"}, exclude_none=True)
    if own.get("language") == "auto":
        own["language"] = None
    track = entry.options.audio_track
    return make_run_request(
        src,
        place.output(record, entry),
        plan=record.plan,
        options=options.model_copy(update=own) if own else options,
        audio_track=record.audio_track if track is None else track,
        on_chunk_failure=record.on_chunk_failure,
        keep_chunks=record.keep_chunks,
        rendition=record.rendition,
        round_id=round_id,
        rules=place.rules,
    )
