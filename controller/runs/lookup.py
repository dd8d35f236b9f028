"""Finds runs in a store and reads how they are: by few requests a run, and of many runs several at once.

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
from controller.errors import UsageProblem

AT_ONCE = 16
"""Runs of a server's store that are read at the same time. The S3 client keeps twice as many connections."""

_STALE_MS = 30_000
_MOST_KEYS = 1000
"""Of a run's kept objects, a dozen or two: one page of a listing. What else somebody has put there is not read."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """How far a run is, as its objects say."""

    run: str
    end: str
    """The verdict by which of the last objects is there, ``cancelled``, or nothing: it has not ended."""
    status: Status | None
    """None where there is none that can be believed."""


def existing_run(store: Store, typed: str, *, homes: Sequence[str] = (RUNS,)) -> str:
    """The run called *typed*, a run id or the unambiguous beginning of one. Raises :class:`UsageProblem`."""
    wanted = typed.lower()
    found: list[str] = []
    if is_run(wanted):
        found = [wanted]
    elif is_run_prefix(wanted):
        found = [run for run in run_ids(store, homes=homes) if run.startswith(wanted)]
    # A folder may hold no object any more.
    there = of_each(store, lambda run: is_there(store, run, homes=homes), found)
    matching = [run for run, is_one in zip(found, there, strict=True) if is_one]
    if len(matching) == 1:
        return matching[0]
    what = f"{typed} is the beginning of {len(matching)} runs" if matching else f"no run {typed}"
    raise UsageProblem(f"{what} in {store.url}", "see stenofleet list")


def run_ids(store: Store, *, homes: Sequence[str] = (RUNS,)) -> Iterator[str]:
    """Every run that has a folder, in order; with ``keys.WORK`` among *homes* also one that only its jobs' objects
    are left of.
    """
    named = heapq.merge(*(filter(is_run, store.folders(home)) for home in homes))
    return (run for run, _ in groupby(named))


def is_there(store: Store, run: str, *, homes: Sequence[str] = (RUNS,)) -> bool:
    """Whether there is any object of the run."""
    # Nearly always its record, which takes no listing.
    return store.stat(RunKeys(run).record) is not None or any(
        next(store.list(f"{home}{run}/"), None) is not None for home in homes
    )


def read_run(store: Store, run: str) -> StoredRun | None:
    """How far the run is; None where nothing of it is kept. Takes a listing, and a read of its status."""
    keys = RunKeys(run)
    there = {entry.key for entry in islice(store.list(keys.home), _MOST_KEYS)}
    if not there:
        return None
    verdict = next((verdict for verdict in MARKERS if keys.marker(verdict) in there), "")
    return StoredRun(
        run=run,
        end=verdict or ("cancelled" if keys.cancel in there else ""),
        status=stored_documents.valid(store, Status, keys.status) if keys.status in there else None,
    )


def read_status(store: Store, run: str) -> Status | None:
    """What whoever works on the run has reported last; None where there is nothing that can be believed."""
    return stored_documents.valid(store, Status, RunKeys(run).status)


def is_worked_on(status: Status) -> bool:
    """Whether somebody has reported on it lately, by the clock of whoever did."""
    return status.state == "running" and time.time_ns() // 1_000_000 - status.updated_ms <= _STALE_MS


def remove_run(store: Store, run: str) -> None:
    """Take all of it out of the store. What is gone already, perhaps by another command's doing, is no error."""
    keys = RunKeys(run)
    # The record last: a clean that is interrupted can be given again by the run's name.
    for prefix in (keys.work, keys.home):
        for entry in sorted(store.list(prefix), key=lambda entry: entry.key == keys.record):
            store.delete(entry.key)
        store.sweep(prefix)


def of_each(store: Store, do: Callable[[_T], _R], items: Iterable[_T], *, at_once: int = AT_ONCE) -> Iterator[_R]:
    """What *do* makes of each of *items*, in their order. *do* asks *store*: a server of several items at once."""
    # In a folder there is nothing to wait for: threads would only be in each other's way, and hold more descriptors.
    return in_parallel(do, items, at_once=at_once) if store.remote else map(do, items)


def in_parallel(do: Callable[[_T], _R], items: Iterable[_T], *, at_once: int) -> Iterator[_R]:
    """What *do* makes of each of *items*, in their order; up to *at_once* are under way, in threads.

    What *do* raises is raised in its turn. No more of *items* is taken, and no more results are kept, than a few times
    *at_once*. Whoever stops in the middle does not wait for what is under way then.
    """
    asked: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()
    waiting: deque[Future[_R]] = deque()
    threads: list[Thread] = []
    try:
        for item in items:
            waiting.append(Future())
            asked.put((item, waiting[-1]))
            if len(threads) < at_once:
                # Daemons, because an interrupted command must not sit through the patience of their requests.
                threads.append(Thread(target=_work, args=(do, asked), daemon=True))
                threads[-1].start()
            while waiting and (waiting[0].done() or len(waiting) >= 4 * at_once):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for answer in waiting:
            answer.cancel()
        for _ in threads:
            asked.put(None)


def _work(do: Callable[[_T], _R], asked: SimpleQueue[tuple[_T, Future[_R]] | None]) -> None:
    while (one := asked.get()) is not None:
        item, answer = one
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(do(item))
            except BaseException as error:  # noqa: BLE001 (raised again where the result is taken)
                answer.set_exception(error)
        # Kept here, it would outlive whoever has it while this thread waits.
        del one, item, answer
