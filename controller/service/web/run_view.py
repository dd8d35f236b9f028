"""What the page of a run shows: the request of a tenant, and what the store has of its run.

Touches: the store, temporary files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from controller.domain.documents import StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.run_view import RunView
from controller.reports.stored_run import read_documents, with_words
from controller.reports.words import Block, blocks
from controller.runs import stored_transcript
from controller.runs.speaker_files import with_speakers
from controller.runs.stored_transcript import segments_in
from controller.runs.transcript_files import TranscriptFiles
from controller.service.context import Service
from controller.service.request_reader import FoundRequest


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run as its page shows it."""

    found: FoundRequest
    view: RunView
    transcript: TranscriptFiles | None

    @property
    def lines(self) -> Iterator[Block] | None:
        """The blocks of the transcript; None if there is none."""
        return _blocks(self.transcript) if self.transcript else None


def shown_run(service: Service, found: FoundRequest, *, words: bool) -> ShownRun:
    """Return what to show of a request. *words*: with its transcript. Raises :class:`StoreUnavailable`."""
    documents = _documents(service, found)
    transcript = None
    if words and documents.record and documents.state in ("complete", "partial"):
        transcript = stored_transcript.stored(service.store, documents.record)
    if transcript:
        transcript = with_speakers(transcript, found.request.speaker_names)
        documents = with_words(documents, transcript)
    return ShownRun(found=found, view=_named(build(documents), found), transcript=transcript)


def _documents(service: Service, found: FoundRequest) -> RunDocuments:
    run = found.end.run_id if found.end else found.state.run_id
    stored = read_documents(service.store, run, places=False) if run else None
    if stored is None:
        return RunDocuments(run=run or "", state=_state(found, None), places=False)
    state = _state(found, stored.state)
    # What is stored may be of an earlier round.
    return replace(stored, state=state, outcome=stored.outcome if stored.state == state else None)


def _state(found: FoundRequest, stored: StoredState | None) -> StoredState:
    if found.end:
        return found.end.status
    return "running" if found.status == "running" and stored == "running" else "waiting"


def _named(view: RunView, found: FoundRequest) -> RunView:
    """Return the view with what only the request says."""
    header, end = replace(view.header, name=found.request.name), found.end
    if end and not header.summary:
        header = replace(header, summary=end.summary, advice=end.advice)
    return replace(view, header=header)


def _blocks(transcript: TranscriptFiles) -> Iterator[Block]:
    with transcript.path("json").open("rb") as file:
        yield from blocks(segments_in(file), transcript.summary.chunks)
