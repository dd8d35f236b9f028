"""Documents for tests, and a runner whose jobs follow a script, with a simulated clock.

The store is a real one: only processes and the clock are simulated.
"""

import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chunk_job.contract import (
    ChunkResult,
    ChunkTask,
    Engine,
    JobFailure,
    Language,
    TranscribeOptions,
    Usage,
    sha256_hex,
)
from chunk_job.errors import ExitCode
from chunk_job.segment import Segment, Word
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from controller.cli.identification import with_outputs
from controller.domain import failures
from controller.domain.documents import Request, RunRecord, Source
from controller.domain.interfaces import LeaseState, RunRequest, RunRequests
from controller.domain.jobs import Job, JobView
from controller.domain.keys import RunKeys, parse_task
from controller.domain.output import Format, Output
from controller.domain.plan import Cut, Plan, PlanOptions, Span
from controller.domain.progress import NO_TOTALS, Progress, Totals
from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.domain.tasks import chunk_task

RUN = "0123456789abcdef"
START_MS = 1_700_000_000_000
ENGINE = Engine(
    faster_whisper="1.2.1",
    ctranslate2="4.8.1",
    model="tiny",
    model_digest="d" * 64,
    device="cpu",
    compute_type="int8",
    isa="avx2",
)


# ---------------------------------------------------------------- documents


def record(run: str = RUN, *, name: str = "talk.mp4", **options: Any) -> RunRecord:
    """A run's record; its language is fixed unless *options* differ."""
    return RunRecord(
        run=run,
        identity="ab" * 32,
        size_bytes=1000,
        name=name,
        audio_track=None,
        plan=PlanOptions(),
        options=TranscribeOptions(**{"model": "tiny", "language": "en", **options}),
        planner=1,
        versions={"stenofleet": "0"},
    )


def request(
    of: RunRecord,
    *outputs: Path,
    formats: tuple[Format, ...] = ("txt", "json"),
    on_chunk_failure: Literal["fail", "gap"] = "fail",
    keep_chunks: bool = False,
) -> Request:
    """The request of a command: the transcript next to every path of *outputs*."""
    return Request(
        run=of.run,
        source=Source(uri="file:///talk.mp4", size_bytes=of.size_bytes, mtime_ns=1, identity=of.identity),
        record_key=RunKeys(of.run).record,
        record_sha256=sha256_hex(of.encode()),
        outputs=tuple(Output(base=base.as_uri(), formats=formats) for base in outputs),
        on_chunk_failure=on_chunk_failure,
        keep_chunks=keep_chunks,
    )


def service_request(**changes: Any) -> ServiceRequest:
    """A request of a client of the service."""
    asked = ServiceRequest(
        id="01hzy6w9f3kq8x2v4t7m5n0abc",
        tenant="news",
        created_ms=START_MS,
        body_sha256="ab" * 32,
        name="talk.mp4",
        source="s3://media/talk.mp4",
        upload=None,
        audio_track=None,
        plan=PlanOptions(),
        options=TranscribeOptions(model="tiny"),
        speaker_names=(),
        on_chunk_failure="fail",
        keep_chunks=False,
        output=None,
        callback_url="https://receiver.example/hook",
        labels={"show": "morning"},
    )
    return asked.model_copy(update=changes)


def service_end(of: ServiceRequest, **changes: Any) -> RequestEnd:
    """The end of a request whose recording is damaged."""
    end = RequestEnd(
        id=of.id,
        retries=0,
        run_id=RUN,
        status="failed",
        summary="it is damaged",
        advice="send another file",
        failure="BAD_INPUT",
        environment=False,
        warnings=(),
        files=(),
        ended_ms=START_MS,
    )
    return end.model_copy(update=changes)


def plan(
    *ends_ms: int, run: str = RUN, cuts: Mapping[int, Cut] | None = None, pad_ms: int = 2000, offset_ms: int = 0
) -> Plan:
    """Contiguous spans that end at *ends_ms*, in pauses except for *cuts* (by span); forced cuts are padded."""
    cut = {**dict.fromkeys(range(len(ends_ms)), "pause"), len(ends_ms) - 1: "end", **(cuts or {})}
    spans = []
    for index, (start, end) in enumerate(zip([0, *ends_ms], ends_ms, strict=False)):
        before = pad_ms if index and cut[index - 1] == "forced" else 0
        after = pad_ms if cut[index] == "forced" else 0
        spans.append(
            Span(
                index=index,
                start_ms=start,
                end_ms=end,
                audio_start_ms=start - before,
                audio_end_ms=end + after,
                cut=cut[index],  # type: ignore[arg-type]
            )
        )
    return Plan(
        run=run, spans=tuple(spans), duration_ms=ends_ms[-1], offset_ms=offset_ms, direct=len(spans) == 1, warnings=()
    )


