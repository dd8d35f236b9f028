"""The errors of a recording by chunk, at seams and elsewhere, by speaker, and its worst passages.

Touches: nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from controller.domain.plan import Cut
from controller.evaluation.align import Kind
from controller.evaluation.documents import ChunkErrors, Errors, Passage, Piece, SeamErrors, SpeakerErrors
from controller.evaluation.placing import NEAR_MS, Placed, chunk_of, seam_of, seams
from controller.evaluation.words import Unit, Word
from controller.transcript.model import Chunk

LONGEST_PART = 40
"""Words of a part. A part ends where a line of the reference ends, or after so many words."""
_LONGEST_PIECE = 2_000


def by_chunk(every: Sequence[Placed], chunks: Sequence[Chunk]) -> tuple[ChunkErrors, ...]:
    """The errors in each chunk."""
    kinds: dict[int | None, list[Kind]] = defaultdict(list)
    for one in every:
        kinds[chunk_of(one, chunks)].append(one.step.kind)
    return tuple(
        ChunkErrors(
            index=index,
            start_ms=chunk.start_ms,
            end_ms=chunk.end_ms,
            cut=chunk.cut,
            quality=chunk.quality,
            words=Errors.of(kinds[index]),
        )
        for index, chunk in enumerate(chunks)
    )


def by_seam(every: Sequence[Placed], chunks: Sequence[Chunk]) -> SeamErrors | None:
    """The errors at seams and elsewhere; None: there is no seam."""
    found = seams(chunks)
    if not found:
        return None
    kinds: dict[Cut | None, list[Kind]] = defaultdict(list)
    for one in every:
        seam = seam_of(one, found)
        kinds[seam.cut if seam else None].append(one.step.kind)
    elsewhere = Errors.of(kinds.pop(None, ()))
    cuts = {cut: Errors.of(these) for cut, these in sorted(kinds.items(), key=lambda item: item[0] or "") if cut}
    return SeamErrors(
        seams=len(found),
        near_ms=NEAR_MS,
        at_seams=Errors.together(cuts.values()) if cuts else Errors.of(()),
        elsewhere=elsewhere,
        cuts=cuts,
    )


def by_speaker(every: Sequence[Placed]) -> tuple[SpeakerErrors, ...]:
    """The errors in what each speaker says, in the order in which they speak first."""
    kinds: dict[str | None, list[Kind]] = defaultdict(list)
    for one in every:
        kinds[one.speaker].append(one.step.kind)
    return tuple(SpeakerErrors(speaker=speaker, words=Errors.of(these)) for speaker, these in kinds.items())


def groups(every: Sequence[Placed]) -> list[list[Placed]]:
    """The parts of a text: lines of the reference, and long ones in pieces. Each has a word of the reference."""
    found: list[list[Placed]] = []
    words = 0
    for one in every:
        new = one.step.reference is not None
        if found and words and new and (one.line != found[-1][-1].line or words >= LONGEST_PART):
            found.append([])
            words = 0
        elif not found:
            found.append([])
        found[-1].append(one)
        words += new
    return found


@dataclass(frozen=True)
class Passages:
    """Shows parts of a recording side by side."""

    wanted: Sequence[Word]
    found: Sequence[Word]
    chunks: Sequence[Chunk]
    unit: Unit

    def worst(self, grouped: Sequence[Sequence[Placed]], most: int) -> tuple[Passage, ...]:
        """At most *most* passages with errors: those with most errors, the first ones first."""
        wrong = [(sum(one.step.kind != "equal" for one in group), at) for at, group in enumerate(grouped)]
        ranked = sorted((-count, at) for count, at in wrong if count)
        return tuple(self._passage(grouped[at]) for _, at in ranked[:most])

    def _passage(self, group: Sequence[Placed]) -> Passage:
        return Passage(
            line=next(one.line for one in group if one.step.reference is not None) + 1,
            start_ms=group[0].start_ms,
            chunk=chunk_of(group[0], self.chunks),
            words=Errors.of(one.step.kind for one in group),
            pieces=tuple(self._pieces(group)),
        )

    def _pieces(self, group: Sequence[Placed]) -> Iterator[Piece]:
        for kind, these in groupby(group, key=lambda one: one.step.kind):
            steps = [one.step for one in these]
            yield Piece(
                kind=kind,
                reference=self._text(self.wanted, [step.reference for step in steps]),
                transcript=self._text(self.found, [step.transcript for step in steps]),
            )

    def _text(self, words: Sequence[Word], at: Sequence[int | None]) -> str:
        space = " " if self.unit == "words" else ""
        text = space.join(words[one].text for one in at if one is not None)
        return text if len(text) <= _LONGEST_PIECE else f"{text[:_LONGEST_PIECE]} …"
