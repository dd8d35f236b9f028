"""The documents of a run: what was asked, what it is, what went wrong, what came out.

Touches: nothing. Plan, task, result and transcript live in the rooms that give them meaning; these are the rest.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chunk_job.contract import Document, TranscribeOptions
from controller.plan import PlanOptions

MAX_DOCUMENT_BYTES = 64 << 20
"""Of one that is read: what is larger is none of these."""

Verdict = Literal["complete", "partial", "failed"]


class Source(Document):
    """A media file, and what identifies its content."""

    uri: str
    """``file://`` and the absolute path, percent-encoded: names need not be UTF-8."""
    size_bytes: int
    mtime_ns: int
    identity: str
    """Digest of the content (above 2 GiB: of size, time and samples)."""


class RunRecord(Document):
    """A run's identity: everything that changes its transcript. Immutable."""

    schema_: Literal["stenofleet.run/1"] = Field(default="stenofleet.run/1", alias="schema")
    run: str
    identity: str
    size_bytes: int
    name: str
    audio_track: int | None
    """Index among the audio streams; None: the default one."""
    plan: PlanOptions
    options: TranscribeOptions
    planner: int
    versions: dict[str, str]


class Output(Document):
    """Where one command wants the transcript."""

    base: str
    """URI of the files without their extension; the stem is the media's."""
    formats: tuple[str, ...]


class Request(Document):
    """What the latest command asked of a run; told to the intake job as its task."""

    schema_: Literal["stenofleet.request/1"] = Field(default="stenofleet.request/1", alias="schema")
    run: str
    source: Source
    record_key: str
    record_sha256: str
    outputs: tuple[Output, ...]
    on_chunk_failure: Literal["fail", "gap"]
    keep_chunks: bool


class Lead(Document):
    """Who works on a run, in a store that machines share. Renewed while it is so."""

    schema_: Literal["stenofleet.lead/1"] = Field(default="stenofleet.lead/1", alias="schema")
    owner: str
    """One command's run, drawn at its start."""
    place: str
    """Machine or cluster whose own lock the owner holds."""
    beat: int
    """Another one every time it is renewed."""


class Round(Document):
    """One series of attempts with its own budgets. After a failure or a cancel the next command opens another."""

    schema_: Literal["stenofleet.round/1"] = Field(default="stenofleet.round/1", alias="schema")
    id: str
    command: str = ""
    """Who last went on with it, where whoever starts that command starts it again after a crash; empty: a person."""


class Evidence(Document):
    """Why an attempt failed, collected before anything of it is deleted."""

    schema_: Literal["stenofleet.evidence/1"] = Field(default="stenofleet.evidence/1", alias="schema")
    round: str
    span: int | None
    """None: the intake."""
    attempt: int = Field(ge=1)
    failure: str
    """The class, of the public vocabulary in ``diagnose``."""
    summary: str
    advice: str
    details: tuple[str, ...]
    """The last log lines, events, container states."""
    ended_ms: int
    """Since the epoch, by the controller's clock; spaces retries, decides nothing else."""
    node: str = ""
    """Where it ran, on a cluster."""


class Winner(Document):
    """The result that speaks for a span."""

    span: int
    key: str
    sha256: str


class Final(Document):
    """The frozen outcome: same winners, same bytes."""

    schema_: Literal["stenofleet.final/1"] = Field(default="stenofleet.final/1", alias="schema")
    run: str
    verdict: Literal["complete", "partial"]
    winners: tuple[Winner, ...]
    lost: tuple[int, ...]
    """Spans without a result: gaps of the transcript."""
    outputs: dict[str, str]
    """Format → sha256 of the transcript in it."""


class Outcome(Document):
    """The body of a run's last object."""

    schema_: Literal["stenofleet.outcome/1"] = Field(default="stenofleet.outcome/1", alias="schema")
    run: str
    verdict: Verdict
    round: str
    summary: str
    advice: str
    failure: str = ""
    """Class of the failure that decided it; empty where none did."""


class SpanReport(Document):
    """How one span was transcribed."""

    span: int
    attempts: int
    failures: tuple[str, ...]
    audio_s: float
    speech_s: float
    fetch_s: float
    load_s: float
    transcribe_s: float


class Report(Document):
    """Everything that may differ between two runs of the same thing."""

    schema_: Literal["stenofleet.report/1"] = Field(default="stenofleet.report/1", alias="schema")
    run: str
    verdict: Verdict
    elapsed_s: float
    """By the clock of the command that finished the run."""
    audio_s: float
    speech_s: float
    compute_s: float
    """Sum over the winning attempts: fetch, load and transcribe."""
    realtime_factor: float
    """``audio_s`` by ``compute_s``: how many times faster than the speech one job is."""
    spans: tuple[SpanReport, ...]


class Status(Document):
    """How far a run is. For people and pages; nothing decides by it."""

    schema_: Literal["stenofleet.status/1"] = Field(default="stenofleet.status/1", alias="schema")
    run: str
    name: str
    state: Literal["waiting", "following", "running", "complete", "partial", "failed", "cancelled", "interrupted"]
    percent: float
    spans_done: int
    spans_known: int
    planned: bool
    """Whether ``spans_known`` is all of them."""
    running: int = 0
    """Jobs at work now."""
    done_ms: int = 0
    total_ms: int = 0
    """Audio that is transcribed, and that is cut so far."""
    failures: int
    updated_ms: int
