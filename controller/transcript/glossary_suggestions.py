"""Terms for a glossary that corrections suggest: words that people wrote in place of others, above all names.

Touches: nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from chunk_job import glossary
from controller.transcript.corrections import CorrectedLine
from controller.transcript.word_times import one_line

MOST_SUGGESTIONS = 100
_MOST_WORDS = 4
"""Most words of a term, and of what it was heard as. A longer part is another sentence."""
_MOST_COMPARED = 400
"""Words of a text that are compared: a segment has fewer."""
_MOST_PAIRS = 2_000
"""Equal words of two texts that are compared with each other: the same few words again and again would take seconds."""
_BARE = re.compile(r"\w.*\w|\w", re.DOTALL)
"""What is between the punctuation at both ends. A pattern for each end would need the square of the time."""


class Suggestion(NamedTuple):
    """A term, what the model heard in its place, and in how many segments people corrected that."""

    term: str
    heard: str
    segments: int
    is_name: bool
    """It has a capital letter that is not the first one of a sentence, or a digit."""

    @property
    def line(self) -> str:
        """The line of a glossary."""
        return f"{self.term} = {self.heard}"


def suggestions(lines: Iterable[CorrectedLine]) -> Sequence[Suggestion]:
    """The terms of the corrected lines: first names, then the most frequent ones."""
    counts: dict[tuple[str, str], int] = {}
    names: dict[tuple[str, str], bool] = {}
    for line in lines:
        if line.is_changed and not line.is_conflict:
            for pair, is_name in dict(_replaced(one_line(line.line.text), line.text)).items():
                counts[pair] = counts.get(pair, 0) + 1
                names[pair] = names.get(pair, False) or is_name
    found = [Suggestion(*pair, count, names[pair]) for pair, count in counts.items()]
    return sorted(found, key=lambda one: (not one.is_name, -one.segments, one.term, one.heard))[:MOST_SUGGESTIONS]


def _replaced(before: str, after: str) -> Iterator[tuple[tuple[str, str], bool]]:
    """The terms in place of others, and whether each is a name."""
    ours, theirs = before.split(), after.split()
    if max(len(ours), len(theirs)) > _MOST_COMPARED:
        return
    left, right = [_key(word) for word in ours], [_key(word) for word in theirs]
    there = Counter(right)
    if sum(there[word] for word in left) > _MOST_PAIRS:
        return
    compared = SequenceMatcher(None, left, right, autojunk=False)
    for kind, begin, end, first, last in compared.get_opcodes():
        if kind != "replace" or max(end - begin, last - first) > _MOST_WORDS:
            continue
        term, heard = _bare(theirs[first:last]), _bare(ours[begin:end])
        if heard and _is_term(f"{term} = {heard}"):
            inside = "".join(theirs[at] for at in range(first, last) if at and theirs[at - 1][-1:] not in ".?!")
            yield (term, heard.casefold()), inside != inside.lower() or any(map(str.isdigit, term))


def _is_term(line: str) -> bool:
    try:
        return glossary.checked(line) == line
    except ValueError:
        return False


def _bare(words: Sequence[str]) -> str:
    """The words without the punctuation around them."""
    return _without_edges(" ".join(words))


def _key(word: str) -> str:
    return _without_edges(word).casefold() or word


def _without_edges(text: str) -> str:
    found = _BARE.search(text)
    return found[0] if found else ""
