"""What the controller and the chunk job say to each other: documents, exit codes, failures.

Touches: nothing. Importing it loads neither a model library nor a store, so both sides (and any third program)
may read and write these documents. Every document is frozen, strict and closed: an unknown field or schema is an
error, because both ends ship together. Times are ``int`` milliseconds in memory; in JSON they are seconds under
Whisper's own names (``start``, ``end``), which :data:`Seconds` converts at this one border.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from pydantic_core import core_schema
from typing_extensions import TypedDict  # pydantic's own; before Python 3.12 it accepts no other

SAMPLE_RATE = 16_000
"""Samples a second of every chunk: what Whisper hears."""

MAX_RESULT_BYTES = 64 << 20
"""A result larger than this is refused unread: an hour of dense speech with word times is 3 MB."""

MAX_SEGMENTS = 100_000
"""More segments than any chunk can hold; stops a hostile result from filling the controller's memory."""


class ExitCode(IntEnum):
    """How a job says what went wrong. Hints for the diagnosis, never proof of success: the result object is that."""

    DONE = 0
    USAGE = 64
    BAD_INPUT = 65
    INPUT_MISSING = 66
    STORE_UNAVAILABLE = 69
    BUG = 70
    TEMPORARY = 75
    ACCESS_DENIED = 77
    CONFIG = 78
    CUDA_OOM = 80
    GPU_UNHEALTHY = 81
    MODEL = 82
    DECODE = 83
    TERMINATED = 143


class JobError(Exception):
    """A failure a job can name: its exit code, what happened, and what to do about it."""

    def __init__(self, code: ExitCode, summary: str, advice: str = "") -> None:
        super().__init__(summary)
        self.code = code
        self.summary = summary
        self.advice = advice


class Document(BaseModel):
    """Base of everything that crosses a process or a bucket."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def encode(self) -> bytes:
        """The document as UTF-8 JSON. Equal documents give equal bytes: field order is declaration order."""
        return self.model_dump_json().encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The document in *data*. Raises :class:`DocumentInvalid` with the first thing that is wrong."""
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "document"
            raise DocumentInvalid(f"{cls.__name__}: {place}: {first['msg']}") from error
        # Code need not repeat it; what comes from outside must say what it is.
        if "schema_" in cls.model_fields.keys() - document.model_fields_set:
            raise DocumentInvalid(f"{cls.__name__}: schema: Field required")
        return document


class DocumentInvalid(JobError):
    """Bytes that should be a document and are not."""

    def __init__(self, summary: str) -> None:
        super().__init__(ExitCode.BAD_INPUT, summary)


class _SecondsInJson:
    """JSON says seconds, Python says milliseconds; what stays in Python pays for no conversion."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> core_schema.CoreSchema:
        seconds = core_schema.float_schema(ge=0, lt=1e9, strict=True, allow_inf_nan=False)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(lambda value: round(value * 1000), seconds),
            python_schema=core_schema.int_schema(ge=0, strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda ms: ms / 1000, return_schema=core_schema.float_schema(), when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: Any) -> dict[str, Any]:
        return {"type": "number", "minimum": 0}


Seconds = Annotated[int, _SecondsInJson]
"""Milliseconds in memory, seconds with three decimals in JSON."""


@with_config(Document.model_config)
class Word(TypedDict):
    """One word with its leading space, as Whisper writes it.

    A plain dictionary: ten hours of speech are a hundred thousand words, and a model object for each would cost five
    times the merge.
    """

    word: str
    start_ms: Annotated[Seconds, Field(alias="start")]
    end_ms: Annotated[Seconds, Field(alias="end")]
    probability: float


class Segment(Document):
    """Whisper's segment. Chunk-local in a result, absolute in a transcript. ``end_ms`` is exclusive."""

    id: int
    seek: int
    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...]

    def inside(self, end_ms: int) -> bool:
        """Whether all its times, and its words', run forwards and end by *end_ms*."""
        if not self.start_ms <= self.end_ms <= end_ms:
            return False
        for word in self.words:  # noqa: SIM110 (a generator in all() costs a third more on results of an hour)
            if not word["start_ms"] <= word["end_ms"] <= end_ms:
                return False
        return True


