"""Which reference belongs to which transcript: the one with the same name, in whatever Unicode form both are written.

Touches: folders (lists them).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from chunk_job.text import composed
from controller.errors import UsageProblem
from controller.evaluation.normalize import NotComparable
from controller.evaluation.read import SUFFIXES


class References(NamedTuple):
    """The references in a folder and its folders."""

    place: Path
    by_stem: Mapping[str, Sequence[Path]]
    """Composed name without suffix → the files, at most one for each folder if their names are written alike."""

    def find(self, *stems: str, folders: Sequence[str] = ()) -> Path:
        """The reference with the first of these names that there is.

        *folders*: of the recording, outermost first. Where several folders have a reference with this name, it is the
        one whose innermost folders are the same as those of the recording. Raises :class:`NotComparable`.
        """
        found = next((self.by_stem[stem] for stem in map(composed, stems) if stem in self.by_stem), ())
        if not found:
            raise NotComparable(f"there is no reference: no {' or '.join(stems)} with {_KINDS} in {self.place}")
        alike = [_alike(path.parent.parts, folders) for path in found]
        best = [path for path, count in zip(found, alike, strict=True) if count == max(alike)]
        if len(best) > 1:
            raise NotComparable(f"it is not clear which reference belongs to it: {best[0]} or {best[1]}")
        return best[0]


class Pairs(NamedTuple):
    """What is compared with what."""

    found: Sequence[tuple[Path, Path]]
    """Transcript and reference."""
    alone: Sequence[tuple[Path, str]]
    """Files without a counterpart, and why."""


_KINDS = ", ".join(SUFFIXES)


def references(place: Path) -> References:
    """What is at a place: a file, or all files in a folder and its folders. Raises :class:`UsageProblem`."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in _texts(place):
        by_stem[composed(path.stem)].append(path)
    return References(place, by_stem)


def pairs(transcripts: Path, wanted: Path) -> Pairs:
    """Match two files, or the files in two trees by their names. Raises :class:`UsageProblem`."""
    for place in (transcripts, wanted):
        if not place.exists():
            raise UsageProblem(f"{place}: there is no such file or folder", "check the name")
    if transcripts.samefile(wanted):
        raise UsageProblem(f"{transcripts}: a transcript is not its own reference", "name another file or folder")
    if not transcripts.is_dir() and not wanted.is_dir():
        return Pairs([(_texts(transcripts)[0], _texts(wanted)[0])], [])
    known = references(wanted)
    found: list[tuple[Path, Path]] = []
    alone: list[tuple[Path, str]] = []
    for path in _texts(transcripts):
        try:
            found.append((path, known.find(path.stem, folders=path.parent.parts)))
        except NotComparable as error:
            alone.append((path, str(error)))
    found, elsewhere = _nearest(found)
    alone += elsewhere
    used = {reference for _, reference in found}
    every = (path for paths in known.by_stem.values() for path in paths)
    # A transcript of one recording is looked for among all references: the others are not missing.
    unused = sorted(path for path in every if path not in used) if transcripts.is_dir() else []
    return Pairs(found, [*alone, *((path, f"there is no transcript for it in {transcripts}") for path in unused)])


def _nearest(found: Sequence[tuple[Path, Path]]) -> tuple[list[tuple[Path, Path]], list[tuple[Path, str]]]:
    """Leave a reference to the transcripts in the folder that is most like its own.

    ``cd2/01`` is another recording than ``cd1/01``, also if only the latter has a reference. Without such folders, each
    transcript keeps it: they may be those of several models.
    """
    owner: dict[Path, tuple[int, Path]] = {}
    for path, reference in found:
        count = _alike(path.parent.parts, reference.parent.parts)
        if count > owner.get(reference, (-1, path))[0]:
            owner[reference] = (count, path)
    kept: list[tuple[Path, Path]] = []
    others: list[tuple[Path, str]] = []
    for path, reference in found:
        count, first = owner[reference]
        if _alike(path.parent.parts, reference.parent.parts) == count:
            kept.append((path, reference))
        else:
            others.append((path, f"there is no reference: {reference} belongs to {first}"))
    return kept, others


def _texts(place: Path) -> list[Path]:
    """The files that can be read: *place* itself, or those in its tree; of equal names in a folder the first kind.

    Raises :class:`UsageProblem` if there is none.
    """
    if not place.is_dir():
        if place.suffix.lower() not in SUFFIXES:
            raise UsageProblem(f"{place}: files of this kind are not compared", f"give one of {_KINDS}")
        return [place]
    by_name: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted(_walk(place), key=_order):
        same = by_name[path.parent, composed(path.stem)]
        # Two files of one kind whose names only look alike are two: a person has to say which one counts.
        if not same or (_kind(path) == _kind(same[0]) and path.stem != same[-1].stem):
            same.append(path)
    if not by_name:
        raise UsageProblem(f"{place}: there is nothing to compare in it", f"it needs files of these kinds: {_KINDS}")
    return [path for same in by_name.values() for path in same]


def _order(path: Path) -> tuple[Path, str, int, str]:
    return path.parent, composed(path.stem), _kind(path), path.stem


def _kind(path: Path) -> int:
    return SUFFIXES.index(path.suffix.lower())


def _walk(place: Path) -> Iterator[Path]:
    """Every file that can be read, except hidden ones and those in hidden folders."""

    def fail(error: OSError) -> None:
        raise UsageProblem(f"{error.filename}: cannot be read: {error.strerror}", "check who may read it") from error

    for folder, folders, files in os.walk(place, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the innermost folders are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if composed(a) != composed(b):
            break
        count += 1
    return count
