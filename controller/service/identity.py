"""Which tenant makes a request: by its bearer token, by the cookie with one, or by a header of a trusted proxy.

Touches: nothing. No message and no log line contains a header's value. The peer is the address of the connection: the
server must not replace it by what a header says (uvicorn: ``proxy_headers=False``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from controller.errors import StenofleetError, UsageProblem
from controller.service.limits import FailedAuthentications
from controller.service.own_pages import check_local_page, cookie_token, is_loopback, parsed_address
from controller.service.tenant import DEFAULT, Tenant
from controller.service.tenants import Tenants

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_LENGTH = 1_024
_VALID = r"[A-Za-z0-9._~+/-]+=*"
_BEARER = re.compile(rf"bearer +({_VALID})", re.ASCII | re.IGNORECASE)
_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}", re.ASCII | re.IGNORECASE)
_OWN_HEADERS = ("authorization", "connection", "content-length", "content-type", "cookie", "host", "origin")


class Unauthenticated(StenofleetError):
    """It is not known who makes the request. HTTP 401."""

    status = 401

    def __init__(self, summary: str = "no valid token") -> None:
        super().__init__(summary, "send the header Authorization: Bearer TOKEN, with a token of this service")
        self.headers = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, kw_only=True)
class TrustedHeader:
    """The header by which trusted proxies say who makes a request."""

    name: str
    proxies: tuple[_Network, ...]

    def is_from(self, peer: str | None) -> bool:
        """Whether the address *peer* is that of a trusted proxy."""
        address = parsed_address(peer or "")
        return address is not None and any(address in network for network in self.proxies)


def trusted_header(name: str | None, proxies: Sequence[str], *, tenants_configured: bool) -> TrustedHeader | None:
    """Return what ``--trusted-header`` and ``--trusted-proxies`` mean together. Raises :class:`UsageProblem`."""
    if not name and not proxies:
        return None
    if not name or not proxies:
        raise UsageProblem(
            "--trusted-header and --trusted-proxies belong together", "give both, or none: others could set the header"
        )
    if not tenants_configured:
        raise UsageProblem("--trusted-header without --tenants", "name the tenants in a file, and give it by --tenants")
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
        raise UsageProblem("--trusted-header: not a header for this", "for instance X-Auth-Request-User")
    return TrustedHeader(name=name.lower(), proxies=tuple(map(_network, proxies)))


class Identity:
    """Finds the tenant of a request."""

    def __init__(
        self,
        tenants: Tenants,
        trusted: TrustedHeader | None = None,
        failures: FailedAuthentications | None = None,
    ) -> None:
        self._tenants, self._trusted = tenants, trusted
        self._failures = failures or FailedAuthentications()

    @property
    def needs_token(self) -> bool:
        """Whether people sign in."""
        return self._tenants.configured

    @property
    def reads_file(self) -> bool:
        """Whether :meth:`tenant_of` would read the tenants file, as it does from time to time."""
        return self._tenants.is_due

    def read_file(self) -> None:
        """Read the tenants file if that is due."""
        self._tenants.refresh()

    def tenant_of(self, headers: Headers, peer: str | None) -> Tenant:
        """Return who makes a request with these *headers*, from the address *peer* of the connection.

        For a request that changes something, see also :func:`check_change`: browsers add the cookie by themselves.

        Raises :class:`Unauthenticated`; :class:`LimitExceeded` if this peer had too many of these; and, where no
        tenants are configured, :class:`ForeignPage`.
        """
        if not self._tenants.configured:
            check_local_page(headers)
            return self._tenants.by_name(DEFAULT.name) or DEFAULT
        found = self._by_header(headers, peer) or self._by_token(headers)
        if found is None:
            if headers.get("authorization") is not None or cookie_token(headers) is not None:
                # Without a token, nothing was guessed: people come to the page to sign in.
                self._failures.count(peer or "")
            raise Unauthenticated
        return found

    def _by_header(self, headers: Headers, peer: str | None) -> Tenant | None:
        if self._trusted is None or not self._trusted.is_from(peer):
            return None
        values = headers.getlist(self._trusted.name)
        # More than one: the proxy has added its own to that of the client.
        if len(values) > 1:
            raise Unauthenticated("the header of the proxy is there twice")
        if not values or not values[0].strip():
            return None
        found = self._tenants.by_name(values[0].strip())
        if found is None:
            raise Unauthenticated("the header of the proxy names no tenant of this service")
        return found

    def _by_token(self, headers: Headers) -> Tenant | None:
        values = headers.getlist("authorization")
        if not values:
            return self._by_cookie(headers)
        if len(values) != 1 or len(values[0]) > _MOST_LENGTH:
            return None
        found = _BEARER.fullmatch(values[0].strip())
        return self._tenants.by_token(found[1]) if found else None

    def _by_cookie(self, headers: Headers) -> Tenant | None:
        token = cookie_token(headers) or ""
        valid = len(token) <= _MOST_LENGTH and re.fullmatch(_VALID, token, re.ASCII)
        return self._tenants.by_token(token) if valid else None


def check_host(host: str, tenants_configured: bool) -> None:  # noqa: FBT001 (what the two mean is in their names)
    """Check the address that the service listens on: without tenants only this machine may reach it.

    Raises :class:`UsageProblem`.
    """
    if not tenants_configured and not is_loopback(host):
        raise UsageProblem(
            "--host: without tokens the service is only for this machine",
            "use --host 127.0.0.1, or give each client a token: --tenants FILE (stenofleet token makes one)",
        )


def _network(text: str) -> _Network:
    try:
        found = ipaddress.ip_network(text.strip())
    except ValueError:
        raise UsageProblem("--trusted-proxies: not a network", "write it as 10.0.0.0/8 or 192.0.2.7") from None
    if found.prefixlen == 0:
        raise UsageProblem("--trusted-proxies: everyone would be trusted", "name only the networks of the proxies")
    return found
