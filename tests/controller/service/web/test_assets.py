"""The files of the pages: which there are, how long they are kept, and that those of others are unchanged."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from starlette.testclient import TestClient

from chunk_job.store.files import FileStore
from controller.service.web.asset_files import FOREVER
from controller.service.web.assets import asset_url, assets
from tests.controller.service.running import running
from tests.controller.service.web.pages import browser, check_fields

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with running(FileStore(tmp_path_factory.mktemp("store"))) as up:
        yield browser(up)


def test_files_of_others_are_those_that_their_note_names() -> None:
    folder = files("controller.service.web") / "assets" / "vendor"
    note = (folder / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", note, re.MULTILINE))
    found = {entry.name: hashlib.sha256(entry.read_bytes()).hexdigest() for entry in folder.iterdir()}
    found.pop("README.md")
    assert found == named


def test_a_file_is_kept_for_ever_and_compressed(client: TestClient) -> None:
    for name, asset in assets().items():
        plain = client.get(asset_url(name), headers={"Accept-Encoding": "identity"})
        packed = client.get(asset_url(name), headers={"Accept-Encoding": "br, gzip"})
        assert plain.content == packed.content == asset.body
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["cache-control"] == plain.headers["cache-control"] == FOREVER
        assert packed.headers["content-type"].partition(";")[0] == asset.media_type
        assert packed.headers["vary"] == "Accept-Encoding"
        check_fields(packed.headers)


def test_a_page_of_another_replica_gets_the_file_as_it_is_here(client: TestClient) -> None:
    found = client.get("/assets/0123456789abcdef/page.css")
    assert (found.status_code, found.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["none.js", "vendor/README.md", "../pages.py", "..%2fpages.py", "vendor", ""])
def test_there_are_no_other_files(client: TestClient, name: str) -> None:
    place = asset_url("page.css").rpartition("/")[0]
    assert client.get(f"{place}/{name}").status_code == 404


def test_pages_are_compressed_if_the_browser_reads_that(client: TestClient) -> None:
    for asked, packed in (
        ("gzip", True),
        ("br;q=1, gzip;q=0.5", True),
        ("br", False),
        ("gzip;q=0", False),
        ("", False),
    ):
        with client.stream("GET", "/", headers={"Accept-Encoding": asked}) as found:
            raw = b"".join(found.iter_raw())
            assert (found.headers.get("content-encoding") == "gzip") == packed
            assert found.headers["vary"] == "Accept-Encoding"
        text = (gzip.decompress(raw) if packed else raw).decode()
        assert text.startswith("<!doctype html>")


def test_nothing_of_a_page_is_inline_and_every_file_of_it_exists(client: TestClient) -> None:
    for path in ("/", "/new", "/login"):
        text = client.get(path, follow_redirects=True).text
        assert "<style" not in text
        assert not re.search(r"<script(?![^>]* src=)", text)
        assert not re.search(r"\s(style|on\w+)=", text)
        for place in re.findall(r'(?:src|href)="(/assets/[^"]+)"', text):
            assert client.get(place).status_code == 200
