"""Which recordings of a batch have not ended: listed page by page, and checked against what is there now.

Touches: the store, the state of files, output folders, the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from chunk_job.store.base import Store, StoreUnavailable
from controller.cli.batch_entries import Workplace
from controller.cli.output_names import all_exist
from controller.domain.batches import BatchEnd, BatchEntry, BatchRecord, Shard, counted, pages_of
from controller.errors import ClusterUnavailable, EnvironmentProblem, MediaProblem
from controller.intake.known_files import KnownFiles
from controller.runs.batches import BatchStore
from controller.runs.lookup import of_each

_PAUSE_S = 2.0
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """The recordings of a part of a batch that have not ended in a round."""

    store: Store
    record: BatchRecord
    round: int
    place: Workplace
    shard: Shard
    known: KnownFiles
    patience_s: float
    """How long the store, or that of a recording, may be away."""

    def pages(self) -> Iterator[list[tuple[BatchEntry, BatchEnd | None]]]:
        """Yield the recordings of each page, with the complete end of those that may have changed since.

        Those that are tried again after a failure of the environment come last: the same failure must not keep all
        others from being begun. Raises the error of a store that is away for too long.
        """
        with_others: list[int] = []
        for page, _ in pages_of(self.record.entries):
            left, is_all = self.patiently(partial(self._left_of, page, again=False))
            with_others += () if is_all else (page,)
            yield left
        for page in with_others:
            yield self.patiently(partial(self._left_of, page, again=True))[0]

    def patiently(self, read: Callable[[], _T]) -> _T:
        """Call *read* again while a store is away, and raise its error if that takes too long."""
        since_s = _now_s()
        while True:
            try:
                return read()
            except (StoreUnavailable, EnvironmentProblem) as error:
                if isinstance(error, ClusterUnavailable) or _now_s() - since_s > self.patience_s:
                    raise
                time.sleep(_PAUSE_S)

    def _left_of(self, page: int, *, again: bool) -> tuple[list[tuple[BatchEntry, BatchEnd | None]], bool]:
        """What is left of a page, and whether all of it was looked at. *again*: only what is tried again, or not."""
        batches = BatchStore(self.store)
        ends = batches.page_ends(self.record.id, page)
        retried = {number for number, end in ends.items() if end.kind == "again" and end.round == self.round}
        mine = [entry for entry in batches.page(self.record, page) if entry.number in self.shard]
        entries = [entry for entry in mine if (entry.number in retried) == again]

        def check(entry: BatchEntry) -> tuple[bool, BatchEnd | None]:
            end = ends.get(entry.number)
            if end is None or not counted(end, self.round):
                return False, None
            if end.kind != "complete":
                return True, None
            found = batches.read_end(self.record.id, end)
            return found is not None and self._is_as_it_was(entry, found), found

        checked = of_each(self.store, check, entries)
        left = [(entry, end) for entry, (ended, end) in zip(entries, checked, strict=True) if not ended]
        return left, len(entries) == len(mine)

    def _is_as_it_was(self, entry: BatchEntry, end: BatchEnd) -> bool:
        """Whether a recording has the content that was transcribed, as far as known without reading it, and outputs."""
        if not entry.revision:
            path = Path(self.place.name(entry))
            try:
                source = self.known.find(path, path.stat())
            except OSError:
                # It is done with.
                return True
            if source is None or source.identity != end.identity:
                return False
        try:
            return all_exist(self.place.output(self.record, entry))
        except MediaProblem:
            return False


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 (how long a store is away)
