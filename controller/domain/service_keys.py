"""The keys of the service's objects: requests, the queue, the index, uploads, replicas.

Touches: nothing. All keys of a tenant contain its prefix. A tenant that does not know an id of another tenant finds
nothing, and needs the same requests to the store as for an id that does not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from chunk_job.contract import sha256_hex

PREFIX_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
"""Of the prefix of a tenant."""
ID_PATTERN = r"^[0-9a-hjkmnp-tv-z]{26}$"
"""Of the id of a request or an upload: 128 bits."""

REQUESTS = "requests/"
QUEUE = "queue/"
CANCELS = "cancels/"
REPLICAS = "replicas/"
INDEX = "index/"
INCOMPLETE = "incomplete/"
ANSWERS = "answers/"
MOST_PARTS = 10_000
"""Of one upload: S3 composes no more."""

_LATEST_MS = 10**13
_ENTRY = re.compile(r"queue/([a-z0-9-]{1,40})/([0-9])-(\d{13})-([0-9a-hjkmnp-tv-z]{26})-(\d{3})")
_CANCEL = re.compile(r"cancels/([a-z0-9-]{1,40})/([0-9a-hjkmnp-tv-z]{26})-(\d{3})")
_ANSWER = re.compile(r"answers/([a-z0-9-]{1,40})/(\d{13})-([0-9a-hjkmnp-tv-z]{26})")
_INDEXED = re.compile(r"index/[a-z0-9-]{1,40}/(\d{13})-([0-9a-hjkmnp-tv-z]{26})\.json")
_EVENT = re.compile(r"requests/[a-z0-9-]{1,40}/[0-9a-hjkmnp-tv-z]{26}/events/(\d{6})\.json")
_INCOMPLETE = re.compile(r"incomplete/([a-z0-9-]{1,40})/(\d{13})-(\d{1,16})-([0-9a-hjkmnp-tv-z]{26})")
_PART = re.compile(r"uploads/[a-z0-9-]{1,40}/[0-9a-hjkmnp-tv-z]{26}/parts/(\d{5})")
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no digit looks like another."""


class RequestKey(NamedTuple):
    """Identifies a request: the prefix of its tenant, and its id."""

    prefix: str
    id: str


class QueueEntry(NamedTuple):
    """A request that has not ended, as its key in the queue says."""

    request: RequestKey
    priority: int
    created_ms: int
    retries: int
    """Of the try that is queued. What an earlier try leaves behind must not end a later one."""
    key: str


class AnswerEntry(NamedTuple):
    """A request whose client waits for the answer and does not know its id, as its key says."""

    request: RequestKey
    until_ms: int
    """After this, nobody waits any more."""
    key: str


class UploadEntry(NamedTuple):
    """What is reserved for an upload of which parts may still come, as its key says."""

    prefix: str
    until_ms: int
    """After this, no part comes any more."""
    reserved_bytes: int
    """0: it is complete."""
    upload: str
    key: str


def is_id(text: str) -> bool:
    """Whether *text* has the form of an id."""
    return re.fullmatch(ID_PATTERN, text) is not None


def id_of(digest: bytes) -> str:
    """Return an id made of the first 128 bits of *digest*."""
    number = int.from_bytes(digest[:16], "big") << 2
    return "".join(_DIGITS[(number >> shift) & 31] for shift in range(125, -1, -5))


@dataclass(frozen=True)
class RequestKeys:
    """The keys of one request."""

    of: RequestKey

    @property
    def home(self) -> str:
        """Prefix of its own objects."""
        return f"{REQUESTS}{self.of.prefix}/{self.of.id}/"

    @property
    def request(self) -> str:
        """What was requested; immutable."""
        return f"{self.home}request.json"

    @property
    def rounds(self) -> str:
        """Prefix of the objects that say how often it was tried again after its end."""
        return f"{self.home}rounds/"

    def round(self, retries: int) -> str:
        """An empty object: it was tried again for the *retries*-th time."""
        return f"{self.rounds}{retries:03d}"

    def end(self, retries: int) -> str:
        """How it ended, in the round with this number of retries."""
        return f"{self.home}end-{retries:03d}.json"

    @property
    def events(self) -> str:
        """Prefix of its events, in order."""
        return f"{self.home}events/"

    def event(self, number: int) -> str:
        """One event; events are counted from 1."""
        return f"{self.events}{number:06d}.json"

    def cancel(self, retries: int) -> str:
        """Its presence asks for the end of the request, in the round with this number of retries."""
        return f"{CANCELS}{self.of.prefix}/{self.of.id}-{retries:03d}"

    def entry(self, *, priority: int, created_ms: int, retries: int) -> str:
        """Its entry in the queue, which exists until it has ended. Entries are in the order in which they come."""
        return f"{queue_of(self.of.prefix)}{9 - priority}-{created_ms:013d}-{self.of.id}-{retries:03d}"

    def answer(self, until_ms: int) -> str:
        """Its presence says that its client waits for the answer, until then."""
        return f"{ANSWERS}{self.of.prefix}/{until_ms:013d}-{self.of.id}"

    def indexed(self, created_ms: int) -> str:
        """Its entry in the tenant's index, which has the newest request first."""
        return f"{index_of(self.of.prefix)}{_LATEST_MS - created_ms:013d}-{self.of.id}.json"


