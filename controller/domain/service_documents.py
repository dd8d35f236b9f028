"""The documents of the service: requests, their state, end and events, uploads, and the replicas.

Touches: nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.contract import TranscribeOptions
from chunk_job.document import Count, Document, Line, RunId, Sha256
from chunk_job.segment import Speaker
from controller.domain.documents import FailureName, FileName
from controller.domain.output import Output, Uri
from controller.domain.plan import PlanOptions
from controller.domain.service_keys import ID_PATTERN, PREFIX_PATTERN
from controller.domain.shares import DEFAULT_PRIORITY, MOST_PRIORITY

RequestId = Annotated[str, Field(pattern=ID_PATTERN)]
UploadId = Annotated[str, Field(pattern=ID_PATTERN)]
TenantPrefix = Annotated[str, Field(pattern=PREFIX_PATTERN)]
LABEL_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$"
"""Of the names of labels."""
Labels = Annotated[
    dict[
        Annotated[str, Field(pattern=LABEL_PATTERN)],
        Annotated[str, Field(max_length=256)],
    ],
    Field(max_length=32),
]
"""Names and values for the clients' own use."""
RequestStatus = Literal["queued", "running", "complete", "partial", "failed", "cancelled"]
ENDED_STATUSES: frozenset[RequestStatus] = frozenset({"complete", "partial", "failed", "cancelled"})
PART_BYTES = 64 << 20
"""Of uploads: the length of each part but the last."""
MOST_RETRIES = 999
Retries = Annotated[int, Field(ge=0, le=MOST_RETRIES)]


def iso(ms: int) -> str:
    """Return a time since the epoch in RFC 3339, in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ServiceRequest(Document):
    """A transcription that a client requested. Immutable."""

    max_bytes: ClassVar[int] = 4 << 20
    schema_: Literal["stenofleet.service-request/1"] = Field(default="stenofleet.service-request/1", alias="schema")
    id: RequestId
    tenant: TenantPrefix
    created_ms: Count
    body_sha256: Sha256
    """Digest of what the client sent: another body with the same idempotency key is an error."""
    name: FileName
    source: Uri
    upload: UploadId | None
    """The upload that *source* is; None: an object of the client."""
    audio_track: int | None = Field(ge=0, le=100_000)
    plan: PlanOptions
    options: TranscribeOptions
    speaker_names: tuple[Speaker, ...] = Field(max_length=1_000)
    on_chunk_failure: Literal["fail", "gap"]
    keep_chunks: bool
    rendition: bool = False
    output: Output | None
    """Where the transcript is written, besides the service's own store."""
    callback_url: str = Field(max_length=4_096)
    """Empty: none."""
    labels: Labels
    priority: int = Field(default=DEFAULT_PRIORITY, ge=0, le=MOST_PRIORITY)
    inbox: str = Field(default="", max_length=1_024, pattern=r"^[0-9a-v]*$")
    """The path below the tenant's inbox, encoded, if it was found there; empty: a client has sent the request."""


class RequestState(Document):
    """The state of a request, as lists show it. Its end is decided by :class:`RequestEnd` alone."""

    schema_: Literal["stenofleet.service-state/1"] = Field(default="stenofleet.service-state/1", alias="schema")
    id: RequestId
    name: FileName
    labels: Labels
    priority: int = Field(ge=0, le=MOST_PRIORITY)
    created_ms: Count
    updated_ms: Count
    status: RequestStatus
    retries: Retries = 0
    """The round that this is the state of."""
    run_id: RunId | None
    """The run in the store that it became; None while its recording was not identified yet."""


class RequestEnd(Document):
    """How a request ended."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.service-end/1"] = Field(default="stenofleet.service-end/1", alias="schema")
    id: RequestId
    retries: Retries
    run_id: RunId | None
    status: Literal["complete", "partial", "failed", "cancelled"]
    summary: Line
    advice: Line
    failure: Literal[""] | FailureName
    environment: bool
    """Whether the cause of a failure is not the recording."""
    warnings: tuple[Line, ...] = Field(max_length=1_000)
    files: tuple[Annotated[str, Field(max_length=16_384)], ...] = Field(max_length=1_000)
    """Outputs that were written, as URIs."""
    ended_ms: Count


class Upload(Document):
    """A recording that a client uploads."""

    schema_: Literal["stenofleet.service-upload/1"] = Field(default="stenofleet.service-upload/1", alias="schema")
    id: UploadId
    tenant: TenantPrefix
    name: FileName
    size_bytes: Count
    created_ms: Count
    complete: bool
    part_bytes: int = Field(default=PART_BYTES, ge=1)
    """Length of each part but the last."""

    @property
    def part_count(self) -> int:
        """How many parts it has."""
        return -(-self.size_bytes // self.part_bytes)

    def bytes_of(self, part: int) -> int:
        """Return the length of a part; parts are counted from 1."""
        return min(self.part_bytes, self.size_bytes - (part - 1) * self.part_bytes)


EventType = Literal["accepted", "started", "message", "ended", "retried"]


class RequestEvent(Document):
    """Something that happened to a request. Events are never changed, and are read in the order of their ids."""

    schema_: Literal["stenofleet.service-event/1"] = Field(default="stenofleet.service-event/1", alias="schema")
    type: EventType
    time_ms: Count
    text: Line
    """For people."""
    status: RequestStatus | None = None
    """The new status; None: unchanged."""
    run_id: RunId | None = None
    retries: Retries
    """How often the request had been tried again."""
    happened: tuple[EventType, ...] = Field(max_length=10)
    """The types of the events since the request was last tried again, with this one; each once."""


class RunClaim(Document):
    """What a run of a replica has and wants: chunk jobs, chunks without one, intake jobs, and its share."""

    run: RunId
    group: Literal[""] | TenantPrefix
    weight: int = Field(ge=1)
    most_live: int | None = Field(ge=0)
    priority: int = Field(ge=0, le=MOST_PRIORITY)
    live: Count
    waiting: Count
    cutting: Count


class ReplicaSlots(Document):
    """How many chunk jobs a replica may have, and what its runs have and want."""

    everything: bool
    """It knows of no other replica, and may use all slots."""
    held: dict[Literal[""] | TenantPrefix, Count] = Field(max_length=2_000)
    """By tenant whose jobs are limited; of all tenants together under the empty name."""
    claims: tuple[RunClaim, ...] = Field(max_length=2_000)
    jobs_stay: bool
    """Whether its jobs continue without it."""


class InboxCursor(Document):
    """Where the last look at a large inbox stopped: the next process continues from there."""

    schema_: Literal["stenofleet.inbox-cursor/1"] = Field(default="stenofleet.inbox-cursor/1", alias="schema")
    path: str = Field(max_length=1_024, pattern=r"^[0-9a-v]*$")
    """The last path that was looked at, encoded."""


class ReplicaRecord(Document):
    """A replica of the service, and the requests that it works on. Renewed while it is alive."""

    max_bytes: ClassVar[int] = 8 << 20
    schema_: Literal["stenofleet.replica/1"] = Field(default="stenofleet.replica/1", alias="schema")
    replica: str = Field(pattern=r"^[0-9a-f]{16}$")
    renew_count: Count
    requests: tuple[RequestId, ...] = Field(max_length=100_000)
    runs: tuple[RunId, ...] = Field(max_length=100_000)
    """Of these requests, if their recordings are identified."""
    slots: ReplicaSlots | None = None
    """None: it does not share its slots with others, as an earlier version."""
    ended: bool = False
    """It has ended, and its jobs are still there."""