def task(of: RunRecord, span: int, audio_ms: int = 10_000) -> ChunkTask:
    """A span's task as the intake writes it."""
    return chunk_task(of, span, audio_ms=audio_ms, pcm_sha256="00" * 32, direct=False)


TimedWord = tuple[str, int, int]
"""A word with its times."""


def word(text: str, start_ms: int, end_ms: int, probability: float = 0.9) -> Word:
    return Word(word=text, start_ms=start_ms, end_ms=end_ms, probability=probability)


def segment(
    *words: TimedWord, number: int = 0, text: str | None = None, probability: float = 0.9, **changes: Any
) -> Segment:
    """A segment of these words, from the first start to the last end."""
    whole = Segment(
        id=number,
        seek=0,
        start_ms=words[0][1] if words else 0,
        end_ms=words[-1][2] if words else 0,
        text="".join(spoken for spoken, _, _ in words) if text is None else text,
        tokens=(1, 2, 3),
        temperature=0.0,
        avg_logprob=-0.2,
        compression_ratio=1.1,
        no_speech_prob=0.0,
        words=tuple(word(*one, probability) for one in words),
    )
    return whole.model_copy(update=changes)


def words_of(spoken: Segment) -> list[TimedWord]:
    """The words of the segment with their times in milliseconds."""
    return [(one["word"], one["start"], one["end"]) for one in spoken.model_dump()["words"]]


def result(of: ChunkTask, *segments: Segment, attempt: int = 1, **changes: Any) -> ChunkResult:
    """A valid result of a task."""
    whole = ChunkResult(
        text="".join(segment.text for segment in segments),
        processing_time=1.0,
        run=of.run,
        span=of.span,
        attempt=attempt,
        uid="u",
        task_sha256=sha256_hex(of.encode()),
        audio_ms=of.audio_ms,
        speech_ms=of.audio_ms // 2 if segments else 0,
        language="en" if segments else None,
        language_probability=0.9 if segments else 0.0,
        quality="ok" if segments else "silent",
        segments=segments,
        engine=ENGINE,
        usage=Usage(fetch_ms=10, load_ms=200, transcribe_ms=1000, cpu_threads=1),
    )
    return whole.model_copy(update=changes)


# ---------------------------------------------------------------- a runner, a clock, a reporter


@dataclass(frozen=True, kw_only=True)
class JobBehaviour:
    """What a job leaves in the store after *takes_ms*, and its exit status. *status* None: it never ends."""

    status: int | None = 0
    leaves: Literal["result", "foreign result", "garbage", "note", "nothing"] = "nothing"
    termination_message: bytes = b""
    takes_ms: int = 200
    speech_ms: int = 5000
    result: Mapping[str, Any] = field(default_factory=dict)
    """Changed fields of the result that it leaves."""


def fails_with(code: ExitCode, summary: str = "so it was", advice: str = "do this") -> JobBehaviour:
    """A job that fails with a termination message."""
    return JobBehaviour(status=code, termination_message=JobFailure(code=code, summary=summary, advice=advice).encode())


DONE = JobBehaviour(leaves="result")
CRASH = JobBehaviour(status=-signal.SIGSEGV)
CRASH_AFTER_COMMIT = JobBehaviour(status=-signal.SIGABRT, leaves="result")
KILLED = JobBehaviour(status=-signal.SIGKILL)
HANG = JobBehaviour(status=None)
NOTHING = JobBehaviour()
FOREIGN = JobBehaviour(leaves="foreign result")
GARBAGE = JobBehaviour(leaves="garbage")
NOTE = JobBehaviour(leaves="note", speech_ms=800)

Script = Callable[[Job], JobBehaviour]


def scripted(behaviours: Mapping[tuple[int | None, int], JobBehaviour]) -> Script:
    """Behaviours by span (None: the intake) and attempt; every other job succeeds."""
    return lambda job: behaviours.get((job.span, job.attempt), DONE)


