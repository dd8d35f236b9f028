"""Callbacks are sent to public addresses only, whatever a URL or a name server says."""

import ipaddress
from collections.abc import Iterable

import pytest

from controller.service.addresses import (
    AddressRefused,
    AllowList,
    CallbackRefused,
    Lookup,
    Target,
    check_callback,
    is_public,
    parse_url,
    resolve,
)

NOTHING = AllowList()
PUBLIC = ("93.184.216.34", "8.8.8.8", "192.31.196.1", "2606:2800:220:1::1", "2a00:1450:4001::1", "64:ff9b::8.8.8.8")
INTERNAL = (
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:c0a8:101::1",  # 6to4 of 192.168.1.1
)
NEVER_BY_NAME = (
    "0.0.0.0",
    "0.1.2.3",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",  # IPv4-compatible
    "::8.8.8.8",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",  # translated
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",  # NAT64 with a local prefix
    "100::1",
    "2001::1",  # Teredo
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:a9fe:a9fe::",  # 6to4 of 169.254.169.254
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
)


def answers(*addresses: str) -> Lookup:
    def lookup(host: str, port: int) -> Iterable[str]:
        return addresses

    return lookup


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    found = resolve(parse_url("https://receiver.example/"), NOTHING, answers(address))
    assert found == [ipaddress.ip_address(address)]


@pytest.mark.parametrize("address", [*INTERNAL, *NEVER_BY_NAME])
def test_no_other_address_is_connected_to(address: str) -> None:
    with pytest.raises(AddressRefused, match="not allowed"):
        resolve(parse_url("https://receiver.example/"), NOTHING, answers(address))


@pytest.mark.parametrize("address", [*INTERNAL, *NEVER_BY_NAME])
def test_one_bad_address_among_public_ones_refuses_the_host(address: str) -> None:
    with pytest.raises(AddressRefused):
        resolve(parse_url("https://receiver.example/"), NOTHING, answers("8.8.8.8", address, "8.8.4.4"))


def test_no_address_that_python_counts_as_private_is_public() -> None:
    for first in range(256):
        for rest in ("0.0.1", "64.0.1", "168.0.1", "254.169.254"):
            address = ipaddress.ip_address(f"{first}.{rest}")
            assert not is_public(address) or address.is_global, address


@pytest.mark.parametrize("address", INTERNAL)
def test_a_host_on_the_allow_list_may_be_internal(address: str) -> None:
    allowed = AllowList.of(["Receiver.Example."])
    assert resolve(parse_url("https://receiver.example/"), allowed, answers(address))
    with pytest.raises(AddressRefused):
        resolve(parse_url("https://a.receiver.example/"), allowed, answers(address))


@pytest.mark.parametrize("address", NEVER_BY_NAME)
def test_a_name_on_the_allow_list_never_leads_to_a_metadata_service_or_a_special_address(address: str) -> None:
    with pytest.raises(AddressRefused):
        resolve(parse_url("https://receiver.example/"), AllowList.of(["receiver.example"]), answers(address))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"])
def test_a_network_on_the_allow_list_is_reachable_in_every_notation(address: str) -> None:
    allowed = AllowList.of(["10.1.0.0/16"])
    assert resolve(parse_url("https://receiver.example/"), allowed, answers(address))
    with pytest.raises(AddressRefused):
        resolve(parse_url("https://receiver.example/"), allowed, answers(address, "10.2.0.1"))


def test_only_a_network_allows_a_link_local_address() -> None:
    assert resolve(parse_url("https://a.example/"), AllowList.of(["169.254.0.0/16"]), answers("169.254.169.254"))


def test_a_name_is_resolved_once_and_every_address_is_used_once() -> None:
    asked = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["8.8.8.8", "8.8.8.8", "2a00::1"]

    found = resolve(parse_url("https://receiver.example:8443/"), NOTHING, lookup)
    assert list(map(str, found)) == ["8.8.8.8", "2a00::1"]
    assert asked == [("receiver.example", 8443)]


