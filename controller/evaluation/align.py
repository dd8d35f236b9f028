"""The alignment of two lists of words with the fewest errors.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    import jiwer

Kind = Literal["equal", "substitute", "delete", "insert"]


class Stretch(NamedTuple):
    """Words in succession that are equal, or wrong in the same way. Both parts of a substitution are equally long."""

    kind: Kind
    """``delete``: only the reference has them; ``insert``: only the transcript."""
    reference: slice
    transcript: slice


class Step(NamedTuple):
    """One word of either side, or one of both."""

    kind: Kind
    reference: int | None
    """Index of its word; None: the word was inserted."""
    transcript: int | None
    """None: the word is missing."""


def aligned(reference: Sequence[str], transcript: Sequence[str]) -> list[Stretch]:
    """Align two lists of words; no word has a space in it."""
    if not reference or not transcript:
        return _one_sided(len(reference), len(transcript))
    # Imported here: most commands compare nothing.
    import jiwer

    return _stretches(jiwer.process_words(" ".join(reference), " ".join(transcript)))


def character_errors(reference: str, transcript: str) -> list[tuple[int, int]]:
    """Where characters are wrong, and how many: each error at the index of a character of the reference.

    Added characters are at the one before them. An added one at the beginning is at 0.
    """
    if not reference or not transcript:
        stretches = _one_sided(len(reference), len(transcript))
    else:
        import jiwer

        stretches = _stretches(jiwer.process_characters(reference, transcript))
    return [
        (at, count)
        for one in stretches
        if one.kind != "equal"
        for at, count in (
            [(max(0, one.reference.start - 1), one.transcript.stop - one.transcript.start)]
            if one.kind == "insert"
            else [(at, 1) for at in range(one.reference.start, one.reference.stop)]
        )
    ]


def steps(stretches: Sequence[Stretch]) -> Iterator[Step]:
    """Each word of an alignment."""
    for kind, reference, transcript in stretches:
        for number in range(max(reference.stop - reference.start, transcript.stop - transcript.start)):
            yield Step(
                kind,
                None if kind == "insert" else reference.start + number,
                None if kind == "delete" else transcript.start + number,
            )


def _stretches(found: jiwer.WordOutput | jiwer.CharacterOutput) -> list[Stretch]:
    (chunks,) = found.alignments
    return [
        Stretch(
            cast("Kind", one.type),
            slice(one.ref_start_idx, one.ref_end_idx),
            slice(one.hyp_start_idx, one.hyp_end_idx),
        )
        for one in chunks
    ]


def _one_sided(reference: int, transcript: int) -> list[Stretch]:
    if reference:
        return [Stretch("delete", slice(0, reference), slice(0, 0))]
    return [Stretch("insert", slice(0, 0), slice(0, transcript))] if transcript else []
