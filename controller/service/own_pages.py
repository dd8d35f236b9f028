"""Which requests of browsers come from pages of this service: others may not act for a person who is signed in.

Touches: nothing. No message and no log line contains a header's value.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from controller.errors import StenofleetError

COOKIE = "stenofleet_token"
"""The cookie of people who signed in: it has their token."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing."""
_LOCALHOST = "localhost"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForeignPage(StenofleetError):
    """A web page of another site makes the request, for a person who did not mean it. HTTP 403."""

    status = 403

    def __init__(
        self,
        summary: str = "this service answers only requests to the names of this machine, and of its own pages",
        advice: str = "use http://localhost or http://127.0.0.1; for others, start the service with --tenants",
    ) -> None:
        super().__init__(summary, advice)
        self.headers: dict[str, str] = {}


def check_local_page(headers: Headers) -> None:
    """Raise :class:`ForeignPage` for a request that a browser makes for a page of another site, without tokens.

    Browsers send such requests also to this machine, and other sites can give it a name of theirs.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if (
        not is_loopback(_host_name(host))
        or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        or (origin is not None and not _is_of(origin, host))
    ):
        raise ForeignPage


def check_change(method: str, headers: Headers) -> None:
    """Raise :class:`ForeignPage` for a request that changes something, and that no page of this service makes.

    Browsers add the cookie by themselves, and what a proxy knows its person by.
    """
    if method in SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        own = site == "same-origin"
    elif headers.get("authorization", "").lower().startswith("bearer "):
        # No browser adds a token by itself, as it does with a password for a proxy.
        own = True
    elif origin is not None:
        # Older browsers, and those that reach this service without TLS.
        own = _is_of(origin, headers.get("host", ""))
    else:
        own = cookie_token(headers) is None
    if not own:
        raise ForeignPage(
            "only pages of this service may do this for you", "open the page of this service, and do it there"
        )


def cookie_token(headers: Headers) -> str | None:
    """Return the token in the cookie; None if there is none, or more than one: another site may have set one."""
    pairs = (pair.strip().partition("=") for value in headers.getlist("cookie") for pair in value.split(";"))
    found = [value for name, _, value in pairs if name == COOKIE]
    return found[0] if len(found) == 1 else None


def is_loopback(host: str) -> bool:
    """Whether *host* is an address or the name of this machine that no other machine can reach."""
    address = parsed_address(host.removeprefix("[").removesuffix("]"))
    return host.lower() == _LOCALHOST if address is None else address.is_loopback


def parsed_address(text: str) -> _Address | None:
    """Return the address; one of IPv4 that is written as IPv6 as what it is; None for a name."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_of(origin: str, host: str) -> bool:
    return origin in (f"http://{host}", f"https://{host}")


def _host_name(host: str) -> str:
    """Return what is before the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
