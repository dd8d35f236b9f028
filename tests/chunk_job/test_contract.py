"""What both sides say to each other: closed documents, exact times, and results that are not trusted."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job import contract
from chunk_job.contract import (
    MAX_RESULT_BYTES,
    MAX_SEGMENTS,
    UNHASHED,
    ChunkResult,
    ChunkTask,
    Document,
    DocumentInvalid,
    ExitCode,
    JobFailure,
    Language,
    Segment,
    TranscribeOptions,
    sha256_hex,
)
from controller.records import Round
from tests import fakes

TASK = fakes.task(fakes.record(), 7, audio_ms=10_000)
DIGESTS = frozenset({sha256_hex(TASK.encode())})
HEARD = fakes.segment((" one", 1000, 1400), (" two", 1500, 1900))
RESULT = fakes.result(TASK, HEARD, fakes.segment((" three", 3000, 3300), number=1))
DOCUMENTS: list[Document] = [
    TASK,
    RESULT,
    TranscribeOptions(),
    Language(language="pt", probability=0.5, speech_ms=3000, span=0),
    JobFailure(code=80, summary="full", advice="wait"),
]
times = st.integers(min_value=0, max_value=1000 * 3_600_000)
texts = st.text(max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
words = st.builds(fakes.word, texts, times, times, floats)
segments = st.builds(
    Segment,
    id=st.integers(),
    seek=st.integers(),
    start=times,
    end=times,
    text=texts,
    tokens=st.lists(st.integers(), max_size=3).map(tuple),
    temperature=floats,
    avg_logprob=floats,
    compression_ratio=floats,
    no_speech_prob=floats,
    words=st.lists(words, max_size=3).map(tuple),
)


def read(result: ChunkResult) -> ChunkResult:
    return ChunkResult.read(result.encode(), run=TASK.run, span=TASK.span, task_sha256=DIGESTS)


def changed(document: Document, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The document's JSON with something done to it."""
    raw = json.loads(document.encode())
    change(raw)
    return json.dumps(raw).encode()


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_a_document_comes_back_as_it_went(document: Document) -> None:
    assert type(document).decode(document.encode()) == document
    assert document.encode().endswith(b"}\n")
    assert type(document).decode(document.encode()).encode() == document.encode()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_an_unknown_field_is_an_error(document: Document) -> None:
    with pytest.raises(DocumentInvalid, match=f"^{type(document).__name__}: more: "):
        type(document).decode(changed(document, lambda raw: raw.update(more=1)))


def test_a_document_that_does_not_say_what_it_is_is_an_error() -> None:
    with pytest.raises(DocumentInvalid, match=r"^Round: schema: "):
        Round.decode(b'{"id": "x"}')


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


def test_the_place_of_the_first_fault_is_named_to_the_leaf() -> None:
    def spoil(raw: dict[str, Any]) -> None:
        raw["segments"][1]["words"][0]["start"] = "soon"

    with pytest.raises(DocumentInvalid, match=r"^ChunkResult: segments\.1\.words\.0\.start: "):
        ChunkResult.decode(changed(RESULT, spoil))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("place", ["avg_logprob", "start", "end"])
def test_a_number_that_is_none_is_refused(place: str, number: str) -> None:
    raw = HEARD.encode().decode()
    value = json.loads(raw)[place]
    with pytest.raises(DocumentInvalid, match=f"^Segment: {place}: "):
        Segment.decode(raw.replace(f'"{place}":{value}', f'"{place}":{number}', 1).encode())


@given(segments)
def test_any_segment_comes_back_as_it_went(segment: Segment) -> None:
    assert Segment.decode(segment.encode()) == segment


@given(
    st.builds(
        TranscribeOptions,
        model=texts,
        language=st.none() | texts,
        beam_size=st.integers(1, 32),
        temperature=st.lists(floats, max_size=6).map(tuple),
        batch_size=st.integers(0, 256),
        vad_filter=st.booleans(),
        initial_prompt=st.none() | texts,
        cpu_threads=st.integers(1, 256),
    )
)
def test_any_options_come_back_as_they_went(options: TranscribeOptions) -> None:
    assert TranscribeOptions.decode(options.encode()) == options


def test_speed_alone_is_left_out_of_a_runs_identity() -> None:
    assert frozenset({"cpu_threads"}) == UNHASHED
    assert TranscribeOptions.model_fields.keys() > UNHASHED


# ---------------------------------------------------------------- times


def crossed(ms: int) -> Segment:
    """A segment with one word, all of it at one moment, after a trip through JSON."""
    return Segment.decode(fakes.segment(("", ms, ms)).encode())


