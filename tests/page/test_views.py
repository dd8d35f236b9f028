"""Every view of the page: in every look, by the keyboard alone, without scripts, with hostile text."""

import pytest
from playwright.sync_api import expect

from tests.page import looks, shown
from tests.page.browser import Windows
from tests.page.site import HELD_OF, Site
from tests.page.views import NewRun, Run, Runs, SignIn

pytestmark = pytest.mark.page

MANY = ".block:nth-of-type(n + 4)"


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
    view = Run(page).open(run)
    view.lines.last.scroll_into_view_if_needed()
    expect(view.lines.last).to_contain_text("9:58")
    looks.check_looks(page, "run-ten-hours", ("wide", "narrow", "dark"), trim=MANY)


def test_a_run_that_works_changes_before_the_eyes(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    with site.held() as held:
        view = Run(page).open(held.run)
        expect(view.state).to_contain_text("running")
        page.evaluate("window.kept = 1")
        cancel = page.get_by_role("group").filter(has_text="Cancel…").locator("summary")
        cancel.focus()
        view.press("Enter")
        # All chunks but the held one.
        expect(view.figure("Chunks")).to_contain_text(f"{HELD_OF - 1} of {HELD_OF}", timeout=60_000)
        expect(cancel).to_be_focused()
        expect(page.get_by_role("button", name="Cancel this run")).to_be_visible()
        assert page.evaluate("window.kept") == 1
        looks.check_looks(page, "run-running")
        held.go_on()
        expect(view.state).to_contain_text("complete", timeout=60_000)
        expect(view.lines.first).to_be_visible()
    assert page.evaluate("window.kept") == 1


def test_the_list_changes_before_the_eyes(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    with site.held() as held:
        view = Runs(page).open()
        page.evaluate("window.kept = 1")
        entry = page.locator(f"#r{held.run}")
        expect(entry).to_contain_text("running")
        view.link("harbor.wav").first.focus()
        held.go_on()
        expect(entry).to_contain_text("complete", timeout=60_000)
        expect(entry.get_by_role("link", name="harbor.wav")).to_be_focused()
    assert page.evaluate("window.kept") == 1


def test_a_run_is_cancelled_tried_again_and_deleted(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    with site.held() as held:
        view = Run(page).open(held.run)
        page.get_by_text("Cancel…").click()
        page.get_by_role("button", name="Cancel this run").click()
        expect(view.state).to_contain_text("cancelled", timeout=60_000)
        looks.check_looks(page, "run-cancelled", ("wide", "narrow"))
        held.stopped()
        page.get_by_role("button", name="Try again").click()
        held.go_on()
        expect(view.state).to_contain_text("complete", timeout=60_000)
        page.get_by_text("Delete…").click()
        page.get_by_role("button", name="Delete this run").click()
        expect(Runs(page).title).to_have_text("Runs")
        expect(page.locator(f"#r{held.run}")).to_have_count(0)
        held.gone = True


@pytest.mark.parametrize("name", ["complete", "partial", "failed", "hostile"])
def test_without_scripts_a_run_reads(site: Site, windows: Windows, name: str) -> None:
    run = shown.RUNS[name](site)
    page = site.signed_in(windows, java_script_enabled=False)
    view = Run(page).open(run)
    expect(view.state).to_contain_text("complete" if name == "hostile" else name)
    expect(page.get_by_role("heading", name="Chunks", exact=True)).to_be_visible()
    if name != "failed":
        expect(view.lines.first).to_be_visible()
        expect(view.download("txt")).to_be_visible()
    Runs(page).open()
    expect(page.locator(f"#r{run}")).to_be_visible()
