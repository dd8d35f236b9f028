"""Which requests of browsers may change something for a person who is signed in."""

import pytest
from starlette.datastructures import Headers

from controller.service.own_pages import COOKIE, ForeignPage, check_change, cookie_token

SIGNED_IN = ("cookie", f"{COOKIE}=stf_x")


def headers(*fields: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in (("host", "a.example"), *fields)])


@pytest.mark.parametrize(
    "fields",
    [
        (SIGNED_IN, ("sec-fetch-site", "same-origin")),
        (SIGNED_IN, ("sec-fetch-site", "same-origin"), ("origin", "null")),
        (SIGNED_IN, ("origin", "https://a.example")),
        (SIGNED_IN, ("origin", "http://a.example")),
        (("authorization", "Bearer stf_x"),),
        (("authorization", "Bearer stf_x"), SIGNED_IN),
        (("authorization", "Bearer stf_x"), ("origin", "http://evil.example")),
        (("x-user", "news"), ("authorization", "Basic bmV3czp4"), ("origin", "https://a.example")),
        (("x-user", "news"), ("authorization", "Basic bmV3czp4")),
        # A client behind a trusted proxy, which is no browser.
        (),
        (("x-user", "news"),),
    ],
)
def test_own_pages_and_clients_of_the_api_may_change_something(fields: tuple[tuple[str, str], ...]) -> None:
    check_change("POST", headers(*fields))


@pytest.mark.parametrize(
    "fields",
    [
        (SIGNED_IN,),
        (SIGNED_IN, ("origin", "null")),
        (SIGNED_IN, ("origin", "")),
        (SIGNED_IN, ("origin", "http://evil.example")),
        (SIGNED_IN, ("origin", "http://a.example.evil.example")),
        (SIGNED_IN, ("origin", "http://a.example:81")),
        (SIGNED_IN, ("sec-fetch-site", "none")),
        (SIGNED_IN, ("sec-fetch-site", "same-site"), ("origin", "http://a.example")),
        (SIGNED_IN, ("sec-fetch-site", "cross-site"), ("origin", "http://a.example")),
        # A proxy that knows its people by a cookie of its own, and may send their token on.
        (("x-user", "news"), ("sec-fetch-site", "cross-site")),
        (("x-user", "news"), ("origin", "http://evil.example")),
        (("authorization", "Bearer of-the-proxy"), ("sec-fetch-site", "cross-site")),
        # A browser without TLS adds the password for the proxy by itself.
        (("x-user", "news"), ("authorization", "Basic bmV3czp4"), ("origin", "http://evil.example")),
        (("x-user", "news"), ("authorization", "Negotiate bmV3czp4"), ("origin", "null")),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_of_other_sites_may_not(method: str, fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ForeignPage) as found:
        check_change(method, headers(*fields))
    assert found.value.status == 403
    assert "evil" not in found.value.summary + found.value.advice


def test_reading_is_not_refused() -> None:
    check_change("GET", headers(SIGNED_IN, ("sec-fetch-site", "cross-site")))


@pytest.mark.parametrize(
    "value,token",
    [
        ("stenofleet_token=a.b-c_d~e+/=", "a.b-c_d~e+/="),
        ("theme=dark; stenofleet_token=x;other=1", "x"),
        ("stenofleet_token=a; stenofleet_token=b", None),
        ("stenofleet_token=a; stenofleet_token=a", None),
        ("xstenofleet_token=a", None),
        ("stenofleet_token", ""),
        ("", None),
    ],
)
def test_the_cookie_counts_once(value: str, token: str | None) -> None:
    assert cookie_token(headers(("cookie", value))) == token
