"""The corrections of a run in its store: adds and reads them, and writes the files of a corrected transcript.

Touches: the store, temporary files. Each correction is an object that is written once, so no correction is lost: the
next number is taken if somebody else has this one. What is read is kept in memory, because it never changes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from chunk_job.segment import Segment
from chunk_job.store.base import Store, StoreUnavailable
from controller.domain import stored_documents
from controller.domain.correction_documents import MOST_CORRECTIONS, Correction
from controller.domain.documents import Final, RunRecord
from controller.domain.keys import RunKeys, parse_correction
from controller.runs import stored_transcript
from controller.runs.lookup import of_each
from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles, disk_errors, written
from controller.transcript.corrections import Corrections, MachineLine, machine_line
from controller.transcript.model import Transcript, TranscriptSummary

MACHINE, LATEST = "machine", "latest"
"""Names of versions: as the model wrote it, and with all corrections."""
VERSION_PATTERN = rf"^({MACHINE}|{LATEST}|[0-9]{{1,5}})$"
"""Of versions by name or number."""

_TRIES = 50
"""How often the next number is tried: so many others may write at the same moment."""
_MOST_KEPT_BYTES = 64 << 20
"""Of the lines and corrections of all kept runs together. A recording of ten hours has 15 MB."""
_OBJECT_BYTES = 300
"""Of a line or a correction, besides its text."""


class TooManyCorrections(Exception):
    """The run has as many corrections as it can have."""


class NoSuchVersion(Exception):
    """The transcript has no version with this number."""

    def __init__(self, version: str, last: int) -> None:
        super().__init__(f"the transcript has no version {version}: the last one is {last}")


def read_corrections(store: Store, run: str, *, after: int = 0) -> Sequence[Correction]:
    """The corrections of a run with a higher number than *after*, in order. What is not valid is left out."""
    keys = RunKeys(run)
    entries = store.list(keys.corrections, after=keys.correction(after))
    places = [entry.key for entry in entries if parse_correction(entry.key)]
    found = of_each(store, lambda key: (key, stored_documents.valid(store, Correction, key)), places)
    return [one for key, one in found if one and one.number == parse_correction(key)]


def in_version(transcript: TranscriptFiles, corrections: Corrections, version: str) -> TranscriptFiles:
    """The files of a version of a transcript: that of the model, the last one, or one with a number.

    Raises :class:`NoSuchVersion`, and :class:`StoreUnavailable` if temporary files cannot be written.
    """
    if version == MACHINE:
        return transcript
    if version == LATEST:
        return with_corrections(transcript, corrections)
    if int(version) > corrections.version:
        raise NoSuchVersion(version, corrections.version)
    return with_corrections(transcript, corrections.up_to(int(version)))


def with_corrections(transcript: TranscriptFiles, corrections: Corrections) -> TranscriptFiles:
    """The files of a transcript with these corrections.

    Raises :class:`StoreUnavailable` if temporary files cannot be written.
    """

    def write(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> TranscriptFiles:
        return written(corrections.summary(summary), corrections.segments(segments))

    with disk_errors(), transcript.path("json").open("rb") as file:
        return read_with(file, write, most_whole_bytes=Transcript.max_bytes)


@dataclass(frozen=True, kw_only=True)
class CorrectedRun:
    """The corrections of a run, and its segments as the model wrote them."""

    corrections: Corrections
    lines: Mapping[int, MachineLine]
    """By segment."""
    _raw: Mapping[int, bytes]

    def segment(self, number: int) -> Segment:
        """A segment as the model wrote it."""
        return Segment.decode(self._raw[number])


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of a run."""

    sha256: str
    """Of its transcript."""
    lines: Mapping[int, MachineLine]
    raw: Mapping[int, bytes]
    """The segments as JSON: as objects, those of ten hours would take 60 MB."""
    corrections: Sequence[Correction] = ()

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        lines = sum(2 * _OBJECT_BYTES + 2 * len(line.text) + len(self.raw[at]) for at, line in self.lines.items())
        texts = (one.machine_text + one.text for one in self.corrections)
        return lines + sum(_OBJECT_BYTES + 2 * len(text) for text in texts)


