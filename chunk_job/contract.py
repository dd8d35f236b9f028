"""The documents that the controller and the chunk job exchange: task, result, language, failure.

Touches: nothing. Importing this module loads neither a model library nor a store, so other programs can use it too. An
unknown field or schema is an error, because controller and chunk job are released together.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from chunk_job.document import (
    Attempt,
    Document,
    ElapsedMs,
    LanguageCode,
    Line,
    Milliseconds,
    ObjectKey,
    RunId,
    Score,
    Sha256,
    SpanIndex,
)
from chunk_job.errors import DocumentInvalid
from chunk_job.glossary import LONGEST_LINE, MOST_TERMS
from chunk_job.segment import Channel, DecodedWindow, Segment

SAMPLE_RATE = 16_000
"""Samples per second of every chunk: the input rate of Whisper."""

MAX_SEGMENTS = 100_000
"""More segments than any chunk can have."""

# Limits of a result: per second of its audio, plus a constant. Fast speech has 6 words, 10 tokens, 40 characters and
# 900 bytes of result per second; a decoder that repeats itself writes several times as much.
_BYTES_A_SECOND, _BYTES_ANYWAY = 8 << 10, 512 << 10
_WORDS_A_SECOND, _WORDS_ANYWAY = 30, 1_000
_TOKENS_A_SECOND, _TOKENS_ANYWAY = 100, 4_000
_CHARACTERS_A_SECOND, _CHARACTERS_ANYWAY = 300, 20_000


class TranscribeOptions(Document):
    """Options of the transcription. All except :data:`UNHASHED` can change the transcript, and change the run's id."""

    max_bytes: ClassVar[int] = 1 << 20
    model: str = Field(default="medium", min_length=1, max_length=4_096)
    """A folder with a CTranslate2 model, or a name of ``names.MODELS``."""
    language: LanguageCode | None = None
    """Whisper's language code. None: detected once for the run and used for every chunk."""
    task: Literal["transcribe", "translate"] = "transcribe"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """``cuda`` fails without a GPU instead of using the CPU."""
    compute_type: str = Field(default="auto", max_length=32)
    """``auto``: int8 for chunks. Without a task: float16 on a GPU and int8 on a CPU."""
    beam_size: int = Field(default=5, ge=1, le=32)
    temperature: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1, max_length=128
    )
    """Temperatures of the fallback decodings. Without them difficult passages are lost. The seed fixes their result."""
    batch_size: Literal["auto", "sequential"] | Annotated[int, Field(ge=0, le=256)] = "auto"
    """Windows that are decoded together. ``auto``: as many as are fastest on the device. ``sequential``: one after the
    other, with Whisper's time-stamp tokens. 0: sequential, in documents of versions before 0.3 only."""
    vad_filter: bool = True
    """Skip audio without speech: Whisper invents words in silence."""
    condition_on_previous_text: bool = False
    """Off: an error in one window would affect the following ones, and chunks must not depend on each other."""
    initial_prompt: str | None = Field(default=None, max_length=64_000)
    hotwords: str | None = Field(default=None, max_length=64_000)
    cpu_threads: int = Field(default=1, ge=1, le=256)
    """Threads of one job. Changes the speed, never the transcript."""
    vad_threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability from which a piece of 32 ms is speech."""
    vad_min_silence_duration_ms: int = Field(default=2_000, ge=0, le=600_000)
    """Shortest silence that is skipped; shorter ones are decoded together with the speech around them."""
    no_speech_threshold: float = Field(default=0.6, ge=0, le=1)
    """A window with a higher no-speech probability, and a log probability that fails, has no text."""
    logprob_threshold: float = Field(default=-1.0, ge=-1e3, le=1e3)
    """A window with a lower average log probability is decoded again at the next temperature."""
    compression_ratio_threshold: float = Field(default=2.4, ge=0, le=1e3)
    """A window whose text compresses better is repetitive, and is decoded again at the next temperature."""
    glossary: tuple[Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)], ...] = Field(
        default=(), max_length=MOST_TERMS
    )
    """Terms to expect, each as ``term`` or ``term = sounds like``."""

    @property
    def sequential(self) -> bool:
        """Whether windows are decoded one after the other. A translation and a context need that."""
        return self.batch_size in ("sequential", 0) or self.task == "translate" or self.condition_on_previous_text

    def identity(self) -> str:
        """The options that can change the transcript, as text: part of a run's id.

        Fields that versions before 0.3 did not have are left out at their default, and ``auto`` is written as their
        default, 0: a command finds the runs that it started before an update.
        """
        fields = self.model_dump(mode="json", exclude=set(UNHASHED))
        if fields["batch_size"] == "auto":
            fields["batch_size"] = 0
        added = (name for name in _SINCE_0_3 if getattr(self, name) == type(self).model_fields[name].default)
        for name in added:
            del fields[name]
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


UNHASHED = frozenset({"cpu_threads"})
"""Options that change only the speed."""

_SINCE_0_3 = (
    *("vad_threshold", "vad_min_silence_duration_ms"),
    *("no_speech_threshold", "logprob_threshold", "compression_ratio_threshold", "glossary"),
)


class ChunkTask(Document):
    """The complete input of a chunk job: object keys and options. It contains no secrets."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.task/1"] = Field(default="stenofleet.task/1", alias="schema")
    run: RunId
    span: SpanIndex
    audio_key: ObjectKey
    audio_ms: Milliseconds = Field(gt=0)
    """Length of the chunk's audio, including the overlap of forced cuts."""
    pcm_sha256: Sha256
    """Digest of the 16-bit little-endian samples: it does not depend on the FLAC encoder."""
    result_prefix: ObjectKey
    """Key prefix of the results of all attempts, one object each."""
    language_key: ObjectKey
    """Key of the run's frozen language, used if ``options.language`` is None."""
    language_note_key: ObjectKey
    """Key of this chunk's language candidate, written if it has too little speech to decide for the run."""
    language_min_speech_ms: Milliseconds
    """With less speech than this the chunk leaves the decision to other chunks. 0: this chunk always decides."""
    options: TranscribeOptions
    seed: int = Field(ge=0, lt=2**31)
    channels: Channel = 1
    """Channels of the chunk's audio. If there are several, each is transcribed by itself."""


