"""Which URLs callbacks may have, and which network addresses behind their hosts may be connected to.

Touches: the network (name resolution). A tenant chooses the URL, and the service is inside the cluster's network. So a
host is resolved once, all its addresses are checked, and the connection is made to a checked address: a name server
that answers differently the second time changes nothing. Errors are shown to the tenant. They do not contain what a
name resolved to, and a name that is unknown gives the same error as one with an internal address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from controller.errors import UsageProblem

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Iterable[str]]
"""Resolves a host, for a port, to addresses as text. Raises :class:`OSError` if the name is unknown."""

MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}
# Ports on which another protocol could take an HTTP request for its own commands.
_REFUSED_PORTS = frozenset(
    {19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 587, 636, 993, 995, 2049}
    | {3306, 5432, 6379, 11211, 27017}
)
# Printable ASCII without the characters that programs read differently: " < > \ ^ ` { | }
_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,254}))(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
# A host with such a last part is an address to most resolvers: "127.1", "0x7f000001", "2130706433".
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Inside of organizations. A host that is on the allow list may have these addresses.
_INTERNAL = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7"
)
# Where clouds give their machines credentials. Some are in the networks above, and one is in a public network.
_METADATA = _networks("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254")
# From the registries of special-purpose addresses: everything that is not the public internet.
_SPECIAL = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "2001::/23",  # also Teredo, which contains IPv4 addresses
    "2001:db8::/32",
    "3fff::/20",
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


class CallbackRefused(UsageProblem):
    """No callback is sent to this URL. The text is for the tenant."""


class AddressRefused(Exception):
    """The host cannot be resolved, or an address of it is not allowed. The text is for the log of the service only."""


@dataclass(frozen=True)
class Target:
    """A URL in parts, as it is requested."""

    scheme: str
    host: str
    """A name or an address in lower case, without brackets or a final dot."""
    port: int
    authority: str
    """The ``Host`` header."""
    path: str
    """With the query."""


@dataclass(frozen=True)
class AllowList:
    """Hosts and networks that callbacks may be sent to although they are not public."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> AllowList:
        """The list for *entries*: host names, addresses, and networks like ``10.1.0.0/16``."""
        hosts: set[str] = set()
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                hosts.add(entry.lower().removesuffix("."))
        return cls(frozenset(hosts), tuple(networks))

    def names(self, host: str) -> bool:
        """Whether *host*, as it is in a URL, is on the list by its name or as an address."""
        address = _literal(host)
        return host in self.hosts or (address is not None and self.contains(address))

    def contains(self, address: Address) -> bool:
        return any(plain in network for plain in (address, _unwrapped(address)) for network in self.networks)


def parse_url(url: str) -> Target:
    """Return the parts of *url*. Raises :class:`CallbackRefused` if it is not a plain http or https URL."""
    if len(url) > MAX_URL:
        raise CallbackRefused(f"the callback URL is longer than {MAX_URL} characters")
    if not _URL.fullmatch(url):
        raise CallbackRefused(
            "the callback URL has characters that are not allowed",
            "encode them with %, and write an international host name in ASCII (xn--…)",
        )
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _PORTS or not rest:
        raise CallbackRefused("the callback URL must begin with https://")
    if "#" in url:
        raise CallbackRefused("the callback URL must not have a fragment (#)")
    end = next((index for index, character in enumerate(rest) if character in "/?"), len(rest))
    authority, path = rest[:end].lower(), rest[end:]
    if "@" in authority:
        raise CallbackRefused("the callback URL must not contain a user or password")
    host, port = _host_and_port(authority)
    return Target(scheme, host, port or _PORTS[scheme], authority, path if path.startswith("/") else f"/{path}")


def check_callback(url: str, allowed: AllowList) -> Target:
    """Return the parts of *url* if a request may name it as its callback. Resolves nothing.

    Raises :class:`CallbackRefused` with a text for the tenant. The host is resolved and checked at each delivery.
    """
    target = parse_url(url)
    if target.scheme == "http" and not allowed.names(target.host):
        raise CallbackRefused(
            "the callback URL must begin with https://", "http:// only for hosts of the tenant's webhook_hosts"
        )
    address = _literal(target.host)
    if address is not None and not is_allowed(address, target.host, allowed):
        raise CallbackRefused("the callback URL has an address that is not public", "use a public host")
    return target


def resolve(target: Target, allowed: AllowList, lookup: Lookup | None = None) -> Sequence[Address]:
    """Return the addresses of the host of *target*, in the resolver's order.

    Raises :class:`AddressRefused` if there is none, or if any of them is not allowed.
    """
    try:
        texts = list(dict.fromkeys((lookup or system_lookup)(target.host, target.port)))
        addresses = [ipaddress.ip_address(text) for text in texts]
    except (OSError, ValueError) as error:
        raise AddressRefused(f"{target.host} cannot be resolved: {error}") from error
    if not addresses:
        raise AddressRefused(f"{target.host} has no address")
    for address in addresses:
        if not is_allowed(address, target.host, allowed):
            raise AddressRefused(f"{target.host} has the address {address}, which is not allowed")
    return addresses


def system_lookup(host: str, port: int) -> list[str]:
    """Ask the resolver of this machine. Raises :class:`OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


def is_allowed(address: Address, host: str, allowed: AllowList) -> bool:
    """Whether the service may connect to *address* for *host*.

    The address is public, or in a network on the allow list, or internal and *host* is on the allow list by name. The
    name of a host does not allow link-local addresses and the metadata services of clouds: they need a network.
    """
    if allowed.contains(address) or is_public(address):
        return True
    plain = _unwrapped(address)
    return host in allowed.hosts and _in(plain, _INTERNAL) and not _in(plain, _METADATA)


def is_public(address: Address) -> bool:
    """Whether *address* is in the public internet. An IPv6 address that contains an IPv4 address counts as that one."""
    plain = _unwrapped(address)
    if isinstance(plain, IPv6Address) and plain not in _PUBLIC_IPV6:
        return False
    return not (_in(plain, _SPECIAL) or _in(plain, _INTERNAL) or _in(plain, _METADATA))


def _unwrapped(address: Address) -> Address:
    """The IPv4 address in an IPv6 address of a transition method (mapped, 6to4, NAT64), else *address*."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _literal(host: str) -> Address | None:
    """The address that *host* is, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host_and_port(authority: str) -> tuple[str, int]:
    """The host and the port of *authority*; 0 if it has no port. Raises :class:`CallbackRefused`."""
    found = _AUTHORITY.fullmatch(authority)
    if not found:
        raise CallbackRefused("the callback URL has no valid host")
    port = int(found[3]) if found[3] else 0
    if found[3] and (not 0 < port < 65536 or port in _REFUSED_PORTS):
        raise CallbackRefused(f"the callback URL has port {port}, which is not allowed")
    host = found[1] or found[2].removesuffix(".")
    address = _literal(host)
    if bool(found[1]) != isinstance(address, IPv6Address):
        raise CallbackRefused("the callback URL has no valid host")
    labels = host.split(".")
    if address is None and not (all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])):
        raise CallbackRefused(
            "the callback URL has no valid host", "write an IPv4 address as four decimal numbers without leading zeros"
        )
    return host, port
