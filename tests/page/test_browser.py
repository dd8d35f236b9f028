"""What a page must not do is noticed."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.page import looks
from tests.page.browser import Windows

pytestmark = pytest.mark.page

POLICY = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src *\">"


def shown(windows: Windows, tmp_path: Path, html: str, policy: str = "") -> Page:
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><html lang=en><head>{policy}<title>a</title></head><main><h1>a</h1>{html}</main>")
    page = windows.open()
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize(
    "html,fault,policy",
    [
        ("<script>1</script>", "policy: script-src-elem inline", POLICY),
        ("<p style='color:red'>a</p>", "policy: style-src-attr inline", POLICY),
        ("<p onclick='1'>a</p>", "policy: script-src-attr inline", POLICY),
        ("<script>console.error('so')</script>", "console: so", ""),
        ("<script>nothing.at.all</script>", "uncaught: .*nothing is not defined", ""),
        ("<script>alert('hello')</script>", "dialog: hello", ""),
        ("<img alt='' src='http://127.0.0.1:9/a.png'>", "request: http://127.0.0.1:9/a.png", POLICY),
    ],
)
def test_a_fault_of_a_page_is_noticed(windows: Windows, tmp_path: Path, html: str, fault: str, policy: str) -> None:
    page = shown(windows, tmp_path, html, policy)
    page.wait_for_load_state("networkidle")
    windows.faults.expect(fault)
    matching = [one for one in windows.faults.found if one not in windows.faults.unexpected]
    assert matching
    windows.faults.expect("")


def test_what_cannot_be_read_or_seen_whole_is_noticed(windows: Windows, tmp_path: Path) -> None:
    page = shown(windows, tmp_path, "<img src='data:,'><p><a href=#>a</a></p>")
    windows.faults.expect("data:")
    assert [line.partition(":")[0] for line in looks.violations(page)] == ["image-alt"]
    page = shown(windows, tmp_path, "<pre>" + 400 * "wide " + "</pre>")
    assert "PRE" in looks.cut_off(page)[0]
    page = shown(windows, tmp_path, "<style>@keyframes a{to{left:9px}} p{animation:a 9s infinite}</style><p>a</p>")
    assert looks.moving(page) == ["moves: P a"]
