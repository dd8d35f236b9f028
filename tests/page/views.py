"""The views of the page, as objects: what a person finds there and does.

Everything is found by its role and name, as assistive software finds it.
"""

from playwright.sync_api import Locator, Page, expect


class View:
    """What every page has."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def title(self) -> Locator:
        return self.page.get_by_role("heading", level=1)

    @property
    def focused(self) -> Locator:
        return self.page.locator(":focus")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, wanted: Locator, *, most: int = 80) -> None:
        """Press Tab until *wanted* has the focus, as somebody without a mouse does."""
        handle = wanted.element_handle()
        for _ in range(most):
            if self.page.evaluate("(one) => document.activeElement === one", handle):
                return
            self.press("Tab")
        raise AssertionError(f"{most} times Tab do not lead to {wanted}; the focus is at {self.focused}")


class SignIn(View):
    """``/login``."""

    def sign_in(self, token: str) -> None:
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()


class Runs(View):
    """``/``."""

    def open(self) -> "Runs":
        self.page.goto("/")
        expect(self.title).to_have_text("Runs")
        return self

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("main").get_by_role("link", name=name)


class NewRun(View):
    """``/new``."""

    def open(self) -> "NewRun":
        self.page.goto("/new")
        expect(self.title).to_have_text("New run")
        return self


class Run(View):
    """``/runs/{id}``."""

    def open(self, run: str) -> "Run":
        self.page.goto(f"/runs/{run}")
        expect(self.title).to_be_visible()
        return self

    @property
    def state(self) -> Locator:
        return self.page.locator(".state").first

    def figure(self, name: str) -> Locator:
        """One of the figures at the top."""
        return self.page.locator("dl.figures > div").filter(has=self.page.get_by_text(name, exact=True))

    def download(self, name: str) -> Locator:
        """The link to a file: ``txt``, or ``srt, broadcast``."""
        downloads = self.page.get_by_role("region", name="Downloads")
        return downloads.locator("li", has=self.page.locator(f"b:text-is('{name}')")).get_by_role("link").first

    @property
    def transcript(self) -> Locator:
        return self.page.get_by_role("region", name="Transcript", exact=True)

    @property
    def lines(self) -> Locator:
        return self.transcript.get_by_role("listitem")
