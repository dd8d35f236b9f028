"""Lists of recordings for batches: CSV and JSON Lines with options for each recording, and plain lists of names.

Touches: the files that are named, or objects (through ``chunk_job.store``).
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from chunk_job.errors import JobError
from chunk_job.names import language_code, mapped_language
from chunk_job.store.open_store import open_object
from chunk_job.text import printable
from controller.cli.glossary import terms_in
from controller.cli.name_lists import numbered_names
from controller.cli.recordings import Named, mirrored
from controller.domain.batches import BatchEntry, OwnOptions, as_text
from controller.errors import UsageProblem
from controller.intake.source import is_object

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".txt")
"""Of arguments that are lists, not recordings."""
_MOST_BYTES = 1 << 30
_LONGEST_NAME = 4_095
_LABEL = "label."
_NO_OPTIONS = OwnOptions()
_COLUMNS = ("source", "output", "language", "task", "track", "prompt", "hotwords", "glossary", "labels")
_FIELDS = {"track": "audio_track", "prompt": "initial_prompt"}
_COLUMN_OF = {field: column for column, field in _FIELDS.items()}
_OTHER_NAMES = {"file": "source", "path": "source", "url": "source", "name": "source", "lang": "language"}
_ADVICE = f"the columns are {', '.join(_COLUMNS[:-1])} and {_LABEL}NAME; only source is needed"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A recording, or a folder of them, in a list."""

    named: Named
    where: str
    """The list and the line, for messages."""
    output: str = ""
    """The path of its transcript below the output folder, without an extension. Empty: after its name."""
    options: OwnOptions = _NO_OPTIONS
    labels: Mapping[str, str] = field(default_factory=dict)


def is_list(name: str) -> bool:
    """Whether an argument is the name of a list."""
    return name.lower().endswith(SUFFIXES)


def read_list(name: str) -> list[Listed]:
    """Read a list. Relative names in it begin in its folder.

    Raises :class:`UsageProblem` with the line of what is wrong.
    """
    data = _content(name)
    folder = name.rpartition("/")[0]
    if name.lower().endswith(".txt"):
        rows: list[tuple[int, dict[str, Any]]] = [
            (number, {"source": one}) for number, one in numbered_names(data, name)
        ]
    else:
        text = _decoded(name, data)
        rows = list(_csv_rows(name, text) if name.lower().endswith(".csv") else _json_rows(name, text))
    if not rows:
        raise UsageProblem(f"{name}: has no recordings", "write one in each line")
    found = [_listed(f"{name}, line {line}", folder, row) for line, row in rows]
    # Their places in the output tree depend on all names of the list.
    places = mirrored([str(row["source"]) for _, row in rows])
    return [_placed(one, folder, place) for one, place in zip(found, places, strict=True)]


def _placed(one: Listed, folder: str, place: Named) -> Listed:
    name = _in_folder(folder, place.name)
    return Listed(
        named=Named(name, place.folder), where=one.where, output=one.output, options=one.options, labels=one.labels
    )


def _in_folder(folder: str, name: str) -> str:
    if is_object(name) or name.startswith("/") or not folder:
        return name
    return f"{folder}/{name.removeprefix('./')}"


def _content(name: str) -> bytes:
    try:
        if is_object(name):
            store, key = open_object(name)
            return store.get(key, max_bytes=_MOST_BYTES)
        with Path(name).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except JobError as error:
        raise UsageProblem(f"{name}: {error.summary}", error.advice) from error
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}", "check the name of the list") from error
    if len(data) > _MOST_BYTES:
        raise UsageProblem(f"{name}: is larger than {_MOST_BYTES >> 20} MiB", "divide it into several batches")
    return data


