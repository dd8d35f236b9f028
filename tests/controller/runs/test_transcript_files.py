"""Transcripts written and read back a few segments at a time: the same bytes as whole in memory, and no more memory."""

import errno
import functools
import gc
import hashlib
import io
import json
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunk_job.contract import ChunkResult
from chunk_job.errors import DocumentInvalid
from chunk_job.segment import Segment
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.actions import Finish
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import Plan
from controller.runs import outputs, stored_transcript, transcript_files
from controller.runs.protection import OutputRules
from controller.runs.repository import RunRepository
from controller.runs.stored_transcript import rendered, summary_of
from controller.runs.transcript_files import TranscriptFiles, written
from controller.transcript.formats import FORMATS
from controller.transcript.merge import Merge, merge
from controller.transcript.model import Transcript, check_order
from tests import fakes

KEYS = RunKeys(fakes.RUN)
RECORD = fakes.record()
WHOLE = 1 << 30

# White space that strip and split treat differently, text that JSON escapes, and removed characters.
TEXTS = st.sampled_from(
    [
        "",
        " ",
        " a",
        "b ",
        "\n",
        "\u2028",
        "\x1f",
        " é",
        ' "',
        "\\",
        " 🎉",
        '},{"id":',
        '],"language":',
        '","segments":[',
        "1 --> 2",
    ]
)
HOSTILE = st.sampled_from(["\x00", "\u202e", "\u2066", "\u2069", "\x85", "\x7f"])


