"""Listening to a run: player, waveform, and a transcript that leads to the sound and follows it."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Response, Route, expect

from chunk_job.segment import Segment, Word
from tests import pipeline
from tests.page import looks, shown
from tests.page.browser import Windows
from tests.page.site import Site, run_id
from tests.page.views import Run
from tests.shown_runs import ShownRun

pytestmark = pytest.mark.page

SPOKEN = (
    ("Anna Müller", " Die", " Größe", " des", " Hafens"),
    ("Anna Müller", " war", " nicht", " bekannt."),
    ("Ben", " GRÖSSE", " ist", " 漢字", " 😀", " nicht", " alles."),
)


class Conversation(ShownRun):
    """Three lines of two persons, in which the last word of each is very unsure."""

    def segments(self) -> Iterator[tuple[Segment, ...]]:
        at_ms, lines = 1_000, iter(super().segments())
        for (speaker, *spoken), (line,) in zip(SPOKEN, lines, strict=False):
            words: list[Word] = [
                {
                    "word": word,
                    "start_ms": at_ms + 700 * place,
                    "end_ms": at_ms + 700 * place + 600,
                    "probability": 0.1 if word == spoken[-1] else 0.9,
                }
                for place, word in enumerate(spoken)
            ]
            times = {"start_ms": at_ms, "end_ms": words[-1]["end_ms"], "speaker": speaker}
            yield (line.model_copy(update={**times, "text": "".join(spoken), "words": tuple(words)}),)
            at_ms += 10_000


class Listener(Run):
    """The page of a run as somebody uses it who listens."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.answers: list[Response] = []
        page.on("response", self._answered)

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)

    @property
    def player(self) -> Locator:
        return self.page.get_by_role("region", name="Player")

    @property
    def follows(self) -> Locator:
        return self.page.get_by_label("Text follows the sound")

    @property
    def search(self) -> Locator:
        return self.page.get_by_role("searchbox", name="Search")

    @property
    def found(self) -> Locator:
        return self.player.locator("output")

    @property
    def whole(self) -> Locator:
        """The waveform of the whole recording."""
        return self.page.get_by_role("slider", name="Position in the recording", exact=True)

    @property
    def zoomed(self) -> Locator:
        return self.page.get_by_role("slider", name="Position in the recording, zoomed")

    @property
    def current(self) -> Locator:
        """The line that is heard."""
        return self.page.locator('#words li[aria-current="true"]')

    def long_line(self) -> int:
        """The number of the first line of four words or more."""
        texts = self.page.locator("#words li > span").all_text_contents()
        return next(line for line, text in enumerate(texts) if len(text.split()) > 3)

    def time(self, line: int) -> Locator:
        """The time at the beginning of a line."""
        return self.page.locator(f"#s{line}").get_by_role("link")

    def text(self, line: int) -> Locator:
        return self.page.locator(f"#s{line} > span")

    def sound(self, name: str) -> Any:
        """What the player says of itself."""
        return self.page.evaluate("(name) => document.getElementById('audio')[name]", name)

    def marked(self, name: str) -> list[str]:
        """What is marked in the text by a highlight."""
        found: list[str] = self.page.evaluate(
            """(name) => Array.from(CSS.highlights.get(name) ?? [], (part) => {
              const range = new Range();
              range.setStart(part.startContainer, part.startOffset);
              range.setEnd(part.endContainer, part.endOffset);
              return range.toString();
            })""",
            name,
        )
        return found

    def at(self, line: int, word: int) -> tuple[float, float]:
        """Where a word of a line is in the window."""
        # A browser lays out a part of the text when it comes into view, and only then a click finds its words.
        self.until(f"document.getElementById('s{line}').checkVisibility({{contentVisibilityAuto: true}})")
        found: tuple[float, float] = self.page.evaluate(
            """([line, word]) => {
              const text = document.querySelector(`#s${line} > span`);
              const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
              const places = [];
              for (let node = walker.nextNode(); node; node = walker.nextNode()) {
                for (const part of node.data.matchAll(/\\S+/g)) places.push([node, part.index, part[0].length]);
              }
              const [node, from, length] = places[word], range = new Range();
              range.setStart(node, from);
              range.setEnd(node, from + length);
              const box = range.getBoundingClientRect();
              return [box.left + box.width / 2, box.top + box.height / 2];
            }""",
            [line, word],
        )
        return found

    def begun(self) -> None:
        """Wait for the scripts: they begin in order, and the last one shows how to correct."""
        expect(self.page.locator("#corrections [data-live]").first).to_be_visible()

    def until(self, expression: str) -> None:
        """Wait until an expression of the page is true. Playwright's own way needs eval, which its policy forbids."""
        pipeline.until(lambda: bool(self.page.evaluate(expression)), expression, pause_s=0.05)


