"""Batches in a store: their recordings, how these ended, and who works on them.

Touches: the store, the clock. A listing of the ends shows the state of every recording, a page at a time: so a batch of
a hundred thousand needs no more memory than one of a thousand.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chunk_job.contract import sha256_hex
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.batches import (
    BATCHES,
    MOST_ROUNDS,
    PAGE,
    WHOLE,
    BatchEnd,
    BatchEntry,
    BatchKeys,
    BatchRecord,
    BatchWorker,
    EndKey,
    EndKind,
    Shard,
    counted,
    latest,
    pages_of,
    parse_end,
)
from controller.domain.keys import is_run, is_run_prefix
from controller.errors import UsageProblem
from controller.runs.lookup import of_each

WORKER_ALIVE_MS = 90_000
"""A process that works on a batch says so three times in this time."""
_MOST_PAGE_BYTES = PAGE * BatchEntry.max_bytes


@dataclass(kw_only=True)
class Counts:
    """How many recordings of a batch are in which state."""

    entries: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """By verdict, of those that have ended in this round, or are complete since an earlier one."""
    before: Counter[str] = field(default_factory=Counter)
    """By verdict, of those that ended so before, and are tried again in this round."""
    environment: int = 0
    """Of those that have failed in this round: how many because of the environment."""

    @property
    def left(self) -> int:
        """Those that have not ended in this round."""
        return self.entries - self.ended.total()

    def add(self, end: EndKey, round_: int) -> None:
        """Count a recording with this latest end."""
        (self.ended if counted(end, round_) else self.before)[end.verdict] += 1
        self.environment += end.kind == "environment" and end.round == round_


class BatchStore:
    """The batches of a store. Every method raises :class:`StoreUnavailable` while the store cannot be reached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, record: BatchRecord, pages: Iterable[bytes]) -> BatchRecord:
        """Put a batch with its encoded *pages*. Returns the record that is there, which may be an older one."""
        keys = BatchKeys(record.id)
        if found := self.find(record.id):
            return found
        for number, data in enumerate(pages):
            self._store.put(keys.entries(number), data)
        self._store.put(keys.round(1), b"")
        # Last: what has a record is complete.
        if self._store.put_new(keys.record, record.encode()):
            return record
        found = self.find(record.id)
        if found is None:
            # What is there is not a record of this batch.
            self._store.put(keys.record, record.encode())
        return found or record

    def find(self, batch: str) -> BatchRecord | None:
        """The record of a batch; None if there is none, or it is damaged."""
        found = stored_documents.valid(self._store, BatchRecord, BatchKeys(batch).record)
        return found if found and found.id == batch == found.hashed() else None

    def existing(self, typed: str) -> BatchRecord:
        """The batch that *typed* names: its id, or the beginning of it. Raises :class:`UsageProblem`."""
        wanted = typed.lower()
        names = [wanted] if is_run(wanted) else []
        if not names and is_run_prefix(wanted):
            names = [name for name in self.ids() if name.startswith(wanted)]
        found = [record for name in names if (record := self.find(name))]
        if len(found) == 1:
            return found[0]
        what = f"{typed} is the beginning of {len(found)} batches" if found else f"no batch {typed}"
        raise UsageProblem(f"{what} in {self._store.url}", "see stenofleet batch list")

    def ids(self) -> Iterator[str]:
        """Yield the ids of all batches, in order."""
        return filter(is_run, self._store.folders(BATCHES))

    def page(self, record: BatchRecord, number: int) -> list[BatchEntry]:
        """The recordings of a page. Raises :class:`DocumentInvalid` if they are not those of the record."""
        key = BatchKeys(record.id).entries(number)
        data = self._store.get(key, max_bytes=_MOST_PAGE_BYTES)
        if sha256_hex(data) != record.pages[number]:
            raise DocumentInvalid(f"{key}: is not the page of this batch")
        found = [BatchEntry.decode(line) for line in data.splitlines()]
        if [entry.number for entry in found] != list(range(number * PAGE, min((number + 1) * PAGE, record.entries))):
            raise DocumentInvalid(f"{key}: has other recordings than those of this page")
        return found

    def round(self, batch: str) -> int:
        """The number of the newest round."""
        return max(self._numbers(BatchKeys(batch).rounds), default=1)

    def _numbers(self, prefix: str) -> list[int]:
        names = (entry.key.rpartition("/")[2] for entry in self._store.list(prefix))
        return [number for name in names if name.isdecimal() and 1 <= (number := int(name)) <= MOST_ROUNDS]

    def begin_round(self, batch: str, number: int) -> None:
        """Begin a round: what has not ended completely in the ones before is tried again."""
        self._store.put(BatchKeys(batch).round(number), b"")

    def cancel(self, batch: str, number: int) -> None:
        """Ask for the end of a round."""
        self._store.put(BatchKeys(batch).cancel(number), b"")

    def is_cancelled(self, batch: str, number: int) -> bool:
        """Whether the end of a round, or of a later one, was asked for."""
        return any(later >= number for later in self._numbers(BatchKeys(batch).cancels))

    def stop(self, batch: str, number: int) -> None:
        """Say that nothing more is begun in a round, because too many recordings have failed."""
        self._store.put(BatchKeys(batch).stop(number), b"")

    def is_stopped(self, batch: str, number: int) -> bool:
        """Whether nothing more is begun in a round."""
        return self._store.stat(BatchKeys(batch).stop(number)) is not None

    def put_end(self, batch: str, round_: int, end: BatchEnd) -> None:
        """Record how a recording ended."""
        data = end.encode()
        kind: EndKind = "environment" if end.environment and end.verdict == "failed" else end.verdict
        self._store.put(BatchKeys(batch).end(EndKey(end.number, round_, kind, len(data))), data)

    def drop_end(self, batch: str, number: int) -> None:
        """Forget how a recording ended: it has another content now."""
        for key in self._ends(batch, number // PAGE):
            if key.number == number:
                self._store.delete(BatchKeys(batch).end(key))

    def unstop(self, batch: str, number: int) -> None:
        """Say that a round is worked on again."""
        self._store.delete(BatchKeys(batch).stop(number))

    def try_again(self, record: BatchRecord, round_: int, shard: Shard = WHOLE) -> None:
        """Let what failed in a round because of the environment count as left."""
        keys = BatchKeys(record.id)

        def again(key: EndKey) -> None:
            end = self.read_end(record.id, key)
            if end:
                self._store.put(keys.end(key._replace(kind="again")), end.encode())
            self._store.delete(keys.end(key))

        for page, _ in pages_of(record.entries):
            some = [
                key
                for key in self._ends(record.id, page)
                if key.kind == "environment" and key.round == round_ and key.number in shard
            ]
            for _ in of_each(self._store, again, some):
                pass

    def _ends(self, batch: str, page: int) -> Iterator[EndKey]:
        """Yield the keys of the complete documents among the ends of a page."""
        for entry in self._store.list(BatchKeys(batch).ends(page)):
            if key := parse_end(entry.key, entry.size_bytes):
                yield key

    def page_ends(self, batch: str, page: int) -> dict[int, EndKey]:
        """The end of each recording of a page that has one, in any round."""
        return latest(self._ends(batch, page))

    def read_end(self, batch: str, key: EndKey) -> BatchEnd | None:
        """How a recording ended; None if the document is missing or damaged."""
        found = stored_documents.valid(self._store, BatchEnd, BatchKeys(batch).end(key))
        return found if found and (found.number, found.verdict) == (key.number, key.verdict) else None

    def counts(self, record: BatchRecord, round_: int, shard: Shard = WHOLE) -> Counts:
        """Count the recordings of a batch, or of a part of it, by state."""
        found = Counts()
        for page, numbers in pages_of(record.entries):
            found.entries += sum(number in shard for number in numbers)
            for end in self.page_ends(record.id, page).values():
                if end.number in numbers and end.number in shard:
                    found.add(end, round_)
        return found

    def with_ends(self, record: BatchRecord, shard: Shard = WHOLE) -> Iterator[tuple[BatchEntry, BatchEnd | None]]:
        """Yield each recording with how it ended last; None: it has not ended, or that is not known any more."""
        for entry, found in self.with_keys(record, shard):
            yield entry, found[1] if found else None

    def with_keys(
        self, record: BatchRecord, shard: Shard = WHOLE
    ) -> Iterator[tuple[BatchEntry, tuple[EndKey, BatchEnd] | None]]:
        """As :meth:`with_ends`, with the key of each end."""
        for page, _ in pages_of(record.entries):
            ends = self.page_ends(record.id, page)
            entries = [entry for entry in self.page(record, page) if entry.number in shard]

            def read(entry: BatchEntry, ends: dict[int, EndKey] = ends) -> tuple[EndKey, BatchEnd] | None:
                key = ends.get(entry.number)
                end = self.read_end(record.id, key) if key else None
                return (key, end) if key and end else None

            yield from zip(entries, of_each(self._store, read, entries), strict=True)

    def runs(self, record: BatchRecord) -> Iterator[str]:
        """Yield the runs of the recordings that have ended and were not complete before the batch."""
        for _, end in self.with_ends(record):
            if end and end.run_id and not end.known:
                yield end.run_id

    def say_alive(self, batch: str, worker: str, *, host: str, shard: Shard) -> None:
        """Say that this process works on a batch."""
        document = BatchWorker(host=host, shard=str(shard), updated_ms=_now_ms())
        self._store.put(BatchKeys(batch).worker(worker), document.encode())

    def leave(self, batch: str, worker: str) -> None:
        """Say that this process does not work on a batch any more."""
        self._store.delete(BatchKeys(batch).worker(worker))

    def heard(self, batch: str) -> Mapping[str, BatchWorker]:
        """What each process has said last that works on a batch, or was ended without a word. By key."""
        entries = itertools.islice(self._store.list(BatchKeys(batch).workers), PAGE)
        found = ((entry.key, stored_documents.valid(self._store, BatchWorker, entry.key)) for entry in entries)
        return {key: worker for key, worker in found if worker}

    def workers(self, batch: str) -> Sequence[BatchWorker]:
        """The processes that have said lately that they work on a batch, by their clocks."""
        return living(self.heard(batch))


def living(heard: Mapping[str, BatchWorker]) -> Sequence[BatchWorker]:
    """Those that have said lately that they work, by their clocks."""
    return [worker for worker in heard.values() if abs(_now_ms() - worker.updated_ms) <= WORKER_ALIVE_MS]


def encoded_pages(entries: Iterable[BatchEntry]) -> Iterator[bytes]:
    """Yield the pages of a batch."""
    each = iter(entries)
    while some := list(itertools.islice(each, PAGE)):
        yield b"".join(entry.encode() for entry in some)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
