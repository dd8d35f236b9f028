"""The webhooks that are to be sent, as objects in the store.

Touches: the store, through :mod:`controller.domain.stored_documents`. An object is written before the one that it
replaces is deleted. So a process that is killed in between loses no event, but may send one again.

    webhooks/<prefix>/pending/<due, in ms, 13 digits>-<delivery id>.json
    webhooks/<prefix>/known/<delivery id>                   it was added once; deleted with its run
    webhooks/<prefix>/dead/<delivery id>.json
    webhooks/<prefix>/expires/<when, in ms, 13 digits>-<delivery id>     a dead one

What is done for one event costs the same, however many others wait or are dead.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.domain.webhook_documents import EVENT_TYPES, Delivery, RunEnded, event_of, run_ended
from controller.errors import UsageProblem
from controller.runs.lookup import of_each
from controller.service.addresses import CallbackRefused, parse_url

ROOT = "webhooks/"
BACK_OFF_S = (10, 60, 5 * 60, 30 * 60, 2 * 3600, 6 * 3600, 12 * 3600)
"""Pauses after the first failed attempts. The last one is repeated."""
GIVE_UP_MS = 3 * 24 * 3_600_000
"""No attempt is made later than this after the first one was due."""
KEEP_DEAD_MS = 30 * 24 * 3_600_000
"""A dead delivery is deleted when this time has passed since its last attempt."""
_PAGE = 200
_MOST_EXPIRED = 200
"""Dead deliveries that are deleted at once: webhooks wait meanwhile."""
_PENDING = re.compile(r"webhooks/([a-z0-9-]{1,40})/pending/([0-9]{13})-([0-9a-f]{32})\.json")
_EXPIRES = re.compile(r"webhooks/[a-z0-9-]{1,40}/expires/([0-9]{13})-([0-9a-f]{32})")
_DEAD = re.compile(r"webhooks/[a-z0-9-]{1,40}/dead/([0-9a-f]{32})\.json")
_ID = re.compile(r"[0-9a-f]{32}")
_RECEIVER_DIGITS = 8

Receiver = tuple[str, str]
"""A tenant's prefix, and digits that are the same for all its URLs with the same host and port."""


class NoDeadLetter(UsageProblem):
    """There is no dead delivery with this id."""

    def __init__(self) -> None:
        super().__init__("there is no dead delivery with this id", "list them: it may have been sent again")


@dataclass(frozen=True, order=True)
class Pending:
    """The key of a delivery that is to be sent."""

    prefix: str
    due_ms: int
    id: str

    @property
    def key(self) -> str:
        return f"{ROOT}{self.prefix}/pending/{self.due_ms:013d}-{self.id}.json"

    @property
    def receiver(self) -> Receiver:
        return self.prefix, self.id[:_RECEIVER_DIGITS]

    @classmethod
    def of(cls, delivery: Delivery) -> Pending:
        return cls(delivery.prefix, delivery.next_ms, delivery.id)

    @classmethod
    def parse(cls, key: str) -> Pending | None:
        found = _PENDING.fullmatch(key)
        return cls(found[1], int(found[2]), found[3]) if found else None


@dataclass(frozen=True)
class Move:
    """A change of the outbox: what is written first, and what is deleted then."""

    put: tuple[tuple[str, bytes], ...]
    delete: tuple[str, ...]


