"""The list: what it shows of runs, what a search finds and says, and whose runs these are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.service.web import list_view
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.web.pages import browser, content, words
from tests.fakes import HANG

pytestmark = pytest.mark.process
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs a page, and seven a search."""
    for name, number in (("ON_PAGE", 3), ("_AT_ONCE", 2), ("MOST_SEARCHED", 7)):
        monkeypatch.setattr(list_view, name, number)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    path, headers = tenants_file(tmp_path, news="", sport="")
    with running(FileStore(tmp_path / "store"), tenants=path, max_parallel=8) as up:
        up.client.headers.update(headers["news"])
        yield up


def names(page: str) -> list[str]:
    return [
        part.partition("</bdi>")[0]
        for part in content(page).split("<h2><a ")[1:]
        for part in [part.partition("<bdi>")[2]]
    ]


def link(page: str, text: str) -> str:
    """The address of a link with this text."""
    return content(page).partition(f'">{text}</a>')[0].rpartition('href="')[2].replace("&amp;", "&")


def test_a_run_with_all_that_is_known_of_it(service: Running) -> None:
    run = service.submit("talk.wav", labels={"team": "a b"}, options={"language": "pt"})
    service.wait_for(run["id"])
    service.wait_until_gone("queue/")
    found = browser(service, "stf_news_token").get("/")
    text = words(found.text)
    assert "complete talk.wav team : a b Length 0:10 Language pt Submitted 20" in text
    assert f'href="/runs/{run["id"]}"' in found.text
    # Nothing of it changes any more.
    assert 'hx-trigger="every' not in found.text
    with_label = browser(service, "stf_news_token").get(link(found.text, "<bdi>team</bdi>: <bdi>a b</bdi>"))
    assert names(with_label.text) == ["talk.wav"]


def test_a_detected_language_is_shown(service: Running) -> None:
    service.wait_for(service.submit("talk.wav")["id"])
    service.wait_until_gone("queue/")
    assert "Language en" in words(browser(service, "stf_news_token").get("/").text)


def test_markup_stays_text(service: Running) -> None:
    service.submit(f"{MARKUP}.wav", labels={"x": MARKUP})
    for place in ("/", "/?q=img", f"/?label=x={MARKUP}", f"/?q={MARKUP}"):
        page = content(browser(service, "stf_news_token").get(place).text)
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_name_is_found_in_the_other_unicode_form(service: Running) -> None:
    service.submit("cafe\N{COMBINING ACUTE ACCENT}.wav")
    page = browser(service, "stf_news_token").get("/?q=CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}").text
    assert names(page) == ["cafe\N{COMBINING ACUTE ACCENT}.wav"]


def test_a_tenant_sees_only_its_own_runs(service: Running) -> None:
    run = service.submit("secret.wav")
    other = browser(service, "stf_sport_token")
    assert "There are no runs yet" in words(other.get("/").text)
    assert "secret" not in other.get("/?q=secret").text.replace('value="secret"', "")
    for place in ("", "/part/live", "/report.html"):
        assert other.get(f"/runs/{run['id']}{place}").status_code == 404


def test_an_empty_list_says_how_to_begin(service: Running) -> None:
    text = browser(service, "stf_news_token").get("/").text
    assert 'href="/new">Transcribe a recording</a>' in text
    assert 'curl -H "Authorization: Bearer $TOKEN" -F file=@talk.mp3 http://127.0.0.1/v1/runs' in words(text)


def test_while_something_changes_the_list_asks_again_for_itself(tmp_path: Path) -> None:
    with running(FileStore(tmp_path), script=lambda _: HANG, chunks_ms=(10_000, 20_000)) as up:
        run = up.submit("long.wav")
        up.wait_for(run["id"], "running")
        page = browser(up).get("/?q=long").text
        assert 'hx-get="/?q=long" hx-trigger="every 3s"' in page
        up.client.post(f"/v1/runs/{run['id']}:cancel")
        up.wait_for(run["id"])
        up.wait_until_gone("queue/")
        assert 'hx-trigger="every' not in browser(up).get("/?q=long").text


@pytest.mark.usefixtures("small")
def test_pages_and_searches_are_bounded_and_say_what_they_cover(service: Running) -> None:
    for number in range(9):
        service.submit(f"{'match' if number in (0, 8) else 'other'} {number}.wav")
    client = browser(service, "stf_news_token")
    pages, place = [], "/"
    while place:
        page = client.get(place).text
        pages.append(names(page))
        place = link(page, "Older runs") if "Older runs" in page else ""
    assert [len(found) for found in pages] == [3, 3, 3]
    assert len({name for found in pages for name in found}) == 9
    # Runs of one second have no order of their own: a search finds each once, wherever it is.
    searched = client.get("/?q=MATCH").text
    found, text = names(searched), words(searched)
    assert "1 run found in the 8 newest, back to 20" in text
    more = client.get(link(searched, "Search older runs")).text
    assert "Newest runs" in words(more)
    assert sorted(found + names(more)) == ["match 0.wav", "match 8.wav"]


def test_filters_of_a_list(service: Running) -> None:
    labelled = {"Año nuevo.wav": {"team": "a"}, "b.wav": {"team": "b"}, "c.wav": {}}
    ids = {name: service.submit(name, labels=labels)["id"] for name, labels in labelled.items()}
    for run in ids.values():
        service.wait_for(run)
    service.wait_until_gone("queue/")
    client = browser(service, "stf_news_token")
    for query, expected in {
        "q=AÑO": ["Año nuevo.wav"],
        "q=nuevo+team=a": ["Año nuevo.wav"],
        "q=nuevo+team=b": [],
        f"q={ids['c.wav'][:8]}": ["c.wav"],
        "label=team": ["b.wav", "Año nuevo.wav"],
        "label=team=b": ["b.wav"],
        "status=failed": [],
        "status=complete&q=b.wav": ["b.wav"],
    }.items():
        page = client.get(f"/?{query}").text
        assert sorted(names(page)) == sorted(expected), query
        assert f"{len(expected)} run" in words(page)


def test_a_store_that_does_not_answer_has_a_page(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("no", "wait")

    monkeypatch.setattr(service.server.app.state.service.requests, "page", away)
    found = browser(service, "stf_news_token").get("/")
    assert (found.status_code, found.headers["retry-after"]) == (503, "5")
    assert "the store is unavailable" in words(found.text)
