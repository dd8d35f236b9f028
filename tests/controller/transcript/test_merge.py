"""Results in chunk time → one transcript in media time: offsets, seams, gaps, order."""

import json
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.contract import ChunkResult
from chunk_job.errors import DocumentInvalid
from chunk_job.segment import DecodedWindow, Segment, Try
from controller.domain.plan import Clip, Plan, PlanOptions, Span
from controller.errors import PlanMismatch
from controller.transcript.merge import merge
from controller.transcript.model import Transcript, TranscriptSummary
from tests import fakes
from tests.fakes import TimedWord

RECORD = fakes.record()
CUT_MS = 10_000
PAD_MS = 2000


def spoken(plan: Plan, span: int, *segments: Segment, **changes: Any) -> ChunkResult:
    """The result of a chunk, in chunk time."""
    where = plan.spans[span]
    task = fakes.task(RECORD, span, where.audio_end_ms - where.audio_start_ms)
    return fakes.result(task, *segments, **changes)


def words_of(transcript: Transcript) -> list[TimedWord]:
    transcribed = [word for segment in transcript.segments for word in fakes.words_of(segment)]
    return [(text.strip(), start, end) for text, start, end in transcribed]


def texts_of(transcript: Transcript) -> list[str]:
    return [text for text, _, _ in words_of(transcript)]


def joined(left: Sequence[TimedWord], right: Sequence[TimedWord], *, offset_ms: int = 0) -> Transcript:
    """Two chunks on both sides of a forced cut at 10 s, with the words of each in media time."""
    plan = fakes.plan(CUT_MS, 20_000, cuts={0: "forced"}, pad_ms=PAD_MS, offset_ms=offset_ms)
    results = []
    for span, transcribed in enumerate((left, right)):
        shift = plan.spans[span].audio_start_ms
        words = [(f" {text}", start - shift, end - shift) for text, start, end in transcribed]
        results.append(spoken(plan, span, *([fakes.segment(*words)] if words else [])))
    return merge(plan, RECORD, results)


# ---------------------------------------------------------------- offsets


@pytest.mark.parametrize("offset_ms", [0, 1, 480])
def test_times_move_by_the_start_of_the_chunks_audio_and_the_offset_of_the_track(offset_ms: int) -> None:
    plan = fakes.plan(10_000, 20_000, 30_000, cuts={0: "pause", 1: "forced"}, offset_ms=offset_ms)
    results = [spoken(plan, span, fakes.segment((f" w{span}", 5000, 5400))) for span in range(3)]
    merged = merge(plan, RECORD, results)
    expected = [("w0", 5000, 5400), ("w1", 15_000, 15_400), ("w2", 18_000 + 5000, 18_000 + 5400)]
    assert words_of(merged) == [(text, start + offset_ms, end + offset_ms) for text, start, end in expected]
    assert [(one.start_ms, one.end_ms) for one in merged.segments] == [(a, b) for _, a, b in words_of(merged)]
    assert merged.duration_ms == 30_000 + offset_ms
    assert [(chunk.start_ms, chunk.end_ms) for chunk in merged.chunks] == [
        (0 + offset_ms, 10_000 + offset_ms),
        (10_000 + offset_ms, 20_000 + offset_ms),
        (20_000 + offset_ms, 30_000 + offset_ms),
    ]
    assert merged.segments[2].seek == (18_000 + offset_ms) // 10


def test_ids_count_over_the_whole_file() -> None:
    plan = fakes.plan(10_000, 20_000)
    two = [fakes.segment((" a", 1000, 1400), number=7), fakes.segment((" b", 2000, 2400), number=7)]
    merged = merge(plan, RECORD, [spoken(plan, span, *two) for span in range(2)])
    assert [segment.id for segment in merged.segments] == [0, 1, 2, 3]


def test_a_segment_without_word_times_moves_as_a_whole() -> None:
    plan = fakes.plan(10_000, 20_000)
    bare = fakes.segment(text=" said", start_ms=1000, end_ms=3000)
    merged = merge(plan, RECORD, [spoken(plan, 0), spoken(plan, 1, bare)])
    assert [(one.text, one.start_ms, one.end_ms) for one in merged.segments] == [(" said", 11_000, 13_000)]