class Language(Document):
    """A detected language: the frozen language of the run, or the language candidate of one chunk."""

    schema_: Literal["stenofleet.language/1"] = Field(default="stenofleet.language/1", alias="schema")
    language: LanguageCode
    probability: Score
    speech_ms: Milliseconds
    span: SpanIndex


class Engine(Document):
    """Software and hardware that computed a result. Another kind of CPU can give another text."""

    faster_whisper: str = Field(max_length=200)
    ctranslate2: str = Field(max_length=200)
    model: str = Field(max_length=4_096)
    model_digest: Sha256
    device: str = Field(max_length=200)
    compute_type: str = Field(max_length=200)
    isa: str = Field(max_length=200)
    batch_size: int = Field(default=0, ge=0, le=256)
    """Most windows that were decoded together. 0: sequential decoding, or nothing was decoded."""
    stored_type: str = Field(default="", max_length=200)
    """Type of the weights in the model's file. If it is not the one they are used in, each load converts them."""


class Usage(Document):
    """Where the time of a job went: parts overlap. Not part of a transcript, because it differs between runs.

    Results of versions before 0.3 have only the first four fields.
    """

    fetch_ms: ElapsedMs
    """Reading the chunk from the store, and its FLAC decoding."""
    load_ms: ElapsedMs
    """Loading the model, without its kernels."""
    transcribe_ms: ElapsedMs
    """From the moment that audio and model are there to the last segment."""
    cpu_threads: int = Field(ge=1, le=4_096)
    startup_ms: ElapsedMs = 0
    """From the start of the process to reading the task. 0 if the system does not say when it started."""
    kernels_ms: ElapsedMs = 0
    """The first use of the GPU: seconds if its kernels have to be compiled, else a few hundredths."""
    speech_ms: ElapsedMs = 0
    """Speech detection."""
    features_ms: ElapsedMs = 0
    """Log-mel features."""
    decode_ms: ElapsedMs = 0
    """Encoding and decoding, with the windows that were decoded again."""
    align_ms: ElapsedMs = 0
    """Word times."""
    commit_ms: ElapsedMs = 0
    """Building and checking the result. Writing it cannot be part of it: the job's log has that time."""
    total_ms: ElapsedMs = 0
    """From the start of the process to the result, without writing it."""


