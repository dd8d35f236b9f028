"""Reads what a store has of a run, to show it.

Touches: the store, temporary files, the clock (through ``lookup``). Every document is checked, and one that is damaged
counts as not there: a page about a broken run is when people need it most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import get_args

from chunk_job.segment import Segment
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import Attempts
from controller.domain.documents import Evidence, Final, Outcome, Report, Request, RunRecord, StoredState, Verdict
from controller.domain.keys import MARKERS, RunKeys, is_failure, parse_result
from controller.domain.plan import Plan
from controller.domain.waveform import STEP_MS, Level
from controller.reports.build import RunDocuments
from controller.reports.run_view import Waveform
from controller.reports.words import WordFigures
from controller.runs import stored_transcript, waveforms
from controller.runs.lookup import StoredRun, is_worked_on, of_each, read_run
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.model import TranscriptSummary

MOST_EVIDENCE = 200
"""Most failures that are read: the last ones."""
_MOST_KEYS = 100_000
_SHORT_S = 600
"""A recording that is not longer is drawn with all details."""


def read_documents(
    store: Store, run: str, *, outcome: Outcome | None = None, places: bool = True
) -> RunDocuments | None:
    """What the store has of a run, without its transcript; None if it has no object of it.

    *outcome*: of a run that has ended, whose last object is not written yet. *places*: whether to show where the
    recording and the model are. Raises :class:`StoreUnavailable`.
    """
    found = read_run(store, run)
    if found is None:
        return None
    documents = documents_of(store, found, outcome=outcome)
    return replace(documents, places=places, waveform=_waveform(store, run))


def documents_of(
    store: Store, found: StoredRun, *, outcome: Outcome | None = None, seen: dict[str, Evidence] | None = None
) -> RunDocuments:
    """What the store has of a run that was *found*, without its transcript and its waveform.

    *seen*: failures by key, which are not read again; those that are read are added. Raises :class:`StoreUnavailable`.
    """
    run = found.run
    keys = RunKeys(run)
    known = outcome or _outcome(store, keys, found.end)
    return RunDocuments(
        run=run,
        state=known.verdict if known else _state(found),
        record=stored_documents.valid(store, RunRecord, keys.record),
        request=stored_documents.valid(store, Request, keys.request),
        outcome=known,
        plan=stored_documents.valid(store, Plan, keys.plan),
        status=found.status,
        attempts=stored_documents.valid(store, Attempts, keys.attempts),
        # That of an earlier round does not fit a run that is worked on again.
        report=stored_documents.valid(store, Report, keys.report) if known else None,
        evidence=_evidence(store, keys, {} if seen is None else seen),
        winners=_winners(store, keys, chosen=known is not None and known.verdict != "failed"),
    )


def state_of(store: Store, found: StoredRun) -> StoredState:
    """The state of a run that was *found*. Raises :class:`StoreUnavailable`."""
    known = _outcome(store, RunKeys(found.run), found.end)
    return known.verdict if known else _state(found)


def status_only(found: StoredRun) -> RunDocuments:
    """What is known of a run that was *found*, without reading more."""
    ended = next((verdict for verdict in get_args(Verdict) if verdict == found.end), None)
    return RunDocuments(run=found.run, state=ended or _state(found), status=found.status)


def with_words(of: RunDocuments, transcript: TranscriptFiles) -> RunDocuments:
    """*of*, with what its *transcript* tells. Raises :class:`StoreUnavailable` if it cannot be read."""
    words = WordFigures(chunks=transcript.summary.chunks)

    def count(_: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> None:
        for some in segments:
            words.add(some)

    with disk_errors(), transcript.path("json").open("rb") as file:
        stored_transcript.read_with(file, count, most_whole_bytes=0)
    return replace(of, summary=transcript.summary, words=words)


def _waveform(store: Store, run: str) -> Waveform | None:
    found = waveforms.opened(store, run)
    if found is None:
        return None
    # The overview of a short recording is a few lines.
    level: Level = "overview" if found.header.steps("overview") > _SHORT_S else "detail"
    with found.file:
        return Waveform(step_ms=STEP_MS[level], steps=found.steps(level))


def _outcome(store: Store, keys: RunKeys, end: str) -> Outcome | None:
    return stored_documents.valid(store, Outcome, keys.marker(end)) if end in MARKERS else None


def _state(found: StoredRun) -> StoredState:
    """The state of a run that has no outcome."""
    if found.end == "cancelled":
        return "cancelled"
    if found.status is None:
        return "interrupted"
    stale = found.status.state == "running" and not is_worked_on(found.status)
    # An ended state without the run's last object is that of an earlier round.
    ended = found.status.state in ("complete", "partial")
    return "interrupted" if stale or ended else found.status.state


def _winners(store: Store, keys: RunKeys, *, chosen: bool) -> Mapping[int, int]:
    """Span → attempt of its result: as it was *chosen* at the end, else the first one that is there."""
    final = stored_documents.valid(store, Final, keys.final) if chosen else None
    listed = (winner.key for winner in final.winners) if final else (one.key for one in store.list(keys.results))
    winners: dict[int, int] = {}
    for key in islice(listed, _MOST_KEYS):
        if found := parse_result(key):
            winners[found.span] = min(found.attempt, winners.get(found.span, found.attempt))
    return winners


def _evidence(store: Store, keys: RunKeys, seen: dict[str, Evidence]) -> tuple[Evidence, ...]:
    entries = [entry for entry in islice(store.list(keys.failures), _MOST_KEYS) if is_failure(entry.key)]
    last = [entry.key for entry in sorted(entries, key=lambda entry: entry.modified_s)[-MOST_EVIDENCE:]]
    new = [key for key in last if key not in seen]
    read = of_each(store, lambda key: stored_documents.valid(store, Evidence, key), new)
    seen.update((key, one) for key, one in zip(new, read, strict=True) if one)
    found = [seen[key] for key in last if key in seen]
    # An attempt that is stored twice, because a tick was interrupted, counts once.
    return tuple({(one.round, one.span, one.attempt): one for one in found}.values())
