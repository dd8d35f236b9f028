"""A tenant of the service: its part of the store, its weight, its limits, and where it may read and write.

Touches: nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from controller.domain.service_keys import PREFIX_PATTERN
from controller.domain.shares import MOST_PRIORITY, Share
from controller.service.sources import EVERYWHERE, is_prefix

DEFAULT_NAME = "default"
"""The only tenant where there is no tenants file."""

_GIB = 1 << 30
_MOST_BYTES = 1 << 53
_HOST = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII
)


def _checked_prefix(text: str) -> str:
    if not is_prefix(text):
        raise ValueError
    return text


def _checked_place(text: str) -> str:
    if text and (text == EVERYWHERE or not is_prefix(text)):
        raise ValueError
    return text


def _checked_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        ipaddress.ip_network(text)
    return text


_Prefixes = Annotated[tuple[Annotated[str, AfterValidator(_checked_prefix)], ...], Field(strict=False, max_length=1000)]
_Place = Annotated[str, AfterValidator(_checked_place)]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Host = Annotated[str, AfterValidator(_checked_host)]


class Tenant(BaseModel):
    """One tenant: its tokens, the prefix of its objects, its share and its limits. None: without a limit."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=PREFIX_PATTERN)
    tokens: Annotated[tuple[_Digest, ...], Field(strict=False, max_length=1000)] = Field(
        default=(),
        repr=False,
        description='a list of digests, each "sha256:" with 64 hexadecimal digits: stenofleet token prints one',
    )
    prefix: str = Field(
        pattern=PREFIX_PATTERN,
        description="1 to 40 lower-case letters, digits and hyphens inside: no other tenant may have the same",
    )
    weight: int = Field(default=1, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_priority: int = Field(
        default=5, ge=0, le=MOST_PRIORITY, description=f"a whole number from 0 to {MOST_PRIORITY}"
    )
    max_live_chunks: int | None = Field(
        default=None, ge=1, le=1_000_000, description="a whole number from 1 to 1,000,000; without it: no limit"
    )
    max_queued_runs: int | None = Field(
        default=10_000, ge=0, le=10_000_000, description="a whole number from 0 to 10,000,000"
    )
    max_upload_bytes: int | None = Field(
        default=50 * _GIB, ge=0, le=_MOST_BYTES, description="a whole number of bytes, 0 for no uploads"
    )
    max_upload_bytes_total: int | None = Field(
        default=500 * _GIB, ge=0, le=_MOST_BYTES, description="a whole number of bytes, 0 for no uploads"
    )
    requests_per_second: float | None = Field(
        default=20.0, ge=0.01, le=100_000, description="a number from 0.01 to 100,000"
    )
    sources: _Prefixes = Field(
        default=(),
        description='a list of prefixes as "s3://bucket/" or "s3://bucket/folder/"; "s3://" for every bucket',
    )
    outputs: _Prefixes = Field(
        default=(),
        description='a list of prefixes as "s3://bucket/" or "s3://bucket/folder/"; "s3://" for every bucket',
    )
    inbox: _Place = Field(default="", description='where its recordings are put, as "s3://bucket/folder/"')
    outbox: _Place = Field(default="", description='where their transcripts are written, as "s3://bucket/folder/"')
    webhook_hosts: Annotated[tuple[_Host, ...], Field(strict=False, max_length=1000)] = Field(
        default=(), description='a list of host names in lower case, addresses or networks as "10.1.0.0/16"'
    )

    def share(self, priority: int) -> Share:
        """Return the share of a run with this *priority*; above its highest one, the tenant has that one."""
        return Share(
            group=self.prefix,
            weight=self.weight,
            most_live=self.max_live_chunks,
            priority=min(priority, self.max_priority),
        )


DEFAULT = Tenant(
    name=DEFAULT_NAME,
    prefix=DEFAULT_NAME,
    max_priority=MOST_PRIORITY,
    max_queued_runs=None,
    max_upload_bytes=None,
    max_upload_bytes_total=None,
    requests_per_second=None,
    sources=(EVERYWHERE,),
    outputs=(EVERYWHERE,),
)
"""The person whose machine this is: without limits."""