def _decoded(name: str, data: bytes) -> str:
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageProblem(f"{name}, line {line}: is not UTF-8", "convert it: iconv -f windows-1252 -t utf-8") from None


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows with their lines. Tools of some countries separate with semicolons, others with tabs."""
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [_column(name, one) for one in next(reader, [])]
        if "source" not in columns:
            raise UsageProblem(f"{name}, line 1: there is no column source", _ADVICE)
        if twice := next((one for one in columns if columns.count(one) > 1), ""):
            raise UsageProblem(f"{name}, line 1: the column {twice} is there twice", _ADVICE)
        last = reader.line_num
        for row in reader:
            line, last = last + 1, reader.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(columns):
                raise UsageProblem(
                    f"{name}, line {line}: has {len(row)} cells, and the first line has {len(columns)}",
                    "write a cell that contains the separator in double quotes",
                )
            yield line, {column: cell for column, cell in zip(columns, row, strict=True) if cell.strip()}
    except csv.Error as error:
        raise UsageProblem(f"{name}, line {reader.line_num}: {error}", "write it as CSV (RFC 4180)") from None


def _column(name: str, typed: str) -> str:
    column = typed.strip()
    if column.startswith(_LABEL) and len(column) > len(_LABEL):
        return column
    known = _OTHER_NAMES.get(column.lower(), column.lower())
    if known not in _COLUMNS or known == "labels":
        raise UsageProblem(f"{name}, line 1: there is no option {printable(column)[:60]!r}", _ADVICE)
    return known


def _json_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line, object_pairs_hook=functools.partial(_object, where))
        except (ValueError, RecursionError) as error:
            raise UsageProblem(f"{where}: is not JSON: {error}", "write one object in each line") from None
        if not isinstance(row, dict):
            raise UsageProblem(f"{where}: is not an object", 'write {"source": …} in each line')
        given = [(_column_of_json(name, number, key), value) for key, value in row.items() if value is not None]
        yield number, _object(where, given)


def _object(where: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises :class:`UsageProblem` if a name is in it twice: one of its values would be lost."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UsageProblem(f"{where}: {printable(name)[:60]} is there twice", "leave one of them out")
        found[name] = value
    return found


def _column_of_json(name: str, line: int, typed: str) -> str:
    known = _OTHER_NAMES.get(typed.lower(), typed.lower())
    if known not in _COLUMNS:
        advice = f"the fields are {', '.join(_COLUMNS)}; only source is needed"
        raise UsageProblem(f"{name}, line {line}: there is no option {printable(typed)[:60]!r}", advice)
    return known


def _listed(where: str, folder: str, row: dict[str, Any]) -> Listed:
    """Check a row. Its place is set later."""
    labels = row.get("labels", {})
    if not isinstance(labels, dict):
        raise UsageProblem(f"{where}: labels is not an object", 'write {"labels": {"NAME": "VALUE"}}')
    labels = dict(labels) | {key[len(_LABEL) :]: value for key, value in row.items() if key.startswith(_LABEL)}
    source = row.get("source")
    if not isinstance(source, str) or not source.strip():
        raise UsageProblem(f"{where}: no source", "name the recording")
    if not _is_file_name(source):
        raise UsageProblem(f"{where}: source: is not the name of a file or an object", "correct it")
    given = {_FIELDS.get(key, key): row[key] for key in row.keys() & set(_COLUMNS[2:-1])}
    if wrong := next((key for key, value in given.items() if isinstance(value, bool)), ""):
        raise UsageProblem(f"{where}: {_COLUMN_OF.get(wrong, wrong)}: is true or false", "write a text or a number")
    try:
        if "glossary" in given:
            given["glossary"] = _terms(_in_folder(folder, str(given["glossary"])))
        if "language" in given:
            given["language"] = _language(str(given["language"]))
        options = OwnOptions.model_validate(given, strict=False)
        # The entry checks the labels too.
        BatchEntry(number=0, name="", output="x", size_bytes=0, labels=labels)
    except click.BadParameter as error:
        raise UsageProblem(f"{where}: {error.message}", "correct it, or leave it out") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        column, *inside = map(str, first["loc"])
        what = printable(".".join([_COLUMN_OF.get(column, column), *inside]))
        raise UsageProblem(f"{where}: {what}: {first['msg']}", "correct it, or leave it out") from None
    return Listed(
        named=Named(source),
        where=where,
        output=_checked_output(where, row.get("output", "")),
        options=options,
        labels=labels,
    )


@functools.cache
def _terms(path: str) -> tuple[str, ...]:
    """The terms of a glossary, which many rows may name."""
    return terms_in(path)


def _is_file_name(name: str) -> bool:
    """Whether a file can have this name: half of a surrogate pair, which JSON may have, cannot be stored."""
    try:
        as_text(name).encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name and len(name) <= _LONGEST_NAME


def _language(typed: str) -> str:
    if typed.lower() == "auto":
        return "auto"
    code = language_code(typed) or mapped_language(typed)
    if not code:
        raise click.BadParameter(f"language: Whisper knows no language {typed[:60]!r}")
    return code


def _checked_output(where: str, output: object) -> str:
    if not output:
        return ""
    parts = output.split("/") if isinstance(output, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts) or not _is_file_name(str(output)):
        raise UsageProblem(
            f"{where}: output: {printable(str(output))[:80]!r} is not a path below the output folder",
            "write FOLDER/NAME without an extension, and without . and ..",
        )
    return os.path.normpath(str(output))
