"""The page as a browser reads it: one file that needs nothing else, in which untrusted text stays text."""

import io
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest

from chunk_job.segment import Segment
from chunk_job.store.files import FileStore
from controller.domain.documents import Evidence, StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.caption_check import MOST_MARKS
from controller.reports.figures import clock, moment, ticks, took
from controller.reports.html import digest, page, wave
from controller.reports.run_view import CaptionFindings, RunView, Waveform
from controller.reports.stored_report import write_page
from controller.reports.stored_run import read_documents, with_words
from controller.reports.words import blocks
from controller.transcript.model import Chunk
from tests import fakes
from tests.shown_runs import CHUNK_MS, INVISIBLE, MARKUP, ShownRun


def written(store: FileStore, run: ShownRun, state: StoredState) -> str:
    """The page of a run."""
    transcript = run.put(store, state)
    documents = read_documents(store, fakes.RUN)
    assert documents
    file = io.BytesIO()
    write_page(with_words(documents, transcript) if transcript else documents, transcript, file)
    return file.getvalue().decode()


def parsed(text: str) -> Element:
    """The document; every error of HTML fails the test."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree: Element = parser.parse(text)
    return tree


def texts(tree: Element, name: str) -> list[str]:
    return ["".join(one.itertext()) for one in tree.iter(name)]


RUNS: dict[str, tuple[ShownRun, StoredState]] = {
    "complete": (ShownRun(words=400, failed=(3,), warnings=("it may be wrong",)), "complete"),
    "partial": (ShownRun(words=400, lost=(2,)), "partial"),
    "failed": (ShownRun(lost=(1,), done=1), "failed"),
    "not cut": (ShownRun(done=0), "failed"),
    "running": (ShownRun(chunks=12, done=4, failed=(1,)), "running"),
    "cancelled": (ShownRun(done=2), "cancelled"),
    "silent": (ShownRun(chunks=1, words=0), "complete"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_valid_and_needs_nothing_else(store: FileStore, name: str) -> None:
    tree = parsed(written(store, *RUNS[name]))
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    for one in tree.iter():
        assert not {"style", "src", "srcset", "action", "xlink:href"} & set(one.keys()), one.tag
        assert not [attribute for attribute in one.keys() if str(attribute).startswith("on")]  # noqa: SIM118
        assert one.tag not in ("link", "img", "iframe", "object", "base")
        if (target := one.get("href")) is not None:
            assert target[0] == "#"
            assert target[1:] in ids
        for reference in ("aria-labelledby", "aria-describedby", "for"):
            assert set((one.get(reference) or "").split()) <= set(ids)
    check_policy(tree)


def check_policy(tree: Element) -> None:
    """The page allows its own style and its own script, and nothing else."""
    head = tree.find("head")
    assert head is not None
    (policy,) = [one for one in head if one.get("http-equiv") == "Content-Security-Policy"]
    # Only the character set may be before it: a policy does not hold for what is before.
    assert list(head).index(policy) == 1
    (style,), (script,) = texts(tree, "style"), texts(tree, "script")
    assert policy.get("content") == (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    assert "@import" not in style
    assert "url(" not in style


def test_what_a_reader_looks_for_is_there(store: FileStore) -> None:
    tree = parsed(written(store, *RUNS["partial"]))
    text = " ".join("".join(tree.itertext()).split())
    for part in (
        *("◐ partial", "Board meeting 2026-11-20.mp4", "GPU time", "74 %", "large-v3"),
        *("Chunk 2, attempts 1, 2, 3 NATIVE_CRASH on gpu-2", "What to do:", "Segmentation fault"),
        *("No transcript from 24:00 to 36:00", "Chunk 3 36:00 – 48:00, joined to the one before inside speech"),
        *("cut 3 × in pauses, 1 × in speech", "critical path", "stenofleet transcribe /talk.mp4 --model large-v3"),
    ):
        assert part in text, part
    tiles = [one.get("aria-label") for one in tree.iter("a") if "tile" in (one.get("class") or "")]
    assert tiles[2] == "chunk 2, from 24:00: lost"
    unsure = [one for one in tree.iter("u") if one.get("title")]
    assert {one.get("title") for one in unsure} == {"40 %", "15 %"}
    assert all(one.get("class") == ("v" if one.get("title") == "15 %" else None) for one in unsure)


def test_without_results_there_is_no_transcript_and_why_comes_first(store: FileStore) -> None:
    tree = parsed(written(store, *RUNS["failed"]))
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert "transcript" not in ids
    assert ids.index("failures") < ids.index("timeline")


# ---------------------------------------------------------------- untrusted text


def hostile_view() -> RunView:
    """A run of which every text is hostile."""
    bad = MARKUP + INVISIBLE
    record = fakes.record(name=bad.replace("/", "\u2215"), model=bad, hotwords=bad, glossary=(bad,))
    evidence = Evidence(
        run=fakes.RUN, round="0000cafe", span=0, attempt=1, failure="UNKNOWN", summary=bad, advice=bad,
        details=(bad, bad), ended_ms=1, node="n",
    )  # fmt: skip
    run = ShownRun(lost=(1,), warnings=(bad,))
    return build(
        RunDocuments(
            run=fakes.RUN,
            state="failed",
            record=record.model_copy(update={"versions": {bad[:90]: bad[:90]}}),
            request=fakes.request(record),
            outcome=run.outcome("failed", summary=bad, advice=bad),
            plan=run.plan,
            report=run.report("failed").model_copy(update={"advice": (bad,), "devices": (bad,)}),
            attempts=run.attempts(),
            evidence=(evidence,),
        )
    )


def hostile_blocks() -> Iterator[Any]:
    spoken = fakes.segment((f" {MARKUP}", 0, 10), (" \u05d0\u200f!", 10, 20)).model_copy(
        update={"speaker": MARKUP[:99]}
    )
    unsure = fakes.segment((MARKUP, 20, 30), probability=0.1, number=1)
    return blocks([[spoken, unsure]], [Chunk(start_ms=0, end_ms=100, cut="end", quality="ok")])


def test_untrusted_text_stays_text() -> None:
    text = "".join(page(hostile_view(), hostile_blocks()))
    tree = parsed(text)
    assert len(list(tree.iter("script"))) == 1
    assert len(list(tree.iter("style"))) == 1
    assert not list(tree.iter("img"))
    assert text.count("<script") == text.count("</script") == 1
    assert "".join(tree.itertext()).count("<img src=x onerror=alert(2)>") >= 12
    lines = [one for one in tree.iter("li") if (one.get("id") or "").startswith("s")]
    assert MARKUP in "".join(lines[0].itertext())
    assert [mark.text for mark in lines[1].iter("u")] == [MARKUP]


def test_no_text_can_change_its_surroundings() -> None:
    tree = parsed("".join(page(hostile_view(), hostile_blocks())))
    shown = "".join(tree.itertext()) + "".join(value for one in tree.iter() for value in one.attrib.values())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    assert "\\u202e\\u2066\\x07\\x1b[31m" in shown
    # Words of scripts from right to left keep their marks, each line with its own direction.
    (line,) = [one for one in tree.iter("span") if "\u05d0\u200f!" in "".join(one.itertext())]
    assert line.get("dir") == "auto"


# ---------------------------------------------------------------- long runs


def test_ten_hours_are_less_than_two_megabytes(store: FileStore) -> None:
    run = ShownRun(chunks=50, words=90_000, failed=(7, 31), warnings=("it may be wrong",))
    transcript = run.put(store, "complete")
    assert transcript
    documents = read_documents(store, fakes.RUN)
    assert documents
    of = with_words(documents, transcript)
    waveform = Waveform(step_ms=1_000, steps=bytes(range(250)) * 2 * 144)
    file = io.BytesIO()
    # As if every place that is marked had a caption with two mistakes.
    at = tuple(range(0, 10 * 3_600_000, 10 * 3_600_000 // MOST_MARKS))
    captions = CaptionFindings(
        profile="netflix", captions=9_000, broken=len(at), starts_ms=at,
        texts=("too fast: 31.5 columns per second (at most 20)",) * len(at),
    )  # fmt: skip
    write_page(replace(of, waveform=waveform, captions=captions), transcript, file)
    view = build(of)
    assert view.header.words
    assert view.header.words >= 90_000
    assert view.header.duration_ms == 10 * 3_600_000
    assert file.tell() <= 2_000_000
    # Twice as many words of which the model is unsure leave it below the limit too.
    assert file.getvalue().count(b"<u") * 20 < 2_000_000 - file.tell()


def test_memory_does_not_grow_with_the_transcript() -> None:
    view = build(RunDocuments(run=fakes.RUN, state="complete", plan=fakes.plan(CHUNK_MS)))
    chunks = [Chunk(start_ms=0, end_ms=CHUNK_MS, cut="end", quality="ok")]

    long = 60 * " word"
    segments: Iterator[list[Segment]] = ([fakes.segment((long, at, at + 1), number=at)] for at in range(3_000))
    tracemalloc.start()
    length = sum(map(len, page(view, blocks(segments, chunks))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length > 3_000 * len(long)
    assert peak < length / 2


# ---------------------------------------------------------------- how values are written


@pytest.mark.parametrize("ms,text", [(0, "0:00"), (59_999, "0:59"), (125_000, "2:05"), (3_725_000, "1:02:05")])
def test_positions(ms: int, text: str) -> None:
    assert clock(ms) == text


@pytest.mark.parametrize(
    "ms,text",
    [
        (0, "0.0 s"), (9_940, "9.9 s"), (12_400, "12 s"), (59_600, "1 min 00 s"), (185_000, "3 min 05 s"),
        (7_620_000, "2 h 07 min"), (273_600_000, "3 d 4 h"),
    ],
)  # fmt: skip
def test_lengths(ms: int, text: str) -> None:
    assert took(ms) == text


def test_a_time_that_no_calendar_has_is_left_out() -> None:
    assert moment(fakes.START_MS) == "2023-11-14 22:13 UTC"
    assert moment(1 << 53) == ""


@pytest.mark.parametrize("total_ms", [1, 900, 5_000, 61_000, 3_600_000, 36_000_000, 3_600_000_000])
def test_an_axis_has_a_few_round_times(total_ms: int) -> None:
    marks = ticks(total_ms)
    assert len(marks) <= 6
    assert all(0 < at < total_ms for at in marks)


def test_a_waveform_has_a_few_columns_from_the_lowest_to_the_highest_sample() -> None:
    steps = bytes([0x80, 0, 0, 127] * 6_000)
    path = wave(Waveform(step_ms=100, steps=steps), 1_200_000)
    assert path.count("M") == 1_200
    assert path.startswith("M0.4 0.4v99.6M1.2 0.4v99.6")
    # Silence is a line, and what is behind the end is not drawn.
    assert wave(Waveform(step_ms=100, steps=bytes(20)), 50) == "M1000.0 50.0v1.0"
    assert wave(Waveform(step_ms=100, steps=b""), 50) == ""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")
