"""Words → segments that read like sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.engine.checks import Decoding
from chunk_job.engine.segments import LONGEST_MS, PAUSE_MS, SpokenWindow, segments_of
from chunk_job.engine.words import TimedWord
from chunk_job.segment import Segment

Said = tuple[str, int, int]


def window(*words: Said, start_ms: int = 0, logprob: float = -0.2, temperature: float = 0.0) -> SpokenWindow:
    return SpokenWindow(
        start_ms=start_ms,
        decoding=Decoding(
            tokens=(),
            text="",
            temperature=temperature,
            avg_logprob=logprob,
            compression_ratio=1.5,
            no_speech_prob=0.1,
            at_limit=False,
        ),
        words=tuple(
            TimedWord(text=text, tokens=(number,), start_ms=start, end_ms=end, probability=0.5)
            for number, (text, start, end) in enumerate(words)
        ),
    )


def spoken(text: str, *, start_ms: int = 0, word_ms: int = 300, gap_ms: int = 20) -> list[Said]:
    """The words of a text, said at a constant speed."""
    words = []
    at = start_ms
    for word in text.split():
        words.append((f" {word}", at, at + word_ms))
        at += word_ms + gap_ms
    return words


def texts(*windows: SpokenWindow, language: str = "en") -> list[str]:
    return [segment.text.strip() for segment in segments_of(windows, language=language)]


@pytest.mark.parametrize(
    "text,sentences",
    [
        ("One two. Three four? Five! Six", ["One two.", "Three four?", "Five!", "Six"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Dr. Who met Mr. J. Smith. They spoke.", ["Dr. Who met Mr. J. Smith.", "They spoke."]),
        ("It is e.g. this vs. that, 3.5 of it. Yes.", ["It is e.g. this vs. that, 3.5 of it.", "Yes."]),
        ("Wait... what is it… Nothing.", ["Wait... what is it…", "Nothing."]),
        ("क्या यह ठीक है। हाँ।", ["क्या यह ठीक है।", "हाँ।"]),
        ("هل هذا جيد؟ نعم", ["هل هذا جيد؟", "نعم"]),
    ],
)
def test_a_segment_ends_with_its_sentence(text: str, sentences: list[str]) -> None:
    assert texts(window(*spoken(text))) == sentences


def test_scripts_without_spaces_end_with_their_sentences_too() -> None:
    words = [(letter, 200 * at, 200 * at + 190) for at, letter in enumerate("今日は。明日も！")]
    assert texts(window(*words)) == ["今日は。", "明日も！"]


@pytest.mark.parametrize(
    "language,text,sentences",
    [
        ("de", "Am 3. Mai kam er. Dann nicht.", ["Am 3. Mai kam er.", "Dann nicht."]),
        ("da", "Den 3. Maj. Så kom 1998. Ingen", ["Den 3. Maj.", "Så kom 1998.", "Ingen"]),
        ("en", "Read chapter 3. May I go?", ["Read chapter 3.", "May I go?"]),
    ],
)
def test_an_ordinal_with_a_point_ends_no_sentence(language: str, text: str, sentences: list[str]) -> None:
    assert texts(window(*spoken(text)), language=language) == sentences


def test_a_number_with_a_point_is_not_cut() -> None:
    words = [(part, 300 * at, 300 * at + 290) for at, part in enumerate(["値", "は", "3.", "5", "です", "。", "次"])]
    assert texts(window(*words)) == ["値は3.5です。", "次"]


def test_a_long_pause_ends_a_segment() -> None:
    words = [(" one", 0, 300), (" two", 300 + PAUSE_MS - 1, 1400), (" three", 1400 + PAUSE_MS, 2500)]
    assert texts(window(*words)) == ["one two", "three"]


def test_a_long_sentence_is_cut_at_a_clause_near_its_middle() -> None:
    text = "alpha " * 20 + "beta, " + "gamma " * 18 + "delta."
    assert texts(window(*spoken(text))) == [("alpha " * 20 + "beta,").strip(), "gamma " * 18 + "delta."]


def test_a_long_sentence_is_cut_at_a_pause() -> None:
    words = spoken("alpha " * 15)
    words += spoken("beta " * 30, start_ms=words[-1][2] + 400)
    assert texts(window(*words)) == [("alpha " * 15).strip(), ("beta " * 30).strip()]


def test_without_any_pause_or_clause_it_is_cut_between_two_words() -> None:
    segments = segments_of([window(*spoken("word " * 90, gap_ms=0))], language="en")
    assert all(segment.end_ms - segment.start_ms <= LONGEST_MS for segment in segments)
    assert " ".join(segment.text.strip() for segment in segments) == ("word " * 90).strip()


def test_a_sentence_may_continue_in_the_next_window() -> None:
    one = window(*spoken("This begins"), logprob=-0.2)
    two = window(*spoken("and ends. New", start_ms=700), start_ms=650, logprob=-0.7, temperature=0.2)
    first, second = segments_of([one, two], language="en")
    assert (first.text, second.text) == (" This begins and ends.", " New")
    # The worse of both decodings; the position of the first.
    assert (first.seek, first.avg_logprob, first.temperature) == (0, -0.7, 0.2)
    assert (second.seek, first.tokens, first.id, second.id) == (65, (0, 1, 0, 1), 1, 2)


def test_nothing_gives_nothing() -> None:
    assert segments_of([], language="en") == ()


words = st.lists(
    st.tuples(
        st.sampled_from([" word", " end.", " clause,", "字", "。", " Mr.", " a"]),
        st.integers(0, 3000),
        st.integers(0, 900),
    ),
    max_size=120,
)


@given(words)
def test_no_word_is_lost_or_moved_and_no_natural_cut_is_missed(parts: list[tuple[str, int, int]]) -> None:
    said: list[Said] = []
    at = 0
    for text, length, gap in parts:
        said.append((text, at, at + length))
        at += length + gap
    segments = segments_of([window(*said)], language="en")
    flat = [(word["word"], word["start_ms"], word["end_ms"]) for segment in segments for word in segment.words]
    assert flat == said
    for segment in segments:
        if segment.end_ms - segment.start_ms > LONGEST_MS:
            assert not _cuts(segment)


def _cuts(segment: Segment) -> list[int]:
    """Words before which a too long segment could have been cut."""
    begin, end = segment.start_ms, segment.end_ms
    return [
        index
        for index in range(1, len(segment.words))
        if segment.words[index]["start_ms"] - begin >= 1000 and end - segment.words[index - 1]["end_ms"] >= 1000
    ]
