"""An inbox for tests that is looked into by hand, and a store in memory that counts its listings as a server does."""

from __future__ import annotations

import bisect
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from chunk_job.store.base import ObjectMissing, Sink, Store, StoredObject
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome
from controller.domain.service_keys import RequestKey
from controller.service.context import Service
from controller.service.inbox.delivery import note_end
from controller.service.inbox.names import Record, StateKeys, parse_record
from controller.service.inbox.places import InboxSettings, Place
from controller.service.inbox.watching import TenantInbox
from controller.service.requests import RequestStore
from controller.service.tenant import DEFAULT
from tests.controller.service.running import LiveClock, LiveRunner, quick, server_of

KEYS = StateKeys("default")


class MemoryStore:
    """Objects in memory, listed by pages of a thousand as S3 does. *pages* counts the requests for that."""

    remote = True
    environment: Mapping[str, str] = {}

    def __init__(self, url: str = "s3://bucket/store") -> None:
        self.url = url
        self.objects: dict[str, tuple[bytes, str]] = {}
        self._keys: list[str] = []
        self.pages = 0
        self.reads: list[str] = []

    def fill(self, keys: list[str]) -> None:
        """Store many objects at once."""
        self.objects |= dict.fromkeys(keys, (b"sound", "1"))
        self._keys = sorted(self.objects)

    def get(self, key: str, *, max_bytes: int = 0) -> bytes:
        self.reads.append(key)
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key][0]

    def put(self, key: str, data: bytes) -> None:
        if key not in self.objects:
            bisect.insort(self._keys, key)
        self.objects[key] = (data, str(hash(data)))

    def put_new(self, key: str, data: bytes) -> bool:
        is_new = key not in self.objects
        if is_new:
            self.put(key, data)
        return is_new

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        last, page = max(after, prefix), [""]
        while page:
            self.pages += 1
            at = bisect.bisect_right(self._keys, last)
            page = self._keys[at : at + 1_000]
            for last in page:
                if not last.startswith(prefix):
                    return
                if last in self.objects:
                    yield self._entry(last)
            if len(page) < 1_000:
                return

    def folders(self, prefix: str) -> Iterator[str]:
        raise NotImplementedError

    def stat(self, key: str) -> StoredObject | None:
        self.reads.append(key)
        return self._entry(key) if key in self.objects else None

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None):
            del self._keys[bisect.bisect_left(self._keys, key)]

    def sweep(self, prefix: str) -> None:
        raise NotImplementedError

    def open(self, key: str, *, max_bytes: int = 0) -> BinaryIO:
        raise NotImplementedError

    def get_file(self, key: str, path: Path, *, max_bytes: int = 0) -> None:
        raise NotImplementedError

    def copy_to(self, key: str, sink: Sink, *, max_bytes: int = 0) -> None:
        raise NotImplementedError

    def _entry(self, key: str) -> StoredObject:
        data, revision = self.objects[key]
        return StoredObject(key=key, size_bytes=len(data), modified_s=1_000.0, revision=revision)


class Looking:
    """One inbox, whose looks and whose time are those of the test."""

    def __init__(
        self, folder: Path, *, state: Store | None = None, inbox: Store | None = None, **settings: Any
    ) -> None:
        """*inbox*: a store instead of the folder ``in``."""
        self.now_s = 1_000.0
        self.folder, self.out = folder / "in", folder / "out"
        self.folder.mkdir(exist_ok=True)
        self.state = state or FileStore(folder / "store")
        self.requests = RequestStore(self.state)
        self._given = inbox
        self._settings = InboxSettings(**{"settle_s": 10.0, **settings})
        clock = LiveClock()
        runner = LiveRunner(FileStore(folder / "runner"), clock, quick())  # type: ignore[arg-type]
        self.service: Service = server_of(self.state, runner, clock).app.state.service
        self.submitted = 0
        self.inbox = self.restarted()

    def restarted(self) -> TenantInbox:
        """The inbox as another process sees it."""
        place = Place(tenant=DEFAULT, inbox=str(self.folder), outbox=str(self.out))
        if self._given:
            given = self._given
            place = _Given(tenant=DEFAULT, inbox=given.url, outbox=str(self.out), store=given)
        self.inbox = TenantInbox(place, self.service, self._settings, now_s=lambda: self.now_s, submitted=self._count)
        return self.inbox

    def _count(self) -> None:
        self.submitted += 1

    def put(self, path: str, data: bytes = b"sound", *, modified_s: int | None = None) -> Path:
        """Put a file into the folder."""
        import os

        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if modified_s is not None:
            os.utime(file, (modified_s, modified_s))
        return file

    def look(self) -> bool:
        """Look once, ten seconds after the last time."""
        self.now_s += 10
        return self.inbox.turn()

    def settle(self) -> None:
        """Look twice: what has not changed in between is submitted."""
        self.look()
        self.look()

    @property
    def records(self) -> dict[str, list[str]]:
        """The states of all objects that are known."""
        found: dict[str, list[str]] = {}
        for record in self.all_records():
            found.setdefault(record.path, []).append(record.state)
        return found

    def all_records(self) -> list[Record]:
        return [record for entry in self.state.list(KEYS.objects) if (record := parse_record(entry.key))]

    def request_of(self, path: str) -> str:
        """The id of the request for an object."""
        (record,) = (each for each in self.all_records() if each.path == path)
        return record.request

    def end(self, path: str, verdict: Any = "complete", **more: Any) -> None:
        """End the request for an object as the queue does, without the delivery."""
        key = RequestKey("default", self.request_of(path))
        found = self.requests.find(key)
        assert found
        outcome = RunOutcome(run="", name=found.request.name, verdict=verdict, **{"summary": "what happened", **more})
        end = self.requests.end(found.request, found.retries, outcome, now_ms=1)
        note_end(self.state, found.request, end)

    def deliver(self) -> None:
        for ended in list(self.inbox.delivery.waiting()):
            self.inbox.delivery.deliver(ended)

    def error(self, name: str) -> dict[str, Any] | None:
        """What the outbox says about a recording."""
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.out / f"{name}.error.json").read_bytes())
            return found
        return None

    def cancelled(self) -> list[str]:
        """The requests that are to be cancelled."""
        return [entry.key.rpartition("/")[2][:26] for entry in self.state.list("cancels/default/")]


class _Given(Place):
    """A place whose store is given."""

    def __init__(self, *, store: Store, **fields: Any) -> None:
        super().__init__(**fields)
        object.__setattr__(self, "_store", store)

    def open(self) -> Store:
        found: Store = self._store  # type: ignore[attr-defined]
        return found
