"""One browser and one service for a worker of the session, and windows for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.page.browser import PATIENCE_MS, Windows, chromium
from tests.page.site import Site, serving

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running service."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def windows(browser: Browser) -> Iterator[Windows]:
    """Windows that may ask no host, but those that the test allows."""
    windows = Windows(browser)
    yield windows
    windows.close()
    assert not windows.faults.unexpected
