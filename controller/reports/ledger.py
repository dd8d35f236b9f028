"""The ledger: what runs used that were removed. It is small, and nothing of a recording is in it.

Touches: the store.

A run that was removed can be made again, so each document is of one log of attempts. A second object names it by
tenant and time; it is put before, so that whatever counts for a run also counts for its tenant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.ledger_keys import (
    NO_LOG,
    TenantKey,
    parse_tenant_key,
    parse_used,
    tenant_before,
    tenant_key,
    tenant_of,
    used_key,
    used_of,
)
from controller.domain.usage_documents import RemovedUsage


def keep(store: Store, used: RemovedUsage) -> None:
    """Put what a run used, in place of an earlier look at the same attempts. Raises :class:`StoreUnavailable`."""
    if used.tenant:
        store.put(_tenant_key(used), b"")
    store.put(used_key(used.run, used.log), used.encode())


def kept(store: Store, run: str) -> Mapping[str, RemovedUsage]:
    """Return what is kept of a run, by the log of its attempts. Raises :class:`StoreUnavailable`."""
    return {used.log: used for _, used in _documents(store, run) if used}


def forget(store: Store, run: str) -> None:
    """Delete what is kept of a run. Raises :class:`StoreUnavailable`."""
    for key, used in list(_documents(store, run)):
        if used and used.tenant:
            store.delete(_tenant_key(used))
        store.delete(key)
    store.sweep(used_of(run))


def submitted(store: Store, prefix: str, *, from_ms: int, to_ms: int, most: int) -> list[TenantKey]:
    """Return what is kept of the runs that a tenant submitted in a period, at most the newest *most*.

    Raises :class:`StoreUnavailable`.
    """
    found: list[TenantKey] = []
    for entry in store.list(tenant_of(prefix), after=tenant_before(prefix, to_ms)):
        one = parse_tenant_key(entry.key)
        if len(found) == most or (one and one.submitted_ms < from_ms):
            break
        found += [one] if one else []
    return found


def _tenant_key(used: RemovedUsage) -> str:
    return tenant_key(used.tenant, used.submitted_ms, used.run, used.log)


def _documents(store: Store, run: str) -> Iterator[tuple[str, RemovedUsage | None]]:
    """The objects of a run with their documents; None: it is damaged, or under the key of another one."""
    for entry in store.list(used_of(run)):
        if log := parse_used(entry.key):
            used = stored_documents.valid(store, RemovedUsage, entry.key)
            yield entry.key, used if used and (used.log or NO_LOG) == log else None