def test_a_segment_that_is_only_moved_is_not_changed() -> None:
    plan = fakes.plan(10_000, 20_000)
    segment = fakes.segment((" one", 1000, 1400), temperature=0.4, avg_logprob=-0.7, no_speech_prob=0.1)
    merged = merge(plan, RECORD, [spoken(plan, 0, segment), spoken(plan, 1)])
    assert merged.segments == (segment,)


# ---------------------------------------------------------------- forced seams


@pytest.mark.parametrize(
    "left,right,expected",
    [
        pytest.param(
            [("a", 8000, 8400), ("b", 9500, 9900), ("c", 10_300, 10_700)],
            [("b", 9600, 9950), ("c", 10_350, 10_750), ("d", 12_500, 12_900)],
            ["a", "b", "c", "d"],
            id="both have the same words",
        ),
        pytest.param(
            [("a", 9000, 9400), ("b", 9500, 9900), ("x", 11_500, 11_990)],
            [("z", 8010, 8100), ("a", 9000, 9400), ("b", 9500, 9900), ("c", 11_500, 11_900)],
            ["a", "b", "c"],
            id="what the end of a chunk makes of half a word is left out",
        ),
        pytest.param(
            [("the", 9900, 9990), ("one", 10_600, 10_800), ("two", 10_900, 11_100), ("oops", 11_200, 11_900)],
            [("the", 10_000, 10_100), ("sun", 10_200, 10_500), ("one", 10_600, 10_800), ("two", 10_900, 11_100)],
            ["the", "one", "two"],
            id="the longer run goes before the nearer word",
        ),
        pytest.param(
            [("la", 8800, 9000), ("la", 9900, 10_100), ("x", 11_000, 11_100)],
            [("la", 8800, 9000), ("y", 9500, 9600), ("la", 9900, 10_100), ("z", 11_000, 11_100)],
            ["la", "la", "z"],
            id="of equal runs the one nearest to the cut",
        ),
        pytest.param(
            [("Olá,", 9500, 9900), ("x", 10_500, 10_600)],
            [("q", 9000, 9100), ("olá", 9550, 9900), ("y", 10_500, 10_600)],
            ["Olá,", "y"],
            id="case and punctuation do not matter",
        ),
        pytest.param(
            [("a", 9000, 9400), ("ok", 9800, 9900)],
            [("ok", 10_500, 10_600), ("b", 11_000, 11_400)],
            ["a", "ok", "ok", "b"],
            id="equal words more than half a second apart are two",
        ),
        pytest.param(
            [("...", 8500, 8600), ("left", 9500, 9900)],
            [("...", 8500, 8600), ("x", 9000, 9200), ("right", 10_500, 10_900)],
            ["...", "left", "right"],
            id="punctuation alone is no anchor",
        ),
    ],
)
def test_a_seam_is_joined_at_an_anchor(left: list[TimedWord], right: list[TimedWord], expected: list[str]) -> None:
    assert texts_of(joined(left, right)) == expected


@pytest.mark.parametrize(
    "left,right,expected",
    [
        pytest.param(
            [("a", 9000, 9400), ("b", 9500, 9900), ("x", 10_800, 11_000)],
            [("y", 9000, 9100), ("c", 10_100, 10_400), ("d", 11_000, 11_300)],
            ["a", "b", "c", "d"],
            id="each word goes where its middle lies",
        ),
        pytest.param(
            [("a", 9000, 9400), ("right", 9750, 10_150)],
            [("write", 9850, 10_250), ("d", 11_000, 11_300)],
            ["a", "right", "d"],
            id="one sound kept by both is kept once",
        ),
        pytest.param(
            [("a", 9000, 9400), ("right", 9850, 10_250)],
            [("write", 9750, 10_150), ("d", 11_000, 11_300)],
            ["a", "right", "d"],
            id="one sound left to the other by both is restored",
        ),
        pytest.param([("a", 9000, 9400)], [], ["a"], id="only the left side has words"),
        pytest.param([], [("b", 10_500, 10_900)], ["b"], id="only the right side has words"),
        pytest.param([], [], [], id="no side has words"),
    ],
)
def test_without_an_anchor_the_middle_of_a_word_decides(
    left: list[TimedWord], right: list[TimedWord], expected: list[str]
) -> None:
    assert texts_of(joined(left, right)) == expected
    assert texts_of(joined(left, right, offset_ms=700)) == expected


