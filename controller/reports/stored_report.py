"""Puts the page of a run into its store, and makes it again from the store.

Touches: the store, temporary files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

from chunk_job.segment import Segment
from chunk_job.store.base import Store
from controller.domain.documents import Outcome
from controller.domain.keys import RunKeys
from controller.reports.build import RunDocuments, build
from controller.reports.stored_run import read_documents
from controller.reports.words import blocks
from controller.runs import stored_transcript
from controller.runs.transcript_files import PrivateFolder, TranscriptFiles, disk_errors
from controller.transcript.model import TranscriptSummary


class StoredReports:
    """Writes ``report.html`` of runs that end."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, outcome: Outcome, transcript: TranscriptFiles | None) -> None:
        """Put the page of the run with this *outcome*, which is not in the store yet.

        *transcript*: None if there is none. Raises :class:`StoreUnavailable`.
        """
        documents = read_documents(self._store, outcome.run, outcome=outcome, transcript=transcript)
        assert documents is not None, "a run that has ended has objects"
        with disk_errors():
            folder = PrivateFolder()
            path = folder.path / "report.html"
            with path.open("xb") as file:
                write_page(documents, transcript, file)
        self._store.put_file(RunKeys(outcome.run).report_page, path)


def write_page(documents: RunDocuments, transcript: TranscriptFiles | None, file: BinaryIO) -> None:
    """Write the page of a run to *file*, a few segments at a time. Raises :class:`OSError`."""
    # Imported here: most commands write no page, and templates take time to load.
    from controller.reports.html import page

    view = build(documents)

    def write(summary: TranscriptSummary | None, segments: Iterable[Sequence[Segment]]) -> None:
        lines = None if summary is None else blocks(segments, summary.chunks)
        for part in page(view, lines):
            file.write(part.encode())

    if transcript is None:
        write(None, ())
        return
    with transcript.path("json").open("rb") as text:
        stored_transcript.read_with(text, write, most_whole_bytes=0)
