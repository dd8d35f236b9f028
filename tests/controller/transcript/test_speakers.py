"""Channels that were transcribed one by one → one transcript with a speaker for each, and nothing is lost."""

import json
from itertools import pairwise

import pytest

from chunk_job.contract import ChunkResult
from chunk_job.segment import Segment
from controller.domain.captions import PROFILES, CaptionStyle
from controller.domain.plan import Plan
from controller.errors import PlanMismatch
from controller.transcript.captions.check import violations
from controller.transcript.captions.formats import to_srt as captions_to_srt
from controller.transcript.captions.read import file_cues
from controller.transcript.captions.stream import Caption, CaptionStream
from controller.transcript.formats import cues, to_json, to_srt, to_txt, to_vtt
from controller.transcript.merge import merge
from controller.transcript.model import Transcript
from controller.transcript.speakers import named
from tests import fakes
from tests.fakes import TimedWord

RECORD = fakes.record()
RECORD = RECORD.model_copy(update={"plan": RECORD.plan.model_copy(update={"channels": "split"})})


def channels_of(plan: Plan, channels: int = 2) -> Plan:
    return plan.model_copy(update={"channels": channels})


def spoken(plan: Plan, span: int, *segments: tuple[int, list[TimedWord]]) -> ChunkResult:
    """A result with segments of channels, whose words have media times."""
    where = plan.spans[span]
    found = []
    for channel, words in segments:
        local = [(f" {text}", start - where.audio_start_ms, end - where.audio_start_ms) for text, start, end in words]
        found.append(fakes.segment(*local, channel=channel))
    found.sort(key=lambda segment: segment.start_ms)
    return fakes.result(fakes.task(RECORD, span, where.audio_ms), *found, channels=plan.channels)


def lines_of(transcript: Transcript) -> list[tuple[str | None, str]]:
    return [(segment.speaker, segment.text.strip()) for segment in transcript.segments]


ONE_SPAN = channels_of(fakes.plan(10_000))
TALK = merge(
    ONE_SPAN,
    RECORD,
    [
        spoken(
            ONE_SPAN,
            0,
            (1, [("so", 1000, 1200), ("that", 1300, 1500), ("is", 1600, 1700), ("it", 6000, 6200)]),
            (2, [("yes", 3000, 3300)]),
            (2, [("good", 7000, 7300)]),
        )
    ],
)


def test_speech_at_the_same_time_is_kept_with_its_speaker() -> None:
    assert lines_of(TALK) == [("Speaker 1", "so that is it"), ("Speaker 2", "yes"), ("Speaker 2", "good")]
    times = [(segment.start_ms, segment.end_ms, segment.channel) for segment in TALK.segments]
    assert times == [(1000, 6200, 1), (3000, 3300, 2), (7000, 7300, 2)]
    assert [segment.id for segment in TALK.segments] == [0, 1, 2]


def test_every_format_has_the_speakers() -> None:
    document = json.loads(to_json(TALK))
    assert [segment["speaker"] for segment in document["segments"]] == ["Speaker 1", "Speaker 2", "Speaker 2"]
    assert {word["speaker"] for word in document["segments"][0]["words"]} == {"Speaker 1"}
    assert document["source"]["channels"] == "split"
    assert to_txt(cues(TALK)).splitlines()[:2] == ["Speaker 1: so that is it", "Speaker 2: yes"]
    assert "00:00:03,000 --> 00:00:03,300\nSpeaker 2: yes" in to_srt(cues(TALK))
    assert "<v Speaker 1>so that is it</v>" in to_vtt(cues(TALK))
    assert Transcript.decode(to_json(TALK).encode()) == TALK


def test_speakers_get_other_names_by_their_channel() -> None:
    renamed = tuple(named(TALK.segments, ["Anna"]))
    assert [segment.speaker for segment in renamed] == ["Anna", "Speaker 2", "Speaker 2"]
    assert {word["speaker"] for word in renamed[0].words} == {"Anna"}
    again = tuple(named(renamed, ["Eva", "Ben"]))
    assert [segment.speaker for segment in again] == ["Eva", "Ben", "Ben"]
    plain = fakes.segment((" a", 0, 1))
    assert tuple(named([plain], ["Anna"])) == (plain,)