@pytest.mark.parametrize("ours,theirs,kept", [(0.9, 0.5, "right"), (0.5, 0.9, "write"), (0.5, 0.5, "right")])
@pytest.mark.parametrize("by_ms", [-50, 50], ids=["kept by both", "kept by none"])
def test_the_more_probable_of_two_transcriptions_is_kept(ours: float, theirs: float, kept: str, by_ms: int) -> None:
    plan = fakes.plan(CUT_MS, 20_000, cuts={0: "forced"})
    left = fakes.segment((" right", 9800 + by_ms, 10_200 + by_ms), probability=ours)
    right = fakes.segment((" write", 1800 - by_ms, 2200 - by_ms), probability=theirs)
    assert texts_of(merge(plan, RECORD, [spoken(plan, 0, left), spoken(plan, 1, right)])) == [kept]


def test_segments_without_word_times_are_assigned_by_their_middle() -> None:
    plan = fakes.plan(CUT_MS, 20_000, cuts={0: "forced"})
    ours = [fakes.segment(text=" early", start_ms=8000, end_ms=9500), fakes.segment(text=" x", start_ms=11_000)]
    theirs = [fakes.segment(text=" y", end_ms=500), fakes.segment(text=" late", start_ms=3000, end_ms=4000)]
    ours[1] = ours[1].model_copy(update={"end_ms": 11_500})
    merged = merge(plan, RECORD, [spoken(plan, 0, *ours), spoken(plan, 1, *theirs)])
    assert [segment.text for segment in merged.segments] == [" early", " late"]


def test_a_split_segment_has_the_text_of_its_words_and_no_tokens() -> None:
    merged = joined(
        [("a", 8000, 8400), ("b", 9500, 9900), ("half", 11_500, 11_900)],
        [("b", 9500, 9900), ("c", 10_500, 10_900), ("d", 15_000, 15_300)],
    )
    assert [(one.text, one.start_ms, one.end_ms, one.tokens) for one in merged.segments] == [
        (" a b", 8000, 9900, ()),
        (" c d", 10_500, 15_300, ()),
    ]


def test_a_segment_that_lost_nothing_keeps_its_tokens() -> None:
    merged = joined([("a", 8000, 8400)], [("d", 15_000, 15_300)])
    assert [one.tokens for one in merged.segments] == [(1, 2, 3), (1, 2, 3)]


@pytest.mark.parametrize("cut", ["pause", "tight"])
def test_a_cut_that_was_not_forced_takes_nothing_away(cut: Any) -> None:
    plan = fakes.plan(CUT_MS, 20_000, cuts={0: cut})
    same = fakes.segment((" same", 9700, 9990))
    early = fakes.segment((" same", 0, 200))
    assert texts_of(merge(plan, RECORD, [spoken(plan, 0, same), spoken(plan, 1, early)])) == ["same", "same"]


def test_beside_a_lost_chunk_nothing_is_taken_away() -> None:
    plan = fakes.plan(CUT_MS, 20_000, 30_000, cuts={0: "forced", 1: "forced"})
    beyond = fakes.segment((" beyond", 11_000, 11_500))
    before = fakes.segment((" before", 500, 900))
    merged = merge(plan, RECORD, [spoken(plan, 0, beyond), spoken(plan, 2, before)])
    assert texts_of(merged) == ["beyond", "before"]


