"""Compares a transcript with its reference: how many words are wrong, where, and of whom.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from controller.evaluation.align import Stretch, aligned, character_errors, steps
from controller.evaluation.breakdown import Passages, by_chunk, by_seam, by_speaker, groups
from controller.evaluation.documents import Errors, Evaluation, Measured, NotMeasured, RecordingErrors, SpeakersOf, line
from controller.evaluation.intervals import ENOUGH_RECORDINGS, Part, added, intervals
from controller.evaluation.normalize import Normalizer, NotComparable, chosen, normalized
from controller.evaluation.placing import Placed, placed
from controller.evaluation.words import Text, Unit, Word, unit_of

LONG = 50_000
"""Characters of a text that are aligned at once. A longer text is divided inside five words that are right."""
_RIGHT_WORDS = 5


class Files(NamedTuple):
    """The names of what is compared."""

    name: str
    transcript: str
    reference: str


class Comparison(NamedTuple):
    """The errors of a recording, and the parts that its intervals were drawn from."""

    errors: RecordingErrors
    parts: Sequence[Part]


def compare(
    reference: Text,
    transcript: Text,
    files: Files,
    *,
    normalizer: Normalizer | Literal["auto"] = "auto",
    worst: int = 0,
) -> Comparison:
    """Compare two texts. *worst*: how many of the passages with most errors are kept.

    Raises :class:`NotComparable`, also if the reference has no words.
    """
    unit = unit_of(reference.words)
    language = transcript.language or reference.language
    rules = chosen(normalizer, language)
    wanted = _normalized("the reference", reference, rules, unit)
    found = _normalized("the transcript", transcript, rules, unit)
    if not wanted:
        raise NotComparable("the reference has no words")
    stretches = aligned([word.text for word in wanted], [word.text for word in found])
    every = placed(
        list(steps(stretches)),
        wanted,
        found,
        by_reference=reference.has_speakers,
        end_ms=transcript.chunks[-1].end_ms if transcript.chunks else None,
    )
    grouped = groups(every)
    parts = _parts(grouped, _characters(wanted, found, stretches, unit))
    # Without times, it is not known in which chunk a word is.
    chunks = transcript.chunks if all(one.start_ms is not None for one in every) else ()
    passages = Passages(wanted, found, chunks, unit)
    named = _speakers_of(reference, transcript)
    errors = RecordingErrors(
        **dict(_measured([Errors.of(one.step.kind for one in every)], parts, parts)),
        name=line(files.name),
        transcript_file=line(files.transcript),
        reference_file=line(files.reference),
        language=language,
        unit=unit,
        normalizer=rules,
        chunks=by_chunk(every, chunks),
        seams=by_seam(every, chunks),
        speakers_of=named,
        speakers=by_speaker(every) if named else (),
        worst=passages.worst(grouped, worst),
    )
    return Comparison(errors, parts)


def _normalized(side: str, text: Text, rules: Normalizer, unit: Unit) -> list[Word]:
    try:
        return normalized(text.words, rules, unit)
    except NotComparable as error:
        raise NotComparable(f"{side} {error}") from error


def _speakers_of(reference: Text, transcript: Text) -> SpeakersOf | None:
    if reference.has_speakers:
        return "reference"
    return "transcript" if transcript.has_speakers else None


def evaluation(compared: Sequence[Comparison], not_measured: Iterable[NotMeasured]) -> Evaluation:
    """All recordings together."""
    several = len(compared) >= ENOUGH_RECORDINGS
    parts = [part for one in compared for part in one.parts]
    drawn = [added(one.parts) for one in compared] if several else parts
    return Evaluation(
        total=_measured([one.errors.words for one in compared], parts, drawn) if compared else None,
        recordings=tuple(one.errors for one in compared),
        not_measured=tuple(not_measured),
    )


def _measured(every: Sequence[Errors], parts: Sequence[Part], drawn: Sequence[Part]) -> Measured:
    of_words, of_characters = intervals(drawn)
    whole = added(parts)
    return Measured(
        words=Errors.together(every),
        words_interval=of_words,
        characters=whole.characters,
        character_errors=whole.character_errors,
        character_rate=round(whole.character_errors / whole.characters, 6),
        character_interval=of_characters,
    )


_Sizes = list[tuple[int, int]]
"""For each word of the reference: its characters, with the space after it, and how many of them are wrong."""


def _characters(
    wanted: Sequence[Word], found: Sequence[Word], stretches: Sequence[Stretch], unit: Unit
) -> _Sizes | None:
    """None: what is counted are characters already."""
    if unit == "characters":
        return None
    sizes = [len(word.text) + 1 for word in wanted]
    sizes[-1] -= 1
    wrong = [0] * len(wanted)
    for reference, transcript in _pieces(stretches, sizes):
        owners = [at for at in range(reference.start, reference.stop) for _ in range(sizes[at])]
        last = reference.stop == len(wanted)
        texts = (
            " ".join(word.text for word in words) + ("" if last else " ")
            for words in (wanted[reference], found[transcript])
        )
        for at, count in character_errors(*texts):
            wrong[owners[at]] += count
    return list(zip(sizes, wrong, strict=True))


def _pieces(stretches: Sequence[Stretch], sizes: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Both texts, divided where both have the same words."""
    reference = transcript = length = 0
    for kind, these, those in stretches:
        length += sum(sizes[these])
        count = these.stop - these.start
        if kind == "equal" and count >= _RIGHT_WORDS and length > LONG:
            middle = count // 2
            yield slice(reference, these.start + middle), slice(transcript, those.start + middle)
            reference, transcript, length = these.start + middle, those.start + middle, 0
    if stretches:
        yield slice(reference, stretches[-1].reference.stop), slice(transcript, stretches[-1].transcript.stop)


def _parts(grouped: Sequence[Sequence[Placed]], characters: _Sizes | None) -> list[Part]:
    return [_part(group, characters) for group in grouped]


def _part(group: Sequence[Placed], characters: _Sizes | None) -> Part:
    words = [one.step.reference for one in group if one.step.reference is not None]
    wrong = sum(one.step.kind != "equal" for one in group)
    if characters is None:
        return Part(len(words), wrong, len(words), wrong)
    sizes, errors = zip(*(characters[at] for at in words), strict=True)
    return Part(len(words), wrong, sum(sizes), sum(errors))
