"""The documents of a run: its request, its identity, its failures and its outcome.

Touches: nothing. Plan, task, result and transcript are defined in the modules that use them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.contract import TranscribeOptions, sha256_hex
from chunk_job.document import MAX_SPANS, Attempt, Count, Document, Line, ObjectKey, RunId, Sha256, SpanIndex
from chunk_job.glossary import MOST_TERMS
from controller.domain.keys import RunKeys
from controller.domain.output import Format, Output, Uri
from controller.domain.plan import PlanOptions
from controller.domain.term_hits import TermHits

Verdict = Literal["complete", "partial", "failed"]
StoredState = Literal["waiting", "following", "running", "complete", "partial", "failed", "cancelled", "interrupted"]
"""State of a run, as written by the process that works on it."""

RoundId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
"""A part of the keys of evidence."""
FileName = Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[^/\x00]+$")]
"""The last part of a path or a key."""
NodeName = Annotated[str, Field(max_length=253, pattern=r"^[0-9A-Za-z._-]*$")]
FailureName = Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Z_]*(\.[a-z_]+)?$")]
"""A class of :class:`controller.domain.failures.FailureClass`, or of another version."""
Measure = Annotated[float, Field(ge=0, le=1e15)]
"""Seconds, or a ratio of seconds."""
Share = Annotated[float, Field(ge=0, le=1)]
TypeName = Annotated[str, Field(max_length=200)]
"""A type of weights as CTranslate2 names it."""


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
    """Makes a new run of the same content and options. Empty: the default run, which every command finds again."""

    def hashed(self) -> str:
        """Return the run id of this record: a digest of everything that changes the transcript."""
        parts = [
            *(self.identity, self.plan.identity(), self.options.identity()),
            *(str(self.audio_track), str(self.planner), self.salt),
        ]
        return sha256_hex("\0".join(parts).encode())[:16]

    def same_run(self, other: RunRecord) -> bool:
        """Whether both are records of the same run: names, versions and options of speed may differ."""

        def compared(record: RunRecord) -> RunRecord:
            return record.model_copy(update={"name": "", "versions": {}, "salt": "", "options": None, "plan": None})

        def texts(record: RunRecord) -> tuple[str, str]:
            return record.options.identity(), record.plan.identity()

        return compared(self) == compared(other) and texts(self) == texts(other)


class Request(Document):
    """What the latest command requested for a run; also the task of the intake job."""

    max_bytes: ClassVar[int] = 32 << 20
    schema_: Literal["stenofleet.request/1"] = Field(default="stenofleet.request/1", alias="schema")
    run: RunId
    source: Source
    record_key: ObjectKey
    record_sha256: Sha256
    outputs: tuple[Output, ...] = Field(max_length=100_000)
    on_chunk_failure: Literal["fail", "gap"]
    keep_chunks: bool
    rendition: bool = False
    """Whether the intake makes a small audio file for players."""

    @model_validator(mode="after")
    def _of_its_run(self) -> Self:
        if self.record_key != RunKeys(self.run).record:
            raise ValueError("record_key is of another run")
        return self


class LocalRequest(Document):
    """A request kept on this machine. ``resume`` uses it for what a store must not decide, above all the outputs."""

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
    """The identity of a file's content, kept on this machine: an unchanged file is not read again."""

    max_bytes: ClassVar[int] = 32 << 10
    schema_: Literal["stenofleet.known-file/1"] = Field(default="stenofleet.known-file/1", alias="schema")
    source: Source
    device: Count
    inode: Count
    """Of the file that the path led to: a link may lead to another one later."""
    ctime_ns: int = Field(gt=-(1 << 63), lt=1 << 63)
    """When its content or metadata was last changed; a program can set ``mtime`` to any value, but not this."""


class LeaseRecord(Document):
    """Which process works on a run, in a store that machines share. Renewed regularly while it works."""

    schema_: Literal["stenofleet.lead/1"] = Field(default="stenofleet.lead/1", alias="schema")
    run: RunId | None = None
    """None: written by 0.1.0."""
    owner: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Identifies one process; random, drawn at its start."""
    lock_domain: str = Field(alias="place", pattern=r"^[0-9A-Za-z-]{0,64}$")
    """The machine or cluster in which the owner also holds the local lock or Lease."""
    renew_count: Count = Field(alias="beat")
    """Increases with every renewal."""


class Round(Document):
    """One series of attempts with its own budgets. After a failure or a cancel, the next command starts another."""

    schema_: Literal["stenofleet.round/1"] = Field(default="stenofleet.round/1", alias="schema")
    id: RoundId
    command: str = Field(default="", pattern=r"^([0-9a-f]{8})?$")
    """Identifies the command (``--round``) that last worked on this round and may be started again; else empty."""


class Evidence(Document):
    """Why an attempt failed, collected before its job is deleted."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.evidence/1"] = Field(default="stenofleet.evidence/1", alias="schema")
    run: RunId | None = None
    """None: written by 0.1.0."""
    round: RoundId
    span: SpanIndex | None
    """None: the intake job."""
    attempt: Attempt
    failure: FailureName
    summary: Line
    advice: Line
    details: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(max_length=200)
    """The last log lines, events, container states."""
    ended_ms: Count
    """Since the epoch, by the controller's clock; used only for the pauses between retries."""
    node: NodeName = ""
    """The cluster node on which it ran; empty elsewhere."""


