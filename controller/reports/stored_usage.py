"""Reads from a store what runs used.

Touches: the store, the clock (through ``lookup``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import Attempts
from controller.domain.documents import Report, RunRecord
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan
from controller.domain.usage_documents import RunUsage
from controller.reports.stored_run import state_of
from controller.reports.usage import UsageDocuments, usage
from controller.runs.lookup import of_each, read_run
from controller.runs.service_runs import request_of_record


def usages(store: Store, runs: Iterable[str]) -> Iterator[RunUsage]:
    """Yield what each of *runs* used, in order. A run that is there twice counts once, one without objects is left out.

    At most seven requests for each. Raises :class:`StoreUnavailable`.
    """
    found = of_each(store, lambda run: run_usage(store, run), dict.fromkeys(runs))
    return (one for one in found if one is not None)


def run_usage(store: Store, run: str) -> RunUsage | None:
    """Return what a run used; None if the store has no object of it. Raises :class:`StoreUnavailable`."""
    found = read_run(store, run)
    if found is None:
        return None
    keys = RunKeys(run)
    record = stored_documents.valid(store, RunRecord, keys.record)
    request = request_of_record(record) if record else None
    return usage(
        UsageDocuments(
            run=run,
            name=record.name if record else found.status.name if found.status else run,
            tenant=request.prefix if request else "",
            state=state_of(store, found),
            device=record.options.device if record else "auto",
            plan=stored_documents.valid(store, Plan, keys.plan),
            attempts=stored_documents.valid(store, Attempts, keys.attempts),
            report=stored_documents.valid(store, Report, keys.report),
        )
    )