@pytest.fixture
def heard(site: Site, windows: Windows) -> Listener:
    """The page of a real run with sound."""
    listener = Listener(site.signed_in(windows))
    listener.open(site.complete())
    listener.begun()
    return listener


@pytest.fixture
def read(site: Site, windows: Windows) -> Listener:
    """The page of a run without sound, with three lines."""
    run = Conversation(chunks=1, words=40, run=run_id("conversation"), name="Gespräch.wav")
    listener = Listener(site.signed_in(windows))
    listener.open(site.shown("conversation", run, "complete"))
    listener.begun()
    return listener


def words_of(heard: Listener, line: int) -> list[int]:
    """When each word of a line begins, in ms, as the markup says."""
    start, places = heard.page.locator(f"#s{line}").evaluate("(item) => [item.dataset.start, item.dataset.w]")
    at, found = int(start) // 10 * 10, []
    for place in places.split():
        at += 10 * int(place.partition("+")[0])
        found.append(at)
    return found


# ---------------------------------------------------------------- from the text to the sound


def test_a_word_that_is_clicked_is_where_the_player_goes(heard: Listener) -> None:
    line = heard.long_line()
    heard.text(line).scroll_into_view_if_needed()
    heard.page.mouse.click(*heard.at(line, 2))
    heard.until(f"document.getElementById('audio').currentTime === {words_of(heard, line)[2] / 1000}")
    assert heard.sound("paused")
    expect(heard.current).to_have_attribute("id", f"s{line}")
    assert heard.marked("steno-now") == [(heard.text(line).text_content() or "").split()[2]]
    media = [answer for answer in heard.answers if answer.url.endswith("/media")]
    assert {answer.status for answer in media} == {206}


def test_text_can_be_selected_without_moving_the_player(heard: Listener) -> None:
    line = heard.long_line()
    heard.text(line).scroll_into_view_if_needed()
    heard.page.mouse.move(*heard.at(line, 0))
    heard.page.mouse.down()
    heard.page.mouse.move(*heard.at(line, 2), steps=3)
    heard.page.mouse.up()
    assert heard.page.evaluate("getSelection().toString().length") > 0
    assert heard.sound("currentTime") == 0


def test_the_keyboard_alone_goes_from_a_word_to_the_sound(heard: Listener) -> None:
    line = heard.long_line()
    heard.tab_to(heard.time(0))
    heard.press(*["ArrowDown"] * line)
    expect(heard.time(line)).to_be_focused()
    heard.press("ArrowRight", "ArrowRight")
    word = (heard.text(line).text_content() or "").split()[1]
    assert heard.marked("steno-word") == [word]
    expect(heard.page.locator("#said")).to_contain_text(f"{word}, 0:")
    heard.press("Enter")
    heard.until("!document.getElementById('audio').paused")
    assert heard.sound("currentTime") >= words_of(heard, line)[1] / 1000
    expect(heard.time(line)).to_be_focused()
    # The transcript is two stops of the tabulator, whatever its length: a time, and the button that corrects its line.
    heard.press("Tab", "Tab")
    assert not heard.page.evaluate("document.getElementById('words').contains(document.activeElement)")


