"""What the page of a run shows: the request of a tenant, and what the store has of its run.

Touches: the store, temporary files, the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from chunk_job.errors import JobError
from controller.domain.captions import PROFILES, Profile
from controller.domain.documents import StoredState
from controller.reports.build import RunDocuments, build
from controller.reports.caption_check import checked
from controller.reports.run_view import CaptionFindings, RunView
from controller.reports.stored_run import read_documents
from controller.runs import stored_transcript
from controller.runs.speaker_files import with_speakers
from controller.service.context import Service
from controller.service.request_reader import FoundRequest
from controller.service.web.words import ShownWords, shown_words

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run as its page shows it."""

    view: RunView
    words: ShownWords | None
    problem: str = ""
    """Why its transcript is not shown, though it should be."""


def documents_of(service: Service, found: FoundRequest) -> RunDocuments:
    """Return what the store has of a request's run, without its transcript. Raises :class:`StoreUnavailable`."""
    run = found.end.run_id if found.end else found.state.run_id
    stored = read_documents(service.store, run, places=False) if run else None
    if stored is None:
        return RunDocuments(run=run or "", state=_state(found, None), places=False)
    state = _state(found, stored.state)
    # What is stored may be of an earlier round.
    return replace(stored, state=state, outcome=stored.outcome if stored.state == state else None)


def view_of(documents: RunDocuments, found: FoundRequest) -> RunView:
    """Return the view of the documents, with what only the request says."""
    view = build(documents)
    header, end = replace(view.header, name=found.request.name), found.end
    if end and not header.summary:
        header = replace(header, summary=end.summary, advice=end.advice)
    return replace(view, header=header)


def shown_run(
    service: Service, found: FoundRequest, documents: RunDocuments, *, captions: Profile = "whisper"
) -> ShownRun:
    """Return what to show of a request, with its transcript.

    *captions*: the profile whose captions are checked; ``whisper`` has no limits.
    """
    words, problem, record = None, "", documents.record
    checks: CaptionFindings | None = None
    if record and documents.state in ("complete", "partial"):
        names = found.request.speaker_names
        try:
            if captions != "whisper" and (files := stored_transcript.stored(service.store, record)):
                checks = checked(with_speakers(files, names), PROFILES[captions])
            words = shown_words(service.store, record, names=names, captions=checks)
            problem = "" if words else "It is missing from the store, or was changed there. Try the run again."
        except JobError as error:
            # Half of the page is sent already.
            _LOG.error("the page of a run: %s; %s", error.summary, error.advice)
            problem = "The store does not answer now. Load the page again."
    if words:
        documents = replace(documents, summary=words.summary, words=words.figures, captions=checks)
    return ShownRun(view=view_of(documents, found), words=words, problem=problem)


def _state(found: FoundRequest, stored: StoredState | None) -> StoredState:
    if found.end:
        return found.end.status
    return "running" if found.status == "running" and stored == "running" else "waiting"
