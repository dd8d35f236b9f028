"""The words of a transcript as a part of a page: made in one pass, without holding the transcript in memory.

Touches: the store, temporary files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from markupsafe import Markup

from chunk_job.segment import Segment
from chunk_job.store.base import Store
from controller.domain.documents import RunRecord
from controller.reports.run_view import CaptionFindings
from controller.reports.words import WordFigures, blocks
from controller.runs.stored_transcript import stored_with
from controller.runs.transcript_files import disk_errors
from controller.service.web.pages import environment
from controller.transcript.model import TranscriptSummary
from controller.transcript.speakers import named

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ShownWords:
    """The lines of a transcript as HTML, and their figures."""

    summary: TranscriptSummary
    figures: WordFigures
    file: BinaryIO

    def pieces(self) -> Iterator[Markup]:
        """The HTML, a piece at a time."""
        self.file.seek(0)
        lines: list[bytes] = []
        while lines := self.file.readlines(_PIECE_BYTES):
            # Our own template has escaped everything in it.
            yield Markup(b"".join(lines).decode())  # noqa: S704


def shown_words(
    store: Store, record: RunRecord, *, names: Sequence[str] = (), captions: CaptionFindings | None
) -> ShownWords | None:
    """Return the words of a run; None if it has no transcript.

    *names*: of the speakers of its channels. *captions*: what is wrong with them. Raises :class:`StoreUnavailable`.
    """
    block = environment().get_template("words.html").module.block  # type: ignore[attr-defined]

    def made(summary: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> ShownWords:
        figures = WordFigures(chunks=summary.chunks)
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller reads it)
        for one in blocks(_counted(segments, names, figures), summary.chunks):
            file.write(str(block(one, captions.of(one) if captions else {})).encode())
        return ShownWords(summary=summary, figures=figures, file=file)

    with disk_errors("a page"):
        return stored_with(store, record, made)


def _counted(
    segments: Iterable[Sequence[Segment]], names: Sequence[str], figures: WordFigures
) -> Iterator[Sequence[Segment]]:
    for some in segments:
        figures.add(some)
        yield tuple(named(some, names)) if names else some
