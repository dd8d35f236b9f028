"""Correcting a transcript in the page: by the keyboard, by two people at once, without a network, with hostile text."""

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.page import looks
from tests.page.browser import Windows
from tests.page.site import Site, run_id
from tests.page.views import Run
from tests.pipeline import until
from tests.shown_runs import MARKUP, ShownRun

pytestmark = pytest.mark.page


class Corrector(Run):
    """The page of a run as somebody uses it who corrects."""

    def __init__(self, page: Page, run: str, name: str = "") -> None:
        super().__init__(page)
        self.run = run
        self.open(run)
        expect(self.author).to_be_visible()
        if name:
            self.author.fill(name)
            self.author.press("Tab")

    @property
    def author(self) -> Locator:
        return self.page.get_by_label("Your name")

    @property
    def state(self) -> Locator:
        return self.page.locator("#corrections-state")

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Text of the line")

    def line(self, number: int) -> Locator:
        return self.page.locator(f"#s{number}")

    def text(self, number: int) -> Locator:
        return self.page.locator(f"#s{number} > span")

    def edit(self, number: int, text: str) -> None:
        """Begin to edit a line, by the keyboard, and write another text."""
        self.line(number).get_by_role("link").first.focus()
        self.press("e")
        expect(self.field).to_be_focused()
        self.press("Control+A")
        self.page.keyboard.insert_text(text)

    def correct(self, number: int, text: str) -> None:
        self.edit(number, text)
        self.press("Enter")

    def exported(self, form: str = "txt", version: str = "latest") -> str:
        reply = self.page.request.get(f"/v1/runs/{self.run}/result?format={form}&version={version}")
        assert reply.ok
        return reply.text()


def made(site: Site, name: str) -> str:
    run = ShownRun(chunks=1, words=60, run=run_id(f"corrections {name}"), name=f"{name}.wav")
    return site.shown(f"corrections {name}", run, "complete")


def test_a_line_is_corrected_undone_and_exported_by_the_keyboard_alone(site: Site, windows: Windows) -> None:
    view = Corrector(site.signed_in(windows), made(site, "keyboard"), "Ana")
    before = view.text(1).inner_text().strip()
    first, *rest = before.split()
    view.line(1).get_by_role("link").first.focus()
    view.press("e")
    expect(view.field).to_have_value(before)
    view.press("Home", "Control+Shift+ArrowRight")
    view.page.keyboard.insert_text("Yesterday ")
    view.press("Enter")
    expect(view.state).to_contain_text("All corrections are saved: version 1")
    expect(view.text(1)).to_have_text(" ".join(["Yesterday", *rest]))
    expect(view.line(1)).to_contain_text("corrected by Ana")
    expect(view.line(1).get_by_role("link").first).to_be_focused()
    assert " ".join(["Yesterday", *rest]) in view.exported()
    assert before in view.exported(version="machine")
    assert view.page.evaluate("document.querySelector('#s1 > span ins').textContent") == "Yesterday"
    # The words still lead to the sound: as many times as words.
    assert len((view.line(1).get_attribute("data-w") or "").split()) == len(before.split())
    view.press("Control+z")
    expect(view.state).to_contain_text("version 2")
    expect(view.text(1)).to_have_text(before)
    assert view.exported() == view.exported(version="machine")
    # Each correction of a line is taken back, the last one first.
    for version, text in enumerate(("first", "second"), 3):
        view.correct(0, text)
        expect(view.state).to_contain_text(f"version {version}")
    view.press("Control+z")
    expect(view.state).to_contain_text("version 5")
    expect(view.text(0)).to_have_text("first")
    view.press("Control+z")
    expect(view.state).to_contain_text("version 6")
    assert view.exported() == view.exported(version="machine")
    # From line to line without the mouse.
    view.edit(1, "one")
    view.press("Control+Enter")
    expect(view.field).to_be_focused()
    view.press("Control+A")
    view.page.keyboard.insert_text("two")
    view.press("Escape")
    expect(view.state).to_contain_text("version 8")
    view.page.reload()
    expect(view.text(1)).to_have_text("one")
    expect(view.text(2)).to_have_text("two")
    assert first


