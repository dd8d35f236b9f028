"""One browser for a worker of the session, and windows for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.page.browser import PATIENCE_MS, Windows, chromium

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def windows(browser: Browser) -> Iterator[Windows]:
    """Windows that may ask no host: for pages from files."""
    windows = Windows(browser, hosts=())
    yield windows
    windows.close()
    assert not windows.faults.unexpected
