"""The documents between controller and jobs: closed schemas, exact times, and untrusted results."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job import contract, document
from chunk_job.contract import (
    MAX_SEGMENTS,
    UNHASHED,
    ChunkResult,
    ChunkTask,
    JobFailure,
    Language,
    TranscribeOptions,
    longest_result_bytes,
    sha256_hex,
)
from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid, ExitCode
from chunk_job.segment import DecodedWindow, Segment, Try
from controller.domain.documents import Round
from tests import fakes

TASK = fakes.task(fakes.record(), 7, audio_ms=10_000)
DIGESTS = frozenset({sha256_hex(TASK.encode())})
SEGMENT = fakes.segment((" one", 1000, 1400), (" two", 1500, 1900))
TRY = Try(temperature=0.0, avg_logprob=-0.3, compression_ratio=1.4, no_speech_prob=0.01)
WINDOW = DecodedWindow(start_ms=0, end_ms=9_000, outcome="text", tries=(TRY,))
RESULT = fakes.result(TASK, SEGMENT, fakes.segment((" three", 3000, 3300), number=1), windows=(WINDOW,))
DOCUMENTS: list[Document] = [
    TASK,
    RESULT,
    TranscribeOptions(),
    Language(language="pt", probability=0.5, speech_ms=3000, span=0),
    JobFailure(code=80, summary="full", advice="wait"),
]
times = st.integers(min_value=0, max_value=1000 * 3_600_000)
texts = st.text(max_size=20)
floats = st.floats(-1e6, 1e6)
counts = st.integers(0, 1 << 53)
words = st.builds(fakes.word, texts, times, times, floats)
segments = st.builds(
    Segment,
    id=counts,
    seek=counts,
    start=times,
    end=times,
    text=texts,
    tokens=st.lists(st.integers(0, 60_000), max_size=3).map(tuple),
    temperature=floats,
    avg_logprob=floats,
    compression_ratio=floats,
    no_speech_prob=floats,
    words=st.lists(words, max_size=3).map(tuple),
)


def read(result: ChunkResult) -> ChunkResult:
    return read_bytes(result.encode())


def read_bytes(data: bytes) -> ChunkResult:
    return ChunkResult.read(data, run=TASK.run, span=TASK.span, task_sha256=DIGESTS, audio_ms=TASK.audio_ms)


def changed(document: Document, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The document's JSON after *change*."""
    raw = json.loads(document.encode())
    change(raw)
    return json.dumps(raw).encode()


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_a_document_is_decoded_as_it_was_encoded(document: Document) -> None:
    assert type(document).decode(document.encode()) == document
    assert document.encode().endswith(b"}\n")
    assert type(document).decode(document.encode()).encode() == document.encode()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_an_unknown_field_is_an_error(document: Document) -> None:
    with pytest.raises(DocumentInvalid, match=f"^{type(document).__name__}: more: "):
        type(document).decode(changed(document, lambda raw: raw.update(more=1)))


def test_a_document_without_a_schema_is_an_error() -> None:
    with pytest.raises(DocumentInvalid, match=r"^Round: schema: "):
        Round.decode(b'{"id": "0000cafe"}')


