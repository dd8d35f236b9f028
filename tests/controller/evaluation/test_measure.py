"""Errors are counted as jiwer and as a plain table of distances count them, and every error has one place."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.plan import Cut
from controller.evaluation import measure
from controller.evaluation.documents import Errors, NotMeasured, RecordingErrors, headline
from controller.evaluation.intervals import ENOUGH_RECORDINGS, FEWEST_PARTS
from controller.evaluation.measure import Comparison, compare, evaluation
from controller.evaluation.normalize import NotComparable
from controller.evaluation.words import Text, Word
from controller.transcript.model import Chunk
from tests.evaluating import FILES, comparison, spoken

WORDS = st.lists(st.sampled_from(["a", "bee", "sea", "tree", "hello", "world"]), max_size=30)
SOME = WORDS.filter(bool)


def compared(reference: str, transcript: str) -> RecordingErrors:
    return comparison(reference, transcript).errors


def distance(one: Sequence[object], other: Sequence[object]) -> int:
    """The fewest insertions, deletions and substitutions, by the textbook."""
    row = list(range(len(other) + 1))
    for count, a in enumerate(one, 1):
        before, row = row, [count]
        for at, b in enumerate(other, 1):
            row.append(min(before[at] + 1, row[-1] + 1, before[at - 1] + (a != b)))
    return row[-1]


@given(reference=SOME, transcript=WORDS, width=st.integers(1, 9))
def test_errors_are_those_of_jiwer_and_of_the_textbook(reference: list[str], transcript: list[str], width: int) -> None:
    wanted, found = " ".join(reference), " ".join(transcript)
    lines = "\n".join(" ".join(reference[at : at + width]) for at in range(0, len(reference), width))
    errors = comparison(lines, found, normalizer="none").errors
    theirs = jiwer.process_words(wanted, found)
    assert (errors.words.right, errors.words.substitutions, errors.words.deletions, errors.words.insertions) == (
        theirs.hits,
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
    )
    assert errors.words.wrong == distance(reference, transcript)
    assert errors.words.rate == pytest.approx(theirs.wer, abs=1e-6)
    assert (errors.characters, errors.character_errors) == (len(wanted), distance(wanted, found))
    assert errors.character_rate == pytest.approx(jiwer.cer(wanted, found), abs=1e-6)


@given(reference=SOME, transcript=WORDS)
def test_every_error_is_in_one_chunk_on_one_side_of_the_seams_and_of_one_speaker(
    reference: list[str], transcript: list[str]
) -> None:
    timed = [Word(text, 0, True, 1_000 * at, 1_000 * at + 600, "AB"[at % 2]) for at, text in enumerate(transcript)]
    text = Text(words=timed, chunks=chunks(5_000, 10_000, 12_000, 40_000))
    errors = compare(spoken(" ".join(reference)), text, FILES, normalizer="none", worst=100).errors
    assert Errors.together(one.words for one in errors.chunks) == errors.words
    assert errors.seams
    assert Errors.together((errors.seams.at_seams, errors.seams.elsewhere)) == errors.words
    if transcript:
        assert errors.speakers_of == "transcript"
        assert Errors.together(one.words for one in errors.speakers) == errors.words
    assert sum(one.words.wrong for one in errors.worst) == errors.words.wrong
    shown = " ".join(piece.transcript for passage in errors.worst for piece in passage.pieces).split()
    assert not Counter(shown) - Counter(transcript)


def test_a_long_text_is_aligned_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [f"word{at * 7919 % 1000}" for at in range(400)]
    heard = [word for at, word in enumerate(said) if at % 17] + ["end"]
    whole = compared(" ".join(said), " ".join(heard))
    monkeypatch.setattr(measure, "LONG", 300)
    assert compared(" ".join(said), " ".join(heard)) == whole
    assert whole.character_rate == pytest.approx(jiwer.cer(" ".join(said), " ".join(heard)), abs=1e-6)


def chunks(*ends_ms: int, cut: Cut = "pause") -> tuple[Chunk, ...]:
    return tuple(
        Chunk(start_ms=start_ms, end_ms=end_ms, cut=cut if end_ms != ends_ms[-1] else "end", quality="ok")
        for start_ms, end_ms in pairwise((0, *ends_ms))
    )


def test_a_lost_chunk_has_the_words_that_are_missing() -> None:
    said = [f"w{at}" for at in range(30)]
    heard = [Word(said[at], 0, True, 1_000 * at, 1_000 * at + 500) for at in (*range(10), *range(20, 30))]
    text = Text(words=heard, chunks=chunks(10_000, 20_000, 30_000, cut="forced"))
    errors = compare(spoken(" ".join(said)), text, FILES).errors
    assert [one.words.deletions for one in errors.chunks] == [0, 10, 0]
    assert errors.seams
    assert (errors.seams.seams, list(errors.seams.cuts)) == (2, ["forced"])
    # From 7.5 s to 10 s, and from 20 s to 23 s.
    assert errors.seams.at_seams.right == 3 + 4
    assert errors.seams.at_seams.deletions + errors.seams.elsewhere.deletions == 10


def test_a_lost_end_is_in_the_last_chunk() -> None:
    heard = [Word("a", 0, True, 0, 500)]
    text = Text(words=heard, chunks=chunks(1_000, 9_000))
    errors = compare(spoken("a b c d e f g"), text, FILES).errors
    assert [one.words.deletions for one in errors.chunks] == [0, 6]


def test_speakers_of_the_reference_come_first() -> None:
    said = [Word(text, 0, True, None, None, speaker) for text, speaker in (("a", "Ann"), ("b", "Ann"), ("c", "Ben"))]
    heard = [Word(text, 0, True, 0, 0, "Speaker 1") for text in ("a", "x", "c", "d")]
    errors = compare(Text(words=said), Text(words=heard), FILES).errors
    assert errors.speakers_of == "reference"
    assert [(one.speaker, one.words.rate) for one in errors.speakers] == [("Ann", 0.5), ("Ben", 1.0)]
    assert not compared("a b", "a b").speakers


@pytest.mark.parametrize(
    "reference,transcript,unit,wrong,of",
    [
        ("今日は天気がいい。\n明日も。", "今日は 電気がいい 明日も", "characters", 1, 11),
        ("สวัสดีครับ", "สวัสดีคับ", "characters", 1, 10),
        ("안녕하세요 여러분", "안녕하세요 여러 분", "words", 2, 2),
        ("हिन्दी में", "हिन्दि में", "words", 1, 2),
    ],
)
def test_scripts_without_spaces_are_counted_in_characters(
    reference: str, transcript: str, unit: str, wrong: int, of: int
) -> None:
    errors = compared(reference, transcript)
    assert (errors.unit, errors.words.wrong, errors.words.reference) == (unit, wrong, of)
    if unit == "characters":
        assert (errors.characters, errors.character_errors) == (of, wrong)


def test_a_reference_without_words_is_not_compared() -> None:
    for empty in ("", "\n \n", "...", "[music]"):
        with pytest.raises(NotComparable, match="the reference has no words"):
            compared(empty, "a")
    assert compared("a b", "").words == Errors.of(["delete", "delete"])


def many(count: int, *, wrong: float) -> Comparison:
    """Lines of five words; a part of them has one wrong word."""
    draw = random.Random(3)
    said = "\n".join(f"line {number} of a talk" for number in range(count))
    heard = "\n".join(f"line {number} of a {'walk' if draw.random() < wrong else 'talk'}" for number in range(count))
    return comparison(said, heard)


def test_intervals_repeat_contain_the_rate_and_get_narrower() -> None:
    few, more = many(40, wrong=0.25).errors, many(1_000, wrong=0.25).errors
    assert few == many(40, wrong=0.25).errors
    for one in (few, more):
        for interval, rate in (
            (one.words_interval, one.words.rate),
            (one.character_interval, one.character_rate),
        ):
            assert interval
            assert interval.low < (rate or 0) < interval.high
    assert few.words_interval
    assert more.words_interval
    widths = [one.high - one.low for one in (few.words_interval, more.words_interval)]
    # By theory, where a share of the lines has one error in five words.
    shares = [5 * (one.words.rate or 0) for one in (few, more)]
    deviations = [(share * (1 - share)) ** 0.5 / 5 for share in shares]
    wanted = [2 * 1.96 * each / count**0.5 for each, count in zip(deviations, (40, 1_000), strict=True)]
    assert widths == pytest.approx(wanted, rel=0.15)
    assert many(FEWEST_PARTS - 1, wrong=0.25).errors.words_interval is None


def test_all_recordings_together() -> None:
    none = evaluation([], [NotMeasured(name="a", why="because")])
    assert (none.total, headline(none)) == (None, None)
    one = many(40, wrong=0.25)
    several = [one] * ENOUGH_RECORDINGS
    whole = evaluation(several, [])
    assert whole.total
    assert whole.total.words.reference == 200 * ENOUGH_RECORDINGS
    # Recordings are drawn, and all of these are equal.
    assert whole.total.words_interval
    assert whole.total.words_interval.low == whole.total.words_interval.high == whole.total.words.rate
    assert headline(whole) == ("word error rate", one.errors.words.rate, whole.total.words_interval)
    japanese = evaluation([comparison("今日は", "今日は")], [])
    assert (headline(japanese) or [""])[0] == "character error rate"