class JournalStore(FileStore):
    """A real store that records its writes in order, together with the runner's actions."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.journal: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        self.journal.append(f"put {key}")

    def put_new(self, key: str, data: bytes) -> bool:
        new = super().put_new(key, data)
        if new:
            self.journal.append(f"put {key}")
        return new

    def put_file(self, key: str, path: Path) -> None:
        super().put_file(key, path)
        self.journal.append(f"put {key}")

    def delete(self, key: str) -> None:
        super().delete(key)
        self.journal.append(f"delete {key}")

    def when(self, entry: str) -> int:
        """The index of the first entry with this prefix."""
        return next(index for index, found in enumerate(self.journal) if found.startswith(entry))


@dataclass(kw_only=True)
class FakeClock:
    """A clock that moves only with the runner's waits."""

    at_ms: int = START_MS
    asked_to_stop: int | None = None

    def now_ms(self) -> int:
        return self.at_ms

    def signal(self) -> int | None:
        return self.asked_to_stop

    def rest(self, wait: Callable[[], None]) -> None:
        wait()


@dataclass
class ManualClock:
    """A clock in seconds that moves only when a test moves it."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(kw_only=True)
class Recorder:
    """A reporter that records what it is given."""

    events: list[tuple[str, str]] = field(default_factory=list)
    shown: list[list[Progress]] = field(default_factory=list)
    others: list[Totals] = field(default_factory=list)

    def event(self, name: str, text: str, *, run: str = "") -> None:
        self.events.append((name, text))

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        self.shown.append(list(runs))
        self.others.append(others)

    def reported(self, part: str) -> bool:
        return any(part in text for _, text in self.events)


@dataclass(kw_only=True)
class SimulatedJob:
    """A job that was started."""

    job: Job
    behaviour: JobBehaviour
    since_ms: int
    task: bytes
    left: bool = False


class FakeLeadership:
    """Leads every run, except those that a test gives to another process."""

    def __init__(self) -> None:
        self.led_by_others: set[str] = set()
        self.led: set[str] = set()
        self.at = "here"
        self.cancelled_runs: set[str] = set()

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        if run in self.led_by_others:
            return "following"
        self.led.add(run)
        return "leading"

    def check(self, run: str) -> None:
        assert run in self.led

    def domain(self, run: str) -> str:
        return self.at

    def cancelled(self, run: str) -> bool:
        return run in self.cancelled_runs

    def observe(self, runs: Collection[str]) -> None:
        pass

    def release(self, run: str, *, ended: bool) -> None:
        self.led.discard(run)

    def close(self) -> None:
        self.led.clear()


class FakeRunner:
    """Jobs that follow a script. The intake cuts every recording into chunks of the given lengths."""

    kind = "fake"
    jobs_stay = True
    tick_s = 0.1
    burst = 1 << 20

    def __init__(
        self,
        store: Store,
        clock: FakeClock,
        script: Script | None = None,
        *,
        chunks_ms: Sequence[int] = (10_000, 10_000, 10_000),
        on_wait: Callable[[int], None] = lambda _: None,
    ) -> None:
        """*on_wait* is called with the number of waits so far, so that a test can act meanwhile."""
        self.store = store
        self.clock = clock
        self.script = script or scripted({})
        self.chunks_ms = tuple(chunks_ms)
        self.on_wait = on_wait
        self.submitted: list[Job] = []
        self.released: list[str] = []
        self.leadership: FakeLeadership = FakeLeadership()
        self.led_by_others, self.led = self.leadership.led_by_others, self.leadership.led
        self.cancelled_runs = self.leadership.cancelled_runs
        self.most_at_once = 0
        self.closed: bool | None = None
        self._jobs: dict[str, SimulatedJob] = {}
        self.waits = 0

    def submit(self, job: Job) -> None:
        assert job.run in self.led, "a job of a run that another process leads"
        name = f"{job.run} {'intake' if job.span is None else f'chunk {job.span}'} a{job.attempt}"
        assert name not in self._jobs, "a name used twice"
        # Read at the start, as a real job does; the script handles a missing task.
        task = self.store.get(job.task_key) if self.store.stat(job.task_key) else b""
        assert not task or sha256_hex(task) == job.task_sha256
        self.submitted.append(job)
        self._note(f"submit {name}")
        self._jobs[name] = SimulatedJob(job=job, behaviour=self.script(job), since_ms=self.clock.at_ms, task=task)
        chunks = sum(1 for played in self._jobs.values() if played.job.span is not None)
        self.most_at_once = max(self.most_at_once, chunks)

    def observe(self) -> list[JobView]:
        return [self._view(name, played) for name, played in self._jobs.items()]

    def wait(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 5000, "this loop does not end"
        self.clock.at_ms += round(seconds * 1000)
        self.on_wait(self.waits)

    def delete(self, view: JobView) -> None:
        del self._jobs[view.name]
        self._note(f"remove {view.name}")

    def abandon(self, run: str) -> None:
        for view in self.observe():
            if view.run == run:
                self.delete(view)

    def release(self, run: str) -> None:
        assert run in self.led
        self.released.append(run)

    def close(self, *, leave: bool) -> None:
        self.closed = leave
        self._jobs.clear()

    def _note(self, entry: str) -> None:
        if isinstance(self.store, JournalStore):
            self.store.journal.append(entry)

    def _view(self, name: str, played: SimulatedJob) -> JobView:
        ended = self.clock.at_ms - played.since_ms >= played.behaviour.takes_ms
        if ended and not played.left:
            self._leave(played)
            played.left = True
        status = played.behaviour.status if ended else None
        diagnosis = None
        if status is not None:
            diagnosis = failures.from_process(
                status, termination_message=played.behaviour.termination_message, log=["a line"], oom_kills=0
            )
        return JobView(
            run=played.job.run,
            span=played.job.span,
            attempt=played.job.attempt,
            name=name,
            uid=name,
            phase="running" if status is None else "ended",
            since_ms=played.since_ms,
            diagnosis=diagnosis,
            progress_ms=0,
        )

    def _leave(self, played: SimulatedJob) -> None:
        if played.job.span is None:
            if played.behaviour.leaves == "result":
                cut(self.store, played.job, self.chunks_ms)
            return
        if played.task:
            answer(self.store, played.job, played.behaviour, played.task)


def cut(store: Store, job: Job, chunks_ms: Sequence[int]) -> None:
    """Write what an intake job leaves: audio, tasks and the plan, except what exists."""
    asked = Request.decode(store.get(job.task_key))
    of = RunRecord.decode(store.get(asked.record_key))
    keys = RunKeys(of.run)
    for entry in list(store.list(keys.tasks)):
        if (found := parse_task(entry.key)) and found.span >= len(chunks_ms):
            store.delete(entry.key)
    for index, length in enumerate(chunks_ms):
        if store.stat(keys.task(index)) is None:
            store.put(keys.audio(index), b"flac")
            store.put(keys.task(index), task(of, index, length).encode())
    ends = [sum(chunks_ms[: index + 1]) for index in range(len(chunks_ms))]
    store.put(keys.plan, plan(*ends, run=of.run).encode())


def answer(store: Store, job: Job, behaviour: JobBehaviour, task: bytes) -> None:
    """Write what a chunk job leaves."""
    mine = ChunkTask.decode(task)
    spoken = segment((f" w{mine.span}a", 1000, 1400), (f" w{mine.span}b", 1500, 1900))
    answered = result(mine, spoken, attempt=job.attempt, speech_ms=behaviour.speech_ms, **behaviour.result)
    key = f"{mine.result_prefix}a{job.attempt}-u.json"
    match behaviour.leaves:
        case "result":
            words = Language(language="en", probability=0.9, speech_ms=behaviour.speech_ms, span=mine.span)
            if mine.options.language is None and store.stat(mine.language_key) is None:
                store.put(mine.language_key, words.encode())
            store.put(key, answered.encode())
        case "foreign result":
            store.put(key, answered.model_copy(update={"task_sha256": "f" * 64}).encode())
        case "garbage":
            store.put(key, b"{")
        case "note":
            note = Language(language="pt", probability=0.5, speech_ms=behaviour.speech_ms, span=mine.span)
            store.put(mine.language_note_key, note.encode())
        case "nothing":
            pass


def taken(requests: RunRequests) -> list[RunRequest]:
    """The requests of all runs, once they are known; each with the outputs of all files of its content."""
    found: dict[str, RunRequest] = {}
    while not requests.exhausted:
        for one in requests.take(100):
            before = found[one.record.run].request.outputs if one.record.run in found else ()
            found[one.record.run] = with_outputs(one, before + one.request.outputs)
        requests.wait(1)
    return list(found.values())
