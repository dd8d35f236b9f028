"""A batch: many recordings with one id, in pages, and how each of them ended. Documents and keys.

Touches: nothing.

    batches/<batch>/batch.json                      options and the digests of the pages; immutable
    batches/<batch>/entries/<page>.jsonl            a thousand recordings with their own options; immutable
    batches/<batch>/rounds/<round>                  a round of attempts was begun
    batches/<batch>/cancels/<round>                 this round was cancelled
    batches/<batch>/stops/<round>                   too many have failed in it: nothing more is begun
    batches/<batch>/ends/<page>/<number>-<round>-<kind>-<bytes>.json   how a recording ended
    batches/<batch>/workers/<worker>.json           a process works on it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, cast, get_args

from pydantic import AfterValidator, Field, model_validator

from chunk_job.contract import TranscribeOptions, sha256_hex
from chunk_job.document import Count, Document, LanguageCode, Line, RunId, Sha256
from chunk_job.glossary import LONGEST_LINE, MOST_TERMS
from chunk_job.segment import MOST_CHANNELS, Speaker
from controller.domain.captions import CaptionStyle
from controller.domain.documents import FailureName, Measure
from controller.domain.interfaces import RunVerdict
from controller.domain.output import PLAIN_NAME, Format
from controller.domain.plan import PlanOptions

BATCHES = "batches/"
MOST_ROUNDS = 999
PAGE = 1_000
"""Recordings of a page: as many keys as a listing of S3 returns at once."""
MOST_ENTRIES = 1_000_000

EndKind = Literal["complete", "partial", "failed", "environment", "cancelled", "again"]
"""How a recording ended, as its key says. *environment*: it failed, but the recording is not the cause. *again*: so it
was, and it is tried again in the same round. The first ones count more."""

_KINDS = get_args(EndKind)
_END = re.compile(
    rf"batches/[0-9a-f]{{16}}/ends/[0-9]{{5}}/([0-9]{{7}})-([0-9]{{3}})-({'|'.join(_KINDS)})-([0-9]{{1,7}})\.json"
)
_UNSAFE = re.compile("[%\udc80-\udcff]")
_ESCAPED = re.compile("%([0-9A-F]{2})")

Text = Annotated[str, Field(max_length=16_384)]


def as_text(name: str) -> str:
    """A file name as valid text: percent signs, and bytes that are not UTF-8, as ``%XX``. See :func:`as_name`."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def as_name(text: str) -> str:
    """The file name that :func:`as_text` has made a text of."""

    def one(found: re.Match[str]) -> str:
        byte = int(found[1], 16)
        return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)

    return _ESCAPED.sub(one, text)


def _below(text: str) -> str:
    if text and (any(part in ("", ".", "..") for part in as_name(text).split("/")) or "\0" in text):
        raise ValueError("is not a path below a folder")
    return text


class OwnOptions(Document):
    """What a list says of one recording. None: as for all others."""

    language: LanguageCode | Literal["auto"] | None = None
    """``auto``: detected, whatever the language of the others is."""
    task: Literal["transcribe", "translate"] | None = None
    audio_track: Annotated[int, Field(ge=0, le=9_999)] | None = None
    initial_prompt: str | None = Field(default=None, max_length=64_000)
    hotwords: str | None = Field(default=None, max_length=64_000)
    glossary: tuple[Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)], ...] | None = Field(
        default=None, max_length=MOST_TERMS
    )


class BatchEntry(Document):
    """One recording of a batch."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.batch-entry/1"] = Field(default="stenofleet.batch-entry/1", alias="schema")
    number: Annotated[int, Field(ge=0, lt=MOST_ENTRIES)]
    name: Text
    """As :func:`as_text`: an object's address, or a path, relative to the folder of the batch."""
    output: Annotated[Text, AfterValidator(_below)]
    """As :func:`as_text`: the path of its transcript below the output folder, no extension; empty: not known."""
    size_bytes: Count
    """0: it could not be found when the batch was made."""
    revision: Sha256 | Literal[""] = ""
    """The identity of an object; empty for a file."""
    options: OwnOptions = OwnOptions()
    labels: dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=dict, max_length=50
    )


