"""What the page of a run shows: the request of a tenant, and what the store has of its run.

Touches: the store, temporary files, media objects in S3, the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from chunk_job.errors import JobError
from chunk_job.text import printable, shown
from controller.domain.captions import Profile
from controller.domain.documents import StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.run_view import RunView, SoundView
from controller.reports.stored_run import read_documents
from controller.service.context import Service
from controller.service.request_reader import FoundRequest
from controller.service.tenant import Tenant
from controller.service.web.listening import Listening, listening
from controller.service.web.transcripts import ShownTranscript, ShownTranscripts

_AWAY = "The store does not answer now. Load the page again."
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run as its page shows it."""

    view: RunView
    transcript: ShownTranscript | None
    missing: str
    """Why there is no transcript."""
    heard: Listening


def documents_of(service: Service, found: FoundRequest) -> RunDocuments:
    """Return what the store has of a request's run, without its transcript. Raises :class:`StoreUnavailable`."""
    run = found.end.run_id if found.end else found.state.run_id
    stored = read_documents(service.store, run, places=False) if run else None
    if stored is None:
        return RunDocuments(run=run or "", state=_state(found, None), places=False)
    state = _state(found, stored.state)
    # What is stored may be of an earlier round.
    outcome = stored.outcome if stored.state == state else None
    return replace(stored, state=state, outcome=outcome, prices=service.prices)


def view_of(documents: RunDocuments, found: FoundRequest) -> RunView:
    """Return the view of the documents, with what only the request says."""
    view = build(documents)
    header, end = replace(view.header, name=printable(found.request.name)), found.end
    if end and not header.summary:
        # The page has a button for what the API's advice names, and says the state itself.
        summary = "" if end.summary == end.status else shown(end.summary)
        header = replace(header, summary=summary, advice=shown(end.advice).replace(" (:retry)", ""))
    return replace(view, header=header)


def shown_run(
    service: Service,
    tenant: Tenant,
    found: FoundRequest,
    documents: RunDocuments,
    transcripts: ShownTranscripts,
    captions: Profile,
) -> ShownRun:
    """Return what to show of a request, with its words and its sound. Raises nothing: half of the page is sent already.

    *captions*: the profile whose captions are checked; ``whisper`` has no limits.
    """
    transcript, missing = None, "The transcript is here when the run has ended."
    if documents.record and documents.state in ("complete", "partial"):
        try:
            transcript = transcripts.find(documents.record, found.request.speaker_names, captions)
            missing = "The transcript is missing from the store, or was changed there: try the run again."
        except JobError as error:
            _LOG.error("the page of a run: %s; %s", error.summary, error.advice)
            missing = _AWAY
    elif found.end:
        missing = "The run ended without a transcript."
    if transcript:
        documents = replace(documents, summary=transcript.summary, words=transcript.words, captions=transcript.captions)
    view = view_of(documents, found)
    return ShownRun(view=view, transcript=transcript, missing=missing, heard=_heard(service, tenant, found, view.sound))


def _heard(service: Service, tenant: Tenant, found: FoundRequest, sound: SoundView | None) -> Listening:
    try:
        return listening(service, tenant, found, sound)
    except JobError as error:
        _LOG.error("the page of a run: %s; %s", error.summary, error.advice)
        return Listening(silent=_AWAY)


def _state(found: FoundRequest, stored: StoredState | None) -> StoredState:
    if found.end:
        return found.end.status
    return "running" if found.status == "running" and stored == "running" else "waiting"