@settings(max_examples=200)
@given(seed=st.integers(0, 10**6), alphabet=st.sampled_from([3, 10, 100]), offset_ms=st.sampled_from([0, 370]))
def test_words_that_both_sides_transcribed_alike_are_never_lost_nor_doubled(
    seed: int, alphabet: int, offset_ms: int
) -> None:
    """Two transcriptions of the same speech, each cut at its end and shifted by some ten milliseconds, are joined."""
    chance = random.Random(seed)
    spoken_words: list[TimedWord] = []
    at = 0
    while at < 19_000:
        length = chance.randint(120, 400)
        spoken_words.append((f"w{chance.randint(1, alphabet)}", at, at + length))
        at += length + chance.choice([0, 30, 300])

    def transcribed(begin_ms: int, end_ms: int) -> list[TimedWord]:
        drift = chance.randint(-20, 20)
        inside = [
            (text, a + drift, b + drift) for text, a, b in spoken_words if a >= begin_ms + 20 and b <= end_ms - 20
        ]
        return [word for word in inside if word[1] >= begin_ms]

    left, right = transcribed(0, CUT_MS + PAD_MS), transcribed(CUT_MS - PAD_MS, 20_000)
    merged = joined(left, right, offset_ms=offset_ms)
    whole = [text for text, a, b in spoken_words if a >= 20 and b <= 20_000 - 20]
    assert texts_of(merged) == whole


def test_a_seam_of_thousands_of_equal_words_is_joined_too() -> None:
    """A hostile result: comparing every word with every other would take too much time and memory."""
    same = [("la", 9900, 10_100)] * 20_000
    merged = joined(same, same)
    assert 0 < len(texts_of(merged)) < 40_000


# ---------------------------------------------------------------- gaps


def test_a_lost_chunk_is_a_gap() -> None:
    plan = fakes.plan(10_000, 20_000, 30_000, offset_ms=100)
    merged = merge(plan, RECORD, [spoken(plan, span, fakes.segment((" a", 0, 100))) for span in (0, 2)])
    assert [(gap.start_ms, gap.end_ms) for gap in merged.gaps] == [(10_100, 20_100)]
    assert [chunk.quality for chunk in merged.chunks] == ["ok", "lost", "ok"]
    assert (merged.success, merged.status) == (False, "partial")


def test_without_a_gap_it_is_complete() -> None:
    plan = fakes.plan(10_000, 20_000, cuts={0: "tight"})
    merged = merge(plan, RECORD, [spoken(plan, 0), spoken(plan, 1, quality="empty")])
    assert (merged.success, merged.status, merged.gaps) == (True, "complete", ())
    assert [(chunk.cut, chunk.quality) for chunk in merged.chunks] == [("tight", "silent"), ("end", "empty")]


# ---------------------------------------------------------------- the whole


def test_the_text_is_all_segments_joined() -> None:
    plan = fakes.plan(10_000, 20_000)
    merged = merge(plan, RECORD, [spoken(plan, span, fakes.segment((f" w{span}", 0, 100))) for span in (0, 1)])
    assert merged.text == "w0 w1"


def test_silence_gives_an_empty_transcript_and_a_success() -> None:
    plan = fakes.plan(10_000, 20_000)
    record = fakes.record(language=None)
    merged = merge(plan, record, [spoken(plan, 0), spoken(plan, 1)])
    assert (merged.text, merged.segments, merged.language, merged.language_probability) == ("", (), None, 0.0)
    assert merged.success
    assert merge(plan, fakes.record(language="pt"), [spoken(plan, 0), spoken(plan, 1)]).language == "pt"


@pytest.mark.parametrize(
    "speech_ms,language",
    [((100, 9000, 300), "bb"), ((500, 500, 100), "aa"), ((0, 0, 1), "cc")],
    ids=["the most", "of equals the first", "at all"],
)
def test_the_language_is_that_of_the_chunk_with_most_speech(speech_ms: tuple[int, ...], language: str) -> None:
    plan = fakes.plan(10_000, 20_000, 30_000)
    results = [
        spoken(plan, span, speech_ms=ms, language=("aa", "bb", "cc")[span], language_probability=span / 10)
        for span, ms in enumerate(speech_ms)
    ]
    merged = merge(plan, RECORD, results)
    assert (merged.language, merged.language_probability) == (language, "abc".index(language[0]) / 10)