class BatchRecord(Document):
    """The identity of a batch, and the options of all its recordings."""

    max_bytes: ClassVar[int] = 4 << 20
    schema_: Literal["stenofleet.batch/1"] = Field(default="stenofleet.batch/1", alias="schema")
    id: RunId
    created_ms: Count
    entries: Annotated[int, Field(ge=1, le=MOST_ENTRIES)]
    pages: tuple[Sha256, ...] = Field(min_length=1, max_length=MOST_ENTRIES // PAGE)
    output: Text
    """As :func:`as_text`: the output folder as it was typed."""
    formats: tuple[Format, ...] = Field(min_length=1, max_length=100)
    captions: CaptionStyle | None = None
    name_template: str = Field(default=PLAIN_NAME, max_length=200)
    speakers: tuple[Speaker, ...] = Field(default=(), max_length=MOST_CHANNELS)
    plan: PlanOptions
    options: TranscribeOptions
    audio_track: Annotated[int, Field(ge=0, le=9_999)] | None = None
    on_chunk_failure: Literal["fail", "gap"] = "fail"
    keep_chunks: bool = False
    rendition: bool = False

    @model_validator(mode="after")
    def _of_all_pages(self) -> Self:
        if len(self.pages) != -(-self.entries // PAGE):
            raise ValueError("entries and pages contradict each other")
        return self

    def hashed(self) -> str:
        """The id: the same recordings with the same options are the same batch, on any machine and at any time."""
        own = self.model_dump_json(exclude={"id", "created_ms", "options", "plan"})
        return sha256_hex(f"{own}\0{self.options.identity()}\0{self.plan.identity()}".encode())[:16]


class BatchEnd(Document):
    """How a recording of a batch ended."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.batch-end/1"] = Field(default="stenofleet.batch-end/1", alias="schema")
    number: Annotated[int, Field(ge=0, lt=MOST_ENTRIES)]
    verdict: RunVerdict
    run_id: RunId | Literal[""] = ""
    """Empty: it did not become a run."""
    identity: Sha256 | Literal[""] = ""
    """Of the recording's content; empty: it was not read."""
    known: bool = False
    """Whether its transcript was complete before the batch: nothing was computed for it."""
    failure: FailureName | Literal[""] = ""
    """The class of the failure that decided; empty if none did."""
    environment: bool = False
    """Whether the cause of a failure is not the recording."""
    summary: Line = ""
    advice: Line = ""
    warnings: tuple[Line, ...] = Field(default=(), max_length=1_000)
    audio_s: Measure | None = None
    compute_s: Measure | None = None
    """Of the jobs whose results are used; None: not known."""
    device: str = Field(default="", max_length=200)
    """Of these jobs; empty: not known, or several."""


class BatchWorker(Document):
    """A process that works on a batch, as it says regularly."""

    schema_: Literal["stenofleet.batch-worker/1"] = Field(default="stenofleet.batch-worker/1", alias="schema")
    host: Line
    shard: str = Field(max_length=20)
    updated_ms: Count


class EndKey(NamedTuple):
    """The key of an end, parsed."""

    number: int
    round: int
    kind: EndKind
    size_bytes: int
    """Of its document: a part of one, which a full disk or a copy may leave, is no end."""

    @property
    def verdict(self) -> RunVerdict:
        """The verdict of the recording."""
        if self.kind == "environment" or self.kind == "again":  # noqa: PLR1714 (mypy narrows these)
            return "failed"
        return self.kind


@dataclass(frozen=True)
class BatchKeys:
    """The keys of one batch."""

    batch: str

    @property
    def home(self) -> str:
        return f"{BATCHES}{self.batch}/"

    @property
    def record(self) -> str:
        return f"{self.home}batch.json"

    def entries(self, page: int) -> str:
        return f"{self.home}entries/{page:05d}.jsonl"

    @property
    def rounds(self) -> str:
        return f"{self.home}rounds/"

    def round(self, number: int) -> str:
        return f"{self.rounds}{number:03d}"

    @property
    def cancels(self) -> str:
        return f"{self.home}cancels/"

    def cancel(self, number: int) -> str:
        return f"{self.cancels}{number:03d}"

    def stop(self, number: int) -> str:
        """Too many recordings have failed in this round: nothing more is begun."""
        return f"{self.home}stops/{number:03d}"

    def ends(self, page: int) -> str:
        """Prefix of the ends of a page."""
        return f"{self.home}ends/{page:05d}/"

    def end(self, key: EndKey) -> str:
        name = f"{key.number:07d}-{key.round:03d}-{key.kind}-{key.size_bytes}.json"
        return f"{self.ends(key.number // PAGE)}{name}"

    @property
    def workers(self) -> str:
        return f"{self.home}workers/"

    def worker(self, worker: str) -> str:
        return f"{self.workers}{worker}.json"


def parse_end(key: str, size_bytes: int) -> EndKey | None:
    """Parse the key of an end whose object has this size; None for any other key, and for a part of a document."""
    found = _END.fullmatch(key)
    if not found or int(found[4]) != size_bytes:
        return None
    return EndKey(int(found[1]), int(found[2]), cast("EndKind", found[3]), size_bytes)


def pages_of(entries: int) -> Iterator[tuple[int, range]]:
    """Yield each page of so many entries, with the numbers of its entries."""
    for first in range(0, entries, PAGE):
        yield first // PAGE, range(first, min(first + PAGE, entries))


@dataclass(frozen=True)
class Shard:
    """One of *count* parts of a batch: the entries *index*, *index* + *count*, and so on."""

    index: int
    count: int

    def __contains__(self, number: int) -> bool:
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


WHOLE = Shard(0, 1)


def counted(end: EndKey, round_: int) -> bool:
    """Whether an entry with this latest end has ended in a round: what is complete stays complete."""
    return end.kind == "complete" or (end.round == round_ and end.kind != "again")


def latest(ends: Iterator[EndKey]) -> dict[int, EndKey]:
    """The end of each entry that counts: a complete one, else that of the last round."""
    found: dict[int, EndKey] = {}
    for end in ends:
        before = found.get(end.number)
        if before is None or _rank(end) > _rank(before):
            found[end.number] = end
    return found


def _rank(end: EndKey) -> tuple[bool, int, int]:
    return end.kind == "complete", end.round, -_KINDS.index(end.kind)