class Outbox:
    """The webhooks of all tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, prefix: str, url: str, data: RunEnded, *, ended_ms: int) -> str:
        """Store the event that a request has ended, to be sent to *url* at once. Returns the id of its delivery.

        *ended_ms*: when it ended. May be called again with the same arguments: an event that was added is kept as it
        is, and one that was delivered is not sent again. Raises :class:`~controller.service.addresses.CallbackRefused`
        and what the store raises.
        """
        delivery_id = delivery_id_of(prefix, url, data)
        if not self._store.stat(_known(prefix, delivery_id)):
            delivery = Delivery(
                id=delivery_id,
                prefix=prefix,
                event=event_of(delivery_id, data, ended_ms),
                url=url,
                created_ms=ended_ms,
                since_ms=ended_ms,
                next_ms=ended_ms,
            )
            # With this time in its key, it replaces an equal one of a replica that adds it at the same moment.
            self._store.put(Pending.of(delivery).key, delivery.encode())
            self._store.put(_known(prefix, delivery_id), b"")
        return delivery_id

    def prefixes(self) -> Iterator[str]:
        """The prefixes of tenants that may have webhooks."""
        return self._store.folders(ROOT)

    def pending(self, prefix: str, *, after: Pending | None = None) -> Iterator[Pending]:
        """The deliveries of a tenant that wait, by the time when they are due, from the one after *after*."""
        for entry in self._store.list(f"{ROOT}{prefix}/pending/", after=after.key if after else ""):
            if found := Pending.parse(entry.key):
                yield found

    def read(self, pending: Pending) -> Delivery | None:
        """Return a delivery that waits; None if it does not wait any more. Raises :class:`DocumentInvalid`."""
        delivery = stored_documents.find(self._store, Delivery, pending.key)
        if delivery and Pending.of(delivery) != pending:
            raise DocumentInvalid(f"{pending.key}: is another delivery")
        tried = delivery is not None and pending.due_ms != delivery.created_ms
        if tried and not self._store.stat(_known(pending.prefix, pending.id)):
            # Its run was deleted. Before the first attempt, it is just not known yet.
            self._store.delete(pending.key)
            return None
        return delivery

    def dead(self, prefix: str, *, after: str = "") -> Iterator[Delivery]:
        """The deliveries of a tenant that are not tried any more, by id, from the one after the id *after*.

        Invalid objects are left out.
        """
        page, after = self.dead_page(prefix, after=after, most=_PAGE)
        yield from page
        while after:
            page, after = self.dead_page(prefix, after=after, most=_PAGE)
            yield from page

    def dead_page(self, prefix: str, *, after: str, most: int) -> tuple[Sequence[Delivery], str]:
        """Return the next deliveries of :meth:`dead`, and the id after which the rest begins; empty: this is all.

        The number of requests to the store depends on *most* alone.
        """
        listed = self._store.list(f"{ROOT}{prefix}/dead/", after=_dead(prefix, after) if after else "")
        ids = [found[1] for entry in islice(listed, most + 1) if (found := _DEAD.fullmatch(entry.key))]
        page = of_each(self._store, lambda each: self.dead_letter(prefix, each), ids[:most])
        return [delivery for delivery in page if delivery], ids[most - 1] if len(ids) > most else ""

    def dead_letter(self, prefix: str, delivery_id: str) -> Delivery | None:
        """Return a dead delivery of a tenant; None if there is none with this id."""
        if not _ID.fullmatch(delivery_id):
            return None
        return stored_documents.valid(self._store, Delivery, _dead(prefix, delivery_id))

    def repeat(self, prefix: str, delivery_id: str, now_ms: int) -> Delivery:
        """Send a dead delivery again, with all attempts. Raises :class:`NoDeadLetter`."""
        found = self.dead_letter(prefix, delivery_id)
        if not found:
            raise NoDeadLetter
        again = found.model_copy(update={"since_ms": now_ms, "next_ms": now_ms, "attempts": 0})
        self.apply(Move(((Pending.of(again).key, again.encode()),), (_dead(prefix, delivery_id),)))
        return again

    def remove_dead(self, prefix: str, delivery_id: str) -> None:
        """Delete a dead delivery. Raises :class:`NoDeadLetter`."""
        if not _ID.fullmatch(delivery_id) or not self._store.stat(_dead(prefix, delivery_id)):
            raise NoDeadLetter
        self._store.delete(_dead(prefix, delivery_id))

    def remove_expired(self, prefix: str, now_ms: int) -> bool:
        """Delete some of the dead deliveries whose last attempt is too long ago. Returns whether these were all."""
        entries = list(islice(self._store.list(f"{ROOT}{prefix}/expires/"), _MOST_EXPIRED))
        for entry in entries:
            found = _EXPIRES.fullmatch(entry.key)
            if found and int(found[1]) > now_ms:
                return True
            letter = self.dead_letter(prefix, found[2]) if found else None
            # Another attempt since then has an entry of its own.
            if letter and letter.next_ms + KEEP_DEAD_MS <= now_ms:
                self._store.delete(_dead(prefix, letter.id))
            self._store.delete(entry.key)
        return len(entries) < _MOST_EXPIRED

    def remove_of(self, request: ServiceRequest, ends: Iterable[RequestEnd]) -> None:
        """Delete what is waiting or dead of a request: the events of its *ends*."""
        if not request.callback_url:
            return
        with contextlib.suppress(CallbackRefused):  # a version before refused less
            for end in ends:
                delivery_id = delivery_id_of(request.tenant, request.callback_url, run_ended(request, end))
                # One that waits for another attempt is dropped when that is due.
                self._store.delete(_known(request.tenant, delivery_id))
                self._store.delete(Pending(request.tenant, end.ended_ms, delivery_id).key)
                self._store.delete(_dead(request.tenant, delivery_id))

    def apply(self, move: Move) -> None:
        """Carry out *move*, unless what it replaces was deleted meanwhile: with its run, or as a duplicate."""
        if move.put and any(self._store.stat(key) for key in move.delete):
            for key, data in move.put:
                self._store.put(key, data)
        for key in move.delete:
            self._store.delete(key)


def delivered(delivery: Delivery) -> Move:
    """The change after the receiver has accepted the event."""
    # A process that was killed while it wrote the dead letter left both.
    return Move((), (Pending.of(delivery).key, _dead(delivery.prefix, delivery.id)))


def failed(delivery: Delivery, reason: str, now_ms: int, *, final: bool) -> tuple[Move, Literal["retried", "dead"]]:
    """The change after a failed attempt, and what it means. *final*: there must be no other attempt."""
    pause_ms = 1000 * BACK_OFF_S[min(delivery.attempts, len(BACK_OFF_S) - 1)]
    tried = {"attempts": delivery.attempts + 1, "last_error": reason}
    before = Pending.of(delivery).key
    if final or now_ms + pause_ms > delivery.since_ms + GIVE_UP_MS:
        ended = delivery.model_copy(update={**tried, "next_ms": now_ms})
        place, expires_ms = _dead(delivery.prefix, delivery.id), now_ms + KEEP_DEAD_MS
        expires = f"{ROOT}{delivery.prefix}/expires/{expires_ms:013d}-{delivery.id}"
        return Move(((expires, b""), (place, ended.encode())), (before,)), "dead"
    later = delivery.model_copy(update={**tried, "next_ms": now_ms + pause_ms})
    return Move(((Pending.of(later).key, later.encode()),), (before,)), "retried"


def delivery_id_of(prefix: str, url: str, data: RunEnded) -> str:
    """The id of the delivery of an event: the same whenever it is added. Another try of the request has another one.

    Its first digits are those of the receiver's host and port. So a list of keys shows which deliveries wait for the
    same receiver, without reading them.
    """
    target = parse_url(url)
    receiver = hashlib.sha256(f"{target.host} {target.port}".encode()).hexdigest()[:_RECEIVER_DIGITS]
    text = f"{prefix} {data.id} {EVENT_TYPES[data.status]} {data.retries}"
    return receiver + hashlib.sha256(text.encode()).hexdigest()[: 32 - _RECEIVER_DIGITS]


def _known(prefix: str, delivery_id: str) -> str:
    return f"{ROOT}{prefix}/known/{delivery_id}"


def _dead(prefix: str, delivery_id: str) -> str:
    return f"{ROOT}{prefix}/dead/{delivery_id}.json"
