"""Five formats of one transcript, read back by independent parsers."""

import io
import itertools
import json
from collections.abc import Sequence

import pysubs2
import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.output import Format
from controller.transcript import formats
from controller.transcript.clean_text import cleaned
from controller.transcript.formats import FORMATS, Cue, cues
from controller.transcript.merge import merge
from controller.transcript.model import Transcript
from tests import fakes

Line = tuple[int, int, str]
HOURS_MS = 3_600_000
RECORD = fakes.record()


def transcript(*lines: Line, duration_ms: int = 0, gaps: Sequence[tuple[int, int]] = ()) -> Transcript:
    """A transcript with these lines."""
    end_ms = duration_ms or max([1000, *(end for _, end, _ in lines)])
    plan = fakes.plan(end_ms)
    segments = [fakes.segment(text=text, start_ms=start, end_ms=end) for start, end, text in lines]
    merged = merge(plan, RECORD, [fakes.result(fakes.task(RECORD, 0, end_ms), *segments)])
    if not gaps:
        return merged
    lost = [{"start_ms": start, "end_ms": end} for start, end in gaps]
    end_ms = max(end_ms, *(end for _, end in gaps))
    edges = sorted({0, end_ms, *itertools.chain(*gaps)})
    chunks = [
        {"start_ms": a, "end_ms": b, "cut": "pause", "quality": "lost" if (a, b) in gaps else "ok"}
        for a, b in itertools.pairwise(edges)
    ]
    parts = {"duration": end_ms, "gaps": tuple(lost), "chunks": tuple(chunks), "status": "partial", "success": False}
    return Transcript.model_validate(merged.model_dump(by_alias=True) | parts)


# Every line break of Python, players and parsers, markup of every format, and right-to-left text.
HOSTILE = [
    "a < b & c > d",
    "a --> b",
    "-->",
    "<i>no markup</i> &amp; no entity &lt;",
    "{\\an8}no override",
    "one\ntwo\r\nthree\u2028four\x85five\x0bsix",
    "7",
    "WEBVTT",
    "NOTE this",
    "שלום עולם",
    "emoji 🎉👩‍👩‍👧",
    "tab\there",
    "é terça-feira, às 9h",
]


def one_line(text: str) -> str:
    """The text as every format must write it: one line, without control characters."""
    return " ".join(cleaned(text)[0].split())


# ---------------------------------------------------------------- other parsers


