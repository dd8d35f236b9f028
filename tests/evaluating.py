"""Comparisons of plain texts."""

from typing import Literal

from controller.evaluation.measure import Comparison, Files, compare
from controller.evaluation.normalize import Normalizer
from controller.evaluation.words import Text, of_lines

FILES = Files("talk", "talk.json", "talk.txt")


def spoken(text: str) -> Text:
    """Lines of words without times."""
    return Text(words=of_lines(text))


def comparison(
    reference: str, transcript: str, *, normalizer: Normalizer | Literal["auto"] = "auto", worst: int = 0
) -> Comparison:
    """A transcript and its reference, both as lines of text."""
    return compare(spoken(reference), spoken(transcript), FILES, normalizer=normalizer, worst=worst)
