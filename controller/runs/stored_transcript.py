"""Reads transcripts that were written before, a few segments at a time.

Touches: the store, files that the caller opens. Other writers may have changed these files. So a transcript is
validated as in :meth:`Transcript.decode` and rendered again instead of copied, and only if it belongs to the run. If it
has the layout that stenofleet writes, memory use does not depend on its length. Any other layout is read as a whole, up
to a size limit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from chunk_job.contract import sha256_hex
from chunk_job.document import MAX_AUDIO_MS
from chunk_job.errors import DocumentInvalid
from chunk_job.segment import Segment
from chunk_job.store.base import ObjectMissing, Store, StoreUnavailable
from controller.domain import stored_documents
from controller.domain.documents import Final, RunRecord
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan, longest_recording_ms
from controller.runs.transcript_files import TranscriptFiles, written
from controller.transcript.formats import JSON_SEGMENTS, JSON_START, JSON_SUMMARY, StrippedText, json_text
from controller.transcript.model import (
    Transcript,
    TranscriptSummary,
    check_order,
    cleaned_segments,
    longest_transcript_bytes,
)

MOST_WHOLE_BYTES = 16 << 20
"""Size limit of a transcript in another layout than ours. Reading it as a whole takes eight times its size."""

_PIECE_BYTES = 512 << 10
_LONGEST_SEGMENT_BYTES = 16 << 20
_SHORTEST_TAIL_BYTES = 4 << 20
# The bytes between two segments, and those after the last one. Inside a JSON string every quote is escaped by a
# backslash, so neither can occur in a string.
_NEXT = b'},{"id":'
_AFTER = b'],"language":'
_SEGMENTS = TypeAdapter(tuple[Segment, ...])

_T = TypeVar("_T")


def stored(store: Store, record: RunRecord) -> TranscriptFiles | None:
    """The transcript of a run in its store; None if there is none that is complete and of this run.

    Raises :class:`StoreUnavailable`, also if temporary files cannot be written.
    """
    return stored_with(store, record, written)


def stored_with(
    store: Store, record: RunRecord, use: Callable[[TranscriptSummary, Iterable[Sequence[Segment]]], _T]
) -> _T | None:
    """The result of *use* for the transcript of a run; it may be called twice. Raises as :func:`stored`.

    None if there is no transcript that is complete and of this run.
    """

    def with_summary(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> tuple[TranscriptSummary, _T]:
        return summary, use(summary, segments)

    keys = RunKeys(record.run)
    plan = stored_documents.valid(store, Plan, keys.plan)
    longest_ms = plan.duration_ms + plan.offset_ms if plan else MAX_AUDIO_MS
    limit = longest_transcript_bytes(min(longest_ms, longest_recording_ms(record.size_bytes)))
    try:
        with store.open(keys.transcript("json"), max_bytes=limit) as file:
            (summary, found), sha256 = _read(file, with_summary, most_whole_bytes=MOST_WHOLE_BYTES)
    except (ObjectMissing, DocumentInvalid):
        return None
    except OSError as error:
        raise StoreUnavailable(f"{keys.transcript('json')}: {error.strerror}", "check the store") from error
    final = stored_documents.valid(store, Final, keys.final)
    if final and final.outputs.get("json") != sha256:
        return None
    return found if summary.is_of(record) else None


def rendered(file: BinaryIO, *, most_whole_bytes: int = MOST_WHOLE_BYTES) -> TranscriptFiles:
    """The transcript in *file*, in every format.

    Raises :class:`DocumentInvalid` if it is not a transcript, or if it has another layout than ours and more than
    *most_whole_bytes*; :class:`StoreUnavailable` if temporary files cannot be written; :class:`OSError`.
    """
    return _read(file, written, most_whole_bytes=most_whole_bytes)[0]


def read_with(
    file: BinaryIO, use: Callable[[TranscriptSummary, Iterable[Sequence[Segment]]], _T], *, most_whole_bytes: int
) -> _T:
    """The result of *use* for the transcript in *file*; it may be called twice.

    Raises the errors of :func:`rendered`.
    """
    return _read(file, use, most_whole_bytes=most_whole_bytes)[0]


def summary_of(file: BinaryIO, *, most_whole_bytes: int = MOST_WHOLE_BYTES) -> TranscriptSummary:
    """The summary of the transcript in *file*. All of the file is validated. Raises the errors of :func:`rendered`."""

    def read(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> TranscriptSummary:
        for _ in segments:
            pass
        return summary

    return _read(file, read, most_whole_bytes=most_whole_bytes)[0]


def _read(
    file: BinaryIO,
    use: Callable[[TranscriptSummary, Iterable[Sequence[Segment]]], _T],
    *,
    most_whole_bytes: int,
) -> tuple[_T, str]:
    """Call *use* with the transcript in *file*; return its result and the digest of the file.

    *use* may be called twice.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        laid_out = _LaidOut(file, size)
        return use(laid_out.summary, laid_out.segments()), laid_out.sha256
    except DocumentInvalid:
        # Reading it as a whole accepts other layouts, and gives the exact error.
        if size > most_whole_bytes:
            raise
    file.seek(0)
    data = file.read(size)
    transcript = Transcript.decode(data)
    return use(transcript.summary(), [transcript.segments]), sha256_hex(data)


