"""Corrections of a transcript: which text is used, what contradicts, and the times of the words."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_job.segment import Segment, Word
from controller.domain.correction_documents import Correction
from controller.transcript.corrections import Corrections, machine_line, typed
from controller.transcript.model import Transcript, cleaned_segments
from controller.transcript.word_times import one_line, with_text
from tests import fakes

RUN = "0123456789abcdef"


def timed(*words: tuple[str, int, int], speaker: str = "") -> Segment:
    """A segment whose words have different probabilities."""
    found = fakes.segment(*words)
    known = []
    for at, word in enumerate(found.words):
        copy = word.copy()
        copy["probability"] = 0.5 + at / 1000
        if speaker:
            copy["speaker"] = speaker
        known.append(copy)
    return found.model_copy(update={"words": tuple(known), "speaker": speaker or None})


TALK = timed((" We", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" Kat", 800, 1_000), (" today.", 1_000, 1_500))


def words_of(segment: Segment) -> list[tuple[str, int, int]]:
    return [(word["word"], word["start_ms"], word["end_ms"]) for word in segment.words]


def new_of(segment: Segment) -> list[str]:
    """The words that a person wrote."""
    return [word["word"] for word in segment.words if word.get("corrected")]


# ---------------------------------------------------------------- words and their times


@pytest.mark.parametrize(
    "text, words, new",
    [
        pytest.param(
            "We met Mrs Cat today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" Cat", 800, 1_000),
             (" today.", 1_000, 1_500)],
            [" Cat"],
            id="another word has the times of the one that it replaces",
        ),
        pytest.param(
            "We met Mrs. Kat today!",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs.", 500, 700), (" Kat", 800, 1_000),
             (" today!", 1_000, 1_500)],
            [" Mrs.", " today!"],
            id="other punctuation",
        ),
        pytest.param(
            "we met MRS Kat today.",
            [(" we", 100, 300), (" met", 300, 500), (" MRS", 500, 700), (" Kat", 800, 1_000),
             (" today.", 1_000, 1_500)],
            [" we", " MRS"],
            id="other letters",
        ),
        pytest.param(
            "We met Mrs today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" today.", 1_000, 1_500)],
            [],
            id="a word less",
        ),
        pytest.param(
            "We met Mrs A Kat today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" A", 700, 800), (" Kat", 800, 1_000),
             (" today.", 1_000, 1_500)],
            [" A"],
            id="a new word is in the time between its neighbours",
        ),
        pytest.param(
            "We met Mrs Catherine Cats today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" Catherine", 800, 938), (" Cats", 938, 1_000),
             (" today.", 1_000, 1_500)],
            [" Catherine", " Cats"],
            id="two words share the time of one, by their width",
        ),
        pytest.param(
            "We met Mrskat today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrskat", 500, 1_000), (" today.", 1_000, 1_500)],
            [" Mrskat"],
            id="one word has the time of two",
        ),
        pytest.param(
            "We met Mrs-Kat today.",
            [(" We", 100, 300), (" met", 300, 500), (" Mrs-Kat", 500, 1_000), (" today.", 1_000, 1_500)],
            [" Mrs-Kat"],
            id="two words joined",
        ),
        pytest.param("", [], [], id="nothing is said"),
        pytest.param(
            "Nothing alike here", [(" Nothing", 100, 712), (" alike", 712, 1_150), (" here", 1_150, 1_500)],
            [" Nothing", " alike", " here"], id="all words are new",
        ),
        pytest.param(
            "So we met Mrs Kat today. Yes",
            [(" So", 100, 100), (" we", 100, 300), (" met", 300, 500), (" Mrs", 500, 700), (" Kat", 800, 1_000),
             (" today.", 1_000, 1_500), (" Yes", 1_500, 1_500)],
            [" So", " we", " Yes"],
            id="new words at both ends have no time",
        ),
    ],
)  # fmt: skip
def test_words_that_stay_keep_their_times_and_new_ones_get_theirs(
    text: str, words: list[tuple[str, int, int]], new: list[str]
) -> None:
    found = with_text(TALK, text)
    assert (words_of(found), new_of(found)) == (words, new)
    assert found.text == "".join(word for word, _, _ in words)
    assert {word["probability"] for word in found.words if word.get("corrected")} <= {1.0}
    known = {word["word"]: word for word in TALK.words}
    assert all(word == known[word["word"]] for word in found.words if not word.get("corrected"))


def test_a_script_without_spaces_keeps_the_words_that_stay() -> None:
    segment = timed(("今日", 0, 400), ("は", 400, 500), ("天木", 500, 900), ("です。", 900, 1_200))
    found = with_text(segment, "今日は天気です。")
    assert words_of(found) == [("今日", 0, 400), ("は", 400, 500), ("天気", 500, 900), ("です。", 900, 1_200)]
    assert new_of(found) == ["天気"]


def test_a_term_with_spaces_stays_one_word() -> None:
    segment = timed((" in", 0, 100), (" New York", 100, 500), (" tody", 500, 900))
    assert words_of(with_text(segment, "in New York today")) == [
        (" in", 0, 100), (" New York", 100, 500), (" today", 500, 900)
    ]  # fmt: skip


def test_parts_of_a_word_that_became_one_word_share_its_time() -> None:
    segment = timed((" the", 0, 100), (" state-of-art", 100, 700), (" tool", 700, 900))
    found = with_text(segment, "the state of art tool")
    assert words_of(found) == [
        (" the", 0, 100), (" state", 100, 400), (" of", 400, 520), (" art", 520, 700), (" tool", 700, 900)
    ]  # fmt: skip


def test_a_segment_whose_words_do_not_spell_its_text_has_the_text_alone() -> None:
    for words in ((), TALK.words[:2]):
        found = with_text(TALK.model_copy(update={"words": words}), "We met Mrs Cat today.")
        assert (found.text, found.words) == (" We met Mrs Cat today.", ())


def test_the_speaker_of_new_words_is_that_of_the_words_around_them() -> None:
    found = with_text(timed((" one", 0, 100), (" two", 100, 200), speaker="Ana"), "so one and a half two")
    assert {word.get("speaker") for word in found.words} == {"Ana"}


def test_long_texts_without_anything_in_common_are_compared_at_once() -> None:
    segment = timed(*((f" {'ab'[at % 2]}", at, at + 1) for at in range(5_000)))
    assert len(with_text(segment, "c " + "b a " * 1_200 + "d").words) == 2_402


SHORT = st.text(alphabet="aAb,.-'ß日本は é\u0301", min_size=1, max_size=6)


@st.composite
def segments(draw: st.DrawFn, *, spaced: bool = False) -> Segment:
    """A segment with words in order, some with a space before them."""
    at, words = 0, []
    for _ in range(draw(st.integers(1, 12))):
        text = draw(SHORT)
        at += draw(st.integers(0, 300))
        end = at + draw(st.integers(0, 400))
        words.append((f" {one_line(text)}" if spaced or draw(st.booleans()) else text, at, end))
        at = end
    return timed(*words)


TEXTS = st.text(alphabet="aAb,.-'ß日本は é\u0301", max_size=60).map(one_line)


@settings(max_examples=150)
@given(segments(), TEXTS)
def test_times_are_in_order_and_inside_the_segment_and_the_words_spell_the_text(segment: Segment, text: str) -> None:
    found = with_text(segment, text)
    if found is segment:
        assert one_line(segment.text) == text
        return
    assert one_line(found.text) == text
    assert "".join(word["word"] for word in found.words) == found.text
    times = [time for word in found.words for time in (word["start_ms"], word["end_ms"])]
    assert all(one <= other for one, other in pairwise([found.start_ms, *times, found.end_ms]))
    assert (found.start_ms, found.end_ms, found.id) == (segment.start_ms, segment.end_ms, segment.id)
    kept = [word for word in found.words if not word.get("corrected")]
    machine = iter(segment.words)
    for word in kept:
        assert any(
            one["word"].strip() == word["word"].strip()
            and {**one, "word": ""} == {**word, "word": ""}
            for one in machine
        ), word  # fmt: skip
    assert cleaned_segments([found])[0] == (found,)


@given(segments(spaced=True), st.data())
def test_words_around_a_changed_one_keep_everything(segment: Segment, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(segment.words) - 1))
    texts = [word["word"] for word in segment.words]
    texts[at] = " zzz"
    found = with_text(segment, one_line("".join(texts)))
    others = [word for index, word in enumerate(segment.words) if index != at and word["word"].strip()]
    assert [word for word in found.words if word["word"] != " zzz"] == others


@given(segments())
def test_the_text_of_the_model_gives_back_the_segment_of_the_model(segment: Segment) -> None:
    assert with_text(segment, one_line(segment.text)) is segment


def test_what_is_typed_is_one_line_without_control_characters() -> None:
    assert typed(" a\r\n\tb\u2028c\x00\x1b[31m\u202ed\u2066e ") == "a b c[31mde"
    assert typed("<b>&amp;</b> --> {\\an8}") == "<b>&amp;</b> --> {\\an8}"


# ---------------------------------------------------------------- which correction is used

LINES = [
    TALK,
    timed((" Second", 1_500, 1_900)).model_copy(update={"id": 1}),
]


def made(number: int, text: str, *based_on: int, segment: int = 0, **changes: object) -> Correction:
    line = machine_line(LINES[segment])
    return Correction(
        run=RUN, number=number, id=f"{number:08d}", segment=segment, start_ms=line.start_ms, end_ms=line.end_ms,
        channel=None, machine_text=line.text, text=text, based_on=based_on, author="", created_ms=number,
    ).model_copy(update=changes)  # fmt: skip


def corrections(*made: Correction, lines: Sequence[Segment] = LINES) -> Corrections:
    return Corrections(made, map(machine_line, lines))


def test_the_last_of_corrections_that_follow_each_other_is_used() -> None:
    found = corrections(made(1, "a"), made(2, "b", 1), made(3, "c", 2))
    assert (found.lines[0].text, found.lines[0].is_conflict, found.version) == ("c", False, 3)
    assert [found.up_to(version).lines[0].text for version in (1, 2, 3)] == ["a", "b", "c"]
    assert (found.up_to(0).lines, found.up_to(0).version) == ({}, 0)


def test_two_of_the_same_text_at_the_same_time_are_no_conflict() -> None:
    found = corrections(made(1, "a"), made(2, "a"))
    assert (found.lines[0].text, found.lines[0].is_conflict) == ("a", False)


def test_a_conflict_keeps_both_until_a_correction_replaces_both() -> None:
    both = [made(1, "mine"), made(2, "yours")]
    line = corrections(*both).lines[0]
    assert (line.text, line.is_conflict, [one.text for one in line.valid]) == ("yours", True, ["mine", "yours"])
    half = corrections(*both, made(3, "mine again", 1)).lines[0]
    assert (half.text, half.is_conflict) == ("mine again", True)
    whole = corrections(*both, made(3, "ours", 1, 2)).lines[0]
    assert (whole.text, whole.is_conflict) == ("ours", False)
    assert corrections(*both).facts().conflicts == 1


def test_different_segments_are_no_conflict() -> None:
    found = corrections(made(1, "a"), made(2, "b", segment=1))
    assert {at: line.text for at, line in found.lines.items()} == {0: "a", 1: "b"}
    assert [line.is_conflict for line in found.lines.values()] == [False, False]


def test_what_is_of_other_text_is_never_used() -> None:
    for changes in ({"machine_text": " We met Mr"}, {"start_ms": 99}, {"end_ms": 1_499}, {"channel": 1}):
        one = made(1, "a", **changes)
        found = corrections(one)
        assert (found.lines, found.line_of(one), found.version) == ({}, None, 1)
        # Also if the transcript that is corrected is another one than the corrections were read with.
        other = TALK.model_copy(update={"start_ms": 99})
        assert list(corrections(made(1, "a")).segments([[other]])) == [(other,)]
    # The same words at the same time in another transcript are the same.
    moved = [TALK.model_copy(update={"id": 7}), LINES[1]]
    assert corrections(made(1, "a"), lines=moved).lines[7].text == "a"


def test_a_correction_that_claims_to_replace_itself_or_a_later_one_replaces_neither() -> None:
    line = corrections(made(1, "a", 1, 2), made(2, "b")).lines[0]
    assert [one.number for one in line.valid] == [1, 2]


@st.composite
def histories(draw: st.DrawFn) -> list[Correction]:
    """What any number of people write, each of them with what they have seen."""
    found: list[Correction] = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        segment = draw(st.integers(0, 1))
        before = [one.number for one in found if one.segment == segment]
        seen = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        found.append(made(number, draw(st.sampled_from(["a", "b", "We met Mrs Kat today."])), *seen, segment=segment))
    return found


@given(histories(), st.randoms())
def test_no_correction_is_lost_whatever_the_order(history: list[Correction], random: object) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found, other = corrections(*history), corrections(*shuffled, *shuffled)
    assert found.lines == other.lines
    assert list(found.all) == history
    for one in history:
        line = found.lines[one.segment]
        replaced = any(one.number in later.based_on for later in history)
        assert (one in line.valid) != replaced
        assert line.valid[-1].number == max(valid.number for valid in line.valid)


@given(histories())
def test_the_text_of_the_model_as_a_last_correction_gives_back_its_transcript(history: list[Correction]) -> None:
    number = len(history) + 1
    undone = [made(number + at, one_line(LINES[at].text), *range(1, number), segment=at) for at in range(len(LINES))]
    found = corrections(*history, *undone)
    assert [segment for some in found.segments([LINES]) for segment in some] == LINES
    assert (found.facts().segments, found.facts().conflicts) == (0, 0)


def test_a_corrected_transcript_can_be_read_and_says_what_it_is(transcript: Transcript) -> None:
    line = machine_line(transcript.segments[0])
    one = made(1, "Other words").model_copy(
        update={"start_ms": line.start_ms, "end_ms": line.end_ms, "machine_text": line.text, "segment": line.segment}
    )
    found = Corrections([one], map(machine_line, transcript.segments))
    segments = [segment for some in found.segments([transcript.segments]) for segment in some]
    summary = found.summary(transcript.summary())
    text = "".join(segment.text for segment in segments).strip()
    corrected = Transcript.model_validate({**dict(summary), "segments": tuple(segments), "text": text})
    again = Transcript.decode(corrected.encode())
    assert again == corrected
    assert again.corrected is not None
    assert again.corrected.model_dump() == {"version": 1, "segments": 1, "conflicts": 0}
    assert b"corrected" not in transcript.encode()


@pytest.fixture
def transcript() -> Transcript:
    from controller.transcript.merge import merge

    plan = fakes.plan(10_000)
    record = fakes.record()
    task = fakes.task(record, 0, 10_000)
    return merge(plan, record, [fakes.result(task, TALK)])


def test_word_typed_dict_has_the_mark_only_where_a_person_wrote() -> None:
    assert "corrected" in Word.__annotations__
    assert all("corrected" not in word for word in TALK.words)
