"""The check of caption files, ours and others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.captions import PROFILES
from controller.transcript.captions.check import violations
from controller.transcript.captions.read import CaptionsInvalid, FileCue, decoded, file_cues

SRT = "1\n00:00:01,000 --> 00:00:03,000\nOne line\nand <i>another</i>\n\n2\n00:00:03,500 --> 00:00:05,000\nsecond\n"


@pytest.mark.parametrize(
    "text",
    [
        SRT,
        f"\ufeff{SRT}",
        SRT.replace("\n", "\r\n"),
        SRT.replace("1\n00", "00", 1),
        SRT.replace("second\n", "<font color=red>{\\an8}second</font>\n\n\n"),
        SRT.replace("00:00:", "0:").replace(",000", ".0"),
        ("WEBVTT - title\n\nNOTE a\nb\n\nSTYLE\n::cue {}\n\nfirst\n00:01.000 --> 00:03.000 line:0 align:start\n"
        "One line\nand <c.red>another</c>\n\n00:03.500 --> 00:05.000\n<v Ann><00:00:04.000>second</v>\n"),
    ],
)  # fmt: skip
def test_files_of_other_programs_are_read(text: str) -> None:
    expected = [FileCue(1, 1000, 3000, ("One line", "and another")), FileCue(2, 3500, 5000, ("second",))]
    assert file_cues(decoded(text.encode())) == expected
    assert file_cues(decoded(text.encode("utf-16"))) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cues_without_blank_lines_between_them_are_separate(end: str) -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\nI was born in\n1984\n2\n00:00:02,500 --> 00:00:04,000\nsecond\n"
        "00:00:04,500 --> 00:00:05,000\n3\n4\n00:00:06,000 --> 00:00:07,000\n5\n00:00:08,000 --> 00:00:09,000\nlast\n"
    )
    assert file_cues(text.replace("\n", end)) == [
        FileCue(1, 1000, 2000, ("I was born in", "1984")),
        FileCue(2, 2500, 4000, ("second",)),
        FileCue(3, 4500, 5000, ("3",)),
        FileCue(4, 6000, 7000, ()),
        FileCue(5, 8000, 9000, ("last",)),
    ]


def test_a_number_before_the_time_of_webvtt_is_text_without_a_blank_line() -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\none\n2\n00:02.000 --> 00:03.000\ntwo\n"
    assert file_cues(text) == [FileCue(1, 1000, 2000, ("one", "2")), FileCue(2, 2000, 3000, ("two",))]


def test_an_arrow_in_a_text_starts_no_cue() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nfrom a\nto --> b\n7\n"
    assert file_cues(text)[0].lines == ("from a", "to --> b", "7")


def test_entities_are_one_character_in_webvtt_only() -> None:
    assert file_cues("WEBVTT\n\n00:01.000 --> 00:03.000\na &lt;b&gt; &amp; c\n")[0].lines == ("a <b> & c",)
    assert file_cues("00:00:01,000 --> 00:00:03,000\na < b &amp; c > d\n")[0].lines == ("a < b &amp; c > d",)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"just text\n", "line 1: 'just text' is not a cue"),
        (b"\n\n1\n00:00:01 --> 00:00:02\nx\n", "line 4: '00:00:01 --> 00:00:02' has no valid times"),
        (b"a\nb\n\xff\n", "line 3: is not UTF-8"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nx\n\n2\n00:00:0x,000 --> 00:00:02,000\n", "line 6"),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(CaptionsInvalid, match=message.replace("(", "\\(")):
        file_cues(decoded(data))


@given(st.text(alphabet=st.sampled_from([*"1:,.0\n\r ->WEBVTT<>x"]), max_size=200))
def test_any_text_is_read_or_is_an_error(text: str) -> None:
    try:
        found = file_cues(text)
    except CaptionsInvalid:
        return
    assert [cue.number for cue in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize(
    "cue, rule, value, limit",
    [
        (FileCue(2, 10_000, 14_000, ("x" * 43,)), "width", 43, 42),
        (FileCue(2, 10_000, 14_000, ("漢" * 22,)), "width", 44, 42),
        (FileCue(2, 10_000, 14_000, ("a", "b", "c")), "lines", 3, 2),
        (FileCue(2, 10_000, 10_800, ("a",)), "shortest", 0.8, 0.834),
        (FileCue(2, 10_000, 17_001, ("a",)), "longest", 7.001, 7.0),
        (FileCue(2, 10_000, 11_000, ("x" * 21,)), "speed", 21.0, 20.0),
        (FileCue(2, 8_900, 11_000, ("a",)), "overlap", 0.1, 0),
        (FileCue(2, 9_050, 11_000, ("a",)), "gap", 0.05, 0.084),
    ],
)  # fmt: skip
def test_each_limit_is_checked(cue: FileCue, rule: str, value: float, limit: float) -> None:
    first = FileCue(1, 8_000, 9_000, ("fine",))
    assert violations([first], PROFILES["netflix"]) == []
    (found,) = violations([first, cue], PROFILES["netflix"])
    assert (found.cue, found.start_ms, found.rule, found.value, found.limit) == (2, cue.start_ms, rule, value, limit)


def test_cues_that_highlight_one_word_after_the_other_are_one() -> None:
    cues = [FileCue(1, 0, 300, ("one two",)), FileCue(2, 300, 1500, ("one two",))]
    assert violations(cues, PROFILES["netflix"]) == []


def test_the_dash_of_a_speaker_is_no_word() -> None:
    style = PROFILES["netflix"].model_copy(update={"max_words_per_line": 2})
    lines = ("- Are you?", "- Yes, I am.")
    assert [(one.rule, one.value) for one in violations([FileCue(1, 0, 3000, lines)], style)] == [("words", 3)]
    assert violations([FileCue(1, 0, 3000, ("- Are you?", "- I am."))], style) == []
    right_to_left = ("\u200f- מה שלומך?", "\u200f- אני טוב.")
    assert violations([FileCue(1, 0, 3000, right_to_left)], style) == []


def test_a_cue_that_ends_before_it_begins_is_named_as_that() -> None:
    backwards = file_cues("1\n00:00:05,000 --> 00:00:04,000\nx\n\n2\n00:00:06,000 --> 00:00:08,000\ny\n")
    found = violations(backwards, PROFILES["netflix"])
    assert [(one.cue, one.rule, one.value) for one in found] == [(1, "backwards", 1.0)]
