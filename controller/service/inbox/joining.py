"""Puts the listing of an inbox and that of its records side by side.

Touches: nothing. Both are read as they come, so memory does not depend on their length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import StoredObject
from controller.service.inbox.names import Record


class Seen(NamedTuple):
    """A path in the inbox: the object, and what is known of it."""

    path: str
    entry: StoredObject | None
    """None: it does not exist any more."""
    records: tuple[Record, ...]


def joined(entries: Iterable[StoredObject], records: Iterable[Record]) -> Iterator[Seen]:
    """Yield every path that is in one of the listings, in order.

    Raises :class:`DocumentInvalid` if a server lists objects in another order than that of their names: they would seem
    to be unknown again and again.
    """
    known = _by_path(records)
    record = next(known, None)
    last = ""
    for entry in entries:
        if entry.key <= last:
            raise DocumentInvalid("the inbox is listed in another order than that of its names")
        last = entry.key
        while record and record.path < entry.key:
            yield record
            record = next(known, None)
        if record and record.path == entry.key:
            yield record._replace(entry=entry)
            record = next(known, None)
        else:
            yield Seen(entry.key, entry, ())
    while record:
        yield record
        record = next(known, None)


def _by_path(records: Iterable[Record]) -> Iterator[Seen]:
    """Yield the records of each path together."""
    these: list[Record] = []
    for record in records:
        if these and record.path != these[0].path:
            yield Seen(these[0].path, None, tuple(these))
            these = []
        these.append(record)
    if these:
        yield Seen(these[0].path, None, tuple(these))
