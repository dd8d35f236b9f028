"""A batch of the transcription service: what its runs say of it in their labels.

Touches: nothing. The service knows runs, not batches. So each run of a batch carries the id of the batch, the number of
its recording and how many there are, and where its transcript belongs. Thus any machine finds all of the batch by one
label, and knows which recordings have no run yet.

    batch=<id>                  the batch
    batch.entry=<number>/<n>    which of how many recordings, counted from 1
    batch.files.<i>=<JSON>      a Placement, in pieces of at most 256 characters, counted from 1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from chunk_job.contract import sha256_hex
from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid
from chunk_job.segment import MOST_CHANNELS, Speaker
from controller.domain.batches import MOST_ENTRIES, BatchEntry, BatchRecord, Text, as_name
from controller.domain.captions import CaptionStyle
from controller.domain.output import PLAIN_NAME, Format, checked_template
from controller.domain.service_documents import Labels

BATCH = "batch"
_ENTRY, _FILES = "batch.entry", "batch.files."
_PIECE = 256
"""Characters of the value of a label."""
_LABELS: TypeAdapter[dict[str, str]] = TypeAdapter(Labels)


def _below(path: str) -> str:
    # Every client of the tenant can write labels, and must not choose a place outside the folder of a download.
    name = as_name(path)
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise ValueError("is not a path below a folder")
    return path


class Placement(Document):
    """Where the transcript of a recording belongs, and in which form."""

    source: Text
    """As ``as_text``: the recording as it was named at the submission."""
    output: Annotated[Text, AfterValidator(_below)]
    """As ``as_text``: the path below the output folder, without an extension."""
    formats: tuple[Format, ...] = Field(min_length=1, max_length=100)
    captions: CaptionStyle | None = None
    name_template: Annotated[str, Field(max_length=200), AfterValidator(checked_template)] = PLAIN_NAME
    speakers: Annotated[tuple[Speaker, ...], Field(max_length=MOST_CHANNELS)] = ()


class ServedEntry(NamedTuple):
    """What the labels of a run say."""

    number: int
    """Counted from 0."""
    entries: int
    """How many recordings the batch has."""
    placement: Placement
    labels: Mapping[str, str]
    """Those of the recording itself."""


def served_id(record: BatchRecord, options: str) -> str:
    """The id: the same recordings with the same *options*, as JSON, are the same batch on any machine."""
    return sha256_hex(f"{record.hashed()}\0{options}".encode())[:16]


def label_of(batch: str) -> str:
    """What finds the runs of a batch."""
    return f"{BATCH}={batch}"


def key_of(batch: str, number: int) -> str:
    """The idempotency key of a recording: the service makes one run of it, however often it is submitted."""
    return f"batch-{batch}-{number + 1}"


def labels_of(batch: str, record: BatchRecord, entry: BatchEntry) -> dict[str, str]:
    """The labels of the run of an entry. Raises :class:`ValueError`, which says what is wrong with its own ones."""
    placement = Placement(
        source=entry.name,
        output=entry.output,
        formats=record.formats,
        captions=record.captions,
        name_template=record.name_template,
        speakers=record.speakers,
    )
    text = placement.model_dump_json(exclude_defaults=True)
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    ours = {BATCH: batch, _ENTRY: f"{entry.number + 1}/{record.entries}"}
    ours |= {f"{_FILES}{number}": piece for number, piece in enumerate(pieces, 1)}
    if clash := sorted(name for name in entry.labels if _is_ours(name)):
        raise ValueError(f"the label {clash[0]} is one of the batch itself: name it otherwise")
    if len(ours) + len(entry.labels) > 32:
        raise ValueError(f"{len(entry.labels)} labels, and {len(ours)} of the batch: a run has at most 32")
    try:
        return _LABELS.validate_python(dict(entry.labels) | ours)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])[:100]
        raise ValueError(
            f"the label {name}: the service takes names of up to 63 characters A-Z a-z 0-9 _ . / - that begin and end"
            " with a letter or a digit, and values of up to 256 characters"
        ) from None


def entry_of(labels: Mapping[str, str]) -> ServedEntry | None:
    """What the labels of a run say; None if they are not those of a batch."""
    found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", labels.get(_ENTRY, ""))
    number, entries = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= entries <= MOST_ENTRIES:
        return None
    pieces: list[str] = []
    while piece := labels.get(f"{_FILES}{len(pieces) + 1}"):
        pieces.append(piece)
    try:
        placement = Placement.decode("".join(pieces).encode())
    except DocumentInvalid:
        return None
    own = {name: value for name, value in labels.items() if not _is_ours(name)}
    return ServedEntry(number - 1, entries, placement, own)


def _is_ours(name: str) -> bool:
    return name == BATCH or name.startswith(f"{BATCH}.")