@pytest.mark.parametrize("document", [TASK, RESULT, DOCUMENTS[3], DOCUMENTS[4]], ids=lambda one: type(one).__name__)
def test_another_schema_is_an_error(document: Document) -> None:
    name = json.loads(document.encode())["schema"]
    assert name.endswith("/1")
    with pytest.raises(DocumentInvalid, match=r": schema"):
        type(document).decode(changed(document, lambda raw: raw.update(schema=name[:-1] + "2")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_a_document_cannot_be_changed(document: Document) -> None:
    name = next(iter(type(document).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(document, name, getattr(document, name))


@pytest.mark.parametrize(
    "name,value",
    [
        ("span", "7"),
        ("span", 7.5),
        ("span", True),
        ("span", -1),
        ("span", None),
        ("audio_ms", 0),
        ("seed", 2**31),
        ("run", 7),
        ("options", None),
    ],
)
def test_a_field_of_another_kind_is_named_and_refused(name: str, value: object) -> None:
    with pytest.raises(DocumentInvalid, match=f"^ChunkTask: {name}: "):
        ChunkTask.decode(changed(TASK, lambda raw: raw.update({name: value})))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": "stenofleet.task/1"}', TASK.encode()[:-3], TASK.encode() * 2],
    ids=["nothing", "a brace", "a list", "null", "no UTF-8", "a stub", "cut short", "twice"],
)
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentInvalid, match=r"^ChunkTask: ") as caught:
        ChunkTask.decode(data)
    assert caught.value.code is ExitCode.BAD_INPUT


def test_the_path_of_the_first_error_is_named() -> None:
    def spoil(raw: dict[str, Any]) -> None:
        raw["segments"][1]["words"][0]["start"] = "soon"

    with pytest.raises(DocumentInvalid, match=r"^ChunkResult: segments\.1\.words\.0\.start: "):
        ChunkResult.decode(changed(RESULT, spoil))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("path", ["avg_logprob", "start", "end"])
def test_a_number_that_is_not_finite_is_refused(path: str, number: str) -> None:
    raw = SEGMENT.encode().decode()
    value = json.loads(raw)[path]
    with pytest.raises(DocumentInvalid, match=f"^Segment: {path}: "):
        Segment.decode(raw.replace(f'"{path}":{value}', f'"{path}":{number}', 1).encode())


@given(segments)
def test_any_segment_is_decoded_as_it_was_encoded(segment: Segment) -> None:
    assert Segment.decode(segment.encode()) == segment


@given(
    st.builds(
        TranscribeOptions,
        model=st.text(min_size=1, max_size=20),
        language=st.sampled_from([None, "en", "yue"]),
        beam_size=st.integers(1, 32),
        temperature=st.lists(st.floats(0, 1), min_size=1, max_size=6).map(tuple),
        batch_size=st.sampled_from(["auto", "sequential"]) | st.integers(0, 256),
        vad_filter=st.booleans(),
        initial_prompt=st.none() | texts,
        cpu_threads=st.integers(1, 256),
    )
)
def test_any_options_are_decoded_as_they_were_encoded(options: TranscribeOptions) -> None:
    assert TranscribeOptions.decode(options.encode()) == options


def test_speed_alone_is_left_out_of_a_runs_identity() -> None:
    assert frozenset({"cpu_threads"}) == UNHASHED
    assert TranscribeOptions.model_fields.keys() > UNHASHED


OF_0_2 = (
    '{"model":"m\u00e9","language":null,"task":"transcribe","device":"auto","compute_type":"auto","beam_size":5,'
    '"temperature":[0.0,0.2,0.4,0.6,0.8,1.0],"batch_size":0,"vad_filter":true,"condition_on_previous_text":false,'
    '"initial_prompt":null,"hotwords":null}'
)
"""What version 0.2 hashed for its defaults."""


def test_the_defaults_have_the_identity_that_0_2_gave_to_its_defaults() -> None:
    assert TranscribeOptions(model="m\u00e9", cpu_threads=7).identity() == OF_0_2
    assert TranscribeOptions.decode(OF_0_2.encode()).identity() == OF_0_2


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": "sequential"},
        {"batch_size": 4},
        {"vad_threshold": 0.4},
        {"vad_min_silence_duration_ms": 500},
        {"no_speech_threshold": 0.5},
        {"logprob_threshold": -0.5},
        {"compression_ratio_threshold": 2.0},
        {"glossary": ("Kubernetes",)},
    ],
    ids=str,
)
def test_every_option_that_changes_words_changes_the_identity(changes: dict[str, Any]) -> None:
    assert TranscribeOptions(model="m\u00e9", **changes).identity() != OF_0_2


