"""Limits of tenants and of clients: requests a second, failed authentications, queued runs, bytes of uploads.

Touches: the clock. Rates are counted in the memory of one replica: two replicas allow twice as many requests.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

from controller.errors import StenofleetError
from controller.service.tenant import Tenant

BURST_S = 2.0
"""A tenant that was silent may make the requests of this time at once."""

FAILURES_PER_S = 0.5
FAILURES_AT_ONCE = 20
"""Failed authentications of one client address, before its next ones are answered with 429."""

MOST_STREAMS = 500
"""Of one tenant, in one replica: each reads the store once a second."""
STREAMS_RETRY_S = 10
QUEUE_RETRY_S = 60
UPLOADS_RETRY_S = 300
_MOST_BUCKETS = 10_000
_IPV6_NETWORK = 64
"""One client has all addresses of such a network."""


class LimitExceeded(StenofleetError):
    """A limit of a tenant, or of a client address. HTTP 429; 413 for what can never fit."""

    def __init__(self, what: str, limit: float, retry_after_s: int | None, advice: str = "") -> None:
        """*what*: a plural, as "requests a second"; *retry_after_s*: None if waiting does not help.

        *advice*: what helps then.
        """
        super().__init__(
            f"the limit is {_written(limit)} {what}",
            advice if retry_after_s is None else f"try again in {retry_after_s} s",
        )
        self.what, self.limit, self.retry_after_s = what, limit, retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return 413 if self.retry_after_s is None else 429

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of the response."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class Buckets:
    """Token buckets by key, in bounded memory: beyond *most* keys, the one that was used longest ago is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = _MOST_BUCKETS) -> None:
        """*clock*: seconds; *most*: how many buckets are held."""
        self._clock, self._most = clock, most
        self._full_s: OrderedDict[str, float] = OrderedDict()
        """By key: when its bucket will be full again."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._full_s)

    def take(self, key: str, *, per_second: float, burst: float) -> float:
        """Take one from the bucket of *key*, which holds *burst* (at least 1) and gains *per_second*.

        Returns 0 if there was one; else the seconds until there is one again, and nothing is taken.
        """
        with self._lock:
            now_s, each_s = self._clock(), 1 / per_second
            full_s = max(self._full_s.get(key, now_s), now_s) + each_s
            wait_s = full_s - now_s - max(burst, 1.0) * each_s
            # Sums of floats differ in their last digits, the more the longer the machine is up.
            if wait_s > 1e-6:
                return wait_s
            self._full_s[key] = full_s
            self._full_s.move_to_end(key)
            while len(self._full_s) > self._most:
                self._full_s.popitem(last=False)
            return 0.0


class RequestRates:
    """The requests a second of every tenant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(clock)

    def check(self, tenant: Tenant) -> None:
        """Count one request of the tenant. Raises :class:`LimitExceeded` if it is one too many."""
        rate = tenant.requests_per_second
        if rate is None:
            return
        if wait_s := self._buckets.take(tenant.name, per_second=rate, burst=BURST_S * rate):
            raise LimitExceeded("requests a second", rate, _whole(wait_s))


class FailedAuthentications:
    """Failed authentications by client address. A valid token is never refused because of others that failed.

    So a client behind the same proxy or NAT as an attacker is not locked out. What protects tokens is their length.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(clock)

    def count(self, address: str) -> None:
        """Count one failure. Raises :class:`LimitExceeded` if this address had too many."""
        wait_s = self._buckets.take(_client(address), per_second=FAILURES_PER_S, burst=FAILURES_AT_ONCE)
        if wait_s:
            raise LimitExceeded("failed authentications at once", FAILURES_AT_ONCE, _whole(wait_s))


class OpenStreams:
    """The streams of events that are open, by tenant."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Return a context in which a stream counts. Raises :class:`LimitExceeded` if it would be one too many."""
        if self._open[key] >= self._most:
            raise LimitExceeded("open streams of events", self._most, STREAMS_RETRY_S)
        # Not counted yet: a client may be gone before its stream begins.
        return self._counted(key)

    @contextlib.contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        with self._lock:
            self._open[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[key] -= 1


def check_queued_runs(tenant: Tenant, queued: int, new: int = 1) -> None:
    """Raises :class:`LimitExceeded` if *new* runs are too many for a tenant with *queued* runs that have not ended."""
    if tenant.max_queued_runs is not None and queued + new > tenant.max_queued_runs:
        raise LimitExceeded("runs that have not ended", tenant.max_queued_runs, QUEUE_RETRY_S)


def check_upload(tenant: Tenant, size_bytes: int, stored_bytes: int) -> None:
    """Raises :class:`LimitExceeded` if an upload of *size_bytes* is too large, alone or with the *stored_bytes*."""
    of_one, of_all = _unlimited(tenant.max_upload_bytes), _unlimited(tenant.max_upload_bytes_total)
    if size_bytes > min(of_one, of_all):
        key = "max_upload_bytes" if of_one <= of_all else "max_upload_bytes_total"
        advice = f"split the recording, or ask the operator of the service for a higher {key}"
        raise LimitExceeded("bytes in one upload", min(of_one, of_all), None, advice)
    total = tenant.max_upload_bytes_total
    if total is not None and stored_bytes + size_bytes > total:
        raise LimitExceeded("bytes in all stored uploads", total, UPLOADS_RETRY_S)


def _written(limit: float) -> str:
    return f"{limit:,}".removesuffix(".0")


def _unlimited(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _whole(wait_s: float) -> int:
    return max(1, math.ceil(wait_s))


def _client(address: str) -> str:
    """Return what one client cannot change: its address, or the network of its IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found), _IPV6_NETWORK), strict=False))
