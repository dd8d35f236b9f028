"""Pages as a browser without scripts uses them: a service with tenants, and a client that is signed in."""

import re
from collections.abc import Mapping
from html import unescape

from starlette.testclient import TestClient

from tests.controller.service.running import Running

OWN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form or a script of our pages."""


def browser(service: Running, token: str = "", *, peer: str = "127.0.0.1") -> TestClient:
    """A client of its own at the address *peer*, which has signed in with *token*."""
    client = TestClient(service.server.app, base_url="http://127.0.0.1", client=(peer, 2), follow_redirects=False)
    if token:
        client.cookies.set("stenofleet_token", token)
    return client


def content(page: str) -> str:
    """What is in the content of a page."""
    return page.partition("<main")[2].partition("</main>")[0]


def words(page: str) -> str:
    """The text of its content, without markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", content(page))).split())


def check_fields(fields: Mapping[str, str]) -> None:
    """Check what every page says to the browser."""
    policy = dict(part.partition(" ")[::2] for part in fields["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in fields["content-security-policy"]
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "same-origin"
    assert fields["cross-origin-opener-policy"] == "same-origin"