def test_the_transcript_states_source_model_and_options() -> None:
    plan = fakes.plan(10_000)
    record = fakes.record(name="Ωmega.mp4", beam_size=3)
    merged = merge(plan, record, [spoken(plan, 0)])
    assert (merged.source.name, merged.source.identity) == ("Ωmega.mp4", record.identity)
    assert (merged.model.name, merged.model.digest) == ("tiny", "d" * 64)
    assert merged.options == record.options


@pytest.mark.parametrize("folder", ["/home/ann/models/fine tuned", "C:\\models\\fine tuned\\"])
def test_the_transcript_has_the_name_of_a_model_and_not_its_folder(folder: str) -> None:
    plan = fakes.plan(10_000)
    record = fakes.record(model=folder)
    merged = merge(plan, record, [spoken(plan, 0)])
    assert (merged.model.name, merged.options.model) == ("fine tuned", "fine tuned")
    summary = merged.summary()
    assert summary.is_of(record)
    # As versions before have written it.
    with_folder = summary.model_copy(update={"options": record.options})
    assert with_folder.is_of(record)
    assert with_folder.same_run(summary)
    other = summary.model_copy(update={"model": summary.model.model_copy(update={"digest": "e" * 64})})
    assert not other.same_run(summary)


def test_results_of_different_models_do_not_belong_together() -> None:
    plan = fakes.plan(10_000, 20_000)
    other = fakes.ENGINE.model_copy(update={"model_digest": "e" * 64})
    with pytest.raises(PlanMismatch, match="results of 2 different models") as caught:
        merge(plan, RECORD, [spoken(plan, 0), spoken(plan, 1, engine=other)])
    assert "--force" in caught.value.advice


def test_a_result_of_a_span_the_plan_does_not_have_is_refused() -> None:
    plan = fakes.plan(10_000, 20_000)
    with pytest.raises(PlanMismatch, match=r"results for spans \[7\]"):
        merge(plan, RECORD, [spoken(plan, 0), fakes.result(fakes.task(RECORD, 7))])


@pytest.mark.parametrize(
    "segments,expected",
    [
        pytest.param(
            [fakes.segment((" a", 1000, 3000)), fakes.segment((" b", 2000, 2500))],
            [(1000, 3000), (3000, 3000)],
            id="a segment that begins before the one ahead has ended",
        ),
        pytest.param(
            [fakes.segment((" a", 1000, 1400), end_ms=1200)], [(1000, 1400)], id="a word longer than its segment"
        ),
        pytest.param([fakes.segment((" a", 1000, 2000), (" b", 1500, 1700))], [(1000, 2000)], id="words that overlap"),
        pytest.param([fakes.segment((" a", 9000, 10_000))], [(9000, 9800)], id="beyond the end of the media"),
    ],
)
def test_times_are_put_in_order(segments: list[Segment], expected: list[tuple[int, int]]) -> None:
    merged = merge(fakes.plan(9800), RECORD, [spoken(fakes.plan(10_000), 0, *segments)])
    assert [(one.start_ms, one.end_ms) for one in merged.segments] == expected
    assert_in_order(merged)


def assert_in_order(merged: Transcript) -> None:
    at = 0
    for segment in merged.segments:
        assert at <= segment.start_ms <= segment.end_ms <= merged.duration_ms
        at = segment.start_ms
        for _, start, end in fakes.words_of(segment):
            assert at <= start <= end <= segment.end_ms
            at = end
        at = segment.end_ms


