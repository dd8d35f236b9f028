"""Names, words, log lines, labels and searches full of markup stay text, wherever they are shown or sent."""

import json
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.page import shown
from tests.page.browser import Windows
from tests.page.site import Site
from tests.page.views import Run, Runs
from tests.shown_runs import HOSTILE, INVISIBLE, MARKUP

pytestmark = pytest.mark.page

IMAGE = "<img src=x onerror=alert(2)>"


def made(page: Page) -> int:
    """Elements that only hostile text could have made."""
    found: int = page.evaluate("document.querySelectorAll('img, iframe, object, embed, script:not([src])').length")
    return found


def test_in_the_page_of_a_run(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    view = Run(page).open(shown.hostile(site))
    expect(view.title).to_contain_text(IMAGE)
    expect(view.lines.first).to_contain_text(MARKUP)
    page.get_by_text("Last log lines").first.click()
    expect(page.locator("#failures")).to_contain_text(IMAGE)
    # A search marks its hits in the text.
    page.get_by_role("searchbox", name="Search").fill("<img src=x")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#found")).to_contain_text("1 of")
    page.get_by_label("Check the captions").select_option("netflix")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".lint").first).to_be_visible()
    assert made(page) == 0
    shown_text = page.locator("body").inner_text()
    assert not set(shown_text) & set(INVISIBLE) - set("[31m")


def test_in_lists_and_in_searches(site: Site, windows: Windows) -> None:
    run = shown.hostile(site)
    page = site.signed_in(windows)
    Runs(page).open()
    entry = page.locator(f"#r{run}")
    expect(entry).to_contain_text("\\u202e\\u2066")
    entry.get_by_role("list", name="Labels").get_by_role("link").click()
    expect(page.get_by_label("Label", exact=True)).to_have_value(f"show={MARKUP}")
    expect(entry).to_be_visible()
    assert made(page) == 0
    page.goto(f"/?q={quote(HOSTILE)}&label={quote(HOSTILE)}&status=complete")
    assert made(page) == 0
    windows.faults.expect("status of 4")
    for place in (f"/runs/{quote(MARKUP, safe='')}", f"/?status={quote(MARKUP)}", f"/login?next={quote(MARKUP)}"):
        page.goto(place)
        assert made(page) == 0


def test_in_what_is_downloaded(site: Site, windows: Windows) -> None:
    run = shown.hostile(site)
    page = site.signed_in(windows)
    Run(page).open(run)
    get = page.request.get
    for form, kind in (
        ("vtt", "text/vtt"),
        ("srt", "application/x-subrip"),
        ("txt", "text/plain"),
        ("json", "application/json"),
    ):
        reply = get(f"/v1/runs/{run}/result?format={form}")
        assert reply.headers["content-type"].startswith(kind)
        assert reply.headers["x-content-type-options"] == "nosniff"
    captions = get(f"/v1/runs/{run}/result?format=vtt").text()
    assert "<img" not in captions
    assert "&lt;img src=x onerror=alert(2)&gt;" in captions
    report = windows.open(base_url=site.url)
    with page.expect_download() as received:
        page.get_by_role("region", name="Downloads").get_by_role("link", name="html").click()
    report.goto(received.value.path().as_uri())
    assert report.evaluate("document.querySelectorAll('img').length") == 0


def test_a_run_that_ended_with_hostile_messages_says_them_in_its_events(site: Site, windows: Windows) -> None:
    run = shown.hostile(site)
    page = site.signed_in(windows)
    text = page.request.get(f"/v1/runs/{run}/events?follow=false").text()
    lines = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert any(IMAGE in json.dumps(line, ensure_ascii=False).replace('\\"', '"') for line in lines)
    assert all(
        line == "" or line.partition(":")[0] in ("id", "event", "data", "retry", "") for line in text.splitlines()
    )