def test_keys_play_from_everywhere_and_letters_only_beside_the_sound(heard: Listener) -> None:
    heard.search.focus()
    heard.press("k", "l", "j")
    expect(heard.search).to_have_value("klj")
    assert heard.sound("paused")
    assert heard.sound("currentTime") == 0
    heard.press("F8")
    heard.until("document.getElementById('audio').currentTime > 0.2")
    heard.press("F8")
    heard.until("document.getElementById('audio').paused")
    heard.time(0).focus()
    heard.press("l")
    assert heard.sound("currentTime") >= 5
    heard.press("Shift+F8")
    assert heard.sound("currentTime") < 5
    heard.press("k")
    heard.until("!document.getElementById('audio').paused")
    heard.page.get_by_role("link", name="Runs").focus()
    heard.press("k")
    assert not heard.sound("paused")


# ---------------------------------------------------------------- from the sound to the text


def test_the_text_follows_the_sound_and_leaves_the_focus_where_it_is(heard: Listener) -> None:
    heard.search.focus()
    last = heard.lines.count() - 1
    heard.page.evaluate("scrollTo(0, 0)")
    heard.page.evaluate(
        "(ms) => document.dispatchEvent(new CustomEvent('steno:seek', {detail: {ms, play: true}}))",
        words_of(heard, last)[0],
    )
    expect(heard.current).to_have_attribute("id", f"s{last}")
    expect(heard.current).to_be_in_viewport()
    expect(heard.search).to_be_focused()
    expect(heard.follows).to_be_checked()


def test_somebody_who_scrolls_is_left_alone_until_they_ask_to_follow_again(heard: Listener) -> None:
    heard.page.set_viewport_size({"width": 1280, "height": 700})
    heard.time(0).click()
    heard.until("!document.getElementById('audio').paused")
    expect(heard.current).to_be_in_viewport()
    heard.page.mouse.move(640, 500)

    def turned() -> bool:
        heard.page.mouse.wheel(0, -20_000)
        return bool(heard.page.evaluate("scrollY === 0"))

    # While the page scrolls by itself, the first turn of the wheel only stops that.
    pipeline.until(turned, "the page is at its top", pause_s=0.2)
    expect(heard.follows).not_to_be_checked()
    heard.until("document.getElementById('audio').currentTime > 3")
    assert heard.page.evaluate("scrollY") == 0
    heard.page.get_by_role("button", name="To the current line").click()
    expect(heard.current).to_be_in_viewport()
    expect(heard.follows).to_be_checked()


def test_a_cut_is_heard_from_before_to_after_and_then_it_stops(heard: Listener) -> None:
    button = heard.page.get_by_role("button", name="from 5 s before to 5 s after").first
    cut = int(button.get_attribute("data-seam") or 0) / 1000
    heard.page.evaluate("document.getElementById('audio').playbackRate = 8")
    places = heard.page.evaluate_handle(
        """() => {
          const places = [];
          document.addEventListener("steno:time", (event) => places.push([event.detail.ms, event.detail.playing]));
          return places;
        }"""
    )
    button.click()
    heard.until("!document.getElementById('audio').paused")
    heard.until("document.getElementById('audio').paused")
    found = places.json_value()
    assert found[0][0] == (cut - 5) * 1000
    assert cut + 5 <= heard.sound("currentTime") <= cut + 8
    # It was this part that ended, not the player.
    heard.press("F8")
    heard.until(f"document.getElementById('audio').currentTime > {cut + 8}")


@pytest.mark.parametrize("good", [True, False], ids=["renewed", "gone"])
def test_a_link_that_ends_is_renewed_where_the_player_is_or_the_page_says_that_it_stopped(
    site: Site, windows: Windows, good: bool
) -> None:
    run = site.complete()
    with site.client() as client:
        sound = client.get(f"/v1/runs/{run}/media").content
    half, requests = len(sound) // 2, itertools.count()

    def answer(route: Route) -> None:
        number = next(requests)
        if number == 0:
            part = {"Content-Range": f"bytes 0-{half - 1}/{len(sound)}", "Content-Type": "audio/mpeg"}
            route.fulfill(status=206, headers=part, body=sound[:half])
        elif number == 1 or not good:
            route.fulfill(status=403, body="the link has ended")
        else:
            route.continue_()

    heard = Listener(site.signed_in(windows))
    windows.faults.expect("403")
    heard.page.route("**/media", answer)
    heard.open(run)
    heard.page.evaluate("document.dispatchEvent(new CustomEvent('steno:seek', {detail: {ms: 30000, play: true}}))")
    if good:
        heard.until("document.getElementById('audio').currentTime > 30.2")
        expect(heard.page.locator("#said")).to_be_empty()
    else:
        expect(heard.page.locator("#said")).to_contain_text("Stopped: ")