class TranscribeOptions(Document):
    """How to turn audio into words. Everything but :data:`UNHASHED` changes the transcript and so the run's id."""

    model: str = "medium"
    """A folder with a CTranslate2 model, or a name of ``names.MODELS``."""
    language: str | None = None
    """Whisper's code, or None: detected once for the run and pinned on every chunk."""
    task: Literal["transcribe", "translate"] = "transcribe"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """``cuda`` fails without a GPU instead of falling back in silence."""
    compute_type: str = "auto"
    """``auto``: int8 for chunks; on the direct path float16 on a GPU and int8 on a CPU."""
    beam_size: int = Field(default=5, ge=1, le=32)
    temperature: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """The fallback ladder. Kept on: without it hard passages are lost; the seed makes it repeatable."""
    batch_size: int = Field(default=0, ge=0, le=256)
    """0: sequential decoding. Above: faster-whisper's batched mode, which has no fallback and no quality checks."""
    vad_filter: bool = True
    """Skip what holds no speech: Whisper invents words in silence."""
    condition_on_previous_text: bool = False
    """Off: one bad window would spoil the following ones, and chunks must not depend on each other."""
    initial_prompt: str | None = None
    hotwords: str | None = None
    cpu_threads: int = Field(default=1, ge=1, le=256)
    """Threads of one job; changes speed, never words."""


UNHASHED = frozenset({"cpu_threads"})
"""Options that change speed alone."""


class ChunkTask(Document):
    """All a chunk job is told: complete object keys, never a bucket layout, never a secret."""

    schema_: Literal["stenofleet.task/1"] = Field(default="stenofleet.task/1", alias="schema")
    run: str
    span: int = Field(ge=0)
    audio_key: str
    audio_ms: int = Field(gt=0)
    """Length of the chunk's audio, padding of forced cuts included."""
    pcm_sha256: str
    """Of the 16-bit little-endian samples: the same whatever FLAC encoder wrote them."""
    result_prefix: str
    """Results of all attempts lie here, one object each."""
    language_key: str
    """Where the run's language is frozen, when ``options.language`` is None."""
    language_note_key: str
    """Where this chunk says what it heard when it had too little speech to decide for the run."""
    language_min_speech_ms: int = Field(ge=0)
    """Less speech than this passes the decision on. 0: this chunk decides in any case."""
    options: TranscribeOptions
    seed: int = Field(ge=0, lt=2**31)


class Language(Document):
    """A language heard: the run's decision, or one chunk's note."""

    schema_: Literal["stenofleet.language/1"] = Field(default="stenofleet.language/1", alias="schema")
    language: str
    probability: float
    speech_ms: int = Field(ge=0)
    span: int = Field(ge=0)


class Engine(Document):
    """What computed a result. Another CPU kind may give other words, so the record names it."""

    faster_whisper: str
    ctranslate2: str
    model: str
    model_digest: str
    device: str
    compute_type: str
    isa: str


class Usage(Document):
    """What a result cost. Never part of a transcript: it differs between two runs of the same thing."""

    fetch_ms: int = Field(ge=0)
    load_ms: int = Field(ge=0)
    transcribe_ms: int = Field(ge=0)
    cpu_threads: int


class ChunkResult(Document):
    """One attempt's transcript of one chunk, in chunk-local time."""

    schema_: Literal["stenofleet.result/1"] = Field(default="stenofleet.result/1", alias="schema")
    success: Literal[True] = True
    text: str
    processing_time: float
    run: str
    span: int = Field(ge=0)
    attempt: int = Field(ge=1)
    uid: str
    task_sha256: str
    audio_ms: int = Field(gt=0)
    speech_ms: int = Field(ge=0)
    language: str | None
    """None: nobody spoke and the run's language is still open."""
    language_probability: float
    quality: Literal["ok", "empty", "silent"]
    """``silent``: no speech was found; ``empty``: speech was found and gave no words."""
    segments: tuple[Segment, ...] = Field(max_length=MAX_SEGMENTS)
    engine: Engine
    usage: Usage

    @classmethod
    def read(cls, data: bytes, *, run: str, span: int, task_sha256: frozenset[str]) -> Self:
        """The result in *data* if it answers one of these tasks; results are untrusted input.

        Raises :class:`DocumentInvalid` when it is too large, malformed, of another task, or its times leave the chunk.
        """
        if len(data) > MAX_RESULT_BYTES:
            raise DocumentInvalid(f"result of {len(data)} bytes is larger than {MAX_RESULT_BYTES}")
        result = cls.decode(data)
        if (result.run, result.span) != (run, span) or result.task_sha256 not in task_sha256:
            raise DocumentInvalid(f"result answers another task than span {span} of run {run}")
        last = 0
        for segment in result.segments:
            if not segment.inside(result.audio_ms):
                raise DocumentInvalid(f"segment {segment.id}: times leave the chunk of {result.audio_ms} ms")
            if segment.start_ms < last:
                raise DocumentInvalid(f"segment {segment.id} starts before the one ahead of it")
            last = segment.start_ms
        return result


class JobFailure(Document):
    """A job's last words, written once at its end: Kubernetes' termination message, a file for local jobs."""

    schema_: Literal["stenofleet.failure/1"] = Field(default="stenofleet.failure/1", alias="schema")
    code: int
    summary: str
    advice: str


def sha256_hex(data: bytes) -> str:
    """Hex digest used for tasks, results and run ids."""
    return hashlib.sha256(data).hexdigest()
