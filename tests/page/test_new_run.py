"""The page for new runs, in a browser, with a service whose parts are small: what is sent, and what people are told."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from chunk_job.store.files import FileStore
from tests.controller.service.running import Running, running, tenants_file
from tests.page.browser import Windows
from tests.page.looks import check_looks

pytestmark = pytest.mark.page

PART = 100_000
SOUND = bytes(range(250)) * 1_000  # two parts and a half
MOST = 1_000_000
_LATER_PARTS = re.compile(r"/parts/[23]$")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With tokens, and a limit for uploads."""
    folder = tmp_path_factory.mktemp("service")
    tenants, _ = tenants_file(folder, news=f'max_upload_bytes = {MOST}\nsources = ["s3://media/"]')
    with running(FileStore(folder / "store"), part_bytes=PART, tenants=tenants) as up:
        yield up


def opened(windows: Windows, service: Running, **options: Any) -> Page:
    """The page, in a window of somebody who has signed in."""
    windows.faults.hosts.add(urlsplit(service.address).netloc)
    page = windows.open(**options)
    page.context.add_cookies([{"name": "stenofleet_token", "value": "stf_news_token", "url": service.address}])
    page.goto(f"{service.address}/new")
    return page


def file(folder: Path, name: str, data: bytes = SOUND) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def row(page: Page, name: str) -> Locator:
    return page.locator("#files > li").filter(has_text=name)


def start(page: Page, *paths: Path) -> None:
    page.set_input_files("#f-file", list(paths))
    page.click("#start")


def runs(service: Running) -> list[dict[str, Any]]:
    """The newest first."""
    headers = {"Authorization": "Bearer stf_news_token"}
    found: list[dict[str, Any]] = service.client.get("/v1/runs", headers=headers).json()["runs"]
    return found


def stored(service: Running) -> list[bytes]:
    """The recordings of complete uploads whose runs have not ended."""
    found = [item.key for item in service.store.list("uploads/news/") if "/media" in item.key]
    return [service.store.get(key) for key in found]


def dropped(page: Page, name: str) -> None:
    """Drop a file onto the page."""
    page.evaluate(
        """name => {
          const dataTransfer = new DataTransfer(), options = { dataTransfer, bubbles: true, cancelable: true };
          dataTransfer.items.add(new File(["sound"], name, { type: "audio/mpeg" }));
          for (const kind of ["dragenter", "dragover", "drop"]) {
            document.querySelector("h1").dispatchEvent(new DragEvent(kind, options));
          }
        }""",
        name,
    )
    expect(row(page, name)).to_contain_text("ready")


def hold(page: Page) -> None:
    """Keep all parts of uploads but the first one on their way."""
    page.route(_LATER_PARTS, lambda _: None)


def test_several_files_and_an_address_become_runs_with_the_same_options(
    windows: Windows, service: Running, tmp_path: Path
) -> None:
    page = opened(windows, service)
    hostile = "<img src=x onerror=alert(1)>.wav"
    before = len(runs(service))
    page.set_input_files(
        "#f-file",
        [
            *(file(tmp_path, name) for name in ("one.mp3", hostile)),
            file(tmp_path, "empty.wav", b""),
            file(tmp_path, "large.wav", bytes(MOST + 1)),
        ],
    )
    # Refused before anything is sent.
    expect(row(page, "empty.wav")).to_contain_text("it is empty (0 bytes)")
    expect(row(page, "large.wav")).to_contain_text("one upload may have 1,000,000 bytes: split the recording")
    page.set_input_files("#f-file", [tmp_path / "one.mp3"])
    expect(page.locator("#note")).to_have_text("one.mp3 is in the list already.")
    page.get_by_label("Or addresses in S3").fill("s3://media/talk.mp4\n")
    page.get_by_label("Language").select_option("Portuguese")
    page.get_by_label("Labels").fill("case = 7\n\ndesk=foreign")
    page.get_by_role("button", name="Transcribe 2 files").click()
    for name in ("one.mp3", hostile, "s3://media/talk.mp4"):
        expect(row(page, name)).to_contain_text("submitted")
    found = runs(service)[: len(runs(service)) - before]
    assert sorted(run["name"] for run in found) == sorted(["one.mp3", hostile.replace("/", "_"), "talk.mp4"])
    assert {tuple(run["labels"].items()) for run in found} == {(("case", "7"), ("desk", "foreign"))}
    link = row(page, "one.mp3").get_by_role("link")
    assert (link.get_attribute("href") or "").removeprefix("/runs/") in {run["id"] for run in found}
    check_looks(page, "new-run-submitted")


