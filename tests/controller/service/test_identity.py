"""Who makes a request: bearer tokens, the header of a trusted proxy, and a service without tokens."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from controller.errors import StenofleetError, UsageProblem
from controller.service.identity import (
    Identity,
    Unauthenticated,
    check_host,
    trusted_header,
)
from controller.service.limits import FAILURES_AT_ONCE, FailedAuthentications, LimitExceeded
from controller.service.own_pages import ForeignPage, is_loopback
from controller.service.tenants import Tenants
from controller.service.tokens import new_token, written_digest

NEWS, SPORT = new_token(), new_token()
CLIENT, PROXY = "192.0.2.7", "10.1.2.3"
Fields = Sequence[tuple[str, str]]


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    path = tmp_path / "tenants.toml"
    path.write_text(
        "".join(
            f"[tenants.{name}]\ntokens = ['{written_digest(token)}']\n"
            for name, token in {"news": NEWS, "sport": SPORT}.items()
        ),
        encoding="utf-8",
    )
    return Tenants(path)


@pytest.fixture
def identity(tenants: Tenants) -> Identity:
    trusted = trusted_header("X-Tenant", ["10.0.0.0/8", "fd00::/16"], tenants_configured=True)
    return Identity(tenants, trusted)


def headers(*fields: tuple[str, str]) -> Headers:
    """As a server gives them: names in lower case, values in Latin-1."""
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in fields])


def refused(identity: Identity, *fields: tuple[str, str], peer: str | None = CLIENT) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as found:
        identity.tenant_of(headers(*fields), peer)
    assert found.value.status == 401
    assert found.value.headers == {"WWW-Authenticate": "Bearer"}
    return found.value


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_a_token_is_a_tenant(identity: Identity, scheme: str) -> None:
    for name, token in {"news": NEWS, "sport": SPORT}.items():
        assert identity.tenant_of(headers(("Authorization", f"{scheme} {token}")), CLIENT).name == name


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("Authorization", ""),),
        (("Authorization", "Bearer"),),
        (("Authorization", "Bearer "),),
        (("Authorization", NEWS),),
        (("Authorization", f"Bearer{NEWS}"),),
        (("Authorization", f"Bearer\t{NEWS}"),),
        (("Authorization", f"Basic {NEWS}"),),
        (("Authorization", f"Token {NEWS}"),),
        (("Authorization", f"Bearer {NEWS} {NEWS}"),),
        (("Authorization", f"Bearer {NEWS},"),),
        (("Authorization", f'Bearer "{NEWS}"'),),
        (("Authorization", f"Bearer {NEWS}\xff"),),
        (("Authorization", f"Bearer {NEWS}\0"),),
        (("Authorization", f"Bearer {NEWS[:-1]}"),),
        (("Authorization", f"Bearer {written_digest(NEWS)}"),),
        (("Authorization", f"Bearer {written_digest(NEWS).removeprefix('sha256:')}"),),
        (("Authorization", "Bearer " + "a" * 100_000),),
        (("Authorization", " " * 2000 + f"Bearer {NEWS}"),),
        (("Authorization", f"Bearer {NEWS}"), ("Authorization", f"Bearer {SPORT}")),
        (("Authorization", f"Bearer {NEWS}"), ("Authorization", f"Bearer {NEWS}")),
        (("Proxy-Authorization", f"Bearer {NEWS}"),),
        (("X-Tenant", "news"),),
        (("X-Tenant", "news"), ("X-Forwarded-For", PROXY)),
        (("X-Tenant", "news"), ("Forwarded", f"for={PROXY}")),
        (("Host", "localhost"),),
    ],
)
def test_everything_else_is_401_with_one_message(identity: Identity, fields: Fields) -> None:
    problem = refused(identity, *fields)
    assert problem.summary == "no valid token"


class _Nobody(Tenants):
    """Tenants of a file, none of which has a token."""

    @property
    def configured(self) -> bool:
        return True


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_header_makes_another_error_and_none_is_repeated(text: str) -> None:
    alone = Identity(_Nobody(), failures=FailedAuthentications(lambda: 0.0))
    for value in (text, f"Bearer {text}"):
        problem = refused(alone, ("Authorization", value))
        assert problem.summary == "no valid token"


def test_no_token_is_logged(identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    identity.tenant_of(headers(("Authorization", f"Bearer {NEWS}")), CLIENT)
    refused(identity, ("Authorization", f"Bearer {NEWS}x"))
    assert NEWS not in caplog.text


# ---------------------------------------------------------------- failures


def test_an_address_that_fails_too_often_gets_429_but_a_valid_token_never_does(tenants: Tenants) -> None:
    identity = Identity(tenants, failures=FailedAuthentications(lambda: 0.0))
    for _ in range(FAILURES_AT_ONCE):
        refused(identity, ("Authorization", "Bearer wrong"))
    with pytest.raises(LimitExceeded) as found:
        identity.tenant_of(headers(("Authorization", "Bearer wrong")), CLIENT)
    assert found.value.status == 429
    assert found.value.headers["Retry-After"] == "2"
    assert identity.tenant_of(headers(("Authorization", f"Bearer {NEWS}")), CLIENT).name == "news"
    refused(identity, peer="192.0.2.8")


# ---------------------------------------------------------------- the trusted header


@pytest.mark.parametrize("peer", [PROXY, "10.255.255.255", "::ffff:10.1.2.3", "fd00::1", "fd00::1%eth0"])
def test_a_trusted_proxy_names_the_tenant(identity: Identity, peer: str) -> None:
    assert identity.tenant_of(headers(("x-tenant", "sport")), peer).name == "sport"


@pytest.mark.parametrize("peer", [CLIENT, "11.0.0.1", "fd01::1", "::1", "", None, "unix", "10.1.2.3.4", "10.1.2.3, x"])
def test_the_header_of_others_is_ignored(identity: Identity, peer: str | None) -> None:
    refused(identity, ("X-Tenant", "sport"), peer=peer)
    both = headers(("X-Tenant", "sport"), ("Authorization", f"Bearer {NEWS}"))
    assert identity.tenant_of(both, peer).name == "news"


def test_without_the_option_the_header_is_ignored(tenants: Tenants) -> None:
    refused(Identity(tenants), ("X-Tenant", "sport"), peer=PROXY)


def test_the_header_of_the_proxy_counts_more_than_a_token_of_another_system(identity: Identity) -> None:
    both = headers(("X-Tenant", "sport"), ("Authorization", f"Bearer {NEWS}"))
    assert identity.tenant_of(both, PROXY).name == "sport"


def test_a_client_behind_the_proxy_may_have_a_token(identity: Identity) -> None:
    for fields in [(), (("X-Tenant", ""),), (("X-Tenant", "  "),)]:
        found = identity.tenant_of(headers(("Authorization", f"Bearer {NEWS}"), *fields), PROXY)
        assert found.name == "news"
        refused(identity, *fields, peer=PROXY)


@pytest.mark.parametrize(
    "fields,message",
    [
        ((("X-Tenant", "nobody"),), "the header of the proxy names no tenant of this service"),
        ((("X-Tenant", "Sport"),), "the header of the proxy names no tenant of this service"),
        ((("X-Tenant", "sport, news"),), "the header of the proxy names no tenant of this service"),
        ((("X-Tenant", "sport"), ("X-Tenant", "news")), "the header of the proxy is there twice"),
        ((("X-Tenant", "sport"), ("X-Tenant", "")), "the header of the proxy is there twice"),
    ],
)
def test_a_header_that_names_no_tenant_is_refused_also_with_a_token(
    identity: Identity, fields: Fields, message: str
) -> None:
    problem = refused(identity, *fields, ("Authorization", f"Bearer {NEWS}"), peer=PROXY)
    assert problem.summary == message


@pytest.mark.parametrize(
    "name,proxies,configured,message",
    [
        ("X-Tenant", [], True, "belong together"),
        (None, ["10.0.0.0/8"], True, "belong together"),
        ("X-Tenant", ["10.0.0.0/8"], False, "without --tenants"),
        ("Authorization", ["10.0.0.0/8"], True, "not a header for this"),
        ("HOST", ["10.0.0.0/8"], True, "not a header for this"),
        ("X Tenant", ["10.0.0.0/8"], True, "not a header for this"),
        ("X-Tenant\r\nHost", ["10.0.0.0/8"], True, "not a header for this"),
        ("X-Tenant", ["10.0.0.1/8"], True, "not a network"),
        ("X-Tenant", ["proxy.example"], True, "not a network"),
        ("X-Tenant", [""], True, "not a network"),
        ("X-Tenant", ["10.0.0.0/8", "0.0.0.0/0"], True, "everyone would be trusted"),
        ("X-Tenant", ["::/0"], True, "everyone would be trusted"),
    ],
)
def test_options_that_trust_nobody_or_everybody_are_refused(
    name: str | None, proxies: list[str], configured: bool, message: str
) -> None:
    with pytest.raises(UsageProblem, match=message):
        trusted_header(name, proxies, tenants_configured=configured)


def test_without_options_no_header_is_trusted() -> None:
    assert trusted_header(None, [], tenants_configured=True) is None
    assert trusted_header("", [], tenants_configured=False) is None


# ---------------------------------------------------------------- without tenants


@pytest.mark.parametrize(
    "fields",
    [
        (("Host", "localhost"),),
        (("Host", "localhost:8080"),),
        (("Host", "LocalHost:8080"),),
        (("Host", "127.0.0.1:8080"),),
        (("Host", "127.8.9.1"),),
        (("Host", "[::1]:8080"),),
        (("Host", "[::1]"),),
        (("Host", "localhost:8080"), ("Authorization", "Bearer anything")),
        (("Host", "localhost:8080"), ("Origin", "http://localhost:8080"), ("Sec-Fetch-Site", "same-origin")),
        (("Host", "localhost:8080"), ("Sec-Fetch-Site", "none")),
    ],
)
def test_without_tenants_this_machine_needs_no_token(fields: Fields) -> None:
    assert Identity(Tenants()).tenant_of(headers(*fields), "127.0.0.1").name == "default"


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("Host", ""),),
        (("Host", "evil.example"),),
        (("Host", "evil.example:8080"),),
        (("Host", "localhost.evil.example"),),
        (("Host", "127.0.0.1.evil.example"),),
        (("Host", "localhost@evil.example"),),
        (("Host", "localhost:8080@evil.example"),),
        (("Host", "10.0.0.1"),),
        (("Host", "0.0.0.0"),),
        (("Host", "[::]"),),
        (("Host", "[::1"),),
        (("Host", "localhost:8080"), ("Origin", "http://evil.example")),
        (("Host", "localhost:8080"), ("Origin", "null")),
        (("Host", "localhost:8080"), ("Origin", "")),
        (("Host", "localhost:8080"), ("Origin", "http://localhost:3000")),
        (("Host", "localhost:8080"), ("Origin", "http://localhost:8080.evil.example")),
        (("Host", "localhost:8080"), ("Sec-Fetch-Site", "cross-site")),
        (("Host", "localhost:8080"), ("Sec-Fetch-Site", "same-site")),
    ],
)
def test_without_tenants_pages_of_other_sites_are_refused(fields: Fields) -> None:
    with pytest.raises(ForeignPage) as found:
        Identity(Tenants()).tenant_of(headers(*fields), "127.0.0.1")
    assert (found.value.status, found.value.headers) == (403, {})
    assert "evil" not in found.value.summary + found.value.advice


def test_with_tokens_the_name_of_the_host_does_not_matter(identity: Identity) -> None:
    fields = (("Host", "fleet.example"), ("Origin", "http://page.example"), ("Authorization", f"Bearer {NEWS}"))
    assert identity.tenant_of(headers(*fields), CLIENT).name == "news"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_without_tenants_the_service_listens_on_this_machine(host: str) -> None:
    check_host(host, tenants_configured=False)
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "[::]", "192.0.2.1", "10.0.0.1", "fe80::1", "localhost.example", "myhost", "*", "0", "127.1"],
)
def test_every_other_host_needs_tenants(host: str) -> None:
    check_host(host, tenants_configured=True)
    with pytest.raises(UsageProblem, match="--host: without tokens") as found:
        check_host(host, tenants_configured=False)
    assert found.value.exit_code == 2


def test_the_errors_are_those_that_the_service_can_report() -> None:
    for error in (Unauthenticated(), ForeignPage(), LimitExceeded("things", 1, 1)):
        assert isinstance(error, StenofleetError)
        assert error.summary
        assert error.advice
        assert isinstance(error.headers, dict)