class _LaidOut:
    """The JSON of a transcript with exactly the layout that stenofleet writes, and with no text to clean."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Read the summary, which is at the end of the file. Raises :class:`DocumentInvalid`."""
        self._file = file
        self._end = self._find_end(size)
        file.seek(self._end)
        self._tail = file.read(size - self._end)
        self.summary = TranscriptSummary.decode(b"{" + self._tail[len(JSON_SUMMARY) :])
        self.sha256 = ""
        """Digest of the file. Empty until all segments were read."""

    def segments(self) -> Iterator[tuple[Segment, ...]]:
        """All segments, a few at a time. Raises :class:`DocumentInvalid`."""
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self._buffer = b""
        text = self._read_text()
        stripped, all_text, certain = StrippedText(), hashlib.sha256(), hashlib.sha256()
        at_ms = 0
        while segments := self._next():
            at_ms = check_order(segments, self.summary.duration_ms, after_ms=at_ms)
            if cleaned_segments(segments)[0] != segments:
                raise DocumentInvalid("Transcript: segments contain control characters")
            words, space = stripped.add(segments)
            if words:
                all_text.update(json_text(words))
                certain = all_text.copy()
            all_text.update(json_text(space))
            yield segments
        if text != certain.hexdigest():
            raise DocumentInvalid("Transcript: text: differs from the text of the segments")
        self._hash.update(self._tail)
        self.sha256 = self._hash.hexdigest()

    def _find_end(self, size: int) -> int:
        """The offset where the segments end: the last occurrence of ``_AFTER``."""
        longest = _SHORTEST_TAIL_BYTES + size // 64
        found, window, begin = -1, b"", size
        while found < 0 and begin > max(0, size - longest):
            begin, end = max(0, begin - _PIECE_BYTES), begin
            self._file.seek(begin)
            window = self._file.read(end - begin) + window[: len(_AFTER)]
            found = window.rfind(_AFTER)
        if found < 0:
            raise DocumentInvalid("Transcript: does not have the layout that stenofleet writes")
        return begin + found

    def _fill(self) -> bool:
        """Read the next bytes into the buffer; False if everything before the summary was read."""
        piece = self._file.read(min(_PIECE_BYTES, self._end - self._file.tell()))
        self._hash.update(piece)
        self._buffer += piece
        return bool(piece)

    def _read_text(self) -> str:
        """Read past the text field, and return the digest of its encoded bytes."""
        text = hashlib.sha256()
        while len(self._buffer) < len(JSON_START) and self._fill():
            pass
        if not self._buffer.startswith(JSON_START):
            raise DocumentInvalid("Transcript: does not begin with its text")
        self._buffer = self._buffer[len(JSON_START) :]
        while (found := self._buffer.find(JSON_SEGMENTS)) < 0:
            # The separator may be cut at the end of the buffer.
            certain = max(0, len(self._buffer) - len(JSON_SEGMENTS))
            text.update(self._buffer[:certain])
            self._buffer = self._buffer[certain:]
            if not self._fill():
                raise DocumentInvalid("Transcript: has no segments after its text")
        text.update(self._buffer[:found])
        self._buffer = self._buffer[found + len(JSON_SEGMENTS) :]
        return text.hexdigest()

    def _next(self) -> tuple[Segment, ...]:
        """The next segments; empty after the last one."""
        while (cut := self._buffer.rfind(_NEXT)) < 0 and self._fill():
            if len(self._buffer) > _LONGEST_SEGMENT_BYTES:
                raise DocumentInvalid(f"Transcript: a segment of more than {_LONGEST_SEGMENT_BYTES} bytes")
        # No separator follows the last segment.
        these, self._buffer = (self._buffer[: cut + 1], self._buffer[cut + 2 :]) if cut >= 0 else (self._buffer, b"")
        try:
            return _SEGMENTS.validate_json(b"[" + these + b"]")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise DocumentInvalid(f"Transcript: segments: {first['msg']}") from error