@pytest.mark.parametrize(
    "changes,sequential",
    [
        ({}, False),
        ({"batch_size": 1}, False),
        ({"batch_size": 0}, True),
        ({"batch_size": "sequential"}, True),
        ({"task": "translate"}, True),
        ({"condition_on_previous_text": True, "batch_size": 8}, True),
    ],
    ids=str,
)
def test_a_translation_and_a_context_need_sequential_decoding(changes: dict[str, Any], *, sequential: bool) -> None:
    assert TranscribeOptions(**changes).sequential is sequential


# ---------------------------------------------------------------- times


def crossed(ms: int) -> Segment:
    """A segment with one word, all times equal, encoded and decoded."""
    return Segment.decode(fakes.segment(("", ms, ms)).encode())


def started(seconds: str) -> Segment:
    """A segment of another writer with this text as its start."""
    return Segment.decode(fakes.segment().encode().replace(b'"start":0.0', f'"start":{seconds}'.encode()))


@given(times)
def test_a_time_is_encoded_and_decoded_exactly(ms: int) -> None:
    document = fakes.segment(("", ms, ms))
    raw = json.loads(document.encode())
    assert raw["start"] == raw["end"] == raw["words"][0]["start"] == raw["words"][0]["end"] == ms / 1000
    assert crossed(ms) == document


def test_every_millisecond_after_a_thousand_hours_is_exact() -> None:
    for first in (0, 1000 * 3_600_000 - 2000):
        assert all(crossed(ms).start_ms == ms for ms in range(first, first + 2000))


@pytest.mark.parametrize("seconds,ms", [("0", 0), ("1", 1000), ("1.0004", 1000), ("1.0006", 1001), ("0.1", 100)])
def test_seconds_of_another_writer_are_rounded_to_the_millisecond(seconds: str, ms: int) -> None:
    assert started(seconds).start_ms == ms


@pytest.mark.parametrize("seconds", ["-0.001", "-1", "1e300", "true", '"1"', "null"])
def test_an_invalid_time_is_refused(seconds: str) -> None:
    with pytest.raises(DocumentInvalid, match=r"^Segment: start: "):
        started(seconds)


def test_in_memory_a_time_is_milliseconds_under_either_name() -> None:
    named = fakes.segment(("", 1500, 1600))
    raw = named.model_dump(by_alias=True)
    assert (raw["start"], raw["end"]) == (1500, 1600)
    assert Segment.model_validate(raw) == named
    assert b'"start":1.5,"end":1.6' in named.encode()


# ---------------------------------------------------------------- results


def test_a_result_of_its_task_is_accepted() -> None:
    assert read(RESULT) == RESULT
    more = DIGESTS | {"f" * 64}
    assert ChunkResult.read(RESULT.encode(), run=TASK.run, span=7, task_sha256=more, audio_ms=10_000) == RESULT


def test_an_empty_result_is_accepted() -> None:
    assert read(fakes.result(TASK)).quality == "silent"


@pytest.mark.parametrize(
    "changes",
    [{"run": "f" * 16}, {"span": 8}, {"task_sha256": "f" * 64}],
    ids=["of another run", "of another span", "of another task"],
)
def test_a_result_of_another_task_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentInvalid, match="of another task than span 7 of run 0123456789abcdef"):
        read(RESULT.model_copy(update=changes))


@pytest.mark.parametrize(
    "segment",
    [
        fakes.segment((" one", 9000, 10_001)),
        fakes.segment((" one", 9000, 9500), end_ms=10_001),
        fakes.segment((" one", 9000, 10_001), end_ms=10_000),
        fakes.segment((" one", 1500, 1400)),
        fakes.segment((" one", 1000, 1400), start_ms=1500),
        fakes.segment((" one", 20_000, 20_001)),
    ],
    ids=["both late", "segment late", "word late", "word backwards", "segment backwards", "far away"],
)
def test_times_outside_the_chunk_are_refused(segment: Segment) -> None:
    with pytest.raises(DocumentInvalid, match="segment 0: times are outside the chunk of 10000 ms"):
        read(fakes.result(TASK, segment))