def test_each_channel_is_joined_at_a_forced_cut_by_itself() -> None:
    plan = channels_of(fakes.plan(10_000, 20_000, cuts={0: "forced"}))
    anna = [("one", 8500, 8800), ("two", 9500, 9900), ("three", 10_400, 10_800)]
    ben = [("un", 8600, 8900), ("deux", 9700, 10_100), ("trois", 10_900, 11_300)]
    left = spoken(plan, 0, (1, anna), (2, ben))
    right = spoken(plan, 1, (1, [*anna, ("four", 12_500, 12_900)]), (2, [*ben, ("quatre", 12_400, 12_700)]))
    merged = merge(plan, RECORD, [left, right])
    for speaker, words in (("Speaker 1", "one two three four"), ("Speaker 2", "un deux trois quatre")):
        assert " ".join(text for name, text in lines_of(merged) if name == speaker) == words
    starts = [segment.start_ms for segment in merged.segments]
    assert starts == sorted(starts)
    assert [segment.id for segment in merged.segments] == list(range(len(merged.segments)))


def test_at_a_forced_cut_the_order_of_all_segments_is_that_of_their_starts() -> None:
    """One channel ends, in the left chunk, after the other one begins in the right chunk."""
    plan = channels_of(fakes.plan(10_000, 20_000, cuts={0: "forced"}))
    left = spoken(plan, 0, (1, [("late", 10_500, 10_900)]))
    right = spoken(plan, 1, (1, [("late", 10_500, 10_900)]), (2, [("early", 10_100, 10_300)]))
    assert lines_of(merge(plan, RECORD, [left, right])) == [("Speaker 2", "early"), ("Speaker 1", "late")]


def test_segments_of_one_channel_never_overlap_and_those_of_others_may() -> None:
    overlapping = spoken(ONE_SPAN, 0, (1, [("a", 0, 5000)]), (1, [("b", 4000, 6000)]), (2, [("c", 4500, 7000)]))
    found = merge(ONE_SPAN, RECORD, [overlapping]).segments
    assert [(segment.start_ms, segment.end_ms) for segment in found] == [(0, 5000), (4500, 7000), (5000, 6000)]


def test_a_channel_without_words_is_a_warning() -> None:
    whole = merge(ONE_SPAN, RECORD, [spoken(ONE_SPAN, 0, (1, [("a", 0, 500)]))])
    assert "no words were found in channel 2 of 2" in whole.warnings
    assert not any("channel" in warning for warning in TALK.warnings)


def test_a_result_of_other_channels_than_the_plan_is_refused() -> None:
    with pytest.raises(PlanMismatch, match="has a result of 2 channels, and its plan 1"):
        merge(fakes.plan(10_000), RECORD, [spoken(ONE_SPAN, 0, (1, [("a", 0, 500)]))])


# ---------------------------------------------------------------- captions


def captions(segments: list[Segment], style: CaptionStyle) -> list[Caption]:
    stream = CaptionStream((), style)
    return [*stream.add(segments), *stream.finish()]


def said(channel: int, *words: TimedWord) -> Segment:
    spaced = [(f" {text}", start, end) for text, start, end in words]
    return fakes.segment(*spaced, channel=channel, speaker=f"Speaker {channel}")


LONG = said(1, *((f"word{n}{',' if n % 4 == 3 else ''}", 500 * n, 500 * n + 400) for n in range(24)))
SHORT = said(2, ("really?", 4_100, 4_500))


@pytest.mark.parametrize("profile", ["broadcast", "netflix"])
def test_captions_show_what_is_said_meanwhile_at_the_next_end_of_a_phrase(profile: str) -> None:
    style = PROFILES[profile]  # type: ignore[index]
    found = captions([LONG, SHORT], style)
    tokens = [token for caption in found for line in caption.lines for token in line]
    texts = [token.text for token in tokens]
    assert sorted(texts) == sorted([*(word["word"].strip() for word in LONG.words), "really?"])
    assert texts[texts.index("really?") - 1] == "word11,"
    for before, after in pairwise(found):
        assert before.end_ms + style.min_gap_ms <= after.start_ms
    shown = captions_to_srt(found, 1, False)
    assert "- really?" in shown
    assert {one.rule for one in violations(file_cues(shown), style)} <= {"speed"}


def test_captions_of_one_speaker_are_the_same_with_a_name_and_without() -> None:
    style = PROFILES["netflix"]
    plain = LONG.model_copy(update={"speaker": None, "channel": None})

    def shown(segment: Segment) -> list[tuple[int, int, list[list[str]]]]:
        return [
            (caption.start_ms, caption.end_ms, [[token.text for token in line] for line in caption.lines])
            for caption in captions([segment], style)
        ]

    assert shown(LONG) == shown(plain)
