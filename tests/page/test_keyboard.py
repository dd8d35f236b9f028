"""The whole way without a mouse, and what assistive software is told on it."""

from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests import speech
from tests.page import shown
from tests.page.browser import Windows
from tests.page.site import Site
from tests.page.views import NewRun, Run, Runs, SignIn

pytestmark = pytest.mark.page


def test_from_the_sign_in_to_a_transcript_by_the_keyboard_alone(site: Site, windows: Windows, tmp_path: Path) -> None:
    page = site.window(windows)
    page.goto("/")
    # The field has the focus.
    sign_in = SignIn(page)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(site.tokens["archive"])
    sign_in.press("Enter")
    runs = Runs(page)
    expect(runs.title).to_have_text("Runs")
    runs.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    runs.tab_to(page.get_by_role("link", name="New run"))
    runs.press("Enter")
    new = NewRun(page)
    expect(new.title).to_have_text("New run")
    # Its script has begun.
    expect(page.get_by_role("heading", name="Files")).to_be_visible()
    recording = speech.write_wav(tmp_path / "short walk.wav", speech.tape(seconds=6, seed=5))
    new.tab_to(page.get_by_label("Recordings"))
    # What the key opens there is a window of the browser, not of the page.
    page.get_by_label("Recordings").set_input_files(recording)
    new.tab_to(page.get_by_role("button", name="Transcribe"))
    new.press("Enter")
    made = page.get_by_role("list", name="Files").get_by_role("link")
    expect(made).to_be_visible()
    new.tab_to(made)
    new.press("Enter")
    run = Run(page)
    expect(run.state).to_contain_text("complete", timeout=60_000)
    run.tab_to(run.download("txt"))
    with page.expect_download() as received:
        run.press("Enter")
    assert received.value.suggested_filename == "short walk.txt"
    assert received.value.path().read_text(encoding="utf-8").split() == run_words(run)


def run_words(run: Run) -> list[str]:
    return " ".join(run.lines.locator("> span").all_text_contents()).split()


def test_every_stop_of_the_keyboard_is_seen_and_has_a_name(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    run = Run(page).open(shown.partial(site))
    stops = []
    for _ in range(200):
        run.press("Tab")
        found = page.evaluate(
            """() => {
              const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
              if (one === document.body) return null;
              const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
              return {what: one.outerHTML.slice(0, 120), seen, inside: box.bottom > 0 && box.top < innerHeight};
            }"""
        )
        if found is None:
            break
        stops.append(found)
    assert len(stops) > 30
    assert [stop["what"] for stop in stops if not stop["seen"]] == []
    assert [stop["what"] for stop in stops if not stop["inside"]] == []


def test_the_tree_of_a_run_names_its_parts(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    Run(page).open(shown.partial(site))
    for landmark, name in (
        ("navigation", "Pages"),
        ("region", "Downloads"),
        ("region", "Transcript"),
        ("region", "Player"),
    ):
        expect(page.get_by_role(landmark, name=name, exact=True)).to_have_count(1)  # type: ignore[arg-type]
    expect(page.get_by_role("banner")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("link", name="srt, broadcast")).to_be_visible()
    expect(page.get_by_role("link", name="chunk 2, from 24:00: lost")).to_be_visible()
    levels = page.get_by_role("main").get_by_role("heading").evaluate_all("(all) => all.map((one) => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