class CorrectionStore:
    """Corrections of all runs of a store. All methods may be called in any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, _Known] = OrderedDict()
        """The one that was used longest ago comes first."""
        self._lock = threading.Lock()

    def find(self, record: RunRecord) -> CorrectedRun | None:
        """The corrections of a run; None if it has no transcript. Raises :class:`StoreUnavailable`."""
        known = self._refreshed(record)
        if known is None:
            return None
        corrections = Corrections(known.corrections, known.lines.values())
        return CorrectedRun(corrections=corrections, lines=known.lines, _raw=known.raw)

    def add(self, record: RunRecord, make: Callable[[int], Correction]) -> Correction:
        """Store a correction. *make* gives it its number. Returns the one in the store, also if it was sent before.

        Raises :class:`TooManyCorrections` and :class:`StoreUnavailable`.
        """
        keys = RunKeys(record.run)
        for _ in range(_TRIES):
            known = self._refreshed(record)
            before = known.corrections if known else []
            made = make(self._next_number(keys, before))
            if sent := next((one for one in before if one.id == made.id), None):
                return sent
            # If the reply was lost, it is there although it seems not to be new: the next look finds it.
            if self._store.put_new(keys.correction(made.number), made.encode()):
                return made
        raise StoreUnavailable(f"no correction can be added below {keys.corrections}", "try again")

    def _next_number(self, keys: RunKeys, before: Sequence[Correction]) -> int:
        """The first number that is not in use; that of an object that is not valid is."""
        number = before[-1].number + 1 if before else 1
        for entry in self._store.list(keys.corrections, after=keys.correction(number - 1)):
            number = max(number, (parse_correction(entry.key) or 0) + 1)
        if number > MOST_CORRECTIONS:
            raise TooManyCorrections
        return number

    def _refreshed(self, record: RunRecord) -> _Known | None:
        """What is known of a run, with what was added to the store since."""
        final = stored_documents.valid(self._store, Final, RunKeys(record.run).final)
        sha256 = final.outputs.get("json", "") if final else ""
        with self._lock:
            known = self._known.get(record.run)
        if known is None or not sha256 or known.sha256 != sha256:
            read = stored_transcript.stored_with(self._store, record, _read)
            if read is None:
                return None
            known = _Known(sha256=sha256, lines=read[0], raw=read[1], corrections=known.corrections if known else ())
        corrections = self._with_added(record.run, known.corrections)
        if corrections != known.corrections:
            known = replace(known, corrections=corrections)
        self._keep(record.run, known)
        return known

    def _with_added(self, run: str, before: Sequence[Correction]) -> Sequence[Correction]:
        """All corrections of a run. *before*: those that are known."""
        if before:
            # The last one is read again: a run that was deleted may exist again, with others.
            found = read_corrections(self._store, run, after=before[-1].number - 1)
            if found and found[0] == before[-1]:
                return [*before, *found[1:]] if len(found) > 1 else before
        return read_corrections(self._store, run)

    def _keep(self, run: str, known: _Known) -> None:
        with self._lock:
            is_new = self._known.get(run) is not known
            self._known[run] = known
            self._known.move_to_end(run)
            if not is_new:
                return
            left = _MOST_KEPT_BYTES
            for name in reversed(list(self._known)):
                left -= self._known[name].size_bytes
                if left < 0 and name != run:
                    del self._known[name]


def _read(
    _: TranscriptSummary, segments: Iterable[Sequence[Segment]]
) -> tuple[Mapping[int, MachineLine], Mapping[int, bytes]]:
    """The segments by number: what identifies each, and all of it."""
    lines: dict[int, MachineLine] = {}
    raw: dict[int, bytes] = {}
    for segment in (one for some in segments for one in some):
        lines[segment.id], raw[segment.id] = machine_line(segment), segment.encode()
    return lines, raw
