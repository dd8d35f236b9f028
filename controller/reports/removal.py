"""Removes a run and keeps what it used.

Touches: the store, the clock.
"""

from __future__ import annotations

import time

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.ledger_keys import LATEST_MS
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import RequestKeys
from controller.domain.usage_documents import RemovedUsage, UsageFigures
from controller.reports.ledger import keep
from controller.reports.stored_usage import StoredUsage, counted
from controller.runs import lookup


def remove_run(store: Store, run: str) -> None:
    """Delete all objects of a run, after what it used is in the ledger.

    It can be repeated after an interruption: what it used counts once. Of a run that noted no attempt, nothing is kept.
    Raises :class:`StoreUnavailable`.
    """
    found = counted(store, run)
    if found.stored and found.stored.is_noted:
        keep(store, _removed(store, found.stored))
    lookup.remove_run(store, run)


def _removed(store: Store, of: StoredUsage) -> RemovedUsage:
    now_ms = time.time_ns() // 1_000_000
    request = stored_documents.valid(store, ServiceRequest, RequestKeys(of.request).request) if of.request else None
    submitted_ms = request.created_ms if request else of.began_ms
    return RemovedUsage(
        run=of.usage.run,
        log=of.log,
        tenant=of.usage.tenant,
        submitted_ms=min(now_ms if submitted_ms is None else submitted_ms, LATEST_MS),
        observed_ms=of.observed_ms,
        removed_ms=now_ms,
        **{name: getattr(of.usage, name) for name in UsageFigures.model_fields},
    )