def test_what_is_wrong_is_said_at_its_field_before_anything_is_sent(windows: Windows, service: Running) -> None:
    windows.faults.expect("422")
    page = opened(windows, service)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    dropped(page, "one.mp3")
    page.get_by_label("Speaker names").fill("Ana")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Transcribe").press("Enter")
    expect(page.locator("#errors")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wrong = page.get_by_label("Speaker names")
    expect(wrong).to_be_focused()
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_have_accessible_description(
        "Of channel 1, 2, … One a line. only with channels: split; else speakers are not told apart"
    )
    wrong.fill("")
    page.get_by_text("All options").click()
    page.get_by_label("Beam size").fill("many")
    page.get_by_text("All options").click()
    page.get_by_role("button", name="Transcribe").click()
    expect(page.get_by_label("Beam size")).to_be_visible()
    expect(page.locator("#errors")).to_contain_text("Beam size: must be a whole number")
    check_looks(page, "new-run-wrong", looks=("wide", "narrow"))
    assert {urlsplit(url).path for url in sent} == {"/new/check"}


def test_progress_is_that_of_bytes_that_were_sent(windows: Windows, service: Running, tmp_path: Path) -> None:
    page = opened(windows, service)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 40_000}
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", slow)
    start(page, file(tmp_path, "one.mp3", SOUND[:PART]))  # one part
    figures = row(page, "one.mp3").locator(".figures-of-one")
    expect(figures).to_contain_text("/s · about")
    bar = row(page, "one.mp3").get_by_role("progressbar")
    assert 0 < float(bar.get_attribute("value") or 0) < 100
    network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    expect(row(page, "one.mp3")).to_contain_text("submitted")


def test_an_upload_is_paused_resumed_and_goes_on_after_the_network_was_lost(
    windows: Windows, service: Running, tmp_path: Path
) -> None:
    windows.faults.expect("ERR_INTERNET_DISCONNECTED|ERR_FAILED")
    page = opened(windows, service)
    hold(page)
    start(page, file(tmp_path, "one.mp3"))
    one = row(page, "one.mp3")
    expect(one).to_contain_text("40 %, 100 KB of 250 KB")
    one.get_by_role("button", name="Pause").click()
    expect(one).to_contain_text("paused")
    expect(one.get_by_role("button", name="Resume")).to_be_focused()
    expect(page.locator("#said")).to_contain_text("one.mp3 is paused")
    page.keyboard.press("Enter")
    expect(one).to_contain_text("uploading")
    one.get_by_role("button", name="Pause").click()
    page.unroute(_LATER_PARTS)
    page.route(_LATER_PARTS, lambda route: route.abort("internetdisconnected"))
    one.get_by_role("button", name="Resume").click()
    expect(one).to_contain_text("the connection was lost: next try in")
    expect(page.locator("#said")).to_contain_text("the connection was lost, it is tried again")
    check_looks(page, "new-run-waiting", looks=("narrow", "dark"))
    page.unroute(_LATER_PARTS)
    one.get_by_role("button", name="Try now").click()
    expect(one).to_contain_text("submitted")