@st.composite
def hearings(draw: st.DrawFn) -> tuple[Plan, dict[int, ChunkResult]]:
    """A plan with any cuts, and any results a chunk job may leave, some of them missing."""
    cuts: Mapping[int, Any] = {index: draw(st.sampled_from(["pause", "tight", "forced"])) for index in range(3)}
    offset_ms = draw(st.integers(0, 900))
    plan = fakes.plan(10_000, 20_000, 30_000, 40_000, cuts=cuts, offset_ms=offset_ms)
    results = {}
    for span in plan.spans:
        if draw(st.integers(0, 5)) == 0:
            continue
        length = span.audio_end_ms - span.audio_start_ms
        starts = sorted(draw(st.lists(st.integers(0, length), max_size=8)))
        segments = []
        for begin, end in pairwise([*starts, length]):
            ended = draw(st.integers(begin, end))
            word = (f" w{draw(st.integers(0, 3))}", begin, ended)
            segments.append(fakes.segment(word, end_ms=draw(st.integers(ended, length))))
        results[span.index] = spoken(plan, span.index, *segments)
    return plan, results


@settings(max_examples=150)
@given(hearings(), st.randoms(use_true_random=False))
def test_times_are_ordered_and_the_order_of_results_does_not_matter(
    transcribed: tuple[Plan, dict[int, ChunkResult]], chance: random.Random
) -> None:
    plan, results = transcribed
    merged = merge(plan, RECORD, results.values())
    assert_in_order(merged)
    assert [segment.id for segment in merged.segments] == list(range(len(merged.segments)))
    assert merged.text == "".join(segment.text for segment in merged.segments).strip()
    assert len(merged.gaps) == 4 - len(results)
    shuffled = list(results.values())
    chance.shuffle(shuffled)
    assert merge(plan, RECORD, shuffled).encode() == merged.encode()
    assert Transcript.decode(merged.encode()) == merged


# ---------------------------------------------------------------- doubtful windows


def window(start_ms: int, *, outcome: Any = "text", loop_removed: bool = False, length_ms: int = 100) -> DecodedWindow:
    tried = Try(temperature=0, avg_logprob=-0.5, compression_ratio=1, no_speech_prob=0)
    return DecodedWindow(
        start_ms=start_ms, end_ms=start_ms + length_ms, outcome=outcome, loop_removed=loop_removed, tries=(tried,)
    )


def test_windows_that_passed_all_checks_give_no_warning() -> None:
    plan = fakes.plan(10_000)
    windows = tuple(window(at, outcome=outcome) for at, outcome in ((0, "text"), (100, "empty"), (200, "no_speech")))
    assert merge(plan, RECORD, [spoken(plan, 0, windows=windows)]).warnings == ()


def test_doubtful_windows_and_removed_loops_are_listed_in_media_time() -> None:
    plan = fakes.plan(3_600_000, 3_610_000, offset_ms=5_000)
    first = (window(0, outcome="doubtful"), window(750_000, outcome="doubtful"), window(60_000))
    second = (window(400, outcome="doubtful", loop_removed=True),)
    merged = merge(plan, RECORD, [spoken(plan, 0, windows=first), spoken(plan, 1, windows=second)])
    assert merged.warnings == (
        "3 parts of up to 30 s may be wrong (the decoder was unsure): 0:05, 12:35, 1:00:05",
        "a phrase that the decoder repeated was removed from 1 part: 1:00:05",
    )


def test_a_long_list_of_doubtful_windows_ends_after_ten() -> None:
    plan = fakes.plan(100_000)
    windows = tuple(window(1000 * second, outcome="doubtful") for second in range(11))
    for count, end in ((10, "0:08, 0:09"), (11, "0:08, 0:09, …")):
        (warning,) = merge(plan, RECORD, [spoken(plan, 0, windows=windows[:count])]).warnings
        assert warning.startswith(f"{count} parts of up to 30 s may be wrong (the decoder was unsure): 0:00, 0:01, ")
        assert warning.endswith(end)


def test_a_doubtful_window_beyond_a_forced_cut_counts_for_the_neighbour() -> None:
    plan = fakes.plan(CUT_MS, 20_000, cuts={0: "forced"}, pad_ms=PAD_MS)
    across = window(CUT_MS - 100, outcome="doubtful", length_ms=500)
    beyond = window(CUT_MS, outcome="doubtful", length_ms=PAD_MS)
    # The second chunk's audio begins two seconds before the cut.
    before, own = window(0, outcome="doubtful", length_ms=PAD_MS), window(PAD_MS, outcome="doubtful")
    merged = merge(plan, RECORD, [spoken(plan, 0, windows=(across, beyond)), spoken(plan, 1, windows=(before, own))])
    assert merged.warnings == ("2 parts of up to 30 s may be wrong (the decoder was unsure): 0:09, 0:10",)


