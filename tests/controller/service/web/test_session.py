"""Signing in and out, and what every page says to the browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.service.web.pages import local_path
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.web.pages import OWN, browser, check_fields, words

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    path, _ = tenants_file(folder, news="", sport="", slow="requests_per_second = 0.01")
    with running(FileStore(folder / "store"), tenants=path) as up:
        yield up


def test_who_is_not_signed_in_signs_in_and_gets_the_page_that_was_wanted(service: Running) -> None:
    client = browser(service)
    asked = client.get("/?q=a+b&status=failed")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/%3Fq%3Da%2Bb%26status%3Dfailed")
    form = client.get(asked.headers["location"])
    assert 'name="next" value="/?q=a+b&amp;status=failed"' in form.text
    fields = {"token": " stf_news_token ", "next": "/?q=a+b&status=failed"}
    signed = client.post("/login", data=fields, headers=OWN)
    assert (signed.status_code, signed.headers["location"]) == (303, "/?q=a+b&status=failed")
    assert signed.headers["set-cookie"] == "stenofleet_token=stf_news_token; Path=/; HttpOnly; SameSite=Strict"
    assert client.get("/").status_code == 200
    # Scripts of the pages use the API by the same cookie.
    assert client.get("/v1/runs").json()["runs"] == []


def test_over_tls_the_cookie_is_sent_over_tls_only(service: Running) -> None:
    # The browser says so: the service itself is behind a proxy.
    client = browser(service)
    signed = client.post("/login", data={"token": "stf_news_token"}, headers={"Origin": "https://127.0.0.1"})
    assert signed.headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")


@pytest.mark.parametrize(
    "token", ["", "wrong", "stf_news_token2", "stf_news_token; Path=/", "a\r\nSet-Cookie: b=c", "é"]
)
def test_a_wrong_token_is_said_on_the_page(service: Running, token: str) -> None:
    found = browser(service).post("/login", data={"token": token}, headers=OWN)
    assert (found.status_code, "set-cookie" in found.headers) == (401, False)
    assert "Not signed in. This token is not valid" in words(found.text)
    assert "wrong" not in found.text


def test_guessing_is_limited_as_for_clients_of_the_api(service: Running) -> None:
    client = browser(service, peer="192.0.2.7")
    found = [client.post("/login", data={"token": "wrong"}, headers=OWN) for _ in range(25)]
    assert found[-1].status_code == 429
    assert "Retry-After" in found[-1].headers
    assert "failed authentications" in words(found[-1].text)
    # A page without a token is no guess, and a valid token is never refused.
    assert client.get("/").headers["location"] == "/login?next=/"
    assert client.post("/login", data={"token": "stf_news_token"}, headers=OWN).status_code == 303


@pytest.mark.parametrize(
    "place,used",
    [
        ("/runs/x?y=%2F", "/runs/x?y=%2F"),
        ("/", "/"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\nb", "/"),
        ("/\tb", "/"),
        ("/ä", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_only_a_path_of_this_service_follows(place: str, used: str) -> None:
    assert local_path(place) == used


def test_signing_out_takes_the_cookie(service: Running) -> None:
    client = browser(service, "stf_news_token")
    assert 'action="/logout"' in client.get("/").text
    found = client.post("/logout", headers=OWN)
    assert (found.status_code, found.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in found.headers["set-cookie"]


@pytest.mark.parametrize("path", ["/login", "/logout", "/v1/runs", "/runs/x/delete", "/runs/x/cancel", "/runs/x/retry"])
@pytest.mark.parametrize(
    "site", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_pages_of_other_sites_do_nothing_for_a_person(service: Running, path: str, site: dict[str, str]) -> None:
    found = browser(service, "stf_news_token").post(path, headers=site, data={"token": "stf_news_token"})
    assert found.status_code == 403
    assert "only pages of this service may do this for you" in found.text
    assert "set-cookie" not in found.headers


def test_a_link_from_another_site_keeps_who_is_signed_in(service: Running) -> None:
    # Browsers leave the cookie out on the way from there, and send it when the page goes on by itself.
    found = browser(service).get("/runs/abc?captions=netflix", headers={"Sec-Fetch-Site": "cross-site"})
    assert found.status_code == 401
    assert '<meta http-equiv="refresh" content="0; url=/runs/abc?captions=netflix">' in found.text
    own = browser(service).get("/runs/abc", headers=OWN)
    assert own.headers["location"] == "/login?next=/runs/abc"


def test_a_part_of_a_page_sends_the_browser_to_sign_in(service: Running) -> None:
    live = {"HX-Request": "true", "HX-Current-URL": "http://127.0.0.1/runs/abc?x=1"} | OWN
    found = browser(service).get("/runs/abc/part/live", headers=live)
    assert (found.status_code, found.headers["hx-redirect"]) == (401, "/login?next=/runs/abc%3Fx%3D1")


def test_the_limit_of_a_tenant_holds_for_pages(service: Running) -> None:
    client = browser(service, "stf_slow_token")
    found = [client.get("/new") for _ in range(2)][-1]
    assert found.status_code == 429
    assert "try again in" in words(found.text)


@pytest.mark.parametrize(
    "path",
    ["/", "/?status=wrong", "/?unknown=1", "/new", "/login", "/logout", "/runs/x", "/runs/x/part/live", "/assets/x/y"],
)
@pytest.mark.parametrize("token", ["", "stf_sport_token"])
def test_every_answer_has_the_policy_and_is_not_kept(service: Running, path: str, token: str) -> None:
    found = browser(service, token).get(path)
    if path != "/logout":  # it has no page
        check_fields(found.headers)
        assert found.headers["cache-control"] == "no-store"


def test_without_tenants_nobody_signs_in(tmp_path: Path) -> None:
    with running(FileStore(tmp_path)) as up:
        client = browser(up)
        assert (client.get("/").status_code, client.get("/login").headers["location"]) == (200, "/")
        assert "Sign out" not in client.get("/").text
        foreign = client.get("/", headers={"Host": "evil.example"})
        assert foreign.status_code == 403
        check_fields(foreign.headers)


@pytest.mark.parametrize("place", ["/login", "/logout", "/new/check", "/v1/runs/a/corrections", "/runs/a/cancel"])
def test_only_what_takes_recordings_takes_large_forms(service: Running, place: str) -> None:
    # Anybody may ask to sign in: what such a form has is kept in memory.
    headers = OWN | {"Content-Type": "multipart/form-data; boundary=x"}
    found = browser(service).post(place, content=bytes(3 << 20), headers=headers)
    assert found.status_code == 413
