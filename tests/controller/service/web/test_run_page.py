"""The page of a run without scripts: what it shows, its forms, its downloads, and what comes while the run works."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.service.web import transcripts
from tests.controller.service.running import Running, running
from tests.controller.service.web.pages import OWN, browser, check_fields, content, words
from tests.fakes import HANG, JobBehaviour, fails_with, scripted, segment

pytestmark = pytest.mark.process
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(FileStore(tmp_path_factory.mktemp("store")), chunks_ms=(10_000, 20_000)) as up:
        yield up


@pytest.fixture(scope="module")
def complete(service: Running) -> str:
    run_id: str = service.submit(f"{MARKUP}.wav", labels={"a": MARKUP})["id"]
    service.wait_for(run_id)
    service.wait_until_gone("queue/")
    return run_id


def test_a_complete_run_has_its_words_its_figures_and_its_downloads(service: Running, complete: str) -> None:
    found = browser(service).get(f"/runs/{complete}")
    check_fields(found.headers)
    text = words(found.text)
    for part in ("complete", "Length 0:30", "Chunks 2 of 2", "Timeline", "Transcript", "Chunk 1 0:10 – 0:30"):
        assert part in text
    assert "stenofleet transcribe" in text
    links = re.findall(r'href="(/(?:v1/)?runs/[^"#]+)"', content(found.text))
    # Each format and profile, each format with corrections, and the report.
    assert len(links) == 7 + 3 * 2 + 7 + 2
    for link in links:
        assert service.client.get(link.replace("&amp;", "&")).status_code == 200, link
    # It does not change any more.
    assert "hx-get" not in content(found.text)


def test_hostile_names_stay_text(service: Running, complete: str) -> None:
    for place in (f"/runs/{complete}", f"/runs/{complete}/part/live"):
        text = browser(service).get(place).text
        assert MARKUP not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_the_beginning_of_a_page_is_sent_before_its_words_are_read(
    service: Running, complete: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("no", "wait")

    monkeypatch.setattr(transcripts.ShownTranscripts, "find", away)
    found = browser(service).get(f"/runs/{complete}")
    # Too late for a page of its own.
    assert (found.status_code, "The store does not answer now" in words(found.text)) == (200, True)
    with browser(service).stream("GET", f"/runs/{complete}", headers={"Accept-Encoding": "gzip"}) as streamed:
        pieces = list(streamed.iter_raw())
    assert len(pieces) > 2
    assert gzip.decompress(b"".join(pieces)).endswith(b"</html>")


def test_a_report_is_a_file(service: Running, complete: str) -> None:
    found = browser(service).get(f"/runs/{complete}/report.html")
    assert found.headers["content-disposition"].startswith("attachment")
    assert '<meta name="generator" content="stenofleet report">' in found.text


def test_captions_that_break_their_profile_are_marked_in_the_text(tmp_path: Path) -> None:
    fast = segment(*((f" word{at}", 1_000 + 20 * at, 1_020 + 20 * at) for at in range(12)))
    slow = segment((" slow", 5_000, 6_000), number=1)
    spoken = JobBehaviour(leaves="result", result={"segments": (fast, slow), "text": fast.text + slow.text})
    with running(FileStore(tmp_path), script=lambda _: spoken) as up:
        run = up.submit()["id"]
        up.wait_for(run)
        client = browser(up)
        checked, plain = (client.get(f"/runs/{run}{query}").text for query in ("?captions=netflix", ""))
    lines = checked.partition('<div class="words"')[2].split("<li ")[1:]
    assert ["Captions:" in line for line in lines] == [True, False]
    assert "Captions: too fast" in words(checked)
    assert re.search(r"in the profile netflix: \d+ of \d+ break its limits", words(checked))
    assert "Captions:" not in words(plain)


def test_a_run_that_works_says_how_far_it_is_and_can_be_cancelled_tried_again_and_deleted(tmp_path: Path) -> None:
    hangs = True

    def script(job: object) -> JobBehaviour:
        return HANG if hangs else JobBehaviour(leaves="result", takes_ms=20)

    with running(FileStore(tmp_path), script=script, chunks_ms=(10_000, 20_000)) as up:
        run = up.submit("a.wav")["id"]
        up.wait_for(run, "running")
        client = browser(up)
        page = client.get(f"/runs/{run}").text
        assert f'hx-get="/runs/{run}/part/live" hx-trigger="every 2s" hx-swap="morph:outerHTML"' in page
        live = client.get(f"/runs/{run}/part/live")
        check_fields(live.headers)
        assert live.text.strip().startswith('<div id="live"')
        assert f'hx-get="/runs/{run}"' not in live.text
        assert client.post(f"/runs/{run}/delete", headers=OWN).status_code == 409
        assert client.post(f"/runs/{run}/cancel", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403

        asked = client.post(f"/runs/{run}/cancel", headers=OWN)
        assert (asked.status_code, asked.headers["location"]) == (303, f"/runs/{run}?did=cancel")
        assert "The run is being cancelled" in words(client.get(asked.headers["location"]).text)
        up.wait_for(run, "cancelled")
        ended = client.get(f"/runs/{run}/part/live")
        # It asks for the rest, and is not asked for again.
        assert f'hx-get="/runs/{run}" hx-trigger="load, every 5s" hx-select="#main"' in ended.text
        assert "/part/live" not in ended.text
        assert "Try again" in words(client.get(f"/runs/{run}").text)

        hangs = False
        asked = client.post(f"/runs/{run}/retry", headers=OWN)
        assert asked.headers["location"] == f"/runs/{run}?did=retry"
        up.wait_for(run, "complete")
        up.wait_until_gone("queue/")
        again = client.post(f"/runs/{run}/retry", headers=OWN)
        assert (again.status_code, "the run is complete" in words(again.text)) == (409, True)
        asked = client.post(f"/runs/{run}/delete", headers=OWN)
        assert (asked.status_code, asked.headers["location"]) == (303, "/?did=delete")
        assert "The run was deleted." in words(client.get("/?did=delete").text)
        gone = client.get(f"/runs/{run}")
        assert (gone.status_code, "there is no such run" in words(gone.text)) == (404, True)


def test_a_failing_run_says_why_and_what_to_do(tmp_path: Path) -> None:
    broken = fails_with(ExitCode.BAD_INPUT, f"not audio {MARKUP}", f"send audio {MARKUP}")
    with running(FileStore(tmp_path), script=scripted({(0, attempt): broken for attempt in range(1, 9)})) as up:
        run = up.submit()["id"]
        up.wait_for(run, "failed")
        page = browser(up).get(f"/runs/{run}").text
    assert MARKUP not in page
    assert f"What to do: send audio {MARKUP}" in words(page)
    assert "The run ended without a transcript." in words(page)
    assert "Failed attempts" in words(page)