def test_people_on_different_lines_see_each_other_live(site: Site, windows: Windows) -> None:
    run = made(site, "different lines")
    ana, ben = (Corrector(site.signed_in(windows), run, name) for name in ("Ana", "Ben"))
    ana.edit(0, "from Ana")
    ben.edit(1, "from Ben")
    ana.press("Enter")
    ben.press("Enter")
    for view in (ana, ben):
        expect(view.text(0)).to_have_text("from Ana")
        expect(view.text(1)).to_have_text("from Ben")
        expect(view.page.get_by_role("group", name="Different corrections")).to_have_count(0)
    assert ana.exported().startswith("from Ana\nfrom Ben\n")


def test_two_people_on_one_line_lose_nothing_and_choose(site: Site, windows: Windows) -> None:
    run = made(site, "one line")
    ana, ben = (Corrector(site.signed_in(windows), run, name) for name in ("Ana", "Ben"))
    ana.edit(0, "as Ana heard it")
    ben.edit(0, "as Ben heard it")
    ana.press("Enter")
    expect(ana.state).to_contain_text("version 1")
    # Ben still writes: he is told, and keeps what he wrote.
    expect(ben.line(0)).to_contain_text("as Ana heard it")
    expect(ben.field).to_have_value("as Ben heard it")
    ben.press("Enter")
    for view in (ana, ben):
        box = view.page.get_by_role("group", name="Different corrections of the line at 0:00")
        expect(box).to_contain_text("Ana: as Ana heard it")
        expect(box).to_contain_text("Ben: as Ben heard it")
        expect(view.page.get_by_role("button", name="1 line with different corrections")).to_be_visible()
    looks.check_looks(ben.page, "corrections-conflict")
    ben.page.get_by_role("button", name="1 line with different corrections").click()
    ben.tab_to(ben.page.get_by_role("button", name="Use this: the text of Ana"))
    ben.press("Enter")
    for view in (ana, ben):
        expect(view.page.get_by_role("group", name="Different corrections")).to_have_count(0)
        expect(view.text(0)).to_have_text("as Ana heard it")
    # All of it is in the history, and any text can be used again.
    ben.page.get_by_text("History", exact=True).click()
    versions = ben.page.locator("#versions > li")
    expect(versions).to_have_count(3)
    ben.page.get_by_role("button", name="Use this text again: version 2").click()
    expect(ana.text(0)).to_have_text("as Ben heard it")
    looks.check_looks(ben.page, "corrections-history")


def test_what_others_write_comes_into_a_field_in_which_nothing_was_typed(site: Site, windows: Windows) -> None:
    run = made(site, "open field")
    ana, ben = (Corrector(site.signed_in(windows), run, name) for name in ("Ana", "Ben"))
    ben.line(0).dblclick()
    expect(ben.field).to_be_focused()
    ana.correct(0, "as Ana heard it")
    expect(ben.field).to_have_value("as Ana heard it")
    expect(ben.line(0)).to_contain_text("Ana has just changed this line")
    ben.press("End")
    ben.page.keyboard.insert_text(" and Ben")
    ben.press("Enter")
    expect(ana.text(0)).to_have_text("as Ana heard it and Ben")
    expect(ana.page.get_by_role("group", name="Different corrections")).to_have_count(0)


def test_a_lost_network_keeps_the_text_and_says_so(site: Site, windows: Windows) -> None:
    windows.faults.expect("ERR_INTERNET_DISCONNECTED")
    view = Corrector(site.signed_in(windows), made(site, "network"))
    view.page.context.set_offline(True)
    view.correct(0, "written in a tunnel")
    expect(view.state).to_contain_text("Not saved: 1 line, because the service does not answer")
    expect(view.text(0)).to_have_text("written in a tunnel")
    expect(view.line(0)).to_contain_text("not saved yet")
    looks.check_looks(view.page, "corrections-not-saved", ("wide", "narrow"))
    view.page.context.set_offline(False)
    expect(view.state).to_contain_text("All corrections are saved: version 1")
    assert view.exported().startswith("written in a tunnel\n")