# ---------------------------------------------------------------- clips


CLIPS = (Clip(start_ms=1_000, end_ms=5_000), Clip(start_ms=8_000, end_ms=None))


def clipped(offset_ms: int = 0) -> Plan:
    """Two chunks of 4 s and 2 s with a hole of 3 s between them."""
    spans = ((1_000, 5_000), (8_000, 10_000))
    return Plan(
        run=fakes.RUN,
        spans=tuple(
            Span(
                index=index, start_ms=a - offset_ms, end_ms=b - offset_ms, audio_start_ms=a - offset_ms,
                audio_end_ms=b - offset_ms, cut="end",
            )
            for index, (a, b) in enumerate(spans)
        ),
        duration_ms=10_000 - offset_ms,
        offset_ms=offset_ms,
        direct=False,
        warnings=(),
        clips=CLIPS,
    )  # fmt: skip


@pytest.mark.parametrize("offset_ms", [0, 300])
def test_clips_keep_the_times_of_the_recording_and_leave_a_hole_that_is_no_gap(offset_ms: int) -> None:
    plan = clipped(offset_ms)
    results = [spoken(plan, span, fakes.segment((f" w{span}", 100, 500))) for span in range(2)]
    merged = merge(plan, RECORD, results)
    assert words_of(merged) == [("w0", 1_100, 1_500), ("w1", 8_100, 8_500)]
    assert [(chunk.start_ms, chunk.end_ms) for chunk in merged.chunks] == [(1_000, 5_000), (8_000, 10_000)]
    assert (merged.duration_ms, merged.gaps, merged.status) == (10_000, (), "complete")
    assert [(part.start_ms, part.end_ms) for part in merged.clips] == [(1_000, 5_000), (8_000, None)]
    assert Transcript.decode(merged.encode()) == merged


def test_a_transcript_of_clips_is_of_another_run_than_the_whole_one() -> None:
    whole = merge(fakes.plan(10_000), RECORD, [spoken(fakes.plan(10_000), 0)]).summary()
    part = merge(clipped(), RECORD, [spoken(clipped(), span) for span in range(2)]).summary()
    of_part = RECORD.model_copy(update={"plan": PlanOptions(clips=CLIPS)})
    assert not part.same_run(whole)
    assert (whole.is_of(RECORD), whole.is_of(of_part), part.is_of(RECORD), part.is_of(of_part)) == (
        *(True, False),
        *(False, True),
    )


def test_a_hole_without_clips_and_a_chunk_outside_them_are_refused() -> None:
    part = merge(clipped(), RECORD, [spoken(clipped(), span) for span in range(2)]).summary()
    raw = json.loads(part.encode())
    clips: list[Any] = [[], [{"start": 1.0, "end": 5.0}], [{"start": 1.001, "end": None}]]
    for changes in ({"clips": changed} for changed in clips):
        with pytest.raises(DocumentInvalid, match="follow each other"):
            TranscriptSummary.decode(json.dumps(raw | changes).encode())


@pytest.mark.parametrize("probability,given,warned", [(0.4, None, True), (0.9, None, False), (0.4, "hu", False)])
def test_a_language_that_was_hardly_detected_is_a_warning(
    probability: float, given: str | None, *, warned: bool
) -> None:
    plan = fakes.plan(10_000)
    options = RECORD.options.model_copy(update={"language": given})
    result = spoken(plan, 0, fakes.segment((" a", 0, 500)), language="hu", language_probability=probability)
    found = merge(plan, RECORD.model_copy(update={"options": options}), [result]).warnings
    message = "its language was detected as Hungarian, with a probability of only 40 %"
    assert any(message in warning for warning in found) == warned