def test_a_reload_goes_on_with_the_same_file_only(windows: Windows, service: Running, tmp_path: Path) -> None:
    page = opened(windows, service)
    hold(page)
    path = file(tmp_path, "talk.mp3")
    start(page, path)
    one = row(page, "talk.mp3")
    expect(one).to_contain_text("40 %")
    one.get_by_role("button", name="Pause").click()
    page.reload()
    # Not before: then the parts would be sent while the page is left.
    page.unroute(_LATER_PARTS)
    left = page.get_by_role("region", name="Uploads that were interrupted")
    expect(left).to_contain_text("talk.mp3 (250 KB): to resume, choose this file again")
    other = tmp_path / "other"
    other.mkdir()
    page.set_input_files("#f-file", [file(other, "talk.mp3", SOUND[::-1])])
    expect(one).to_have_text("talk.mp3 250 KB○ ready Remove talk.mp3")
    one.get_by_role("button", name="Remove").click()
    page.set_input_files("#f-file", [path])
    expect(one).to_contain_text("resumes where it was interrupted")
    expect(left.get_by_text("talk.mp3")).to_be_hidden()
    sent = []
    page.on("request", lambda request: sent.append(request.url) if "/parts/" in request.url else None)
    page.click("#start")
    expect(one).to_contain_text("submitted")
    assert sorted(url[-1] for url in sent) == ["2", "3"]


def test_a_double_click_and_a_lost_reply_make_one_run(windows: Windows, service: Running, tmp_path: Path) -> None:
    windows.faults.expect("ERR_FAILED")
    page = opened(windows, service)
    before, tries = len(runs(service)), []

    def lose(route: Route) -> None:
        tries.append(route.request.headers["idempotency-key"])
        response = route.fetch()
        if len(tries) == 1:
            route.abort()
        else:
            route.fulfill(response=response)

    page.route("**/v1/runs", lose)
    page.set_input_files("#f-file", [file(tmp_path, "one.mp3")])
    page.dblclick("#start")
    expect(row(page, "one.mp3")).to_contain_text("submitted")
    assert tries[0] == tries[1]
    assert len(tries) == 2
    assert len(runs(service)) == before + 1


def test_a_sign_in_page_of_a_proxy_is_no_answer(windows: Windows, service: Running, tmp_path: Path) -> None:
    page, asked = opened(windows, service), []

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        if len(asked) == 1:
            route.fulfill(status=200, content_type="text/html", body="<html>Sign in</html>")
        else:
            route.continue_()

    page.route("**/v1/runs", answer)
    start(page, file(tmp_path, "proxy.wav"))
    expect(row(page, "proxy.wav")).to_contain_text("the answer is not one of the service: next try")
    expect(row(page, "proxy.wav")).to_contain_text("submitted")
    assert (asked, [run["name"] for run in runs(service)].count("proxy.wav")) == (["POST"] * 2, 1)


def test_a_page_that_still_uploads_is_not_left_by_mistake(windows: Windows, service: Running, tmp_path: Path) -> None:
    windows.faults.expect("dialog: ")
    page = opened(windows, service)
    hold(page)
    start(page, file(tmp_path, "one.mp3"))
    one = row(page, "one.mp3")
    expect(one).to_contain_text("40 %")
    with page.expect_event("dialog") as asked:
        page.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        one.get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 204
    expect(one).to_contain_text("cancelled")
    page.unroute(_LATER_PARTS)


def test_without_scripts_the_form_sends_one_file_or_says_what_is_wrong(
    windows: Windows, service: Running, tmp_path: Path
) -> None:
    windows.faults.expect("422")
    page = opened(windows, service, java_script_enabled=False)
    page.get_by_label("Labels").fill("case")
    page.set_input_files("#f-file", [file(tmp_path, "small.mp3")])
    page.click("#start")
    expect(page.get_by_role("alert")).to_contain_text("line 1 is not a name, = and a value")
    expect(page.get_by_label("Labels")).to_have_value("case")
    page.get_by_label("Labels").fill("case=9")
    page.set_input_files("#f-file", [tmp_path / "small.mp3"])
    page.click("#start")
    page.wait_for_url("**/runs/*")
    newest = runs(service)[0]
    assert (newest["name"], newest["labels"], page.url.rpartition("/")[2]) == ("small.mp3", {"case": "9"}, newest["id"])