# ---------------------------------------------------------------- the waveform


def test_the_waveform_leads_to_the_sound_by_mouse_and_keys_and_says_where_it_is(heard: Listener) -> None:
    heard.whole.scroll_into_view_if_needed()
    box = heard.whole.bounding_box()
    assert box
    length = int(heard.page.locator("#wave").get_attribute("data-duration") or 0) / 1000
    heard.whole.click(position={"x": box["width"] / 2, "y": 40})
    assert heard.sound("currentTime") == pytest.approx(length / 2, abs=0.2)
    expect(heard.whole).to_have_attribute("aria-valuenow", str(int(length / 2 + 0.5)))
    expect(heard.whole).to_have_attribute("aria-valuetext", re.compile(r"^0:2\d of 0:45, chunk 1, (no )?words"))
    before = heard.sound("currentTime")
    heard.press("ArrowRight")
    assert heard.sound("currentTime") == pytest.approx(before + 5)
    heard.press("Home")
    assert heard.sound("currentTime") == 0
    heard.zoomed.focus()
    heard.press("+")
    expect(heard.page.locator("#wave output")).to_have_text("0:30 shown")
    heard.press("+", "+", "ArrowRight")
    assert heard.sound("currentTime") == pytest.approx(0.25)


def test_the_detail_of_a_waveform_is_read_in_parts_where_it_is_shown(heard: Listener) -> None:
    heard.zoomed.scroll_into_view_if_needed()
    heard.page.wait_for_load_state("networkidle")
    asked = {answer.url.rpartition("=")[2]: answer.status for answer in heard.answers if "/waveform?" in answer.url}
    assert asked == {"overview": 200, "detail": 206}
    loud = heard.zoomed.evaluate(
        """(canvas) => {
          const pen = canvas.getContext("2d"), row = pen.getImageData(0, canvas.height * 0.3, canvas.width, 1).data;
          return new Set(Array.from({length: canvas.width}, (_, x) => row.slice(4 * x, 4 * x + 3).join())).size;
        }"""
    )
    assert loud > 1, "the wave is drawn"


# ---------------------------------------------------------------- search


def test_a_search_finds_words_over_lines_whatever_their_case_and_accents(read: Listener) -> None:
    read.page.evaluate(
        """document.addEventListener('steno:hits', (event) => {
          document.body.dataset.hits = JSON.stringify(event.detail);
        })"""
    )
    before = read.whole.evaluate("(canvas) => canvas.toDataURL()")
    read.search.fill("hafens war")
    expect(read.found).to_have_text("1 hit")
    assert read.marked("steno-hit") == ["Hafens", " war"]
    assert '"ms":[3100]' in (read.page.locator("body").get_attribute("data-hits") or "")
    assert read.whole.evaluate("(canvas) => canvas.toDataURL()") != before
    read.search.fill("größe")
    expect(read.found).to_have_text("1 hit")
    read.search.fill("grosse ist")
    expect(read.found).to_have_text("1 hit")
    read.search.fill("NICHT")
    expect(read.found).to_have_text("2 hits")
    read.press("Enter")
    expect(read.found).to_have_text("1 of 2 hits, at 0:11")
    read.press("Shift+Enter")
    expect(read.found).to_have_text("2 of 2 hits, at 0:21")
    assert read.marked("steno-chosen") == ["nicht"]
    expect(read.search).to_be_focused()
    read.search.fill("😀 nicht")
    expect(read.found).to_have_text("1 hit")
    read.search.fill("never said")
    expect(read.found).to_have_text("not found")


