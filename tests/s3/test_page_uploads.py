"""The page for new runs in a browser, with a real server: parts go to the server, with the forms of the service."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from chunk_job.store.base import Store
from tests.controller.service.running import Running, running
from tests.page.browser import PATIENCE_MS, Windows, chromium
from tests.testbed.s3_server import Server

PART = 5 << 20
"""The shortest part of which a server composes an object."""
SOUND = bytes(range(256)) * (4096 * 11) + b"end"  # two parts of 5 MiB, and the rest


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    # The recording stays until the test has read it.
    with running(store, part_bytes=PART, takes_ms=600_000) as up:
        yield up


@pytest.fixture
def windows(server: Server) -> Iterator[Windows]:
    """Windows that may ask the server."""
    with chromium() as browser:
        windows = Windows(browser)
        windows.faults.hosts.add(urlsplit(server.endpoint).netloc)
        yield windows
        windows.close()
        assert not windows.faults.unexpected


def test_parts_go_to_the_server_and_again_with_new_forms_if_it_refuses_them(
    service: Running, windows: Windows, server: Server, tmp_path: Path
) -> None:
    windows.faults.expect("403")
    windows.faults.hosts.add(urlsplit(service.address).netloc)
    page = windows.open(base_url=service.address)
    recording = tmp_path / "talk.mp3"
    recording.write_bytes(SOUND)
    forms: list[str] = []
    page.on("request", lambda request: forms.append(request.url) if request.url.startswith(server.endpoint) else None)

    def damage(route: Route) -> None:
        """The first form is refused, as one that has ended."""
        if route.request.method == "GET":  # of the uploads that were interrupted
            route.continue_()
            return
        reply = route.fetch()
        upload = reply.json()
        upload["parts"][0]["fields"]["x-amz-signature"] = "0" * 64
        route.fulfill(response=reply, json=upload)

    page.route("**/v1/uploads", damage)
    page.goto("/new")
    page.get_by_label("Recordings").set_input_files(recording)
    page.get_by_role("button", name="Transcribe").click()
    link = page.get_by_role("link", name="see the run of talk.mp3")
    expect(link).to_be_visible(timeout=PATIENCE_MS)
    assert len(forms) == 4
    (media,) = [item.key for item in service.store.list("uploads/") if "/media" in item.key]
    assert service.store.get(media) == SOUND
    run = (link.get_attribute("href") or "").removeprefix("/runs/")
    assert service.client.post(f"/v1/runs/{run}:cancel").status_code == 202
