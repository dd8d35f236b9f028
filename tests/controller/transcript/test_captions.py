"""Captions in a style: limits that always hold, every word once, and breaks where readers expect them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.segment import Segment, Word
from controller.domain.captions import PROFILES, CaptionStyle
from controller.transcript.captions.formats import to_lrc, to_srt, to_vtt
from controller.transcript.captions.stream import Caption, CaptionStream
from controller.transcript.captions.tokens import tokens_of
from controller.transcript.captions.width import columns, pieces
from controller.transcript.formats import TEXT_FORMATS, CueStream
from controller.transcript.model import Gap

NETFLIX = PROFILES["netflix"]
WORDS = st.text(
    st.sampled_from([*"abcdeé. ,-0123$", "\u0301", "你", "。", "あ", "ก", "ำ", "เ", "한", "م", "👩", "\u200d", "🇩"]),
    min_size=1,
    max_size=60,
)


def segment(words: Iterable[tuple[str, int, int]], text: str | None = None, end_ms: int = 0) -> Segment:
    made: tuple[Word, ...] = tuple(
        {"word": word, "start_ms": start, "end_ms": end, "probability": 1.0} for word, start, end in words
    )
    return Segment(
        id=0, seek=0, start_ms=made[0]["start_ms"] if made else 0, end_ms=made[-1]["end_ms"] if made else end_ms,
        text="".join(word["word"] for word in made) if text is None else text, tokens=(), temperature=0.0,
        avg_logprob=0.0, compression_ratio=1.0, no_speech_prob=0.0, words=made,
    )  # fmt: skip


def spoken(text: str, *, word_ms: int = 350, pauses: dict[int, int] | None = None) -> Segment:
    """A segment of these words; *pauses* are after the word with that number."""
    at, words = 0, []
    for number, word in enumerate(text.split(" ")):
        words.append((f" {word}", at, at + word_ms))
        at += word_ms + (pauses or {}).get(number, 0)
    return segment(words)


def captions(segments: Sequence[Segment], style: CaptionStyle = NETFLIX, gaps: Sequence[Gap] = ()) -> list[Caption]:
    stream = CaptionStream(gaps, style)
    return [*(one for part in segments for one in stream.add([part])), *stream.finish()]


def lines_of(caption: Caption) -> list[str]:
    return [
        "".join(f" {token.text}" if token.spaced and number else token.text for number, token in enumerate(line))
        for line in caption.lines
    ]


def check_limits(found: Sequence[Caption], style: CaptionStyle) -> None:
    for one in found:
        assert 1 <= len(one.lines) <= style.max_line_count
        for line in one.lines:
            assert 1 <= len(line) <= (style.max_words_per_line or len(line))
        assert max(map(columns, lines_of(one))) <= style.max_line_width
        assert style.min_cue_ms <= one.end_ms - one.start_ms <= style.max_cue_ms
        assert one.start_ms >= one.lines[0][0].start_ms
    for one, following in pairwise(found):
        assert following.start_ms - one.end_ms >= style.min_gap_ms


@st.composite
def styles(draw: st.DrawFn) -> CaptionStyle:
    return CaptionStyle(
        max_line_width=draw(st.integers(10, 60)),
        max_line_count=draw(st.integers(1, 4)),
        max_words_per_line=draw(st.none() | st.integers(1, 5)),
        max_cue_ms=draw(st.integers(2000, 9000)),
        min_cue_ms=draw(st.integers(20, 2000)),
        max_cps=draw(st.none() | st.integers(5, 30)),
        min_gap_ms=draw(st.integers(0, 300)),
    )


@settings(max_examples=150, deadline=None)
@given(
    style=st.sampled_from([PROFILES["netflix"], PROFILES["broadcast"]]) | styles(),
    words=st.lists(st.tuples(WORDS, st.integers(0, 3000), st.integers(0, 9000), st.booleans()), max_size=40),
    timed=st.booleans(),
)
def test_every_word_is_there_once_and_in_order_within_all_limits(
    style: CaptionStyle, words: list[tuple[str, int, int, bool]], timed: bool
) -> None:
    at, spoken_words = 0, []
    for word, pause, length, spaced in words:
        at += pause
        spoken_words.append((f" {word}" if spaced else word, at, at + length))
    text = "".join(word for word, *_ in spoken_words)
    parts = [segment([word]) for word in spoken_words] if timed else [segment([], text, at)]
    found = captions(parts, style)
    check_limits(found, style)
    shown = "".join(token.text for one in found for line in one.lines for token in line)
    assert shown == "".join(text.split())


def test_a_long_run_of_words_is_divided_while_it_is_read() -> None:
    stream = CaptionStream((), NETFLIX)
    words = [segment([(f" word{number}", number * 300, number * 300 + 280)]) for number in range(3000)]
    found = [one for word in words for one in stream.add([word])]
    assert len(found) > 300
    assert len(stream._run) < 500
    found += stream.finish()
    check_limits(found, NETFLIX)
    assert [token.text for one in found for line in one.lines for token in line] == [
        f"word{number}" for number in range(3000)
    ]
    assert all(one.start_ms == one.lines[0][0].start_ms for one in found)


@pytest.mark.parametrize(
    "text, lines",
    [
        ("We went to the market early, but nobody was there to open the doors.",
         ["We went to the market early,", "but nobody was there to open the doors."]),
        ("She asked whether we had seen the small red boat.",
         ["She asked", "whether we had seen the small red boat."]),
        ("It is the long awaited answer of Dr. Smith to the court.",
         ["It is the long awaited answer", "of Dr. Smith to the court."]),
        ("The whole of the bridge has cost about 10 000 000 dollars so far.",
         ["The whole of the bridge has cost", "about 10 000 000 dollars so far."]),
        ("A short line stays whole.", ["A short line stays whole."]),
    ],
)  # fmt: skip
def test_lines_end_where_a_phrase_ends(text: str, lines: list[str]) -> None:
    assert [lines_of(one) for one in captions([spoken(text, word_ms=250)])] == [lines]


@pytest.mark.parametrize(
    "whole",
    [
        "Dr. Smith",
        "President Ana Lopez",
        "10 000",
        "3 . 5",
        "$ 500",
        "50 %",
        "No. 7",
        "two million",
        "two hundred and fifty thousand",
        "three thousand and five",
        "1999 - 2003",
        "28th October",
        "3 May",
        "May 3,",
        "März 1848",
        "1. Januar",
        "15 março",
    ],
)
@pytest.mark.parametrize("before", range(1, 12))
def test_a_number_or_a_name_with_its_title_is_never_divided(whole: str, before: int) -> None:
    text = " ".join([*["filler"] * before, whole, *["other"] * 9])
    lines = [line for one in captions([spoken(text)]) for line in lines_of(one)]
    assert sum(whole in line for line in lines) == 1


def test_a_cue_starts_with_its_first_word_and_stays_half_a_second_after_its_last() -> None:
    found = captions([spoken("One two three four. Five six seven eight.", pauses={3: 2500})])
    assert [(one.start_ms, one.end_ms) for one in found] == [(0, 1900), (3900, 5800)]


def test_a_short_word_is_shown_for_the_shortest_time() -> None:
    found = captions([segment([(" Yes.", 1000, 1100)])])
    assert [(one.start_ms, one.end_ms) for one in found] == [(1000, 1834)]


def test_words_without_spaces_are_divided_by_their_own_rules() -> None:
    text = "今日は天気がいいので、公園へ散歩に行きました。そして、友だちとお茶を飲みました。楽しかったです。"
    found = captions([segment([], text, 12_000)], PROFILES["broadcast"])
    check_limits(found, PROFILES["broadcast"])
    lines = [line for one in found for line in lines_of(one)]
    assert "".join(lines) == text
    assert not [line for line in lines if line[0] in "、。っょ"]
    assert len(lines) > 2


def test_a_word_that_is_wider_than_a_line_is_divided_between_characters() -> None:
    assert pieces("e\u0301" * 5, 3) == ["e\u0301" * 3, "e\u0301" * 2]
    assert pieces("漢字かな", 5) == ["漢字", "かな"]


def test_a_gap_of_the_transcript_remains_within_the_limits() -> None:
    words = [spoken("before the gap."), segment([(" after", 700_000, 700_500)])]
    for style in (NETFLIX, PROFILES["broadcast"], CaptionStyle(max_line_width=12, max_line_count=1)):
        found = captions(words, style, [Gap(start_ms=60_000, end_ms=660_000)])
        check_limits(found, style)
        text = " ".join(line for one in found for line in lines_of(one))
        assert "00:01:00 to 00:11:00]" in text
        assert text.index("gap.") < text.index("00:01:00") < text.index("after")


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="longer than the longest"):
        CaptionStyle(min_cue_ms=2000, max_cue_ms=1000)


def dialogue(*turns: tuple[str, str | None]) -> list[Segment]:
    at, found = 0, []
    for text, speaker in turns:
        words = [(f" {word}", at + 300 * number, at + 300 * number + 280) for number, word in enumerate(text.split())]
        at += 300 * len(words)
        found.append(segment(words).model_copy(update={"speaker": speaker}))
    return found


def test_two_short_turns_share_a_cue_with_dashes_and_voices() -> None:
    (one,) = captions(dialogue(("Are you coming?", "Ann"), ("Yes, of course.", "Bob & Co")))
    times = "00:00:00,000 --> 00:00:02,280"
    assert to_srt([one], 1, False) == f"1\n{times}\n- Are you coming?\n- Yes, of course.\n\n"
    voices = "<v Ann>Are you coming?</v>\n<v Bob &amp; Co>Yes, of course.</v>"
    assert to_vtt([one], 1, False) == f"\n{times.replace(',', '.')}\n{voices}\n"
    assert to_lrc([one], 1, False) == "[00:00.00]- Are you coming? - Yes, of course.\n"


def test_a_line_has_one_speaker_and_room_for_the_dash() -> None:
    turns = [("word " * 3 + f"end{number}.", "Ann" if number % 2 else None) for number in range(40)]
    found = captions(dialogue(*turns))
    check_limits(found, NETFLIX)
    assert all(len({token.speaker for token in line}) == 1 for one in found for line in one.lines)
    assert max(columns(line) for line in to_srt(found, 1, False).splitlines()) <= NETFLIX.max_line_width


def test_the_speaker_of_a_word_overrides_that_of_its_segment() -> None:
    (turn,) = dialogue(("one two", "Ann"))
    turn.words[1]["speaker"] = "Bob"
    assert [token.speaker for token in tokens_of(turn, 42)] == ["Ann", "Bob"]


def test_without_a_style_the_speaker_is_named_in_each_format() -> None:
    (turn,) = dialogue(("Yes.", "Ann <A>"))
    found = CueStream((), 10_000)
    cues = [*found.add([turn]), *found.finish()]
    assert {name: form.body(cues, 1) for name, form in TEXT_FORMATS.items()} == {
        "txt": "Ann <A>: Yes.\n",
        "srt": "1\n00:00:00,000 --> 00:00:00,280\nAnn <A>: Yes.\n\n",
        "vtt": "\n00:00:00.000 --> 00:00:00.280\n<v Ann &lt;A&gt;>Yes.</v>\n",
        "tsv": "0\t280\tAnn <A>: Yes.\n",
    }


def test_a_speaker_is_in_the_json_only_if_it_is_known() -> None:
    known, unknown = dialogue(("Yes.", "Ann"), ("No.", None))
    assert '"speaker":"Ann"' in known.model_dump_json()
    assert "speaker" not in unknown.model_dump_json()
    assert Segment.model_validate_json(known.model_dump_json(by_alias=True)) == known
    for name in ("", " Ann", "Ann\n", "A\tB"):
        with pytest.raises(ValueError, match="speaker"):
            Segment.model_validate_json(known.model_dump_json(by_alias=True).replace('"Ann"', json.dumps(name)))


@pytest.mark.parametrize("limit", [{"max_cps": 17}, {"min_cue_ms": 2_000}, {"max_line_width": 30}, {"min_gap_ms": 100}])
def test_without_a_profile_a_limit_never_joins_segments(limit: dict[str, int]) -> None:
    segments = dialogue(("Good morning, Mr. Harris.", None), ("Yesterday the committee met.", None))
    style = PROFILES["whisper"].model_copy(update=limit)
    texts = [" ".join(lines_of(caption)) for caption in captions(segments, style)]
    assert texts == [segment.text.strip() for segment in segments]
    first = captions(segments, style)[0]
    wanted_ms = min(segments[0].end_ms, segments[1].start_ms - style.min_gap_ms)
    assert first.end_ms == max(wanted_ms, first.start_ms + style.min_cue_ms)


def test_a_cue_of_two_speakers_does_not_begin_or_end_inside_a_sentence() -> None:
    turns = [("How can I help you today?", "A"), ("Hello, I would like to know where my parcel is.", "B")]
    found = [
        [" ".join(token.text for token in line) for line in caption.lines] for caption in captions(dialogue(*turns))
    ]
    assert found[0] == ["How can I help you today?"]