def test_times_at_the_limits_of_the_chunk_are_accepted() -> None:
    assert read(fakes.result(TASK, fakes.segment((" one", 0, 10_000)))).segments[0].end_ms == 10_000


def test_segments_out_of_order_are_refused() -> None:
    swapped = fakes.result(TASK, *reversed(RESULT.segments))
    with pytest.raises(DocumentInvalid, match="segment 0 starts before the previous one"):
        read(swapped)


@pytest.mark.parametrize(
    "channels,wanted,segment_channel,message",
    [
        (2, 2, 1, ""),
        (2, 2, 2, ""),
        (2, 2, None, "segment 0 is of channel None, of 2"),
        (2, 2, 3, "segment 0 is of channel 3, of 2"),
        (1, 1, 1, "segment 0 is of channel 1, of 1"),
        (2, 1, 1, "result of 2 channels for a task of 1"),
        (1, 2, None, "result of 1 channels for a task of 2"),
    ],
)
def test_a_result_has_the_channels_of_its_task(
    channels: int, wanted: int, segment_channel: int | None, message: str
) -> None:
    task = TASK.model_copy(update={"channels": wanted})
    result = fakes.result(task, fakes.segment((" one", 0, 900), channel=segment_channel), channels=channels)
    digests = frozenset({result.task_sha256})

    def read_it() -> ChunkResult:
        return ChunkResult.read(
            result.encode(), run=task.run, span=task.span, task_sha256=digests, audio_ms=10_000, channels=wanted
        )

    if not message:
        assert read_it() == result
        return
    with pytest.raises(DocumentInvalid, match=message):
        read_it()


def test_each_channel_may_have_as_many_words_a_second_as_speech_has() -> None:
    words = fakes.segment(*((" a", n, n) for n in range(750)))
    split = fakes.result(TASK, *(words.model_copy(update={"channel": channel}) for channel in (1, 2)), channels=2)
    split.check()
    with pytest.raises(DocumentInvalid, match="1500 words in a chunk"):
        fakes.result(TASK, words, words).check()


def test_a_result_that_is_too_large_is_refused_without_parsing_it() -> None:
    # If it were decoded, another error would be raised.
    with pytest.raises(DocumentInvalid, match="is larger than"):
        read_bytes(b"{" * (longest_result_bytes(TASK.audio_ms) + 1))
    with pytest.raises(DocumentInvalid, match="ChunkResult: document"):
        read_bytes(b"{" * longest_result_bytes(TASK.audio_ms))


def test_the_maximum_size_of_a_result_follows_from_its_audio() -> None:
    assert longest_result_bytes(1000) < longest_result_bytes(720_000) < 8 << 20
    assert longest_result_bytes(document.MAX_AUDIO_MS) == ChunkResult.max_bytes == 64 << 20


def test_more_segments_than_a_chunk_can_hold_are_refused() -> None:
    many = b",".join([fakes.segment().encode().strip()] * (MAX_SEGMENTS + 1))
    raw = fakes.result(TASK).encode().replace(b'"segments":[]', b'"segments":[%s]' % many)
    with pytest.raises(DocumentInvalid, match=f"at most {MAX_SEGMENTS} items"):
        ChunkResult.decode(raw)


@pytest.mark.parametrize("audio_ms", [1, 9_999, 10_001, 10**9])
def test_a_result_of_another_length_than_its_task_is_refused(audio_ms: int) -> None:
    with pytest.raises(DocumentInvalid, match=f"result of {audio_ms} ms for a task of 10000 ms"):
        read(RESULT.model_copy(update={"audio_ms": audio_ms, "segments": (), "speech_ms": 0}))