@pytest.mark.parametrize("text", HOSTILE)
def test_srt_gives_back_times_and_text(text: str) -> None:
    made = FORMATS["srt"](transcript((1000, 2500, "before"), (2500, 3001, text), (3001, 4000, "after")))
    blocks = [block.split("\n") for block in made.removesuffix("\n\n").split("\n\n")]
    assert [block[0] for block in blocks] == ["1", "2", "3"]
    assert blocks[1][1:] == ["00:00:02,500 --> 00:00:03,001", one_line(text)]
    read = pysubs2.SSAFile.from_string(made, format_="srt", keep_unknown_html_tags=True, keep_html_tags=True)
    assert [(line.start, line.end) for line in read] == [(1000, 2500), (2500, 3001), (3001, 4000)]
    assert [read[0].text, read[2].text] == ["before", "after"]
    assert read[1].text == one_line(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_vtt_gives_back_times_and_text(text: str) -> None:
    made = FORMATS["vtt"](transcript((1000, 2500, "before"), (2500, 3001, text), (3001, 4000, "after")))
    read = webvtt.from_buffer(io.StringIO(made)).captions
    assert [(line.start, line.end) for line in read] == [
        ("00:00:01.000", "00:00:02.500"),
        ("00:00:02.500", "00:00:03.001"),
        ("00:00:03.001", "00:00:04.000"),
    ]
    unescaped = read[1].raw_text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert [read[0].text, unescaped, read[2].text] == ["before", one_line(text), "after"]
    assert "<" not in read[1].raw_text


@pytest.mark.parametrize("text", HOSTILE)
def test_tsv_gives_back_whole_milliseconds_and_text(text: str) -> None:
    made = FORMATS["tsv"](transcript((1000, 2500, "before"), (2500, 3001, text)))
    rows = [line.split("\t") for line in made.split("\n")]
    assert rows == [["start", "end", "text"], ["1000", "2500", "before"], ["2500", "3001", one_line(text)], [""]]


@pytest.mark.parametrize("text", HOSTILE)
def test_txt_is_one_line_a_segment(text: str) -> None:
    assert FORMATS["txt"](transcript((0, 100, " before"), (100, 200, text))) == f"before\n{one_line(text)}\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_keeps_the_text_as_it_was(text: str) -> None:
    whole = transcript((0, 100, text))
    made = formats.to_json(whole)
    assert json.loads(made)["segments"][0]["text"] == cleaned(text)[0]
    assert Transcript.decode(made.encode()) == whole


def test_json_is_whispers() -> None:
    segment = fakes.segment((" one", 1000, 1400), (" two", 1500, 1900))
    merged = merge(fakes.plan(10_000), RECORD, [fakes.result(fakes.task(RECORD, 0), segment)])
    raw = json.loads(formats.to_json(merged))
    assert list(raw)[:3] == ["text", "segments", "language"]
    assert (raw["text"], raw["language"]) == ("one two", "en")
    assert list(raw["segments"][0]) == [
        "id",
        "seek",
        "start",
        "end",
        "text",
        "tokens",
        "temperature",
        "avg_logprob",
        "compression_ratio",
        "no_speech_prob",
        "words",
    ]
    assert raw["segments"][0]["words"][1] == {"word": " two", "start": 1.5, "end": 1.9, "probability": 0.9}
    times = [raw["segments"][0]["start"], raw["segments"][0]["end"], raw["duration"], raw["chunks"][0]["end"]]
    assert times == [1.0, 1.9, 10.0, 10.0]
    assert all(isinstance(time, float) for time in times)


# ---------------------------------------------------------------- edges


def test_an_empty_transcript_gives_valid_files() -> None:
    empty = transcript()
    assert {name: render(empty) for name, render in FORMATS.items() if name != "json"} == {
        "txt": "",
        "srt": "",
        "vtt": "WEBVTT\n",
        "tsv": "start\tend\ttext\n",
    }
    assert webvtt.from_buffer(io.StringIO(FORMATS["vtt"](empty))).captions == []
    assert list(pysubs2.SSAFile.from_string(FORMATS["srt"](empty), format_="srt")) == []
    assert json.loads(formats.to_json(empty))["segments"] == []


def test_a_segment_of_white_space_is_no_cue() -> None:
    assert [cue.text for cue in cues(transcript((0, 100, " "), (100, 200, " a"), (200, 300, "\n")))] == ["a"]


@pytest.mark.parametrize(
    "lines,ends",
    [
        pytest.param([(1000, 1000, "a"), (5000, 6000, "b")], [1020, 6000], id="a little of the pause behind it"),
        pytest.param([(1000, 1000, "a"), (1010, 2000, "b")], [1010, 2000], id="up to the next one"),
        pytest.param([(1000, 1005, "a"), (5000, 6000, "b")], [1020, 6000], id="too short"),
        pytest.param([(1000, 1020, "a"), (5000, 6000, "b")], [1020, 6000], id="long enough"),
        pytest.param([(1000, 1000, "a"), (1000, 2000, "b")], [1001, 2000], id="at least a millisecond"),
        pytest.param([(1000, 1000, "a")], [1001], id="at the very end"),
    ],
)
def test_a_cue_without_length_is_widened(lines: list[Line], ends: list[int]) -> None:
    assert [cue.end_ms for cue in cues(transcript(*lines))] == ends


@pytest.mark.parametrize(
    "ms,stamp",
    [
        (0, "00:00:00.000"),
        (59_999, "00:00:59.999"),
        (3_599_999, "00:59:59.999"),
        (99 * HOURS_MS + 3_599_999, "99:59:59.999"),
        (100 * HOURS_MS, "100:00:00.000"),
        (999 * HOURS_MS + 61_001, "999:01:01.001"),
    ],
)
def test_hours_outgrow_two_digits(ms: int, stamp: str) -> None:
    late = transcript((ms, ms + 1000, "late"))
    assert f"\n{stamp} --> " in FORMATS["vtt"](late)
    assert f"1\n{stamp.replace('.', ',')} --> " in FORMATS["srt"](late)
    assert f"\n{ms}\t{ms + 1000}\tlate\n" in FORMATS["tsv"](late)


def test_a_gap_is_a_line_of_its_own_at_its_time() -> None:
    whole = transcript((0, 1000, "a"), (1_440_000, 1_441_000, "b"), gaps=[(720_000, 1_440_000)])
    assert cues(whole)[1] == Cue(720_000, 1_440_000, "[no transcript from 00:12:00 to 00:24:00]")
    assert [cue.text[0] for cue in cues(whole)] == ["a", "[", "b"]
    assert "[no transcript" not in formats.to_json(whole)


@pytest.mark.parametrize(
    "lines,expected",
    [
        pytest.param(
            [(9_500, 11_500, "a")], [(9_500, 11_500), (11_500, 20_000)], id="the chunk before extends beyond the cut"
        ),
        pytest.param(
            [(19_000, 21_000, "a")], [(10_000, 19_000), (19_000, 21_000)], id="the chunk after begins before the cut"
        ),
    ],
)
def test_a_gap_does_not_overlap_the_words_of_its_neighbours(lines: list[Line], expected: list[tuple[int, int]]) -> None:
    whole = transcript(*lines, gaps=[(10_000, 20_000)], duration_ms=30_000)
    assert [(cue.start_ms, cue.end_ms) for cue in cues(whole)] == expected


def test_a_time_line_in_a_text_is_no_cue_of_its_own() -> None:
    text = "from 00:00:01,000 --> 00:00:02,000 she said"
    whole = transcript((5000, 6000, text), gaps=[(6000, 9000)])
    assert FORMATS["srt"](whole).count("-->") == 2
    read = pysubs2.SSAFile.from_string(FORMATS["srt"](transcript(gaps=[(6000, 9000)])), format_="srt")
    assert [(event.start, event.end) for event in read] == [(6000, 9000)]
    assert read[0].plaintext == "[no transcript from 00:00:06 to 00:00:09]"


@given(st.lists(st.tuples(st.integers(0, 500 * HOURS_MS), st.integers(0, 9000), st.text(max_size=12)), max_size=6))
def test_any_lines_are_read_back_from_both_subtitle_formats(lines: list[tuple[int, int, str]]) -> None:
    whole = transcript(*((start, start + length, text) for start, length, text in sorted(lines)))
    expected = cues(whole)
    assert all(cue.start_ms < cue.end_ms for cue in expected)
    assert [cue.text for cue in expected] == [one_line(text) for _, _, text in sorted(lines) if one_line(text)]
    srt = FORMATS["srt"](whole).split("\n")
    assert srt[2::4] == [cue.text for cue in expected]
    assert [int(number) for number in srt[:-1:4]] == list(range(1, len(expected) + 1))
    tsv = FORMATS["tsv"](whole).split("\n")[1:-1]
    assert [tuple(row.split("\t")) for row in tsv] == [(str(cue[0]), str(cue[1]), cue[2]) for cue in expected]
    assert len(FORMATS["vtt"](whole).split("\n")) == 2 + 3 * len(expected)


# ---------------------------------------------------------------- to the byte

GOLDEN = {
    "txt": "Olá, <mundo> & cia.\n[no transcript from 00:00:10 to 00:00:20]\nThe end.\n",
    "srt": (
        "1\n00:00:01,000 --> 00:00:02,500\nOlá, <mundo> & cia.\n\n"
        "2\n00:00:10,000 --> 00:00:20,000\n[no transcript from 00:00:10 to 00:00:20]\n\n"
        "3\n00:00:20,500 --> 00:00:20,900\nThe end.\n\n"
    ),
    "vtt": (
        "WEBVTT\n\n"
        "00:00:01.000 --> 00:00:02.500\nOlá, &lt;mundo&gt; &amp; cia.\n\n"
        "00:00:10.000 --> 00:00:20.000\n[no transcript from 00:00:10 to 00:00:20]\n\n"
        "00:00:20.500 --> 00:00:20.900\nThe end.\n"
    ),
    "tsv": (
        "start\tend\ttext\n"
        "1000\t2500\tOlá, <mundo> & cia.\n"
        "10000\t20000\t[no transcript from 00:00:10 to 00:00:20]\n"
        "20500\t20900\tThe end.\n"
    ),
    "json": (
        '{"text":"Olá, <mundo> & cia. The end.","segments":['
        '{"id":0,"seek":0,"start":1.0,"end":2.5,"text":" Olá, <mundo> & cia.","tokens":[1,2,3],"temperature":0.0,'
        '"avg_logprob":-0.2,"compression_ratio":1.1,"no_speech_prob":0.0,"words":['
        '{"word":" Olá,","start":1.0,"end":1.4,"probability":0.9},'
        '{"word":" <mundo> & cia.","start":1.5,"end":2.5,"probability":0.9}]},'
        '{"id":1,"seek":2000,"start":20.5,"end":20.9,"text":" The end.","tokens":[1,2,3],"temperature":0.0,'
        '"avg_logprob":-0.2,"compression_ratio":1.1,"no_speech_prob":0.0,"words":['
        '{"word":" The end.","start":20.5,"end":20.9,"probability":0.9}]}],'
        '"language":"en","schema":"stenofleet.transcript/1","duration":30.0,"language_probability":0.9,'
        '"success":false,"status":"partial","source":{"name":"talk.mp4","identity":"'
        + "ab"
        * 32
        + '","audio_track":null},'
        '"model":{"name":"tiny","digest":"' + "d" * 64 + '"},'
        '"options":{"model":"tiny","language":"en","task":"transcribe","device":"auto","compute_type":"auto",'
        '"beam_size":5,"temperature":[0.0,0.2,0.4,0.6,0.8,1.0],"batch_size":"auto","vad_filter":true,'
        '"condition_on_previous_text":false,"initial_prompt":null,"hotwords":null,"cpu_threads":1,"vad_threshold":0.5,'
        '"vad_min_silence_duration_ms":2000,"no_speech_threshold":0.6,"logprob_threshold":-1.0,'
        '"compression_ratio_threshold":2.4,"glossary":[]},'
        '"chunks":[{"start":0.0,"end":10.0,"cut":"pause","quality":"ok"},'
        '{"start":10.0,"end":20.0,"cut":"pause","quality":"lost"},'
        '{"start":20.0,"end":30.0,"cut":"end","quality":"ok"}],'
        '"gaps":[{"start":10.0,"end":20.0}],"warnings":[],"clips":[]}\n'
    ),
}


@pytest.mark.parametrize("extension", FORMATS)
def test_the_same_results_give_these_bytes(extension: Format) -> None:
    plan = fakes.plan(10_000, 20_000, 30_000)
    results = [
        fakes.result(fakes.task(RECORD, 0), fakes.segment((" Olá,", 1000, 1400), (" <mundo> & cia.", 1500, 2500))),
        fakes.result(fakes.task(RECORD, 2), fakes.segment((" The end.", 500, 900))),
    ]
    assert FORMATS[extension](merge(plan, RECORD, results)) == GOLDEN[extension]


def test_there_are_five_formats() -> None:
    assert FORMATS.keys() == GOLDEN.keys()
