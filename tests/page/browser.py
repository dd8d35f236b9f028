"""Chromium for tests: one browser, a context for each window, and everything that a page must not do.

Touches: processes, sockets on loopback. A page that logs an error, breaks its policy, opens a dialog, throws, or asks
another host for anything fails the test that opened it.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

PATIENCE_MS = 60_000
"""No step takes a tenth of this, except with three other test runs on the machine."""
WIDE, NARROW = (1280, 900), (320, 740)
"""The narrow one is that of WCAG's reflow: 320 CSS pixels."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_WATCH = """addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`), true)"""


def program() -> str:
    """The path of this machine's Chromium."""
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    raise RuntimeError("Chromium is not installed: `sh .ci/need page` installs it on Debian")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program(), args=["--autoplay-policy=no-user-gesture-required"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Faults:
    """What pages did that they must not do."""

    hosts: set[str] = field(default_factory=set)
    """The hosts that they may ask, with ports."""
    found: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.add_init_script(_WATCH)
        context.on("console", self._console)
        context.on("dialog", self._dialog)
        context.on("request", self._request)
        context.on("weberror", lambda error: self.add(f"uncaught: {error.error}"))

    def expect(self, pattern: str) -> None:
        """Faults that match *pattern* are what this test is about."""
        self.expected.append(re.compile(pattern))

    def add(self, fault: str) -> None:
        self.found.append(fault)

    @property
    def unexpected(self) -> Sequence[str]:
        return [fault for fault in self.found if not any(one.search(fault) for one in self.expected)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.add(f"console: {message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog: Dialog) -> None:
        self.add(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc not in self.hosts:
            self.add(f"request: {request.url}")


class Windows:
    """Opens windows, each with its own cookies and storage, and closes them at the end of the test."""

    def __init__(self, browser: Browser, hosts: Sequence[str] = ()) -> None:
        """*hosts*: those that pages may ask."""
        self._browser = browser
        self.faults = Faults(set(hosts))
        self._closing = contextlib.ExitStack()

    def open(self, *, size: tuple[int, int] = WIDE, **options: Any) -> Page:
        """An empty page. *options*: of Playwright's context, as ``java_script_enabled``."""
        viewport = {"width": size[0], "height": size[1]}
        context = self._browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
        self._closing.callback(context.close)
        context.set_default_timeout(PATIENCE_MS)
        self.faults.watch(context)
        return context.new_page()

    def close(self) -> None:
        self._closing.close()
