"""Finds runs in a store and reads their state: with few requests per run, and several runs in parallel.

Touches: the store, the clock, threads.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby, islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import Status
from controller.domain.keys import MARKERS, RUNS, RunKeys, is_run, is_run_prefix
from controller.domain.service_keys import is_id
from controller.errors import UsageProblem
from controller.runs.service_runs import run_of_request

AT_ONCE = 16
"""How many runs of a remote store are read in parallel. The S3 client keeps twice as many connections."""

_STALE_MS = 30_000
_MOST_KEYS = 1000
"""Most keys of a run that are listed: one page. A run has one or two dozen; objects of other writers are not read."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """The progress of a run, as read from its objects."""

    run: str
    end: str
    """The verdict of the marker that exists, ``cancelled``, or empty if the run has not ended."""
    status: Status | None
    """None if there is no valid one."""


def existing_run(store: Store, typed: str, *, homes: Sequence[str] = (RUNS,)) -> str:
    """The id of the run that *typed* names: a run id, the unambiguous beginning of one, or an id of the service's API.

    Raises :class:`UsageProblem`.
    """
    wanted = typed.lower()
    if is_id(wanted):
        wanted = run_of_request(store, wanted)
    found: list[str] = []
    if is_run(wanted):
        found = [wanted]
    elif is_run_prefix(wanted):
        found = [run for run in run_ids(store, homes=homes) if run.startswith(wanted)]
    # A folder may be empty.
    existing = of_each(store, lambda run: is_there(store, run, homes=homes), found)
    matching = [run for run, exists in zip(found, existing, strict=True) if exists]
    if len(matching) == 1:
        return matching[0]
    what = f"{typed} is the beginning of {len(matching)} runs" if matching else f"no run {typed}"
    raise UsageProblem(f"{what} in {store.url}", "see stenofleet list")


def run_ids(store: Store, *, homes: Sequence[str] = (RUNS,)) -> Iterator[str]:
    """The ids of all runs that have a folder, in order.

    With ``keys.WORK`` in *homes*, also of runs of which only objects of their jobs are left.
    """
    named = heapq.merge(*(filter(is_run, store.folders(home)) for home in homes))
    return (run for run, _ in groupby(named))


def is_there(store: Store, run: str, *, homes: Sequence[str] = (RUNS,)) -> bool:
    """Whether there is any object of the run."""
    # Nearly always the record exists, and this needs no listing.
    return store.stat(RunKeys(run).record) is not None or any(
        next(store.list(f"{home}{run}/"), None) is not None for home in homes
    )


def read_run(store: Store, run: str) -> StoredRun | None:
    """The progress of the run; None if it has no objects. Costs one listing and one read of its status."""
    keys = RunKeys(run)
    found = {entry.key for entry in islice(store.list(keys.home), _MOST_KEYS)}
    if len(found) == _MOST_KEYS:
        # A run has more only of corrections, and its status comes after them.
        found.add(keys.status)
    if not found:
        return None
    verdict = next((verdict for verdict in MARKERS if keys.marker(verdict) in found), "")
    return StoredRun(
        run=run,
        end=verdict or ("cancelled" if keys.cancel in found else ""),
        status=stored_documents.valid(store, Status, keys.status) if keys.status in found else None,
    )


def read_status(store: Store, run: str) -> Status | None:
    """The status that the run's controller reported last; None if there is no valid one."""
    return stored_documents.valid(store, Status, RunKeys(run).status)


def is_worked_on(status: Status) -> bool:
    """Whether a controller has reported this run as running in the last 30 seconds, by the clock of that controller."""
    return status.state == "running" and time.time_ns() // 1_000_000 - status.updated_ms <= _STALE_MS


def remove_run(store: Store, run: str) -> None:
    """Delete all objects of the run, what it used too. Objects that another command has deleted are no error."""
    keys = RunKeys(run)
    # What says what it used first: whoever counts an interrupted removal takes it from the ledger then. The record
    # last: after an interrupted clean, the same command still finds the run.
    order = {keys.report: -2, keys.attempts: -1, keys.record: 1}
    for prefix in (keys.work, keys.home):
        for entry in sorted(store.list(prefix), key=lambda entry: order.get(entry.key, 0)):
            store.delete(entry.key)
        store.sweep(prefix)


def of_each(store: Store, do: Callable[[_T], _R], items: Iterable[_T], *, at_once: int = AT_ONCE) -> Iterator[_R]:
    """Call *do* for each of *items* and return the results in order. For a remote *store*, calls run in parallel."""
    # A folder has no network latency: threads would only compete with each other and use more file descriptors.
    return in_parallel(do, items, at_once=at_once) if store.remote else map(do, items)


def in_parallel(do: Callable[[_T], _R], items: Iterable[_T], *, at_once: int) -> Iterator[_R]:
    """Call *do* for each of *items* in up to *at_once* threads, and return the results in order.

    An exception of *do* is raised in place of its result. At most four times *at_once* items are read ahead. A caller
    that stops early does not wait for calls that are still running.
    """
    asked: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()
    waiting: deque[Future[_R]] = deque()
    threads: list[Thread] = []
    try:
        for item in items:
            waiting.append(Future())
            asked.put((item, waiting[-1]))
            if len(threads) < at_once:
                # Daemon threads: an interrupted command must not wait until their requests time out.
                threads.append(Thread(target=_work, args=(do, asked), daemon=True))
                threads[-1].start()
            while waiting and (waiting[0].done() or len(waiting) >= 4 * at_once):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for result in waiting:
            result.cancel()
        for _ in threads:
            asked.put(None)


def _work(do: Callable[[_T], _R], asked: SimpleQueue[tuple[_T, Future[_R]] | None]) -> None:
    while (one := asked.get()) is not None:
        item, result = one
        if result.set_running_or_notify_cancel():
            try:
                result.set_result(do(item))
            except BaseException as error:  # noqa: BLE001 (raised again where the result is taken)
                result.set_exception(error)
        # Else this thread would keep the result in memory while it waits for the next item.
        del one, item, result