def started(seconds: str) -> Segment:
    """A segment of another writer, who puts its start so."""
    return Segment.decode(fakes.segment().encode().replace(b'"start":0.0', f'"start":{seconds}'.encode()))


@given(times)
def test_a_time_crosses_the_border_exactly(ms: int) -> None:
    document = fakes.segment(("", ms, ms))
    raw = json.loads(document.encode())
    assert raw["start"] == raw["end"] == raw["words"][0]["start"] == raw["words"][0]["end"] == ms / 1000
    assert crossed(ms) == document


def test_every_millisecond_of_some_seconds_a_thousand_hours_in_crosses_exactly() -> None:
    for first in (0, 1000 * 3_600_000 - 2000):
        assert all(crossed(ms).start_ms == ms for ms in range(first, first + 2000))


@pytest.mark.parametrize("seconds,ms", [("0", 0), ("1", 1000), ("1.0004", 1000), ("1.0006", 1001), ("0.1", 100)])
def test_seconds_of_another_writer_are_rounded_to_the_millisecond(seconds: str, ms: int) -> None:
    assert started(seconds).start_ms == ms


@pytest.mark.parametrize("seconds", ["-0.001", "-1", "1e300", "true", '"1"', "null"])
def test_a_time_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(DocumentInvalid, match=r"^Segment: start: "):
        started(seconds)


def test_in_memory_a_time_is_milliseconds_under_either_name() -> None:
    named = fakes.segment(("", 1500, 1600))
    raw = named.model_dump(by_alias=True)
    assert (raw["start"], raw["end"]) == (1500, 1600)
    assert Segment.model_validate(raw) == named
    assert b'"start":1.5,"end":1.6' in named.encode()


# ---------------------------------------------------------------- results


def test_a_result_that_answers_its_task_is_read() -> None:
    assert read(RESULT) == RESULT
    assert ChunkResult.read(RESULT.encode(), run=TASK.run, span=7, task_sha256=DIGESTS | {"f" * 64}) == RESULT


def test_an_empty_result_is_one() -> None:
    assert read(fakes.result(TASK)).quality == "silent"


@pytest.mark.parametrize(
    "changes",
    [{"run": "f" * 16}, {"span": 8}, {"task_sha256": "f" * 64}],
    ids=["of another run", "of another span", "of another task"],
)
def test_a_result_of_something_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentInvalid, match="answers another task than span 7 of run 0123456789abcdef"):
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
    with pytest.raises(DocumentInvalid, match="segment 0: times leave the chunk of 10000 ms"):
        read(fakes.result(TASK, segment))


def test_times_on_the_borders_of_the_chunk_are_inside() -> None:
    assert read(fakes.result(TASK, fakes.segment((" one", 0, 10_000)))).segments[0].end_ms == 10_000


def test_segments_out_of_order_are_refused() -> None:
    swapped = fakes.result(TASK, *reversed(RESULT.segments))
    with pytest.raises(DocumentInvalid, match="segment 0 starts before the one ahead of it"):
        read(swapped)


def test_a_result_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "MAX_RESULT_BYTES", len(RESULT.encode()))
    read(RESULT)
    monkeypatch.setattr(contract, "MAX_RESULT_BYTES", len(RESULT.encode()) - 1)
    with pytest.raises(DocumentInvalid, match="is larger than"):
        read(RESULT)
    # Were it decoded, it would fail for what it holds.
    with pytest.raises(DocumentInvalid, match="is larger than"):
        ChunkResult.read(b"{" * len(RESULT.encode()), run=TASK.run, span=7, task_sha256=DIGESTS)
    assert MAX_RESULT_BYTES == 64 << 20


def test_more_segments_than_a_chunk_can_hold_are_refused() -> None:
    many = b",".join([fakes.segment().encode().strip()] * (MAX_SEGMENTS + 1))
    raw = fakes.result(TASK).encode().replace(b'"segments":[]', b'"segments":[%s]' % many)
    with pytest.raises(DocumentInvalid, match=f"at most {MAX_SEGMENTS} items"):
        ChunkResult.read(raw, run=TASK.run, span=7, task_sha256=DIGESTS)


def test_a_result_never_says_that_it_failed() -> None:
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
        ("controller.run", "torch ctranslate2 faster_whisper numpy soundfile transformers minio click rich"),
    ],
)
def test_an_import_stays_light(module: str, heavy: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    root = Path(contract.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=root)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & set(heavy.split())
