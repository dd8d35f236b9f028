"""The list and the actions of a run in a browser: a search as it is typed, what stays open while a part comes again."""

import re

import pytest
from playwright.sync_api import expect

from tests.page import shown
from tests.page.browser import Windows
from tests.page.site import Site
from tests.page.views import Run, Runs

pytestmark = pytest.mark.page


def test_a_search_finds_as_it_is_typed_and_the_focus_stays(site: Site, windows: Windows) -> None:
    for made in shown.RUNS.values():
        made(site)
    page = site.signed_in(windows)
    Runs(page).open()
    links = page.locator(".runs h2")
    expect(links).not_to_have_count(0)
    page.evaluate("window.kept = 1")
    search = page.get_by_role("searchbox", name="Search")
    search.focus()
    page.keyboard.type("no such run")
    expect(page.get_by_role("main")).to_contain_text("0 runs found")
    expect(search).to_be_focused()
    expect(page).to_have_url(re.compile(r"/\?q=no%20such%20run&"))
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    expect(links).not_to_have_count(0)
    page.get_by_label("State").select_option("failed")
    expect(page).to_have_url(re.compile("status=failed"))
    assert page.evaluate("window.kept") == 1
    # The same place leads to the same list, also with the browser's own buttons.
    page.reload()
    expect(page.get_by_label("State")).to_have_value("failed")


def test_what_is_open_stays_open_while_the_run_goes_on_and_a_cancel_is_said(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    with site.held() as held:
        view = Run(page).open(held.run)
        expect(view.state).to_contain_text("running")
        cancel = page.locator("#cancel")
        cancel.locator("summary").focus()
        page.keyboard.press("Enter")
        # The same part comes at least twice more.
        for _ in range(2):
            with page.expect_response(re.compile("/part/live$")):
                pass
        expect(cancel).to_have_attribute("open", "")
        expect(cancel.locator("summary")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The run is being cancelled")).to_be_visible()
        expect(page).to_have_url(re.compile(f"/runs/{held.run}$"))
        expect(view.state).to_contain_text("cancelled")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_service_that_is_away_is_said_and_the_page_goes_on_when_it_is_back(site: Site, windows: Windows) -> None:
    windows.faults.expect("ERR_FAILED|htmx:|404")
    page = site.signed_in(windows)
    with site.held() as held:
        Run(page).open(held.run)
        page.route("**/part/live", lambda route: route.abort())
        said = page.locator("#message")
        expect(said).to_have_text("The service does not answer. It is tried again.")
        page.unroute("**/part/live")
        expect(said).to_be_hidden()
        # In another window, the run was cancelled and deleted before this one asked again.
        page.route("**/part/live", lambda route: route.fulfill(status=404))
        expect(said).to_have_text("This is not there any more: it was deleted.")
