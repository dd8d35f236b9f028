"""Transcripts that were written before, read back a few segments at a time.

Touches: the store, files that are handed in. Whoever may write to a store or an output may have written them: a
transcript that comes back is validated as :meth:`Transcript.decode` does it and rendered again rather than copied, and
only where it is one of the run that asks for it. One that is laid out as we write it needs no more memory for a hundred
hours than for one; any other is read as a whole, where it is not too large for that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from chunk_job.contract import Segment, sha256_hex
from chunk_job.document import MAX_AUDIO_MS
from chunk_job.errors import DocumentInvalid
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
"""The longest transcript in another layout than ours that is read: as a whole it takes eight times its length."""

_PIECE_BYTES = 512 << 10
_LONGEST_SEGMENT_BYTES = 16 << 20
_SHORTEST_TAIL_BYTES = 4 << 20
# What is between two segments, and what is behind the last one. Inside a string every quote has a backslash before it,
# so neither can be a part of one.
_NEXT = b'},{"id":'
_BEHIND = b'],"language":'
_SEGMENTS = TypeAdapter(tuple[Segment, ...])

_T = TypeVar("_T")


def stored(store: Store, record: RunRecord) -> TranscriptFiles | None:
    """The transcript of a run in its store; None where there is none that is whole and of this run.

    Raises :class:`StoreUnavailable`, also where there is no place for temporary files.
    """
    keys = RunKeys(record.run)
    plan = stored_documents.valid(store, Plan, keys.plan)
    longest_ms = plan.duration_ms + plan.offset_ms if plan else MAX_AUDIO_MS
    limit = longest_transcript_bytes(min(longest_ms, longest_recording_ms(record.size_bytes)))
    try:
        with store.open(keys.transcript("json"), max_bytes=limit) as file:
            found, sha256 = _read(file, written, most_whole_bytes=MOST_WHOLE_BYTES)
    except (ObjectMissing, DocumentInvalid):
        return None
    except OSError as error:
        raise StoreUnavailable(f"{keys.transcript('json')}: {error.strerror}", "check the store") from error
    final = stored_documents.valid(store, Final, keys.final)
    if final and final.outputs.get("json") != sha256:
        return None
    return found if found.summary.is_of(record) else None


def rendered(file: BinaryIO, *, most_whole_bytes: int = MOST_WHOLE_BYTES) -> TranscriptFiles:
    """The transcript in *file*, in every format.

    Raises :class:`DocumentInvalid` for what is none, or longer than *most_whole_bytes* and in another layout than ours;
    :class:`StoreUnavailable` where there is no place for temporary files; :class:`OSError`.
    """
    return _read(file, written, most_whole_bytes=most_whole_bytes)[0]


def summary_of(file: BinaryIO, *, most_whole_bytes: int = MOST_WHOLE_BYTES) -> TranscriptSummary:
    """What the transcript in *file* is, all of which is validated. Raises as :func:`rendered` does."""

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
    """What *use* makes of the transcript in *file*, and the digest of its bytes. *use* may be called twice."""
    size = file.seek(0, os.SEEK_END)
    try:
        laid_out = _LaidOut(file, size)
        return use(laid_out.summary, laid_out.segments()), laid_out.sha256
    except DocumentInvalid:
        # It says what is wrong with it, or that nothing is, when it is read as a whole.
        if size > most_whole_bytes:
            raise
    file.seek(0)
    data = file.read(size)
    transcript = Transcript.decode(data)
    return use(transcript.summary(), [transcript.segments]), sha256_hex(data)


class _LaidOut:
    """The JSON of a transcript, byte for byte laid out as we write it, and with nothing to clean."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Reads the summary, which is at the end. Raises :class:`DocumentInvalid`."""
        self._file = file
        self._end = self._find_behind(size)
        file.seek(self._end)
        self._tail = file.read(size - self._end)
        self.summary = TranscriptSummary.decode(b"{" + self._tail[len(JSON_SUMMARY) :])
        self.sha256 = ""
        """Of all that was read, when all segments were."""

    def segments(self) -> Iterator[tuple[Segment, ...]]:
        """All of them, a few at a time. Raises :class:`DocumentInvalid`."""
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self._buffer = b""
        text = self._read_text()
        stripped, said, certain = StrippedText(), hashlib.sha256(), hashlib.sha256()
        at_ms = 0
        while segments := self._next():
            at_ms = check_order(segments, self.summary.duration_ms, after_ms=at_ms)
            if cleaned_segments(segments)[0] != segments:
                raise DocumentInvalid("Transcript: segments hold control characters")
            words, space = stripped.add(segments)
            if words:
                said.update(json_text(words))
                certain = said.copy()
            said.update(json_text(space))
            yield segments
        if text != certain.hexdigest():
            raise DocumentInvalid("Transcript: text: is not that of the segments")
        self._hash.update(self._tail)
        self.sha256 = self._hash.hexdigest()

    def _find_behind(self, size: int) -> int:
        """Where the segments end: at the last such place."""
        longest = _SHORTEST_TAIL_BYTES + size // 64
        found, window, begin = -1, b"", size
        while found < 0 and begin > max(0, size - longest):
            begin, end = max(0, begin - _PIECE_BYTES), begin
            self._file.seek(begin)
            window = self._file.read(end - begin) + window[: len(_BEHIND)]
            found = window.rfind(_BEHIND)
        if found < 0:
            raise DocumentInvalid("Transcript: is not laid out as stenofleet writes it")
        return begin + found

    def _fill(self) -> bool:
        """Read on; False where everything before the summary was."""
        piece = self._file.read(min(_PIECE_BYTES, self._end - self._file.tell()))
        self._hash.update(piece)
        self._buffer += piece
        return bool(piece)

    def _read_text(self) -> str:
        """Read over the text; the digest of it as it stands there."""
        text = hashlib.sha256()
        while len(self._buffer) < len(JSON_START) and self._fill():
            pass
        if not self._buffer.startswith(JSON_START):
            raise DocumentInvalid("Transcript: does not begin with its text")
        self._buffer = self._buffer[len(JSON_START) :]
        while (found := self._buffer.find(JSON_SEGMENTS)) < 0:
            # It may be cut at the end of what was read.
            sure = max(0, len(self._buffer) - len(JSON_SEGMENTS))
            text.update(self._buffer[:sure])
            self._buffer = self._buffer[sure:]
            if not self._fill():
                raise DocumentInvalid("Transcript: has no segments behind its text")
        text.update(self._buffer[:found])
        self._buffer = self._buffer[found + len(JSON_SEGMENTS) :]
        return text.hexdigest()

    def _next(self) -> tuple[Segment, ...]:
        """The next segments; none at their end."""
        while (cut := self._buffer.rfind(_NEXT)) < 0 and self._fill():
            if len(self._buffer) > _LONGEST_SEGMENT_BYTES:
                raise DocumentInvalid(f"Transcript: a segment of more than {_LONGEST_SEGMENT_BYTES} bytes")
        # Behind the last segment there is no other.
        these, self._buffer = (self._buffer[: cut + 1], self._buffer[cut + 2 :]) if cut >= 0 else (self._buffer, b"")
        try:
            return _SEGMENTS.validate_json(b"[" + these + b"]")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise DocumentInvalid(f"Transcript: segments: {first['msg']}") from error
