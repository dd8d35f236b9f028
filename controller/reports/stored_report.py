"""Puts the page of a run into its store, and makes it again from the store.

Touches: the store, temporary files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from chunk_job.segment import Segment
from chunk_job.store.base import Store, StoreFull
from controller.domain.captions import PROFILES, Profile
from controller.domain.documents import Outcome, StoredState
from controller.domain.keys import RunKeys
from controller.reports.build import RunDocuments, build
from controller.reports.caption_check import DEFAULT, checked, submitted_style
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.run_view import RunView
from controller.reports.stored_run import read_documents, with_words
from controller.reports.words import blocks
from controller.runs import stored_transcript
from controller.runs.outputs import write_output
from controller.runs.transcript_files import PrivateFolder, TranscriptFiles, disk_errors
from controller.transcript.model import TranscriptSummary

GENERATOR = '<meta name="generator" content="stenofleet report">'
"""Near the beginning of each page."""


class StoredReports:
    """Writes ``report.html`` of runs that end."""

    def __init__(self, store: Store, *, places: bool = True, prices: Prices = NO_PRICES) -> None:
        """*places*: whether they say where the recording and the model are. *prices*: for the cost of runs."""
        self._store = store
        self._prices = prices
        self._places = places

    def write(self, outcome: Outcome, transcript: TranscriptFiles | None) -> None:
        """Put the page of the run with this *outcome*, which is not in the store yet.

        *transcript*: None if there is none. Raises :class:`StoreUnavailable`.
        """
        documents = read_documents(self._store, outcome.run, outcome=outcome, places=self._places)
        assert documents is not None, "a run that has ended has objects"
        documents = replace(documents, prices=self._prices)
        if transcript:
            documents = with_words(documents, transcript)
            # Their files are made already: they were asked for. Others would keep the loop from its other runs.
            if style := submitted_style(documents.request):
                documents = replace(documents, captions=checked(transcript, style))
        with _page(documents, transcript) as path:
            self._store.put_file(RunKeys(outcome.run).report_page, path)


def write_report(
    store: Store, run: str, output: str, *, profile: Profile | None = None, prices: Prices = NO_PRICES
) -> StoredState | None:
    """Write the page of any run to a file, or to ``s3://bucket/key``. Returns its state; None if there is no such run.

    *profile*: whose limits its captions are checked for; ``whisper`` has none. None: that of the run, or the default.
    *prices*: for its cost. Raises :class:`EnvironmentProblem` if it cannot be written there, and
    :class:`StoreUnavailable`.
    """
    documents, transcript = _with_transcript(store, run)
    if documents is None:
        return None
    style = submitted_style(documents.request) or PROFILES[DEFAULT] if profile is None else PROFILES[profile]
    documents = replace(documents, prices=prices)
    if transcript and profile != "whisper":
        documents = replace(documents, captions=checked(transcript, style))
    with _page(documents, transcript) as path:
        write_output(output, path)
    return documents.state


def stored_view(store: Store, run: str, *, prices: Prices = NO_PRICES) -> RunView | None:
    """The view of a run with the figures of its words; None: no such run. Raises :class:`StoreUnavailable`."""
    return view_and_transcript(store, run, prices=prices)[0]


def view_and_transcript(
    store: Store, run: str, *, prices: Prices = NO_PRICES
) -> tuple[RunView | None, TranscriptFiles | None]:
    """The view of a run as :func:`stored_view`, and its transcript; None: there is none."""
    documents, transcript = _with_transcript(store, run)
    return build(replace(documents, prices=prices)) if documents else None, transcript


def _with_transcript(store: Store, run: str) -> tuple[RunDocuments | None, TranscriptFiles | None]:
    """What the store has of a run, and its transcript. Raises :class:`StoreUnavailable`."""
    documents, transcript = read_documents(store, run), None
    if documents and documents.record and documents.state in ("complete", "partial"):
        transcript = stored_transcript.stored(store, documents.record)
        documents = with_words(documents, transcript) if transcript else documents
    return documents, transcript


def is_page(head: bytes) -> bool:
    """Whether a file with this beginning is a page that was written here."""
    return GENERATOR.encode() in head


@contextlib.contextmanager
def _page(documents: RunDocuments, transcript: TranscriptFiles | None) -> Iterator[Path]:
    """The page as a temporary file. Raises :class:`StoreFull` if it cannot be written."""
    with disk_errors("a page", StoreFull):
        folder = PrivateFolder()
        path = folder.path / "report.html"
        with path.open("xb") as file:
            write_page(documents, transcript, file)
    yield path


def write_page(documents: RunDocuments, transcript: TranscriptFiles | None, file: BinaryIO) -> None:
    """Write the page of a run to *file*, a few segments at a time. Raises :class:`OSError`."""
    # Imported here: most commands write no page, and templates take time to load.
    from controller.reports.html import page

    view = build(documents)

    def write(summary: TranscriptSummary | None, segments: Iterable[Sequence[Segment]]) -> None:
        lines = None if summary is None else blocks(segments, summary.chunks)
        file.writelines(part.encode() for part in page(view, lines))

    if transcript is None:
        write(None, ())
        return
    with transcript.path("json").open("rb") as text:
        stored_transcript.read_with(text, write, most_whole_bytes=0)