class Winner(Document):
    """The result that is used for a span."""

    span: SpanIndex
    key: ObjectKey
    sha256: Sha256


class Final(Document):
    """The frozen choice of results: the same winners always give the same output bytes."""

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
    """Class of the failure that decided the verdict; empty if none did."""


class JobTime(Document):
    """Where the time of jobs went, in seconds. Parts overlap, so that their sum can be more than ``total_s``.

    Jobs of versions before 0.3 measured only ``fetch_s``, ``load_s`` and ``transcribe_s``; the rest is 0 then.
    """

    startup_s: Measure = 0.0
    """From the start of the process to reading the task."""
    fetch_s: Measure = 0.0
    load_s: Measure = 0.0
    kernels_s: Measure = 0.0
    """The first use of the GPU."""
    transcribe_s: Measure = 0.0
    detection_s: Measure = 0.0
    """Speech detection."""
    features_s: Measure = 0.0
    decode_s: Measure = 0.0
    align_s: Measure = 0.0
    """Word times."""
    commit_s: Measure = 0.0
    """Building and checking the result, without writing it."""
    total_s: Measure = 0.0
    """From the start of the process to the result."""


class WindowCounts(Document):
    """What happened to the windows of the winning results. All 0 after sequential decoding."""

    decoded: Count = 0
    decoded_again: Count = 0
    """At another temperature than the first one, or cut in two."""
    doubtful: Count = 0
    """No decoding passed all checks."""
    without_speech: Count = 0
    loops_removed: Count = 0


class SpanReport(JobTime):
    """How one span was transcribed: the time of its winning attempt."""

    span: SpanIndex
    attempts: Count
    """The number of its last attempt. The attempt after one that was lost with its controller has the same number."""
    failures: tuple[FailureName, ...] = Field(max_length=1_000_000)
    """Classes of its failures, without attempts that were lost with their controller: nobody saw why."""
    audio_s: Measure
    speech_s: Measure
    windows: WindowCounts = WindowCounts()
    batch_size: Count = 0
    """Most windows that were decoded together. 0: sequential decoding, or no result."""


class Report(Document):
    """Measurements: everything that may differ between two transcriptions of the same recording."""

    max_bytes: ClassVar[int] = 256 << 20
    schema_: Literal["stenofleet.report/1"] = Field(default="stenofleet.report/1", alias="schema")
    run: RunId
    verdict: Verdict
    elapsed_s: Annotated[float, Field(ge=-1e15, le=1e15)]
    """By the clock of the command that finished the run."""
    audio_s: Measure
    speech_s: Measure
    compute_s: Measure
    """Sum over the winning attempts: their total time; of versions before 0.3: fetch, load and transcribe."""
    realtime_factor: Measure
    """``audio_s`` / ``compute_s``: how many times faster than real time one job is."""
    time: JobTime = JobTime()
    """Sum over the winning attempts."""
    useful_share: Share | None = None
    """Decoding and word times, as a part of the total time of the jobs. None: no job has measured it."""
    windows: WindowCounts = WindowCounts()
    batch_sizes: tuple[Count, ...] = Field(default=(), max_length=1_000)
    """Each size with which a winning result was decoded. 0: sequential decoding."""
    stored_types: tuple[TypeName, ...] = Field(default=(), max_length=100)
    """Types of the weights in the model's file."""
    devices: tuple[TypeName, ...] = Field(default=(), max_length=100)
    """Where the winning results were computed: ``cuda``, ``cpu``. Empty: by versions before 0.4."""
    compute_types: tuple[TypeName, ...] = Field(default=(), max_length=100)
    """Types in which the weights were used."""
    chunk_length: Line = ""
    """Why chunks have the length that they have. Empty: it was given."""
    glossary: tuple[TermHits, ...] = Field(default=(), max_length=MOST_TERMS)
    """How often each term of the glossary is in the transcript."""
    advice: tuple[Line, ...] = Field(default=(), max_length=100)
    """What would make the next run faster."""
    warnings: tuple[Line, ...] = Field(default=(), max_length=100)
    """Possible problems of the transcript, which has the same ones."""
    spans: tuple[SpanReport, ...] = Field(max_length=MAX_SPANS)


class RunFigures(Document):
    """The progress of a run, in figures."""

    percent: Annotated[float, Field(ge=0, le=100)]
    spans_done: Count
    spans_known: Count
    planned: bool
    """Whether ``spans_known`` counts all spans of the run."""
    running: Count = 0
    """Jobs that run or start now, without those that wait."""
    done_ms: Count = 0
    total_ms: Count = 0
    """``done_ms``: audio transcribed so far. ``total_ms``: audio cut so far."""
    failures: Count
    """Attempts that failed, or were lost with their controller."""
    useful_share: Share | None = None
    """Decoding and word times, as a part of the time of the jobs that have a result. None: not known."""


class Status(RunFigures):
    """The progress of a run. For people only; no decision depends on it."""

    schema_: Literal["stenofleet.status/1"] = Field(default="stenofleet.status/1", alias="schema")
    run: RunId
    name: FileName
    state: StoredState
    updated_ms: Count
