"""Lists an inbox and its records side by side, from where the last look stopped.

Touches: the inbox, the store. Listings of servers are counted; those of folders cost nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, takewhile

from chunk_job.store.base import Store, StoredObject
from controller.service.inbox.budget import PAGE, Budget
from controller.service.inbox.joining import Seen, joined
from controller.service.inbox.names import Record, StateKeys, parse_record


@dataclass(frozen=True)
class Passed:
    """A complete look at an inbox."""

    objects: int
    seconds: float


@dataclass
class Scan:
    """A look at everything under a prefix. It may take several turns."""

    prefix: str
    number: int
    """Looks are counted: a later one has a higher number."""
    began_s: float
    cursor: str = ""
    """The last path that was handled."""
    is_whole: bool = True
    """False: it continues from where another process stopped."""
    objects: int = 0
    has_objects: bool = False
    most_pages: int | None = None
    """None: as many as the budget allows."""


class Listings:
    """The listings of one inbox and of its records."""

    def __init__(self, inbox: Store, state: Store, keys: StateKeys, budget: Budget) -> None:
        self._inbox, self._state, self._keys, self._budget = inbox, state, keys, budget

    def rest(self, scan: Scan) -> Iterator[Seen]:
        """Yield what *scan* has not handled yet, in order.

        Records without an object are left out while no object was seen at all: a folder may not be mounted. Raises
        :class:`Pause` when the budget is spent, and the errors of both stores.
        """
        entries = self._entries(scan)
        # One is read ahead.
        first = list(islice(entries, 1))
        scan.has_objects = scan.has_objects or bool(first)
        for seen in joined(chain(first, entries), self._records(scan)):
            if seen.entry or scan.has_objects:
                yield seen

    def _entries(self, scan: Scan) -> Iterator[StoredObject]:
        listed = self._inbox.list(scan.prefix, after=scan.cursor)
        yield from self._budget.paged(listed, most_pages=scan.most_pages) if self._inbox.remote else listed

    def _records(self, scan: Scan) -> Iterator[Record]:
        after = self._keys.after(scan.cursor) if scan.cursor else self._keys.before(scan.prefix)
        listed = self._state.list(self._keys.objects, after=after)
        counted = self._budget.paged(listed, most_pages=scan.most_pages) if self._state.remote else listed
        found = (record for entry in counted if (record := parse_record(entry.key)))
        return takewhile(lambda record: record.path.startswith(scan.prefix), found)

    def of(self, path: str) -> Seen:
        """Return one object with its records."""
        return Seen(path, self._inbox.stat(path), self.records_of(path))

    def records_of(self, path: str) -> tuple[Record, ...]:
        """Return what is known of one object."""
        listed = self._state.list(self._keys.objects, after=self._keys.before(path))
        if self._state.remote:
            self._budget.spend()
        found = (record for entry in listed if (record := parse_record(entry.key)))
        return tuple(takewhile(lambda record: record.path == path, found))

    def named_like(self, stem: str) -> Iterator[str]:
        """Yield the paths of the objects whose names are *stem* with any extension."""
        folder, _, _ = stem.rpartition("/")
        listed = self._inbox.list(f"{folder}/" if folder else "", after=f"{stem}.")
        if self._inbox.remote:
            self._budget.spend()
        for entry in takewhile(lambda entry: entry.key.startswith(f"{stem}."), islice(listed, PAGE)):
            yield entry.key
