"""What the page of a run shows: the request of a tenant, and what the store has of its run.

Touches: the store, temporary files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.domain.documents import StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.run_view import RunView
from controller.reports.stored_run import read_documents
from controller.service.context import Service
from controller.service.request_reader import FoundRequest
from controller.service.web.transcripts import ShownTranscript, ShownTranscripts


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run as its page shows it."""

    found: FoundRequest
    view: RunView
    transcript: ShownTranscript | None


def shown_run(service: Service, found: FoundRequest, transcripts: ShownTranscripts | None = None) -> ShownRun:
    """Return what to show of a request. *transcripts*: for its words. Raises :class:`StoreUnavailable`."""
    documents = _documents(service, found)
    transcript = None
    if transcripts and documents.record and documents.state in ("complete", "partial"):
        transcript = transcripts.find(documents.record, found.request.speaker_names)
    if transcript:
        documents = replace(documents, summary=transcript.summary, words=transcript.words)
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
