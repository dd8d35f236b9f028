"""Transcripts as pages show them: made once in temporary files, then sent to every reader.

Touches: the store, temporary files. A recording of ten hours has ninety thousand words: it takes a second to make its
lines, and a millisecond to send them again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastapi import Request
from markupsafe import Markup

from chunk_job.segment import Segment
from chunk_job.store.base import Store
from controller.domain.captions import PROFILES, Profile
from controller.domain.documents import RunRecord
from controller.domain.keys import RunKeys
from controller.reports.caption_check import checked
from controller.reports.run_view import CaptionFindings
from controller.reports.words import WordFigures, blocks
from controller.runs.speaker_files import with_speakers
from controller.runs.stored_transcript import stored, stored_with
from controller.runs.transcript_files import PrivateFolder, disk_errors
from controller.service.context import service_of
from controller.service.web.pages import environment
from controller.transcript.model import TranscriptSummary
from controller.transcript.speakers import named

_MOST = 16
"""Most transcripts that are kept: those that were read last. One of ten hours is 2 MB."""
_PIECE = 1 << 16


class _Key(NamedTuple):
    """What the lines of a transcript are made from."""

    key: str
    size_bytes: int
    modified_s: float
    revision: str
    names: tuple[str, ...]
    captions: Profile


@dataclass(frozen=True, kw_only=True)
class ShownTranscript:
    """A transcript as a page shows it."""

    summary: TranscriptSummary
    words: WordFigures
    captions: CaptionFindings | None
    """What is wrong with its captions; None: they were not checked."""
    folder: PrivateFolder

    @property
    def path(self) -> Path:
        """Where its lines are."""
        return self.folder.path / "lines.html"

    def parts(self) -> Iterator[Markup]:
        """Its lines as HTML, a part at a time."""
        with self.path.open(encoding="utf-8", newline="") as file:
            while part := file.read(_PIECE):
                # Made by our own template, which escapes every value.
                yield Markup(part)  # noqa: S704


class ShownTranscripts:
    """The transcripts that were shown last. Its methods may be called in any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._made: OrderedDict[_Key, Future[ShownTranscript | None]] = OrderedDict()
        """The one that was used longest ago comes first."""

    def find(self, record: RunRecord, names: Sequence[str], captions: Profile) -> ShownTranscript | None:
        """The transcript of a run, with these names of its speakers; None if it has none.

        *captions*: the profile whose captions are checked; ``whisper`` has no limits. Several readers of one transcript
        wait for the first of them. Raises :class:`StoreUnavailable`.
        """
        entry = self._store.stat(RunKeys(record.run).transcript("json"))
        if entry is None:
            return None
        key = _Key(entry.key, entry.size_bytes, entry.modified_s, entry.revision, tuple(names), captions)
        with self._lock:
            found = self._made.get(key)
            first = found is None
            if found is None:
                found = self._made[key] = Future()
            self._made.move_to_end(key)
            while len(self._made) > _MOST:
                self._made.popitem(last=False)
        if first:
            self._make(key, found, record)
        return found.result()

    def _make(self, key: _Key, into: Future[ShownTranscript | None], record: RunRecord) -> None:
        def make(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> ShownTranscript:
            return _made(
                summary, (tuple(named(some, key.names)) for some in segments) if key.names else segments, captions
            )

        try:
            captions = self._captions(key, record)
            made = stored_with(self._store, record, make)
        except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
            self._forget(key)
            into.set_exception(error)
            return
        if made is None:
            # It may be there the next time: the store is not read in one moment.
            self._forget(key)
        into.set_result(made)

    def _captions(self, key: _Key, record: RunRecord) -> CaptionFindings | None:
        files = stored(self._store, record) if key.captions != "whisper" else None
        return checked(with_speakers(files, key.names), PROFILES[key.captions]) if files else None

    def _forget(self, key: _Key) -> None:
        with self._lock:
            self._made.pop(key, None)


def transcripts_of(request: Request) -> ShownTranscripts:
    """Return the transcripts of the service that answers *request*."""
    state = request.app.state
    if not hasattr(state, "shown_transcripts"):
        state.shown_transcripts = ShownTranscripts(service_of(request).store)
    found: ShownTranscripts = state.shown_transcripts
    return found


def _made(
    summary: TranscriptSummary, segments: Iterable[Sequence[Segment]], captions: CaptionFindings | None
) -> ShownTranscript:
    """Write the lines of a transcript and count its words, in one go. Raises :class:`StoreUnavailable`."""
    words = WordFigures(chunks=summary.chunks)

    def counted() -> Iterator[Sequence[Segment]]:
        for some in segments:
            words.add(some)
            yield some

    block = environment().get_template("listen.html").module.block  # type: ignore[attr-defined]
    with disk_errors("a page"):
        shown = ShownTranscript(summary=summary, words=words, captions=captions, folder=PrivateFolder())
        with shown.path.open("x", encoding="utf-8", newline="") as file:
            file.writelines(
                block(one, captions.of(one) if captions else {}) for one in blocks(counted(), summary.chunks)
            )
    return shown