def test_more_speech_than_audio_is_refused() -> None:
    with pytest.raises(DocumentInvalid, match="10001 ms of speech in a chunk of 10000 ms"):
        read(RESULT.model_copy(update={"speech_ms": 10_001}))


def crowded(*, words: int = 0, tokens: int = 0, characters: int = 0) -> ChunkResult:
    """A result with the given amounts, in segments that are each within their own limits."""
    parts = [
        fakes.segment(
            *[("", 0, 0)] * min(words - 1_000 * number, 1_000),
            number=number,
            text="x" * max(0, min(characters - 10_000 * number, 10_000)),
        ).model_copy(update={"tokens": (1,) * max(0, min(tokens - 1_000 * number, 1_000))})
        for number in range(max(-(-words // 1_000), -(-tokens // 1_000), -(-characters // 10_000)))
    ]
    return fakes.result(TASK, *parts).model_copy(update={"text": ""})


@pytest.mark.parametrize(
    "what,most",
    [("words", 1_000 + 30 * 10), ("tokens", 4_000 + 100 * 10), ("characters", 20_000 + 300 * 10)],
)
def test_words_tokens_and_text_are_bounded_by_the_length_of_the_audio(what: str, most: int) -> None:
    assert read(crowded(**{what: most})).audio_ms == 10_000
    with pytest.raises(DocumentInvalid, match=f"{most + 1} {what} in a chunk of 10000 ms: more than speech can have"):
        read(crowded(**{what: most + 1}))
    with pytest.raises(DocumentInvalid, match="characters in a chunk of 10000 ms"):
        read(RESULT.model_copy(update={"text": "x" * 30_000}))


HUGE = 10**400
NUMBERS = [
    "span",
    "attempt",
    "audio_ms",
    "speech_ms",
    "processing_time",
    "language_probability",
    "usage.fetch_ms",
    "usage.load_ms",
    "usage.transcribe_ms",
    "usage.cpu_threads",
    "usage.total_ms",
    "engine.batch_size",
    "windows.0.start",
    "windows.0.tries.0.avg_logprob",
    "segments.0.id",
    "segments.0.seek",
    "segments.0.start",
    "segments.0.tokens.0",
    "segments.0.temperature",
    "segments.0.words.0.end",
    "segments.0.words.0.probability",
]


@pytest.mark.parametrize("value", [HUGE, -HUGE, 1 << 64, -1e300], ids=["400 digits", "minus", "65 bits", "1e300"])
@pytest.mark.parametrize("path", NUMBERS)
def test_every_number_of_a_result_has_a_range(path: str, value: float) -> None:
    raw: Any = json.loads(RESULT.encode())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = raw
    for part in parents:
        inner = inner[part]
    inner[last] = value
    with pytest.raises(DocumentInvalid):
        read_bytes(json.dumps(raw).encode())


def test_a_result_cannot_state_a_failure() -> None:
    with pytest.raises(DocumentInvalid, match="ChunkResult: success: "):
        ChunkResult.decode(changed(RESULT, lambda raw: raw.update(success=False)))


# ---------------------------------------------------------------- light imports


@pytest.mark.process
@pytest.mark.parametrize(
    "module,heavy",
    [
        ("chunk_job.contract", "numpy minio ctranslate2 torch faster_whisper soundfile transformers click rich"),
        ("chunk_job.names", "numpy minio ctranslate2 torch faster_whisper soundfile pydantic"),
        ("controller.cli", "torch ctranslate2 faster_whisper numpy soundfile transformers minio kubernetes"),
        (
            "controller.orchestrator.loop",
            "torch ctranslate2 faster_whisper numpy soundfile transformers minio click rich",
        ),
    ],
)
def test_an_import_loads_no_heavy_library(module: str, heavy: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    root = Path(contract.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=root)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & set(heavy.split())
