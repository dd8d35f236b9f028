"""The words of a text that a person wrote in place of a segment's: times by alignment with the words of the model.

Touches: nothing. A word that is still there keeps its times and its probability. A new word gets the times of what it
replaces, or a part of the time between its neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby

from chunk_job.segment import Segment, Word
from controller.transcript.captions.width import columns, without_spaces

_ATOM = re.compile(r"\s+|\w+|[^\w\s]")
_RUN = re.compile(r"\S+")
_LETTERS = re.compile(r"\w")
_MOST_PAIRS = 200_000
"""Comparing longer texts takes seconds: where they differ, all of it counts as replaced."""


@dataclass(kw_only=True)
class _New:
    """A word of the new text. *old*: the words of the model that it comes from."""

    text: str
    spaced: bool
    """A space is before it."""
    old: list[int] = field(default_factory=list)
    kept: bool = False
    """It is the word of the model in ``old``."""


def with_text(segment: Segment, text: str) -> Segment:
    """*segment* with another text, which is one line without spaces at both ends. Its own text gives *segment* itself.

    A segment without words, or with other words than its text, has no words then.
    """
    if one_line(segment.text) == text:
        return segment
    spells = bool(segment.words) and "".join(word["word"] for word in segment.words) == segment.text
    words = tuple(_timed(segment, _aligned(segment.words, text))) if spells else ()
    lead = " " if segment.text[:1].isspace() and text else ""
    spelled = "".join(word["word"] for word in words) if words else lead + text
    return segment.model_copy(update={"text": spelled, "words": words, "tokens": ()})


def one_line(text: str) -> str:
    """The text with one space for each kind of white space, and none at both ends."""
    return " ".join(text.split())


# ---------------------------------------------------------------- which words are still there


def _aligned(words: Sequence[Word], text: str) -> list[_New]:
    """The words of *text*, with what they have in common with the words of the model."""
    joined = "".join(word["word"] for word in words)
    owner = [index for index, word in enumerate(words) for _ in word["word"]]
    """For each character of the old text: its word."""
    exact, alike = _matches(joined, text)
    old = {place: owner[at] for place, at in alike.items()}
    kept = dict(_kept(words, owner, text, exact))
    lengths = {place: len(words[index]["word"].strip()) for place, index in kept.items()}
    found: list[_New] = []
    for run in _runs(text, lengths):
        spaced = run.start > 0 or words[0]["word"][:1].isspace()
        found += _words_of_run(text, run, kept, lengths, old, spaced=spaced)
    used = Counter(index for new in found for index in new.old)
    for new in found:
        # Of a word that became several, none has its times alone.
        new.old = [index for index in new.old if used[index] == 1]
    return found


def _runs(text: str, lengths: Mapping[int, int]) -> Iterator[range]:
    """The parts of the new text between spaces. A kept word with a space inside, as a term of a glossary, is in one."""
    start, end = 0, 0
    inside = {at for place, length in lengths.items() for at in range(place, place + length)}
    for run in _RUN.finditer(text):
        if end and not (run.start() - 1 in inside and run.start() in inside):
            yield range(start, end)
            start = run.start()
        end = run.end()
    if end:
        yield range(start, end)


def _matches(old: str, new: str) -> tuple[dict[int, int], dict[int, int]]:
    """For characters of the new text, that of the old one: of equal parts, and of parts that differ in case alone."""
    inner = _inner(old)
    # Without the spaces at both ends, which the new text does not have: else what is after them might not be the same.
    ours, theirs = [one for one in _atoms(old) if one[0] in inner], list(_atoms(new))
    exact: dict[int, int] = {}
    alike: dict[int, int] = {}
    for one, other in _pairs([_key(text) for _, text in ours], [_key(text) for _, text in theirs]):
        (at, text), (place, written) = ours[one], theirs[other]
        if _LETTERS.match(text):
            alike.update({place + step: min(at + step, at + len(text) - 1) for step in range(len(written))})
        if text == written:
            exact.update({place + step: at + step for step in range(len(written))})
    return exact, alike


def _atoms(text: str) -> Iterator[tuple[int, str]]:
    """The smallest parts that are compared, with their places: words, punctuation, spaces."""
    for found in _ATOM.finditer(text):
        if any(map(without_spaces, found[0])):
            yield from enumerate(found[0], found.start())
        else:
            yield found.start(), found[0]


def _inner(text: str) -> range:
    """The places of a text without the spaces at both ends."""
    return range(len(text) - len(text.lstrip()), len(text.rstrip()))


def _key(atom: str) -> str:
    return " " if atom.isspace() else atom.casefold()


def _pairs(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The places of equal parts, in order."""
    most = min(len(ours), len(theirs))
    start = next((at for at in range(most) if ours[at] != theirs[at]), most)
    end = next((at for at in range(most - start) if ours[-1 - at] != theirs[-1 - at]), most - start)
    yield from ((at, at) for at in range(start))
    left, right = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    if len(left) * len(right) <= _MOST_PAIRS:
        for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
            yield from ((start + block.a + step, start + block.b + step) for step in range(block.size))
    yield from ((len(ours) - end + step, len(theirs) - end + step) for step in range(end))