def test_unsure_words_are_found_and_said_to_be_unsure(read: Listener) -> None:
    read.page.get_by_label("unsure words only").check()
    expect(read.found).to_have_text("3 hits")
    read.page.get_by_role("button", name="Next").click()
    assert read.marked("steno-chosen") == ["Hafens"]
    read.search.fill("nicht")
    expect(read.found).to_have_text("not found")
    read.time(2).focus()
    read.press(*["ArrowRight"] * 6)
    expect(read.page.locator("#said")).to_have_text("alles., 0:24, unsure: 10 %")


# ---------------------------------------------------------------- what is missing


def test_without_sound_the_page_says_why_and_leads_through_the_text(read: Listener) -> None:
    expect(read.player).to_contain_text("No sound to play: ")
    expect(read.player.get_by_text("start a new run with the option rendition")).to_be_visible()
    expect(read.page.get_by_role("button", name="from 5 s before")).to_have_count(0)
    read.whole.focus()
    read.press("ArrowRight", "ArrowRight", "ArrowRight")
    expect(read.current).to_have_attribute("id", "s1")


def test_speakers_and_parts_without_a_transcript_are_read_where_they_are(
    read: Listener, site: Site, windows: Windows
) -> None:
    parts = read.page.locator("#words li > a, #words li > i, #words li > span").all_text_contents()
    assert [part.strip() for part in parts] == [
        "0:01", "Anna Müller", "Die Größe des Hafens", "0:11", "war nicht bekannt.",
        "0:21", "Ben", "GRÖSSE ist 漢字 😀 nicht alles.",
    ]  # fmt: skip
    lost = Listener(site.signed_in(windows))
    lost.open(shown.partial(site))
    expect(lost.transcript).to_contain_text("No transcript from 24:00 to 36:00: this chunk failed.")
    lost.whole.focus()
    lost.page.evaluate("document.dispatchEvent(new CustomEvent('steno:seek', {detail: {ms: 1500000}}))")
    expect(lost.whole).to_have_attribute("aria-valuetext", "25:00 of 1:00:00, chunk 2, no transcript")


def test_a_run_without_words_or_without_a_transcript_says_so(site: Site, windows: Windows) -> None:
    empty = Listener(site.signed_in(windows))
    empty.open(shown.silent(site))
    expect(empty.transcript).to_contain_text("No words were found in this recording.")
    expect(empty.search).to_have_count(0)
    empty.open(shown.failed(site))
    expect(empty.transcript).to_contain_text("The run ended without a transcript.")


def test_without_scripts_the_sound_plays_and_everything_is_read(site: Site, windows: Windows) -> None:
    plain = Listener(site.signed_in(windows, java_script_enabled=False))
    plain.open(site.complete())
    expect(plain.page.locator("audio[controls]")).to_be_visible()
    expect(plain.page.locator("svg.sound")).to_be_visible()
    expect(plain.lines.first).to_be_visible()
    expect(plain.page.locator("#player button, #seams button, #search, .keys").locator("visible=true")).to_have_count(0)


def test_ten_hours_are_searched_and_followed_to_the_end(site: Site, windows: Windows) -> None:
    day = Listener(site.signed_in(windows))
    day.open(shown.ten_hours(site))
    day.search.fill("captain laughed")
    expect(day.found).to_have_text(re.compile(r"^\d+ hits$"))
    day.press("Shift+Enter")
    expect(day.found).to_have_text(re.compile(r"^(\d+) of \1 hits, at 9:"))
    chosen = day.page.locator("#words li > a[tabindex='0']")
    expect(chosen).to_be_in_viewport()
    day.page.evaluate("document.dispatchEvent(new CustomEvent('steno:seek', {detail: {ms: 35990000}}))")
    expect(day.current).to_be_in_viewport()
    assert day.current.text_content() == day.page.locator("#words li").last.text_content()
    day.zoomed.focus()
    expect(day.zoomed).to_have_attribute("aria-valuetext", re.compile("^9:59:50 of 10:00:00, chunk 49"))


def test_listening_looks_right_everywhere(read: Listener) -> None:
    read.search.fill("nicht")
    read.press("Enter")
    read.page.locator(".keys > summary").click()
    read.page.evaluate("document.dispatchEvent(new CustomEvent('steno:seek', {detail: {ms: 12000}}))")
    looks.check_looks(read.page, "listening")