@pytest.mark.parametrize("error", [OSError("unknown"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_resolved_is_refused(error: Exception) -> None:
    def lookup(host: str, port: int) -> list[str]:
        raise error

    with pytest.raises(AddressRefused, match="cannot be resolved"):
        resolve(parse_url("https://receiver.example/"), NOTHING, lookup)
    with pytest.raises(AddressRefused, match="no address"):
        resolve(parse_url("https://receiver.example/"), NOTHING, answers())


@pytest.mark.parametrize(
    "url,target",
    [
        ("https://A.example", Target("https", "a.example", 443, "a.example", "/")),
        ("HTTPS://a.example./x?y=1", Target("https", "a.example", 443, "a.example.", "/x?y=1")),
        ("https://a.example:8443?y=@", Target("https", "a.example", 8443, "a.example:8443", "/?y=@")),
        ("http://a_b/%20", Target("http", "a_b", 80, "a_b", "/%20")),
        ("https://[2A00::1]:444/", Target("https", "2a00::1", 444, "[2a00::1]:444", "/")),
        ("https://8.8.8.8/", Target("https", "8.8.8.8", 443, "8.8.8.8", "/")),
    ],
)
def test_a_url_in_parts(url: str, target: Target) -> None:
    assert parse_url(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "//a.example/",
        "https:/a.example/",
        "https://",
        "https:///x",
        "https://?x",
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "https://user@a.example/",
        "https://user:password@a.example/",
        "https://8.8.8.8@10.0.0.1/",
        "https://a.example\\@10.0.0.1/",
        "https://a.example/ x",
        "https://a.example/\r\nX: y",
        "https://a.example/\t",
        " https://a.example/",
        "https://a.example/#x",
        "https://a.example#@10.0.0.1/",
        "https://ä.example/",
        "https://①②⑦.⓪.⓪.①/",
        "https://a。example/",
        "https://%31%32%37.0.0.1/",
        "https://a..example/",
        "https://.example/",
        "https://a.example../",
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 130}example/",
        f"https://a.example/{'x' * 2048}",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:99999999/",
        "https://a.example:/",
        "https://a.example:x/",
        "https://a.example:25/",
        "https://a.example:6379/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://0/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://[::1/",
        "https://::1/",
        "https://[::1%25eth0]/",
        "https://[8.8.8.8]/",
        "https://[a.example]/",
        "https://[::g]/",
    ],
)
def test_a_url_that_programs_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(CallbackRefused):
        parse_url(url)


@pytest.mark.parametrize("address", [each for each in (*INTERNAL, *NEVER_BY_NAME) if "%" not in each])
def test_an_address_in_a_url_is_checked_when_a_run_is_submitted(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(CallbackRefused, match="not public"):
        check_callback(f"https://{host}/", NOTHING)
    assert check_callback(f"https://{host}/", AllowList.of([address])).port == 443


def test_a_name_is_not_resolved_when_a_run_is_submitted() -> None:
    # The guard of unit tests fails if it is.
    assert check_callback("https://localhost/", NOTHING).host == "localhost"


def test_http_needs_a_host_on_the_allow_list() -> None:
    with pytest.raises(CallbackRefused, match="https"):
        check_callback("http://receiver.example/", AllowList.of(["10.0.0.0/8", "other.example"]))
    with pytest.raises(CallbackRefused, match="https"):
        check_callback("http://8.8.8.8/", NOTHING)
    assert check_callback("http://receiver.example/", AllowList.of(["receiver.example"])).host == "receiver.example"
    assert check_callback("http://10.1.1.1/", AllowList.of(["10.0.0.0/8"])).host == "10.1.1.1"
    assert check_callback("http://[fd00::1]/", AllowList.of(["[fd00::1]"])).host == "fd00::1"