def _kept(
    words: Sequence[Word], owner: Sequence[int], text: str, exact: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    """The places in the new text where words of the model are as they were, each with its word."""
    places = ((at, exact[at]) for at in sorted(exact))
    for index, some in groupby(places, key=lambda pair: owner[pair[1]]):
        found = [(at, old) for at, old in some if not text[at].isspace()]
        word = words[index]["word"].strip()
        if found and text[found[0][0] : found[-1][0] + 1] == word == _between(words, owner, found):
            yield found[0][0], index


def _between(words: Sequence[Word], owner: Sequence[int], found: Sequence[tuple[int, int]]) -> str:
    """The text of the model from the first to the last of the characters *found*, which are of one word."""
    first, last = found[0][1], found[-1][1]
    begin = owner.index(owner[first], max(0, first - len(words[owner[first]]["word"])))
    return words[owner[first]]["word"][first - begin : last - begin + 1]


def _words_of_run(
    text: str,
    run: range,
    kept: Mapping[int, int],
    lengths: Mapping[int, int],
    old: Mapping[int, int],
    *,
    spaced: bool,
) -> Iterator[_New]:
    """The words of one part of the new text."""
    places = [place for place in kept if place in run]
    whole = sum(lengths[place] for place in places) == len(run)
    if not whole and not any(map(without_spaces, text[run.start : run.stop])):
        # A word with another ending, or with a comma.
        places = []
    at = run.start
    for place in [*sorted(places), run.stop]:
        if place > at:
            yield _New(
                text=text[at:place], spaced=spaced, old=sorted({old[one] for one in range(at, place) if one in old})
            )
            spaced = False
        if place < run.stop:
            at = place + lengths[place]
            yield _New(text=text[place:at], spaced=spaced, old=[kept[place]], kept=True)
            spaced = False


# ---------------------------------------------------------------- times


def _timed(segment: Segment, found: Sequence[_New]) -> Iterator[Word]:
    """The words with their times. Words without an old one share the time of what they replace."""
    words = segment.words
    before, done = -1, 0
    """The last word of the model that was used, and the end of that."""
    begin_ms = segment.start_ms
    while done < len(found):
        if found[done].old:
            word = _of_old(words, found[done])
            yield word
            before, begin_ms, done = found[done].old[-1], word["end_ms"], done + 1
            continue
        end = next((at for at in range(done, len(found)) if found[at].old), len(found))
        after = found[end].old[0] if end < len(found) else len(words)
        until_ms = words[after]["start_ms"] if after < len(words) else segment.end_ms
        yield from _in_place_of(words[before + 1 : after], found[done:end], begin_ms, until_ms, _voice(words, before))
        done = end


def _of_old(words: Sequence[Word], new: _New) -> Word:
    first, last = words[new.old[0]], words[new.old[-1]]
    if not new.kept:
        return _word(new, first["start_ms"], max(first["start_ms"], last["end_ms"]), first)
    copy = first.copy()
    own = first["word"]
    lead = own[: len(own) - len(own.lstrip())]
    copy["word"] = f"{(lead or ' ') if new.spaced else ''}{new.text}"
    return copy


def _in_place_of(
    replaced: Sequence[Word], new: Sequence[_New], begin_ms: int, until_ms: int, voice: Word
) -> Iterator[Word]:
    """New words between two others, which end and begin at these times. *voice*: a word of the same speaker."""
    # Words of a damaged transcript may overlap. Then there is no time between them.
    low, high = min(begin_ms, until_ms), until_ms
    if len(replaced) == len(new):
        for one, other in zip(new, replaced, strict=True):
            start = min(max(low, other["start_ms"]), high)
            low = min(max(start, other["end_ms"]), high)
            yield _word(one, start, low, other)
        return
    if replaced:
        low = min(max(low, replaced[0]["start_ms"]), high)
        high = min(max(low, replaced[-1]["end_ms"]), high)
    sizes = [max(1, columns(one.text)) for one in new]
    total, done = sum(sizes), 0
    for one, size in zip(new, sizes, strict=True):
        start, done = low + (high - low) * done // total, done + size
        yield _word(one, start, low + (high - low) * done // total, replaced[0] if replaced else voice)


def _voice(words: Sequence[Word], before: int) -> Word:
    return words[max(before, 0)]


def _word(new: _New, start_ms: int, end_ms: int, like: Word) -> Word:
    """A word that a person wrote, of the speaker of *like*."""
    text = f" {new.text}" if new.spaced else new.text
    word = Word(word=text, start_ms=start_ms, end_ms=end_ms, probability=1.0, corrected=True)
    if "speaker" in like:
        word["speaker"] = like["speaker"]
    return word
