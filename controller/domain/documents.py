"""The documents of a run: what was asked, what it is, what went wrong, what came out.

Touches: nothing. Plan, task, result and transcript live in the rooms that give them meaning; these are the rest.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from chunk_job.contract import UNHASHED, TranscribeOptions, sha256_hex
from chunk_job.document import MAX_SPANS, Attempt, Count, Document, Line, ObjectKey, RunId, Sha256, SpanIndex
from controller.domain.keys import RunKeys
from controller.domain.plan import PlanOptions

Verdict = Literal["complete", "partial", "failed"]
Format = Literal["txt", "srt", "vtt", "tsv", "json"]
"""Every format that is written: no other extension is ever put anywhere."""

StoredState = Literal["waiting", "following", "running", "complete", "partial", "failed", "cancelled", "interrupted"]
"""How a run is, as whoever works on it says."""

RoundId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
"""A part of the keys of evidence."""
FileName = Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[^/\x00]+$")]
"""The last part of a path or a key."""
NodeName = Annotated[str, Field(max_length=253, pattern=r"^[0-9A-Za-z._-]*$")]
FailureName = Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Z_]*(\.[a-z_]+)?$")]
"""A class of the public vocabulary in ``diagnose``, or of another version's."""
Measure = Annotated[float, Field(ge=0, le=1e15)]
"""Seconds, and ratios of them."""


def _without_nul(uri: str) -> str:
    # In an object's key a percent sign is one.
    if "\0" in uri or (uri.startswith("file:") and "%00" in uri):
        raise ValueError("a name with a NUL")
    return uri


Uri = Annotated[str, Field(max_length=16_384, pattern=r"^(file:///|s3://[^/]+/).*$"), AfterValidator(_without_nul)]
"""``file:///…`` with an absolute path, percent-encoded (names need not be UTF-8), or ``s3://bucket/key`` as it is."""


class Source(Document):
    """A media file, and what identifies its content."""

    uri: Uri
    size_bytes: Count
    mtime_ns: int = Field(gt=-(1 << 63), lt=1 << 63)
    identity: Sha256
    """Digest of the content (above 2 GiB: of size, time and samples)."""


class RunRecord(Document):
    """A run's identity: everything that changes its transcript. Immutable."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.run/1"] = Field(default="stenofleet.run/1", alias="schema")
    run: RunId
    identity: Sha256
    size_bytes: Count
    name: FileName
    audio_track: int | None = Field(ge=0, le=100_000)
    """Index among the audio streams; None: the default one."""
    plan: PlanOptions
    options: TranscribeOptions
    planner: int = Field(ge=0, le=1_000_000)
    versions: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=100)]] = Field(max_length=20)
    salt: str = Field(default="", max_length=4_096)
    """What makes a new run of the same content and options; empty: the one that every command finds again."""

    def hashed(self) -> str:
        """The id that belongs to this record: a digest of everything that changes the transcript."""
        options = self.options.model_dump_json(exclude=set(UNHASHED))
        parts = [
            *(self.identity, self.plan.model_dump_json(), options),
            *(str(self.audio_track), str(self.planner), self.salt),
        ]
        return sha256_hex("\0".join(parts).encode())[:16]

    def same_run(self, other: RunRecord) -> bool:
        """Whether both are records of one run: names, versions and speed may differ."""

        def compared(record: RunRecord) -> RunRecord:
            options = record.options.model_copy(update=dict.fromkeys(UNHASHED))
            return record.model_copy(update={"name": "", "versions": {}, "salt": "", "options": options})

        return compared(self) == compared(other)


class Output(Document):
    """Where one command wants the transcript."""

    base: Uri
    """URI of the files without their extension; the stem is the media's."""
    formats: tuple[Format, ...] = Field(min_length=1, max_length=100)


class Request(Document):
    """What the latest command asked of a run; told to the intake job as its task."""

    max_bytes: ClassVar[int] = 32 << 20
    schema_: Literal["stenofleet.request/1"] = Field(default="stenofleet.request/1", alias="schema")
    run: RunId
    source: Source
    record_key: ObjectKey
    record_sha256: Sha256
    outputs: tuple[Output, ...] = Field(max_length=100_000)
    on_chunk_failure: Literal["fail", "gap"]
    keep_chunks: bool

    @model_validator(mode="after")
    def _of_its_run(self) -> Self:
        if self.record_key != RunKeys(self.run).record:
            raise ValueError("record_key is of another run")
        return self


class LocalRequest(Document):
    """What was asked for on this machine: ``resume`` takes from it what no bucket may say, the outputs above all."""

    max_bytes: ClassVar[int] = 34 << 20
    schema_: Literal["stenofleet.local-request/1"] = Field(default="stenofleet.local-request/1", alias="schema")
    run: RunId
    store: str = Field(max_length=16_384)
    """URL of the store that holds the run."""
    record: RunRecord
    request: Request

    @model_validator(mode="after")
    def _of_one_run(self) -> Self:
        if not self.run == self.record.run == self.request.run:
            raise ValueError("record and request are of different runs")
        return self


