"""Words in blocks and lines, and how sure the model was of them."""

import pytest

from chunk_job.segment import Segment
from controller.domain.plan import Cut
from controller.reports.words import MOST_LINES, Piece, WordFigures, blocks, pieces
from controller.transcript.model import Chunk
from tests import fakes


def sure(*words: tuple[str, float], text: str | None = None) -> Segment:
    """A segment of these words, each with its probability."""
    spoken = tuple(fakes.word(word, 0, 0, probability) for word, probability in words)
    whole = "".join(word for word, _ in words) if text is None else text
    return fakes.segment(text=whole).model_copy(update={"words": spoken})


def chunks(*ends_ms: int, cut: Cut = "pause", lost: tuple[int, ...] = ()) -> list[Chunk]:
    starts = [0, *ends_ms]
    return [
        Chunk(start_ms=start, end_ms=end, cut=cut, quality="lost" if at in lost else "ok")
        for at, (start, end) in enumerate(zip(starts, ends_ms, strict=False))
    ]


def said(at_ms: int, text: str = " a", number: int = 0, speaker: str | None = None) -> Segment:
    return fakes.segment((text, at_ms, at_ms + 100), number=number, speaker=speaker)


@pytest.mark.parametrize(
    "segment,expected",
    [
        (sure((" all", 0.9), (" sure", 0.5)), [Piece(" all sure", 0, 50)]),
        (sure((" one", 0.9), (" two", 0.49)), [Piece(" one", 0, 90), Piece(" ", 0), Piece("two", 1, 49)]),
        (sure((" a", 0.3), (" b", 0.4)), [Piece(" ", 0), Piece("a b", 1, 30)]),
        (sure((" a", 0.3), (" b", 0.1)), [Piece(" ", 0), Piece("a", 1, 30), Piece(" ", 0), Piece("b", 2, 10)]),
        (sure(("漢", 0.9), ("字", 0.2)), [Piece("漢", 0, 90), Piece("字", 2, 20)]),
        (sure((" wrong", 0.1), text=" other"), [Piece("other", 0)]),
        (sure(text=" without words "), [Piece("without words", 0)]),
        (sure((" odd", -3.0)), [Piece(" ", 0), Piece("odd", 2, 0)]),
    ],
)
def test_a_text_is_cut_where_the_model_becomes_unsure(segment: Segment, expected: list[Piece]) -> None:
    assert list(pieces(segment)) == expected


def test_lines_are_in_the_block_of_their_chunk() -> None:
    found = list(blocks([[said(0), said(900)], [said(1_000), said(2_500)]], chunks(1_000, 2_000, 3_000, cut="forced")))
    assert [(one.chunk, one.begins, one.cut, [line.start_ms for line in one.lines]) for one in found] == [
        (0, True, "", [0, 900]),
        (1, True, "forced", [1_000]),
        (2, True, "forced", [2_500]),
    ]


def test_a_lost_or_silent_chunk_has_a_block_without_lines() -> None:
    found = list(blocks([[said(2_100), said(2_200, " ")]], chunks(1_000, 2_000, 3_000, 4_000, lost=(1,))))
    assert [(one.chunk, one.quality, len(one.lines)) for one in found] == [
        (0, "ok", 0),
        (1, "lost", 0),
        (2, "ok", 1),
        (3, "ok", 0),
    ]


def test_a_long_chunk_has_several_blocks_of_which_one_begins() -> None:
    found = list(blocks(([said(at)] for at in range(2 * MOST_LINES + 1)), chunks(1_000)))
    assert [(one.begins, len(one.lines)) for one in found] == [(True, MOST_LINES), (False, MOST_LINES), (False, 1)]


def test_a_speaker_is_named_where_another_one_spoke_before_and_where_a_chunk_begins() -> None:
    spoken = [said(0, speaker="Ann"), said(10, speaker="Ann"), said(20, speaker="Ben"), said(1_000, speaker="Ben")]
    lines = [line for one in blocks([spoken], chunks(1_000, 2_000)) for line in one.lines]
    assert [line.speaker for line in lines] == ["Ann", "", "Ben", "Ben"]


def test_words_are_counted_by_chunk_and_short_pauses_are_not_shown() -> None:
    figures = WordFigures(chunks=chunks(600_000, 1_200_000))
    figures.add([sure((" a", 0.9), (" b", 0.4))])
    figures.add([said(1_000), said(4_000), said(700_000)])
    assert (figures.words, figures.unsure) == ([4, 1], [1, 0])
    assert figures.speech == [(0, 1_100), (4_000, 4_100), (700_000, 700_100)]


def spoken(*words: tuple[str, int], start_ms: int = 0, text: str | None = None) -> Segment:
    """A line of these words, each with its beginning."""
    timed = [(word, at_ms, at_ms + 50) for word, at_ms in words]
    return fakes.segment(*timed, text=text).model_copy(update={"start_ms": start_ms})


@pytest.mark.parametrize(
    "segment,expected",
    [
        (spoken((" one", 1_000), (" two", 1_230), (" three", 1_239), start_ms=1_000), "0+4 23+4 0+6"),
        (spoken((" late", 1_059), start_ms=1_000), "5+5"),
        # In the units of a script, in which this picture has two.
        (spoken((" \N{GRINNING FACE}", 0), ("漢", 100)), "0+3 10+1"),
        # A word that begins before its line or the word before: at the same time.
        (spoken((" a", 500), (" b", 400), (" c", 2_000), start_ms=1_000), "0+2 0+2 100+2"),
        (spoken((" wrong", 0), text="other"), ""),
        (spoken(text="no words"), ""),
    ],
)
def test_a_line_says_where_each_word_is(segment: Segment, expected: str) -> None:
    (block,) = blocks([[segment]], chunks(10_000))
    assert block.lines[0].places == expected
