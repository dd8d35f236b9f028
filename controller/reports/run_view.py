"""What page, report and terminal show of one run.

Touches: nothing. Plain data: times are ``int`` ms, those of the recording in media time. What is not known is None or
empty. All text is printable and without secrets, but it is untrusted: it may contain markup.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from controller.domain.documents import StoredState
from controller.domain.plan import Cut
from controller.reports.words import Block

ChunkState = Literal["done", "lost", "running", "starting", "queued", "retry", "waiting"]
"""*retry*: an attempt failed, and the next one has not started. *lost*: the run ended without its result."""
ChunkMark = ChunkState | Literal["again"]
"""How a chunk is marked. *again*: it is done, but not at its first attempt."""
Quality = Literal["ok", "empty", "silent"]
BarKind = Literal["queued", "starting", "loading", "decoding", "committing", "running", "failed", "unseen"]
"""*running*: its parts are not known. *unseen*: its end was not observed."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The run as a whole."""

    run: str
    name: str
    state: StoredState
    summary: str = ""
    advice: str = ""
    duration_ms: int | None = None
    percent: float = 0.0
    chunks_done: int = 0
    chunks_known: int = 0
    planned: bool = False
    """Whether ``chunks_known`` counts all chunks."""
    failures: int = 0
    """Attempts that failed, or were lost with their controller."""
    took_ms: int | None = None
    """How long the command worked that ended the run."""
    left_ms: int | None = None
    """Estimated time to the end, of a run that is being worked on."""
    compute_ms: int | None = None
    """Time of the jobs with a result, in all."""
    devices: tuple[str, ...] = ()
    """``cuda``, ``cpu``."""
    cost: float | None = None
    """Of that time; None: no price is set."""
    hour_price: float | None = None
    """Of an hour of one job."""
    useful_share: float | None = None
    job_speed: float | None = None
    """How many times faster than real time one job is."""
    speech_ms: int | None = None
    words: int | None = None
    unsure_words: int | None = None
    confidence: float | None = None
    """The average probability of the words. None: not known, or there is no word."""
    language: str = ""
    language_probability: float | None = None
    """None: it was given."""
    model: str = ""
    compute_types: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    command: str = ""
    """A command line that does the same."""
    updated_ms: int | None = None
    """When the state was written, since the epoch."""

    @property
    def speed(self) -> float | None:
        """How many times faster than real time the run was."""
        return self.duration_ms / self.took_ms if self.duration_ms and self.took_ms else None

    @property
    def on_gpu(self) -> bool:
        """Whether jobs used a GPU."""
        return "cuda" in self.devices


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Failed attempts of a chunk or of the intake, one after the other for the same reason."""

    attempts: tuple[int, ...]
    failure: str
    """Its class."""
    summary: str
    advice: str
    lines: tuple[str, ...]
    """The last log lines of the last one."""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChunkView:
    """One chunk of the recording."""

    index: int
    start_ms: int
    end_ms: int
    cut: Cut | None
    """How its end was cut."""
    state: ChunkState
    quality: Quality | None = None
    attempts: int = 0
    """Those that failed or were lost, and the last one."""
    node: str = ""
    waits_for: str = ""
    progress: float | None = None
    """Of a running chunk, from 0 to 1."""
    job_ms: int | None = None
    speech_ms: int | None = None
    doubtful: int = 0
    """Windows that passed no check."""
    words: int | None = None
    unsure_words: int | None = None
    failures: tuple[Failure, ...] = ()
    lost_attempts: int = 0
    """Attempts that were lost with their controller: nobody saw why, so they are no failures of the chunk."""

    @property
    def speed(self) -> float | None:
        """How many times faster than real time it was."""
        return (self.end_ms - self.start_ms) / self.job_ms if self.job_ms else None

    @property
    def mark(self) -> ChunkMark:
        """How it is marked."""
        return "again" if self.state == "done" and self.attempts > 1 else self.state

    @property
    def troubled(self) -> bool:
        """Whether something went wrong with it."""
        return self.failed or self.attempts > 1 or self.state in ("lost", "retry")

    @property
    def failed(self) -> bool:
        """Whether an attempt failed, or was lost."""
        return bool(self.failures or self.lost_attempts)


@dataclass(frozen=True, kw_only=True)
class ChunkGrid:
    """The chunks of a run, at most :data:`MOST_CHUNKS`: first those with something to say."""

    chunks: tuple[ChunkView, ...] = ()
    left_out: int = 0
    intake: tuple[Failure, ...] = ()
    """Failed attempts to cut the recording."""
    lost_intakes: int = 0
    """Attempts to cut it that were lost with their controller."""
    intake_waits_for: str = ""
    """Why the job that cuts it has not started; empty: it has, or it is not known."""
    marks: Sequence[ChunkMark] = ()
    """Of all chunks, in order, also of those that are left out."""

    @property
    def counts(self) -> Mapping[ChunkMark, int]:
        """How many chunks have each mark."""
        return Counter(self.marks)

    @property
    def failed(self) -> bool:
        """Whether an attempt failed, or was lost."""
        return bool(self.intake or self.lost_intakes) or any(chunk.failed for chunk in self.chunks)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A part of an attempt. Times count from the beginning of the timeline, without its breaks."""

    kind: BarKind
    attempt: int
    start_ms: int
    end_ms: int
    critical: bool = False


