"""The keys of the ledger: what runs used that were removed.

Touches: nothing.

    ledger/runs/<run>/<log>.json                    what it used, by the id of its log of attempts
    ledger/tenants/<tenant>/<time>-<run>-<log>      an empty object: the same by tenant, the newest first
"""

from __future__ import annotations

import re
from typing import NamedTuple

from controller.domain.keys import LEDGER_RUNS

NO_LOG = "0" * 16
"""In keys, the id of a log that has none: it is of an earlier version."""

_TENANTS = "ledger/tenants/"
LATEST_MS = 10**13 - 1
"""The latest time in a key."""
_USED = re.compile(r"ledger/runs/[0-9a-f]{16}/([0-9a-f]{16})\.json")
_BY_TENANT = re.compile(r"ledger/tenants/[a-z0-9-]{1,40}/([0-9]{13})-([0-9a-f]{16})-([0-9a-f]{16})")


class TenantKey(NamedTuple):
    """What a key of a tenant's part says of a run that was removed."""

    submitted_ms: int
    run: str
    log: str


def used_of(run: str) -> str:
    """Prefix of what a run used. It may have been removed, made again, and removed again."""
    return f"{LEDGER_RUNS}{run}/"


def used_key(run: str, log: str) -> str:
    """What the attempts of one log used. *log*: its id, or empty."""
    return f"{used_of(run)}{log or NO_LOG}.json"


def parse_used(key: str) -> str | None:
    """Return the log of a key of what a run used; None for any other key."""
    found = _USED.fullmatch(key)
    return found[1] if found else None


def tenant_of(prefix: str) -> str:
    """Prefix of a tenant's part."""
    return f"{_TENANTS}{prefix}/"


def tenant_key(prefix: str, submitted_ms: int, run: str, log: str) -> str:
    """The key of a tenant's run: the newest comes first."""
    return f"{tenant_of(prefix)}{LATEST_MS - submitted_ms:013d}-{run}-{log or NO_LOG}"


def tenant_before(prefix: str, ms: int) -> str:
    """The key after which the runs of a tenant come that were submitted before *ms*."""
    # No key has a character after this one there.
    return f"{tenant_of(prefix)}{LATEST_MS - ms:013d}~"


def parse_tenant_key(key: str) -> TenantKey | None:
    """Parse the key of a tenant's run; None for any other key."""
    found = _BY_TENANT.fullmatch(key)
    return TenantKey(LATEST_MS - int(found[1]), found[2], found[3]) if found else None