def test_a_page_that_is_loaded_again_keeps_what_was_not_saved(site: Site, windows: Windows) -> None:
    windows.faults.expect("503|ERR_FAILED")
    view = Corrector(site.signed_in(windows), made(site, "draft"))
    view.page.route(
        "**/corrections", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    view.edit(0, "half a sen")
    view.page.reload()
    expect(view.text(0)).to_have_text("half a sen")
    expect(view.state).to_contain_text("Not saved: 1 line")
    view.page.unroute("**/corrections")
    expect(view.state).to_contain_text("All corrections are saved: version 1")
    assert view.exported().startswith("half a sen\n")
    view.page.reload()
    expect(view.line(0)).not_to_contain_text("not saved")
    # A lost answer: the same correction is sent again, and is one.
    lost: list[object] = []

    def lose(route: object) -> None:
        if not lost:
            lost.append(route)
            route.fetch()  # type: ignore[attr-defined]
            route.abort()  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    view.page.route("**/corrections", lose)
    view.correct(1, "sent twice")
    expect(view.state).to_contain_text("All corrections are saved: version 2")
    assert "sent twice" in view.exported()


def test_an_answer_that_is_not_of_the_service_is_no_end(site: Site, windows: Windows) -> None:
    view = Corrector(site.signed_in(windows), made(site, "proxy"))
    view.page.route("**/corrections*", lambda route: route.fulfill(status=200, body="<html>Sign in</html>"))
    view.correct(0, "behind a proxy")
    expect(view.state).to_contain_text("Not saved: 1 line, because the answer is not one of the service")
    view.page.unroute("**/corrections*")
    expect(view.state).to_contain_text("All corrections are saved: version 1")
    # What others write is still read.
    other = Corrector(site.signed_in(windows), view.run)
    other.correct(1, "of another person")
    expect(view.text(1)).to_have_text("of another person")


def test_a_text_that_is_chosen_while_another_one_is_on_its_way_is_saved(site: Site, windows: Windows) -> None:
    windows.faults.expect("ERR_FAILED")
    run = made(site, "chosen")
    view, other = (Corrector(site.signed_in(windows), run, name) for name in ("Ana", "Ben"))
    view.edit(0, "hers")
    other.edit(0, "his")
    view.press("Enter")
    other.press("Enter")
    choice = view.line(0).get_by_role("group", name="Different corrections")
    expect(choice).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    view.page.route("**/corrections", hold)
    view.correct(0, "third")
    until(lambda: view.page.evaluate("1") == 1 and len(held) == 1, "the third text is on its way")
    choice.get_by_role("button", name="Use this: the text of Ana").click()
    until(lambda: view.page.evaluate("1") == 1 and len(held) == 2, "the chosen text is on its way")
    with view.page.expect_response("**/corrections"):
        held[0].continue_()
    expect(view.line(0)).to_contain_text("hers")
    held[1].abort()
    view.page.unroute("**/corrections")
    expect(view.state).to_contain_text("All corrections are saved: version 4")
    assert view.exported().startswith("hers\n")


def test_windows_of_one_person_do_not_take_each_others_unsaved_text_away(site: Site, windows: Windows) -> None:
    run = made(site, "two windows")
    first = Corrector(site.signed_in(windows), run)
    context = first.page.context
    second, third, idle = (Corrector(context.new_page(), run) for _ in range(3))
    for view in (first, second, third, idle):
        # In the page itself: what the debugger takes away comes back while a window closes, and its text may be saved.
        view.page.evaluate("() => { globalThis.fetch = async () => { throw new TypeError('no network'); }; }")
    first.correct(0, "of the first window")
    second.correct(1, "of the second window")
    third.correct(1, "of the third window")
    for view in (first, second, third):
        expect(view.state).to_contain_text("Not saved: 1 line")
    # Also one that has nothing to save writes down at its end what it has.
    for view in (second, third, first, idle):
        view.page.close(run_before_unload=False)
    again = Corrector(context.new_page(), run)
    expect(again.state).to_contain_text("All corrections are saved: version 2")
    # Two texts of one line: the other one is saved when the page is opened the next time.
    last = Corrector(context.new_page(), run)
    expect(last.state).to_contain_text("All corrections are saved: version 3")
    assert "of the first window" in again.exported()
    expect(last.line(1)).to_contain_text("Corrected by two people at the same time")
    expect(last.line(1)).to_contain_text("of the second window")
    expect(last.line(1)).to_contain_text("of the third window")


def test_hostile_text_stays_text(site: Site, windows: Windows) -> None:
    run = made(site, "hostile")
    view, other = (Corrector(site.signed_in(windows), run, "<b>Eve</b>") for _ in range(2))
    view.correct(0, f"{MARKUP} \u202ex\n\n-->")
    expect(view.state).to_contain_text("version 1")
    view.page.get_by_text("History", exact=True).click()
    view.page.get_by_text("Terms for a glossary", exact=True).click()
    expect(other.text(0)).to_contain_text(MARKUP)
    for page in (view.page, other.page):
        assert (
            page.evaluate(
                "document.querySelectorAll('main img, main iframe, main script, #words b, #versions b b').length"
            )
            == 0
        )
    expect(view.page.locator("#versions")).to_contain_text("<b>Eve</b>")
    # What is too long is cut by the field.
    view.edit(1, "x" * 100_000)
    expect(view.field).to_have_value("x" * 5_000)
    view.press("Enter")
    expect(view.state).to_contain_text("version 2")


def test_the_editor_in_every_look_and_without_scripts(site: Site, windows: Windows) -> None:
    run = made(site, "looks")
    view = Corrector(site.signed_in(windows), run, "Ana")
    view.correct(0, "Yesterday Dr. Katz told us")
    expect(view.state).to_contain_text("version 1")
    view.page.get_by_text("Terms for a glossary", exact=True).click()
    view.edit(2, "this is being written")
    looks.check_looks(view.page, "corrections-editing")
    plain = Run(site.signed_in(windows, java_script_enabled=False)).open(run)
    link = plain.page.get_by_role("link", name="txt, corrected")
    address = link.get_attribute("href")
    assert address
    assert "Yesterday Dr. Katz told us" in plain.page.request.get(address).text()


def test_a_refused_text_is_kept_until_somebody_forgets_it(site: Site, windows: Windows) -> None:
    windows.faults.expect("409")
    view = Corrector(site.signed_in(windows), made(site, "refused"))
    # As if the run had been tried again meanwhile, with other words in this line.
    view.page.evaluate("document.querySelector('#s0 > span').textContent = 'other words'")
    view.correct(0, "meant for other words")
    box = view.page.locator("#refused")
    expect(box).to_contain_text("meant for other words")
    expect(box).to_contain_text("another text of the model")
    looks.check_looks(view.page, "corrections-refused", ("wide", "narrow"))
    view.page.reload()
    expect(box).to_contain_text("meant for other words")
    expect(view.text(0)).not_to_contain_text("meant for")
    box.get_by_role("button", name="Forget it").click()
    expect(box).to_be_hidden()
    view.correct(0, "first")
    # What is replaced before it was sent is no version.
    expect(view.state).to_contain_text("version 1")
    view.correct(0, "second")
    expect(view.state).to_contain_text("version 2")
    view.page.get_by_label("Version; empty").fill("1")
    address = view.page.get_by_role("link", name="txt, corrected").get_attribute("href") or ""
    assert view.page.request.get(address).text().startswith("first\n")