def queue_of(prefix: str) -> str:
    """Prefix of a tenant's queue."""
    return f"{QUEUE}{prefix}/"


def index_of(prefix: str) -> str:
    """Prefix of a tenant's index."""
    return f"{INDEX}{prefix}/"


def index_before(prefix: str, ms: int) -> str:
    """The key after which the entries begin, in a tenant's index, of requests that were created before *ms*."""
    # No key has a character after this one there.
    return f"{index_of(prefix)}{_LATEST_MS - ms:013d}~"


def parse_entry(key: str) -> QueueEntry | None:
    """Parse a key of the queue; None for any other key."""
    found = _ENTRY.fullmatch(key)
    if found is None:
        return None
    return QueueEntry(RequestKey(found[1], found[4]), 9 - int(found[2]), int(found[3]), int(found[5]), key)


def parse_cancel(key: str) -> tuple[RequestKey, int] | None:
    """Return the request of a cancel and its number of retries; None for any other key."""
    found = _CANCEL.fullmatch(key)
    return (RequestKey(found[1], found[2]), int(found[3])) if found else None


def parse_answer(key: str) -> AnswerEntry | None:
    """Parse the key of a request whose client waits; None for any other key."""
    found = _ANSWER.fullmatch(key)
    return AnswerEntry(RequestKey(found[1], found[3]), int(found[2]), key) if found else None


def parse_indexed(key: str) -> tuple[int, str] | None:
    """Return when the request of a key of the index was created, in ms, and its id; None for any other key."""
    found = _INDEXED.fullmatch(key)
    return (_LATEST_MS - int(found[1]), found[2]) if found else None


def parse_event(key: str) -> str | None:
    """Return the id of the event with this key; None for any other key."""
    found = _EVENT.fullmatch(key)
    return found[1] if found else None


def is_event_id(text: str) -> bool:
    """Whether *text* has the form of the id of an event."""
    return re.fullmatch(r"[0-9]{6}", text) is not None


def replica_key(replica: str) -> str:
    """What a replica of the service works on; renewed while it is alive."""
    return f"{REPLICAS}{replica}.json"


def uploads_of(prefix: str) -> str:
    """Prefix of a tenant's uploads."""
    return f"uploads/{prefix}/"


def upload_home(prefix: str, upload: str) -> str:
    """Prefix of the objects of one upload."""
    return f"{uploads_of(prefix)}{upload}/"


def upload_of(key: str) -> str:
    """Return the id of the upload that an object below :func:`uploads_of` belongs to; empty for any other key."""
    return key.split("/")[2] if key.count("/") > 2 else ""


def parts_of(prefix: str, upload: str) -> str:
    """Prefix of the parts of one upload."""
    return f"{upload_home(prefix, upload)}parts/"


def part_key(prefix: str, upload: str, number: int) -> str:
    """One part of an upload; parts are counted from 1."""
    return f"{parts_of(prefix, upload)}{number:05d}"


def parse_part(key: str) -> int | None:
    """Return the number of the part with this key; None for any other key."""
    found = _PART.fullmatch(key)
    return int(found[1]) if found else None


def incomplete_of(prefix: str) -> str:
    """Prefix of the entries of a tenant's uploads of which parts may still come."""
    return f"{INCOMPLETE}{prefix}/"


def upload_entry(prefix: str, upload: str, *, until_ms: int, reserved_bytes: int) -> str:
    """Return the key of such an entry. It exists as long as parts may come, also of an upload that was deleted."""
    return f"{incomplete_of(prefix)}{until_ms:013d}-{reserved_bytes}-{upload}"


def parse_upload_entry(key: str) -> UploadEntry | None:
    """Parse the key of such an entry; None for any other key."""
    found = _INCOMPLETE.fullmatch(key)
    return UploadEntry(found[1], int(found[2]), int(found[3]), found[4], key) if found else None


def idempotent_id(prefix: str, key: str) -> str:
    """Return the id of the request with this idempotency key: the same for every replica, without asking the store."""
    return id_of(bytes.fromhex(sha256_hex(f"{prefix}\0{key}".encode())))