class KnownFile(Document):
    """What identifies a file's content, kept on this machine: the file is not read again while it is the same."""

    max_bytes: ClassVar[int] = 32 << 10
    schema_: Literal["stenofleet.known-file/1"] = Field(default="stenofleet.known-file/1", alias="schema")
    source: Source
    ctime_ns: int = Field(gt=-(1 << 63), lt=1 << 63)
    """When its content or its status was changed last: a program can set the other time to anything."""


class LeaseRecord(Document):
    """Who works on a run, in a store that machines share. Renewed while it is so."""

    schema_: Literal["stenofleet.lead/1"] = Field(default="stenofleet.lead/1", alias="schema")
    run: RunId | None = None
    """None: written by 0.1.0."""
    owner: str = Field(pattern=r"^[0-9a-f]{16}$")
    """One command's run, drawn at its start."""
    lock_domain: str = Field(alias="place", pattern=r"^[0-9A-Za-z-]{0,64}$")
    """Machine or cluster whose own lock the owner holds."""
    renew_count: Count = Field(alias="beat")
    """Another one every time it is renewed."""


class Round(Document):
    """One series of attempts with its own budgets. After a failure or a cancel the next command opens another."""

    schema_: Literal["stenofleet.round/1"] = Field(default="stenofleet.round/1", alias="schema")
    id: RoundId
    command: str = Field(default="", pattern=r"^([0-9a-f]{8})?$")
    """Who last went on with it, where whoever starts that command starts it again after a crash; empty: a person."""


class Evidence(Document):
    """Why an attempt failed, collected before anything of it is deleted."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.evidence/1"] = Field(default="stenofleet.evidence/1", alias="schema")
    run: RunId | None = None
    """None: written by 0.1.0."""
    round: RoundId
    span: SpanIndex | None
    """None: the intake."""
    attempt: Attempt
    failure: FailureName
    summary: Line
    advice: Line
    details: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(max_length=200)
    """The last log lines, events, container states."""
    ended_ms: Count
    """Since the epoch, by the controller's clock; spaces retries, decides nothing else."""
    node: NodeName = ""
    """Where it ran, on a cluster."""


class Winner(Document):
    """The result that speaks for a span."""

    span: SpanIndex
    key: ObjectKey
    sha256: Sha256


class Final(Document):
    """The frozen outcome: same winners, same bytes."""

    max_bytes: ClassVar[int] = 128 << 20
    schema_: Literal["stenofleet.final/1"] = Field(default="stenofleet.final/1", alias="schema")
    run: RunId
    verdict: Literal["complete", "partial"]
    winners: tuple[Winner, ...] = Field(max_length=MAX_SPANS)
    lost: tuple[SpanIndex, ...] = Field(max_length=MAX_SPANS)
    """Spans without a result: gaps of the transcript."""
    outputs: dict[Format, Sha256]
    """Format → sha256 of the transcript in it."""


class Outcome(Document):
    """The body of a run's last object."""

    max_bytes: ClassVar[int] = 256 << 10
    schema_: Literal["stenofleet.outcome/1"] = Field(default="stenofleet.outcome/1", alias="schema")
    run: RunId
    verdict: Verdict
    round: RoundId
    summary: Line
    advice: Line
    failure: Literal[""] | FailureName = ""
    """Class of the failure that decided it; empty where none did."""


class SpanReport(Document):
    """How one span was transcribed."""

    span: SpanIndex
    attempts: Count
    failures: tuple[FailureName, ...] = Field(max_length=1_000_000)
    audio_s: Measure
    speech_s: Measure
    fetch_s: Measure
    load_s: Measure
    transcribe_s: Measure


class Report(Document):
    """Everything that may differ between two runs of the same thing."""

    max_bytes: ClassVar[int] = 256 << 20
    schema_: Literal["stenofleet.report/1"] = Field(default="stenofleet.report/1", alias="schema")
    run: RunId
    verdict: Verdict
    elapsed_s: Annotated[float, Field(ge=-1e15, le=1e15)]
    """By the clock of the command that finished the run."""
    audio_s: Measure
    speech_s: Measure
    compute_s: Measure
    """Sum over the winning attempts: fetch, load and transcribe."""
    realtime_factor: Measure
    """``audio_s`` by ``compute_s``: how many times faster than the speech one job is."""
    spans: tuple[SpanReport, ...] = Field(max_length=MAX_SPANS)


class RunFigures(Document):
    """How far a run is, in figures."""

    percent: Annotated[float, Field(ge=0, le=100)]
    spans_done: Count
    spans_known: Count
    planned: bool
    """Whether ``spans_known`` is all of them."""
    running: Count = 0
    """Jobs at work now: those that start count, those that wait do not."""
    done_ms: Count = 0
    total_ms: Count = 0
    """Audio that is transcribed, and that is cut so far."""
    failures: Count


class Status(RunFigures):
    """How far a run is. For people and pages; nothing decides by it."""

    schema_: Literal["stenofleet.status/1"] = Field(default="stenofleet.status/1", alias="schema")
    run: RunId
    name: FileName
    state: StoredState
    updated_ms: Count
