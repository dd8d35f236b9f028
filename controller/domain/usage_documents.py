"""What runs used and what that cost: the ledger as JSON.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.document import Count, Document, RunId
from controller.domain.attempt_documents import LogId
from controller.domain.documents import FileName, Measure, Share, StoredState
from controller.domain.service_documents import TenantPrefix

Seconds = Measure | None
Money = Annotated[float, Field(ge=0, le=1e18)]


class UsageFigures(Document):
    """What one or several runs used, in seconds. None: not known.

    A sum of which a part is not known is the sum of what is known, and ``unknown`` says so: then it is a lower limit.
    """

    runs: Count
    audio_s: Seconds
    """Of the recordings, as they were cut."""
    transcribed_s: Seconds
    """The part of it that has a result."""
    speech_s: Seconds
    """Speech in it."""
    queue_s: Seconds
    """Waiting for a free slot and for a node. Nothing is paid meanwhile."""
    pull_s: Seconds
    """Images and volumes: from a node until a container started."""
    cut_s: Seconds
    """Decoding and cutting the recordings."""
    startup_s: Seconds
    """Starting programs, of the jobs that left a result; so are the next six."""
    fetch_s: Seconds
    """Reading and decoding the audio of chunks."""
    load_s: Seconds
    """Loading the model. Audio is read meanwhile."""
    kernels_s: Seconds
    """The first use of the GPU."""
    transcribe_s: Seconds
    """From the moment that audio and model are there to the last segment."""
    commit_s: Seconds
    """Building and checking results."""
    useful_s: Seconds
    """Decoding and word times, of the result that is used of each chunk."""
    paid_s: Seconds
    """All time of all jobs: ``gpu_s`` and ``cpu_s``. Of pods, with their images."""
    gpu_s: Seconds
    """Of jobs on a GPU."""
    cpu_s: Seconds
    """Of jobs without a GPU."""
    attempts: Count | None
    """Jobs that were started, those that cut recordings too."""
    failed_attempts: Count | None
    """Those that failed, or were lost with their controller."""
    failed_s: Seconds
    """Their time."""
    realtime_factor: Seconds = None
    """``transcribed_s`` / ``paid_s``."""
    useful_share: Share | None = None
    """``useful_s`` / ``paid_s``."""
    cost: Money | None = None
    """None: also if no price is set."""
    unpriced_s: Seconds = None
    """Time of jobs for which no price is set: not in ``cost``."""
    cost_per_audio_hour: Money | None = None
    """``cost`` for an hour of ``transcribed_s``."""
    unknown: dict[Annotated[str, Field(max_length=40)], Count] = Field(default={}, max_length=40)
    """Figure → how many attempts, or runs of which no attempts are known, are missing in it."""


class RunUsage(UsageFigures):
    """What one run used."""

    run: RunId
    name: FileName
    tenant: Literal[""] | TenantPrefix
    """Empty: it is none of the service."""
    state: StoredState | Literal["removed"]
    """*removed*: from the store. Then ``name`` is its id, and ``runs`` says how often it was removed."""


class RemovedUsage(UsageFigures):
    """What a run used that was removed: all that is kept of it. It has no name and no word of a recording."""

    schema_: Literal["stenofleet.removed-usage/1"] = Field(default="stenofleet.removed-usage/1", alias="schema")
    run: RunId
    log: LogId
    """Of its attempts: the same run, made again, has another one."""
    tenant: Literal[""] | TenantPrefix
    """Empty: it was none of the service."""
    submitted_ms: Count
    """When its request was submitted; without one, when its first attempt was; else when it was removed."""
    observed_ms: Count | None
    """When its attempts were last observed."""
    removed_ms: Count
    """When its removal began."""


class TenantUsage(UsageFigures):
    """What the runs of one tenant used."""

    tenant: TenantPrefix


class UsageReport(Document):
    """What runs used: each of them, by tenant, and all together."""

    max_bytes: ClassVar[int] = 256 << 20
    schema_: Literal["stenofleet.usage/1"] = Field(default="stenofleet.usage/1", alias="schema")
    gpu_hour_price: Money | None
    """Of an hour of a job on a GPU. None: not set."""
    cpu_hour_price: Money | None
    runs: tuple[RunUsage, ...] = Field(max_length=1_000_000)
    tenants: tuple[TenantUsage, ...] = Field(max_length=100_000)
    """Of the service's runs among them."""
    total: UsageFigures
