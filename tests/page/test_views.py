"""Every view of the page: in every look, by the keyboard alone, without scripts, with hostile text."""

import pytest
from playwright.sync_api import expect

from tests.page import looks, shown
from tests.page.browser import Windows
from tests.page.site import Site
from tests.page.views import NewRun, Run, Runs, SignIn

pytestmark = pytest.mark.page


def test_who_signs_in_gets_the_page_that_was_asked_for(site: Site, windows: Windows) -> None:
    windows.faults.expect("401")
    page = site.window(windows)
    page.goto("/new")
    view = SignIn(page)
    expect(view.title).to_have_text("Sign in")
    looks.check_looks(page, "sign-in")
    view.sign_in("stf_wrong")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    looks.check_looks(page, "sign-in-refused", ("wide", "narrow"))
    view.sign_in(site.tokens["empty"])
    expect(view.title).to_have_text("New run")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(view.title).to_have_text("Sign in")
    page.goto("/")
    expect(view.title).to_have_text("Sign in")


def test_no_runs(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows, "empty")
    Runs(page).open()
    looks.check_looks(page, "runs-empty")


def test_the_list(site: Site, windows: Windows) -> None:
    for made in shown.RUNS.values():
        made(site)
    page = site.signed_in(windows)
    Runs(page).open()
    looks.check_looks(page, "runs")
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    expect(page.get_by_role("main")).to_contain_text("<img src=x onerror=alert(2)>")


def test_a_new_run(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    NewRun(page).open()
    looks.check_looks(page, "new")


@pytest.mark.parametrize("name", shown.RUNS)
def test_a_run_in_every_look(site: Site, windows: Windows, name: str) -> None:
    run = shown.RUNS[name](site)
    page = site.signed_in(windows)
    Run(page).open(run)
    looks.check_looks(page, f"run-{name}")


def test_ten_hours(site: Site, windows: Windows) -> None:
    run = shown.ten_hours(site)
    page = site.signed_in(windows)
    Run(page).open(run)
    looks.check_looks(page, "run-ten-hours", ("wide", "narrow", "dark"), leave_out=(".block:nth-of-type(n + 3)",))


def test_a_run_that_works_changes_before_the_eyes(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    with site.held() as held:
        view = Run(page).open(held.run)
        expect(view.state).to_contain_text("running")
        looks.check_looks(page, "run-running")
        page.evaluate("window.kept = 1")
        held.go_on()
        expect(view.state).to_contain_text("complete", timeout=60_000)
    assert page.evaluate("window.kept") == 1