class ChunkResult(Document):
    """One attempt's transcript of one chunk, in chunk-local time."""

    max_bytes: ClassVar[int] = 64 << 20
    schema_: Literal["stenofleet.result/1"] = Field(default="stenofleet.result/1", alias="schema")
    success: Literal[True] = True
    text: str
    processing_time: float = Field(ge=0, le=1e7)
    run: RunId
    span: SpanIndex
    attempt: Attempt
    uid: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    task_sha256: Sha256
    audio_ms: Milliseconds = Field(gt=0)
    speech_ms: Milliseconds
    """Time in which there is speech in any channel."""
    language: LanguageCode | None
    """None: there is no speech, and the run's language is not frozen yet."""
    language_probability: Score
    quality: Literal["ok", "empty", "silent"]
    """``silent``: no speech was found. ``empty``: speech was found but gave no text."""
    segments: tuple[Segment, ...] = Field(max_length=MAX_SEGMENTS)
    engine: Engine
    usage: Usage
    windows: tuple[DecodedWindow, ...] = Field(default=(), max_length=MAX_SEGMENTS)
    """What was tried for each window. Empty after sequential decoding."""
    glossary_terms: int = Field(default=0, ge=0, le=MOST_TERMS)
    """Terms of the glossary that the model's prompt could hold. 0 also if nothing was decoded."""
    channels: Channel = 1
    """Channels that were transcribed one by one. Their segments are ordered by their start, and may overlap."""

    @classmethod
    def read(
        cls, data: bytes, *, run: str, span: int, task_sha256: frozenset[str], audio_ms: int, channels: int = 1
    ) -> Self:
        """The result in *data*, validated for these tasks with *audio_ms* of audio. Results are untrusted input.

        Raises :class:`DocumentInvalid` if it is too large, malformed, of another task, or impossible for a chunk of
        this length.
        """
        limit = longest_result_bytes(audio_ms * channels)
        if len(data) > limit:
            raise DocumentInvalid(f"result of {len(data)} bytes is larger than {limit}")
        result = cls.decode(data)
        if (result.run, result.span) != (run, span) or result.task_sha256 not in task_sha256:
            raise DocumentInvalid(f"result of another task than span {span} of run {run}")
        if result.audio_ms != audio_ms:
            raise DocumentInvalid(f"result of {result.audio_ms} ms for a task of {audio_ms} ms")
        if result.channels != channels:
            raise DocumentInvalid(f"result of {result.channels} channels for a task of {channels}")
        result.check()
        return result

    def check(self) -> None:
        """Raise :class:`DocumentInvalid` if times are outside the chunk or out of order, or for too much text."""
        last = 0
        for segment in self.segments:
            if not segment.inside(self.audio_ms):
                raise DocumentInvalid(f"segment {segment.id}: times are outside the chunk of {self.audio_ms} ms")
            if segment.start_ms < last:
                raise DocumentInvalid(f"segment {segment.id} starts before the previous one")
            last = segment.start_ms
            if (segment.channel is None) != (self.channels == 1) or (segment.channel or 1) > self.channels:
                raise DocumentInvalid(f"segment {segment.id} is of channel {segment.channel}, of {self.channels}")
        if self.speech_ms > self.audio_ms:
            raise DocumentInvalid(f"{self.speech_ms} ms of speech in a chunk of {self.audio_ms} ms")
        for what, found, a_second, anyway in (
            ("words", sum(len(segment.words) for segment in self.segments), _WORDS_A_SECOND, _WORDS_ANYWAY),
            ("tokens", sum(len(segment.tokens) for segment in self.segments), _TOKENS_A_SECOND, _TOKENS_ANYWAY),
            ("characters", len(self.text), _CHARACTERS_A_SECOND, _CHARACTERS_ANYWAY),
            (
                "characters",
                sum(len(segment.text) for segment in self.segments),
                _CHARACTERS_A_SECOND,
                _CHARACTERS_ANYWAY,
            ),
        ):
            if found > anyway + a_second * self.audio_ms * self.channels // 1000:
                raise DocumentInvalid(f"{found} {what} in a chunk of {self.audio_ms} ms: more than speech can have")


def longest_result_bytes(audio_ms: int) -> int:
    """Largest size in bytes of the result of a chunk of *audio_ms*, the sum of all channels.

    An hour of dense speech with word times is 3 MB.
    """
    return min(ChunkResult.max_bytes, _BYTES_ANYWAY + _BYTES_A_SECOND * audio_ms // 1000)


class JobFailure(Document):
    """A job's termination message, written once when it fails. For local jobs it is a file."""

    schema_: Literal["stenofleet.failure/1"] = Field(default="stenofleet.failure/1", alias="schema")
    code: int = Field(ge=0, le=255)
    summary: Line
    advice: Line


def sha256_hex(data: bytes) -> str:
    """Hex digest used for tasks, results and run ids."""
    return hashlib.sha256(data).hexdigest()
