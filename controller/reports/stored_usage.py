"""Reads from a store what runs used, also those that were removed.

Touches: the store, the clock (through ``lookup``).

Each log of attempts counts once. A removal puts it into the ledger, and deletes it then. Until that is done it is in
both, and the later look at it counts: a run may be resumed after its removal was interrupted. A run without a log, of
which the ledger has one, has used nothing since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.attempt_documents import Attempts
from controller.domain.documents import Report, RunRecord
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan
from controller.domain.service_keys import RequestKey
from controller.domain.usage_documents import RemovedUsage, RunUsage, UsageFigures
from controller.reports import ledger
from controller.reports.cost import NO_PRICES
from controller.reports.stored_run import state_of
from controller.reports.usage import UsageDocuments, summed, usage
from controller.runs.lookup import of_each, read_run
from controller.runs.service_runs import request_of_record


@dataclass(frozen=True, kw_only=True)
class StoredUsage:
    """What a run used that is in the store, since it was removed last."""

    usage: RunUsage
    request: RequestKey | None
    """Of the service; None: it is none of the service."""
    is_noted: bool
    """Whether anything is known of its attempts."""
    log: str = ""
    """The id of the log of its attempts; empty if it has none."""
    began_ms: int | None = None
    """When its first attempt was submitted; None: not known."""
    observed_ms: int | None = None
    """When its attempts were last observed; None: not known."""


@dataclass(frozen=True, kw_only=True)
class CountedUsage:
    """All that a run used: each of its attempts is in one of these."""

    stored: StoredUsage | None
    removed: Mapping[str, RemovedUsage]
    """By log of attempts."""

    def rows(self) -> Iterator[RunUsage]:
        """Yield a row for the run in the store, and one for all that was removed of it."""
        if self.stored:
            yield self.stored.usage
        if self.removed:
            yield of_removed(list(self.removed.values()))


def usages(store: Store, runs: Iterable[str]) -> Iterator[RunUsage]:
    """Yield what each of *runs* used, in order. A run that is there twice counts once, one without objects is left out.

    A run that was removed, and made again, has two rows. At most nine requests for each, and one for each time that it
    was removed. Raises :class:`StoreUnavailable`.
    """
    found = of_each(store, lambda run: list(counted(store, run).rows()), dict.fromkeys(runs))
    return (row for rows in found for row in rows)


def usages_of_period(
    store: Store, runs: Collection[str], removed: Collection[str], *, from_ms: int, to_ms: int
) -> Iterator[UsageFigures]:
    """Yield what *runs* used, and what was *removed*, as far as it was submitted in a period.

    *runs*: those that were submitted then, and were in the store. Raises :class:`StoreUnavailable`.
    """

    def of(run: str) -> list[UsageFigures]:
        found = counted(store, run)
        stored: list[UsageFigures] = [found.stored.usage] if found.stored and run in runs else []
        return [*stored, *(one for one in found.removed.values() if from_ms <= one.submitted_ms < to_ms)]

    return (one for some in of_each(store, of, sorted({*runs, *removed})) for one in some)


def counted(store: Store, run: str) -> CountedUsage:
    """Return all that a run used. Raises :class:`StoreUnavailable`."""
    # Before the run is read: if it is removed meanwhile, it counts as it was.
    removed = dict(ledger.kept(store, run))
    stored = stored_usage(store, run)
    if stored is None or not stored.is_noted:
        removed = dict(ledger.kept(store, run))
        return CountedUsage(stored=None if removed else stored, removed=removed)
    known = removed.get(stored.log)
    if known is not None and (stored.observed_ms or 0) <= (known.observed_ms or 0):
        return CountedUsage(stored=None, removed=removed)
    removed.pop(stored.log, None)
    return CountedUsage(stored=stored, removed=removed)


def of_removed(some: list[RemovedUsage]) -> RunUsage:
    """Return the row of what was removed of one run: at least one log."""
    run = some[0].run
    return RunUsage(run=run, name=run, tenant=some[0].tenant, state="removed", **dict(summed(some, NO_PRICES)))


def stored_usage(store: Store, run: str) -> StoredUsage | None:
    """Return what a run used that is in the store; None if it has no object of it. Raises :class:`StoreUnavailable`."""
    found = read_run(store, run)
    if found is None:
        return None
    keys = RunKeys(run)
    record = stored_documents.valid(store, RunRecord, keys.record)
    request = request_of_record(record) if record else None
    # A removal deletes the report before the attempts, and the plan after them: who finds attempts has their plan.
    plan = stored_documents.valid(store, Plan, keys.plan)
    attempts = stored_documents.valid(store, Attempts, keys.attempts)
    report = stored_documents.valid(store, Report, keys.report)
    began = [one.submitted_ms for one in attempts.attempts if one.submitted_ms is not None] if attempts else []
    return StoredUsage(
        usage=usage(
            UsageDocuments(
                run=run,
                name=record.name if record else found.status.name if found.status else run,
                tenant=request.prefix if request else "",
                state=state_of(store, found),
                device=record.options.device if record else "auto",
                plan=plan,
                attempts=attempts,
                report=report,
            )
        ),
        request=request,
        is_noted=attempts is not None or report is not None,
        log=attempts.log if attempts else "",
        began_ms=min(began, default=None),
        observed_ms=attempts.observed_ms if attempts else None,
    )
