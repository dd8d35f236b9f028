"""Transcripts as pages show them: made once, made again when they are others, and removed with their last reader."""

import threading
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.reports.words import MOST_LINES
from controller.service.web.transcripts import ShownTranscripts
from tests.shown_runs import MARKUP, HostileRun, ShownRun


class CountingStore(FileStore):
    """Counts how often the transcript is read; each reader waits for *go_on*."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened = 0
        self.broken = False
        self.go_on = threading.Event()
        self.go_on.set()

    def open(self, key: str, **limits: Any) -> Any:
        if key.endswith("transcript.json"):
            self.opened += 1
            self.go_on.wait(10)
            if self.broken:
                raise StoreUnavailable("the store does not answer", "check the store")
        return super().open(key, **limits)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


def html_of(transcripts: ShownTranscripts, run: ShownRun, *names: str) -> str:
    found = transcripts.find(run.record, names, "whisper")
    assert found
    return "".join(found.parts())


def test_all_lines_are_there_with_the_time_of_each_word(store: CountingStore) -> None:
    run = ShownRun(chunks=4, words=1_500, lost=(2,))
    run.put(store, "partial")
    shown = ShownTranscripts(store).find(run.record, (), "whisper")
    assert shown
    html = "".join(shown.parts())
    segments = [segment for some in run.segments() for segment in some]
    assert html.count("<li ") == len(segments) > 2 * MOST_LINES
    assert html.count("data-w=") == len(segments)
    assert sum(shown.words.words) == sum(len(segment.words) for segment in segments)
    assert "<b>No transcript</b> from 24:00 to 36:00" in html
    assert shown.summary.status == "partial"


def test_a_transcript_is_made_once_for_readers_at_the_same_time_and_later(store: CountingStore) -> None:
    run = ShownRun(chunks=2, words=100)
    run.put(store, "complete")
    transcripts, found = ShownTranscripts(store), []
    store.go_on.clear()
    readers = [threading.Thread(target=lambda: found.append(html_of(transcripts, run))) for _ in range(5)]
    for reader in readers:
        reader.start()
    store.go_on.set()
    for reader in readers:
        reader.join()
    assert html_of(transcripts, run) == found[0]
    assert (len(set(found)), len(found), store.opened) == (1, 5, 1)


def test_another_transcript_and_other_names_are_made_anew(store: CountingStore) -> None:
    run = ShownRun(chunks=2, words=100)
    run.put(store, "complete")
    transcripts = ShownTranscripts(store)
    before = html_of(transcripts, run)
    html_of(transcripts, run, "Anna")
    assert store.opened == 2
    ShownRun(chunks=2, words=300).put(store, "complete")
    assert html_of(transcripts, run) != before


def test_what_failed_once_is_tried_again(store: CountingStore) -> None:
    run = ShownRun(chunks=2, words=100)
    run.put(store, "complete")
    transcripts = ShownTranscripts(store)
    store.broken = True
    with pytest.raises(StoreUnavailable):
        transcripts.find(run.record, (), "whisper")
    store.broken = False
    assert "<li " in html_of(transcripts, run)


def test_a_run_without_a_transcript_has_none_until_it_is_there(store: CountingStore) -> None:
    run = ShownRun(chunks=2, words=100)
    transcripts = ShownTranscripts(store)
    assert transcripts.find(run.record, (), "whisper") is None
    run.put(store, "complete")
    assert html_of(transcripts, run)


def test_old_ones_are_removed_but_not_while_somebody_reads_them(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.service.web.transcripts._MOST", 2)
    runs = [ShownRun(chunks=2, words=100, run=f"{at:016x}") for at in range(4)]
    transcripts = ShownTranscripts(store)
    for run in runs:
        run.put(store, "complete")
    first = transcripts.find(runs[0].record, (), "whisper")
    assert first
    for run in runs[1:]:
        transcripts.find(run.record, (), "whisper")
    path = first.path
    assert "".join(first.parts()).endswith("</section>\n")
    del first
    assert not path.exists()


def test_what_was_said_stays_text(store: CountingStore) -> None:
    run = HostileRun()
    run.put(store, "complete")
    html = html_of(ShownTranscripts(store), run)
    assert "<script" not in html
    assert "<img" not in html
    assert str(Markup.escape(MARKUP)) in html
