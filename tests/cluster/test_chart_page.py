"""The page of the installed service in a browser: a recording is uploaded to the store, and played from it."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import soundfile
from playwright.sync_api import Page, expect

from tests import speech
from tests.cluster.release import PATIENCE_S, Release
from tests.page.browser import Windows, chromium
from tests.page.views import NewRun, Run, SignIn

pytestmark = pytest.mark.timeout(600)

_PATIENCE_MS = 1_000 * PATIENCE_S
"""Pods of other tests share the two cores."""


@pytest.fixture
def windows(release: Release) -> Iterator[Windows]:
    """Windows that may ask the store."""
    with chromium() as browser:
        windows = Windows(browser)
        windows.faults.hosts.add(urlsplit(release.cluster.s3.endpoint).netloc)
        yield windows
        windows.close()
        assert not windows.faults.unexpected


def test_a_recording_is_uploaded_transcribed_and_played(release: Release, windows: Windows, tmp_path: Path) -> None:
    tape = speech.tape(seconds=30, seed=4)
    recording = tmp_path / "meeting <b>.wav"
    soundfile.write(recording, tape.pcm, speech.RATE_HZ, subtype="PCM_16")
    release.install('playback={"rendition": true}')
    with release.forwarded() as (host, port):
        windows.faults.hosts.add(f"{host}:{port}")
        page: Page = windows.open(base_url=f"http://{host}:{port}")
        page.goto("/new")
        SignIn(page).sign_in(release.token())
        expect(NewRun(page).title).to_have_text("New run")
        # Before its script is there, the page sends a form, and opens the run itself.
        expect(page.get_by_text("or drop them anywhere on this page")).to_be_visible()
        page.get_by_label("Recordings").set_input_files(recording)
        page.get_by_role("button", name="Transcribe").click()
        made = page.get_by_role("main").get_by_role("link", name=f"see the run of {recording.name}")
        made.click(timeout=_PATIENCE_MS)
        run = Run(page)
        expect(run.title).to_have_text(recording.name)
        expect(run.state).to_contain_text("complete", timeout=_PATIENCE_MS)
        page.reload()
        # The text of the document: what is below the window is not laid out, and has no inner text.
        said = " ".join(run.lines.locator("> span").all_text_contents())
        assert speech.word_errors(tape.words, said).wer < 0.1
        # Played from the store, by a link that ends.
        with page.expect_response(lambda answer: answer.url.startswith(release.cluster.s3.endpoint)) as played:
            page.locator("audio").evaluate("audio => audio.play()")
        assert played.value.status in (200, 206)
        expect(page.locator("audio")).to_have_js_property("error", None)
        page.wait_for_function("document.querySelector('audio').currentTime > 0.2")
        # It asks for news while it is open, and the way to the service ends here.
        page.close()
