"""report.html as people open it: from a folder, without a network."""

from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from chunk_job.store.files import FileStore
from controller.domain.captions import Profile
from controller.domain.documents import StoredState
from controller.reports import stored_run
from controller.reports.stored_report import write_report
from tests import fakes
from tests.page import looks
from tests.page.browser import Windows
from tests.shown_runs import MARKUP, HostileRun, ShownRun

pytestmark = pytest.mark.page

MANY = ".block:nth-of-type(n + 4)"


class Case(NamedTuple):
    """A run in one state."""

    run: ShownRun
    state: StoredState


CASES = {
    "complete": Case(ShownRun(words=1_500, failed=(3,), warnings=("it may be wrong",)), "complete"),
    "partial": Case(ShownRun(words=400, lost=(2,)), "partial"),
    "failed": Case(ShownRun(lost=(1,), done=1), "failed"),
    "running": Case(ShownRun(chunks=12, done=4, failed=(1,)), "running"),
    "empty": Case(ShownRun(chunks=1, words=0), "complete"),
    "hostile": Case(HostileRun(), "complete"),
}


@pytest.fixture
def opened(windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Opener":
    monkeypatch.setattr(stored_run, "is_worked_on", lambda _: True)
    return Opener(windows, tmp_path)


class Opener:
    """Writes the report of a run and opens it."""

    def __init__(self, windows: Windows, folder: Path) -> None:
        self._windows, self._folder = windows, folder

    def __call__(
        self, run: ShownRun, state: StoredState, *, scripts: bool = True, profile: Profile | None = None
    ) -> Page:
        store = FileStore(self._folder / "store")
        run.put(store, state)
        if state != "failed":
            run.put_waveform(store)
        path = self._folder / "report.html"
        assert write_report(store, fakes.RUN, str(path), profile=profile) == state
        page = self._windows.open(java_script_enabled=scripts)
        page.goto(path.as_uri())
        return page


@pytest.mark.parametrize("name", CASES)
def test_a_report_in_every_look(opened: Opener, name: str) -> None:
    page = opened(*CASES[name])
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    looks.check_looks(page, f"report-{name}")


def test_ten_hours_can_be_read(opened: Opener) -> None:
    page = opened(ShownRun(chunks=50, words=90_000, failed=(7, 31)), "complete", profile="whisper")
    page.get_by_label("Go to").fill("9:30:00")
    page.get_by_label("Go to").press("Enter")
    line = page.locator(":target")
    expect(line).to_be_in_viewport()
    expect(line).to_contain_text("9:29")
    looks.check_looks(page, "report-ten-hours", ("wide", "narrow", "dark"), trim=MANY)


def test_what_is_wrong_with_captions_is_said_at_their_line(opened: Opener) -> None:
    page = opened(ShownRun(chunks=1, words=2_600), "complete")
    expect(page.locator("#findings")).to_contain_text("break its limits")
    expect(page.locator(".lint").first).to_contain_text("Captions: too fast")
    looks.check_looks(page, "report-captions", ("narrow", "dark"))
    page.get_by_label("Show lines with").fill("columns per second")
    expect(page.locator("#shown")).to_contain_text("0 of")
    page.get_by_label("Show lines with").fill("harbor")
    expect(page.locator("#shown")).not_to_contain_text("0 of")


def test_hostile_text_stays_text(opened: Opener) -> None:
    page = opened(*CASES["hostile"])
    assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    expect(page.locator("#transcript")).to_contain_text(MARKUP)
    expect(page.locator("#failures")).to_contain_text(MARKUP)
    page.get_by_label("Show lines with").fill("<img src=x")
    expect(page.locator("#shown")).to_contain_text("lines")


def test_without_scripts_everything_reads(opened: Opener) -> None:
    page = opened(*CASES["complete"], scripts=False)
    expect(page.get_by_role("form")).to_have_count(0)
    for section in ("Chunks", "Failed attempts", "Timeline", "Sound and cuts", "Transcript", "About this run"):
        expect(page.get_by_role("heading", name=section, exact=True)).to_be_visible()


def test_the_keyboard_reaches_everything(opened: Opener) -> None:
    page = opened(*CASES["complete"])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the transcript")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Transcript", exact=True)).to_be_in_viewport()
    page.get_by_label("Show lines with").focus()
    page.keyboard.type("the")
    expect(page.locator("#shown")).to_contain_text("lines")