@st.composite
def merges(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> tuple[Plan, list[ChunkResult]]:
    """A plan with any cuts, short spans among them, and any results a chunk job may leave, some of them missing."""
    lengths = draw(st.lists(st.sampled_from([1, 500, 10_000]), min_size=1, max_size=6))
    ends = [sum(lengths[: count + 1]) for count in range(len(lengths))]
    cuts: dict[int, Any] = {
        index: draw(st.sampled_from(["pause", "tight", "forced"])) for index in range(len(lengths) - 1)
    }
    plan = fakes.plan(*ends, cuts=cuts, pad_ms=0, offset_ms=draw(st.sampled_from([0, 370])))
    padded = [
        span.model_copy(
            update={
                "audio_start_ms": max(0, span.start_ms - 2000),
                "audio_end_ms": min(span.end_ms + 2000, ends[-1]),
            }
        )
        for span in plan.spans
    ]
    plan = plan.model_copy(update={"spans": tuple(padded)})
    results = []
    for span in plan.spans:
        if draw(st.integers(0, 3)) == 0:
            continue
        starts = sorted(draw(st.lists(st.integers(0, span.audio_ms), max_size=5)))
        segments = []
        for begin, end in pairwise([*starts, span.audio_ms]):
            ended = draw(st.integers(begin, end))
            words = [(draw(texts), begin, ended)] if draw(st.booleans()) else []
            segments.append(
                fakes.segment(*words, text=draw(texts)).model_copy(update={"start_ms": begin, "end_ms": ended})
            )
        results.append(fakes.result(fakes.task(RECORD, span.index, span.audio_ms), *segments))
    return plan, results


def streamed(plan: Plan, results: Sequence[ChunkResult]) -> TranscriptFiles:
    made = Merge(plan, RECORD, [result.span for result in results])
    with transcript_files.TranscriptWriter(made.gaps, made.duration_ms) as writer:
        for segments in made.segments(iter(results)):
            writer.add(segments)
        return writer.finish(made.summary())


def assert_same(files: TranscriptFiles, whole: Transcript) -> None:
    """Check that the files equal every format of the transcript, and match their digests."""
    for extension, render in FORMATS.items():
        data = files.path(extension).read_bytes()
        assert data.decode() == render(whole), extension
        assert files.sha256[extension] == hashlib.sha256(data).hexdigest(), extension
    assert files.summary == whole.summary()


def transcript(*texts: str) -> Transcript:
    """A transcript of one chunk with these segments, a second each."""
    segments = [
        fakes.segment((text, 1000 * number, 1000 * number + 500)) for number, text in enumerate(texts or (" a", " b"))
    ]
    length = 1000 * len(segments) + 1000
    return merge(fakes.plan(length), RECORD, [fakes.result(fakes.task(RECORD, 0, length), *segments)])


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# ---------------------------------------------------------------- writing


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(merges(st.one_of(TEXTS, HOSTILE)))
def test_a_transcript_written_as_a_stream_equals_one_made_in_memory(made: tuple[Plan, list[ChunkResult]]) -> None:
    plan, results = made
    assert_same(streamed(plan, results), merge(plan, RECORD, results))


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of results with segments in memory, at each read of another."""
    counts: list[int] = []
    found: list[weakref.ref[Segment]] = []
    read = ChunkResult.read

    def count(data: bytes, **known: Any) -> ChunkResult:
        result = read(data, **known)
        found.append(weakref.ref(result.segments[0]))
        counts.append(sum(segment() is not None for segment in found))
        return result

    monkeypatch.setattr(ChunkResult, "read", count)
    return counts


def test_no_more_than_two_results_are_in_memory_at_once(tmp_path: Path, alive: list[int]) -> None:
    store = FileStore(tmp_path / "store")
    ends = [10_000 * (span + 1) for span in range(20)]
    plan = fakes.plan(*ends, cuts=dict.fromkeys(range(0, 19, 2), "forced"))
    store.put(KEYS.plan, plan.encode())
    for span in plan.spans:
        task = fakes.task(RECORD, span.index, span.audio_ms)
        store.put(KEYS.task(span.index), task.encode())
        store.put(KEYS.audio(span.index), b"flac")
        segment = fakes.segment((f" w{span.index}", 3000, 3100))
        store.put(f"{KEYS.results_of(span.index)}a1-u.json", fakes.result(task, segment).encode())
    repository = RunRepository(store, RECORD, fakes.request(RECORD))
    assert repository.open() is None
    assert len(alive) == 20
    alive.clear()
    gc.disable()
    try:
        assert repository.conclude(Finish(verdict="complete"), elapsed_s=0, check=lambda: None).verdict == "complete"
    finally:
        gc.enable()
    assert len(alive) == 20
    assert max(alive) <= 2


def test_temporary_files_are_removed_with_the_transcript(scratch: Path) -> None:
    files = written(transcript().summary(), [transcript().segments])
    assert {path.name for path in files.path("json").parent.iterdir()} == FORMATS.keys()
    assert files.path("json").parent.stat().st_mode & 0o777 == 0o700
    del files
    assert list(scratch.iterdir()) == []


def test_files_of_a_killed_process_are_removed_with_the_next_transcript(scratch: Path) -> None:
    def folder(name: str, age_s: int) -> Path:
        path = scratch / f"stenofleet-transcript-{name}"
        path.mkdir()
        (path / "json").touch()
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    killed, new = folder("killed", 120), folder("new", 0)
    other = scratch / "of-another-program"
    other.mkdir()
    os.utime(other, (0, 0))
    link = scratch / "stenofleet-transcript-link"
    link.symlink_to(other)
    kept = written(transcript().summary(), [transcript().segments])
    mine = kept.path("json").parent
    os.utime(mine, (0, 0))
    assert not killed.exists()
    another = written(transcript().summary(), [transcript().segments])
    assert mine.exists(), "its process still runs"
    assert set(scratch.iterdir()) == {new, other, link, mine, another.path("json").parent}


def test_nothing_stays_of_a_transcript_that_cannot_be_merged(scratch: Path) -> None:
    plan = fakes.plan(10_000, 20_000)

    def one_then_none() -> Iterator[Sequence[Segment]]:
        yield transcript().segments
        raise DocumentInvalid("no more")

    with pytest.raises(DocumentInvalid, match="no more"):
        written(merge(plan, RECORD, []).summary(), one_then_none())
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_waited_for(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transcript_files._HashedFile, "write", full)
    with pytest.raises(StoreUnavailable, match=r"cannot write a transcript to .*: No space left on device") as caught:
        written(transcript().summary(), [transcript().segments])
    assert "TMPDIR" in caught.value.advice
    del caught
    assert list(scratch.iterdir()) == []


# ---------------------------------------------------------------- reading back


@pytest.fixture(params=[1, 64, 1 << 20])
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stored_transcript, "_PIECE_BYTES", request.param)
    return int(request.param)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=merges())
def test_a_written_transcript_is_read_back_as_a_stream(made: tuple[Plan, list[ChunkResult]], piece_bytes: int) -> None:
    assert piece_bytes
    whole = merge(*made[:1], RECORD, made[1])
    data = FORMATS["json"](whole).encode()
    assert_same(rendered(io.BytesIO(data), most_whole_bytes=0), whole)
    assert summary_of(io.BytesIO(data), most_whole_bytes=0) == whole.summary()


def test_a_transcript_without_words_is_read_back(piece_bytes: int) -> None:
    assert piece_bytes
    whole = merge(fakes.plan(10_000), RECORD, [])
    assert_same(rendered(io.BytesIO(FORMATS["json"](whole).encode()), most_whole_bytes=0), whole)


def changes() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Ways to damage a document: a part removed, repeated, or in place of another."""
    parts = st.sampled_from(
        [b"", b" ", b",", b'"', b"{}", b"[]", b"9", b"-1", b'},{"id":', b'],"language":', b'","segments":[', b"\\u0000"]
    )

    def change(begin: int, end: int, part: bytes) -> Callable[[bytes], bytes]:
        def damaged(data: bytes) -> bytes:
            a, b = sorted((begin % len(data), end % len(data)))
            return data[:a] + part + data[b:]

        return damaged

    anywhere = st.integers(0, 4000)
    near = st.builds(lambda at, by, part: change(at, at + by, part), anywhere, st.integers(0, 30), parts)
    return st.one_of(near, st.builds(change, anywhere, anywhere, parts))


@settings(max_examples=200)
@given(texts=st.lists(st.one_of(TEXTS, HOSTILE), min_size=1, max_size=4), change=changes())
def test_a_damaged_stream_is_accepted_or_refused_as_the_whole_document_is(
    texts: list[str], change: Callable[[bytes], bytes]
) -> None:
    data = change(FORMATS["json"](transcript(*texts)).encode())
    try:
        whole: Transcript | None = Transcript.decode(data)
    except DocumentInvalid:
        whole = None
    for most_whole_bytes in (0, WHOLE):
        try:
            files = rendered(io.BytesIO(data), most_whole_bytes=most_whole_bytes)
        except DocumentInvalid:
            assert whole is None or not most_whole_bytes
        else:
            assert whole is not None
            assert_same(files, whole)


def reordered(raw: dict[str, Any]) -> None:
    raw["segments"].reverse()


def beyond(raw: dict[str, Any]) -> None:
    raw["segments"][-1]["end"] = 1e6


def controls(raw: dict[str, Any]) -> None:
    raw["segments"][0]["text"] = " a\x1b[31m"


def closer(raw: dict[str, Any]) -> None:
    raw["secret"] = 1


def incomplete(raw: dict[str, Any]) -> None:
    raw["chunks"][0]["quality"] = "lost"


def other_text(raw: dict[str, Any]) -> None:
    raw["text"] = "something else"


def as_written(raw: dict[str, Any]) -> bytes:
    """In the layout of ours."""
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("change", [reordered, beyond, closer, incomplete])
def test_an_invalid_transcript_in_our_layout_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads(FORMATS["json"](transcript()))
    change(raw)
    for most_whole_bytes in (0, WHOLE):
        with pytest.raises(DocumentInvalid):
            summary_of(io.BytesIO(as_written(raw)), most_whole_bytes=most_whole_bytes)


@pytest.mark.parametrize("change", [controls, other_text])
def test_a_transcript_in_another_layout_is_read_as_a_whole(change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads(FORMATS["json"](transcript()))
    change(raw)
    data = as_written(raw)
    assert_same(rendered(io.BytesIO(data), most_whole_bytes=len(data)), Transcript.decode(data))
    with pytest.raises(DocumentInvalid):
        rendered(io.BytesIO(data), most_whole_bytes=len(data) - 1)


def test_a_transcript_in_another_layout_is_read_as_a_whole_up_to_a_limit() -> None:
    data = json.dumps(json.loads(FORMATS["json"](transcript())), indent=1).encode()
    assert_same(rendered(io.BytesIO(data), most_whole_bytes=len(data)), Transcript.decode(data))
    with pytest.raises(DocumentInvalid, match="does not have the layout that stenofleet writes"):
        rendered(io.BytesIO(data), most_whole_bytes=len(data) - 1)


def test_a_segment_without_an_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_transcript, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(stored_transcript, "_LONGEST_SEGMENT_BYTES", 5000)
    good = FORMATS["json"](transcript()).encode()
    with pytest.raises(DocumentInvalid, match="a segment of more than 5000 bytes"):
        summary_of(io.BytesIO(good.replace(b'"tokens":[', b'"tokens":[' + b"1," * 5000, 1)), most_whole_bytes=0)


def test_no_more_than_two_pieces_of_a_stored_transcript_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    found: list[weakref.ref[Segment]] = []

    def count(segments: Sequence[Segment], *times: Any, **more: Any) -> int:
        found.append(weakref.ref(segments[0]))
        counts.append(sum(segment() is not None for segment in found))
        return check_order(segments, *times, **more)

    monkeypatch.setattr(stored_transcript, "check_order", count)
    monkeypatch.setattr(stored_transcript, "_PIECE_BYTES", 2000)
    data = FORMATS["json"](transcript(*(f" w{number}" for number in range(100)))).encode()
    rendered(io.BytesIO(data), most_whole_bytes=0)
    assert len(counts) > 10
    assert max(counts) <= 2


# ---------------------------------------------------------------- what is where outputs go


@pytest.fixture
def partial() -> TranscriptFiles:
    """A transcript whose second chunk is lost."""
    plan = fakes.plan(10_000, 20_000)
    return streamed(plan, [fakes.result(fakes.task(RECORD, 0), fakes.segment((" a", 0, 100)))])


def test_a_better_transcript_that_cannot_be_compared_is_left(
    tmp_path: Path, partial: TranscriptFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MOST_WHOLE_BYTES", 100)
    monkeypatch.setattr(outputs, "summary_of", functools.partial(summary_of, most_whole_bytes=100))
    plan = fakes.plan(10_000, 20_000)
    better = merge(plan, RECORD, [fakes.result(fakes.task(RECORD, span)) for span in (0, 1)])
    there = json.dumps(json.loads(FORMATS["json"](better)), indent=1)
    (tmp_path / "talk.json").write_text(there)
    files, kept, *_ = outputs.write_outputs(fakes.request(RECORD, tmp_path / "talk"), partial)
    assert files == ()
    assert len(kept) == 1
    assert "talk.json has another JSON layout and is too large to be compared: it and the files" in kept[0]
    assert (tmp_path / "talk.json").read_text() == there


@pytest.mark.parametrize("there", [b"", b"{}", b"no transcript", b'{"text":"'])
def test_a_file_that_is_no_transcript_is_replaced(tmp_path: Path, partial: TranscriptFiles, there: bytes) -> None:
    (tmp_path / "talk.json").write_bytes(there)
    wanted = fakes.request(RECORD, tmp_path / "talk")
    files, kept, *_ = outputs.write_outputs(wanted, partial, OutputRules(overwrite=True))
    assert (len(files), kept) == (2, ())
    assert (tmp_path / "talk.json").read_bytes() == partial.path("json").read_bytes()


@pytest.mark.parametrize("line", ["[no transcript from 00:00:10 to 00:00:15]", "é" * 200_000])
def test_a_text_file_with_fewer_gaps_is_left(tmp_path: Path, partial: TranscriptFiles, line: str) -> None:
    (tmp_path / "talk.txt").write_text(line, encoding="utf-8")
    wanted = fakes.request(RECORD).model_copy(
        update={"outputs": (Output(base=(tmp_path / "talk").as_uri(), formats=("txt",)),)}
    )
    files, kept, *_ = outputs.write_outputs(wanted, partial)
    assert files == ()
    assert "talk.txt has fewer gaps" in kept[0]
    (tmp_path / "talk.txt").write_text("a\n[no transcript from 00:00:10 to 00:00:20]\n", encoding="utf-8")
    assert outputs.write_outputs(wanted, partial, OutputRules(overwrite=True)).warnings == ()