@dataclass(frozen=True, kw_only=True)
class TimelineRow:
    """The attempts of one chunk; *span* None: of the intake."""

    span: int | None
    bars: tuple[Bar, ...]

    @property
    def critical(self) -> bool:
        """Whether it is on the critical path."""
        return any(bar.critical for bar in self.bars)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When the attempts of a run waited and worked."""

    total_ms: int
    rows: tuple[TimelineRow, ...]
    absolute: bool = True
    """False: only how long each job took is known, and all begin at 0."""
    breaks: tuple[tuple[int, int], ...] = ()
    """Times in which nothing was done, which are left out: where, and how long, in ms."""
    left_out: int = 0
    """Rows that are not shown."""


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """The sound of a recording, in media time."""

    step_ms: int
    steps: bytes
    """For each step two signed bytes: its lowest and its highest sample, in 1/128 of full scale."""


@dataclass(frozen=True, kw_only=True)
class CutView:
    """Where a chunk ends and the next one begins."""

    at_ms: int
    cut: Cut
    chunk: int
    """The one that begins there."""


@dataclass(frozen=True, kw_only=True)
class SoundView:
    """The recording over its length."""

    duration_ms: int
    cuts: tuple[CutView, ...] = ()
    sound: tuple[tuple[int, int], ...] | None = None
    """Where there is sound; None: not measured."""
    speech: tuple[tuple[int, int], ...] = ()
    """Where there are words."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Parts without a transcript, because their chunk failed."""
    waveform: Waveform | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionFindings:
    """Which captions of the transcript break the limits of a profile."""

    profile: str
    captions: int
    """How many there are."""
    broken: int
    """How many of them break a limit."""
    rules: tuple[tuple[str, int], ...] = ()
    """What is wrong, and how often."""
    starts_ms: Sequence[int] = ()
    """Where something is wrong, in order."""
    texts: Sequence[str] = ()
    """What is wrong there."""
    left_out: int = 0
    """Places that are not among these."""

    def of(self, block: Block) -> Mapping[int, Sequence[str]]:
        """What is said about lines of a block, by their number: what begins in a line, or after it."""
        if not block.lines:
            return {}
        last = block.lines[-1]
        ends_ms = [*(line.start_ms for line in block.lines[1:]), max(last.end_ms, last.start_ms + 1)]
        found = {}
        for line, end_ms in zip(block.lines, ends_ms, strict=True):
            begin, end = bisect_left(self.starts_ms, line.start_ms), bisect_left(self.starts_ms, end_ms)
            if begin < end:
                found[line.number] = tuple(dict.fromkeys(self.texts[begin:end]))
        return found


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What may be wrong with the transcript, and what would make the next run better."""

    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    glossary: tuple[tuple[str, int], ...] = ()
    """Each term, and how often it is in the transcript."""
    captions: CaptionFindings | None = None
    """None: they were not checked."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run."""

    header: Header
    findings: Findings
    grid: ChunkGrid
    timeline: Timeline | None
    sound: SoundView | None
