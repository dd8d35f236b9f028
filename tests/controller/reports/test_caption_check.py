"""What is wrong with the captions of a run is counted in its report, and said at the line where it begins."""

from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller import cli
from controller.cli.checks import Checks
from controller.domain.captions import PROFILES, CaptionStyle
from controller.domain.documents import Request
from controller.domain.interfaces import RunOutcome
from controller.domain.output import Output
from controller.reports import caption_check
from controller.reports.caption_check import checked, submitted_style
from controller.reports.gates import Gates
from controller.reports.html import environment
from controller.reports.run_view import CaptionFindings
from controller.reports.stored_report import StoredReports, view_and_transcript
from controller.reports.words import blocks
from controller.runs.transcript_files import TranscriptFiles, written
from tests import fakes
from tests.shown_runs import KEYS, ShownRun

FAST = ((" it is said faster than anybody can read it, and", 10_000, 10_900), (" much too long", 11_000, 11_400))
SLOW = ((" slow", 2_000, 3_500), (" enough", 4_000, 5_500))
SEGMENTS = (fakes.segment(*SLOW), fakes.segment(*FAST, number=1), fakes.segment((" Good.", 30_000, 32_000), number=2))
TIGHT = CaptionStyle(max_line_width=12, max_line_count=1, max_cue_ms=3_000, max_cps=12)


def spoken() -> TranscriptFiles:
    """A short transcript: its second segment is too fast."""
    return written(ShownRun(chunks=1).summary(), [SEGMENTS])


def test_a_line_says_what_is_wrong_with_its_captions() -> None:
    transcript = spoken()
    found = checked(transcript, PROFILES["netflix"])
    assert (found.profile, found.broken, found.left_out) == ("netflix", 1, 0)
    assert found.captions == 3
    assert found.rules == (("too fast", 1),)
    (block,) = blocks([SEGMENTS], transcript.summary.chunks)
    notes = found.of(block)
    assert list(notes) == [1]
    assert notes[1][0].startswith("too fast: ")
    assert notes[1][0].endswith(" columns per second (at most 20)")


def test_the_style_is_that_of_the_run() -> None:
    def asked(*styles: CaptionStyle | None) -> Request:
        outputs = tuple(Output(base="file:///talk", formats=("srt",), captions=style) for style in styles)
        return fakes.request(fakes.record()).model_copy(update={"outputs": outputs})

    assert submitted_style(None) is None
    assert submitted_style(asked()) is None
    assert submitted_style(asked(None, TIGHT)) == TIGHT
    assert checked(spoken(), TIGHT).profile == "with limits of its own"
    marked = PROFILES["broadcast"].model_copy(update={"highlight_words": True})
    assert checked(spoken(), marked).profile == "broadcast"


def test_the_number_of_marks_is_limited_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checked(spoken(), TIGHT)
    assert len(whole.texts) > 2
    monkeypatch.setattr(caption_check, "MOST_MARKS", 2)
    some = checked(spoken(), TIGHT)
    assert (len(some.texts), some.left_out) == (2, len(whole.texts) - 2)
    assert (some.broken, some.rules) == (whole.broken, whole.rules)


def put_fast(store: FileStore, *, style: CaptionStyle | None) -> ShownRun:
    """Put a run whose captions are too fast: four hundred words a minute."""
    run = ShownRun(chunks=1, words=800, chunk_ms=72_000)
    run.put(store, "complete")
    output = Output(base="file:///talk", formats=("srt",), captions=style)
    request = fakes.request(run.record).model_copy(update={"outputs": (output,)})
    store.put(KEYS.request, request.encode())
    return run


@pytest.mark.parametrize(
    "style,options,profile",
    [
        (None, (), "netflix"),
        (PROFILES["broadcast"], (), "broadcast"),
        (PROFILES["broadcast"], ("--caption-profile", "netflix"), "netflix"),
        (PROFILES["broadcast"], ("--caption-profile", "whisper"), ""),
    ],
)
def test_the_report_has_them(
    tmp_path: Path, style: CaptionStyle | None, options: tuple[str, ...], profile: str
) -> None:
    store = FileStore(tmp_path / "store")
    put_fast(store, style=style)
    target = tmp_path / "a.html"
    assert cli.run(["report", fakes.RUN, "--store", store.url, "-o", str(target), *options]) == 0
    text = target.read_text(encoding="utf-8")
    assert ('<small class="lint" lang="en"><b>Captions:</b> too fast: ' in text) == bool(profile)
    assert (f"<b>Captions</b> in the profile {profile}: " in text) == bool(profile)


@pytest.mark.parametrize("style", [None, PROFILES["netflix"]])
def test_a_run_that_ends_is_checked_for_the_profile_it_was_asked_for(
    tmp_path: Path, style: CaptionStyle | None
) -> None:
    store = FileStore(tmp_path)
    run = put_fast(store, style=style)
    StoredReports(store).write(run.outcome("complete"), run.transcript())
    page = store.get(KEYS.report_page).decode()
    assert ("in the profile netflix" in page) == ('class="lint"' in page) == (style is not None)


def test_all_within_the_limits_is_said_too() -> None:
    found = CaptionFindings(profile="netflix", captions=7, broken=0)
    text = str(environment().get_template("findings.html").module.caption_summary(found))  # type: ignore[attr-defined]
    assert "all 7 are within its limits." in text


def test_a_gate_judges_the_captions_that_a_run_was_asked_for(tmp_path: Path) -> None:
    counts: list[int] = []
    for style in (None, PROFILES["netflix"]):
        store = FileStore(tmp_path / str(len(counts)))
        put_fast(store, style=style)
        ended = RunOutcome(run=fakes.RUN, name="talk", verdict="complete", summary="")
        _, transcript = view_and_transcript(store, fakes.RUN)
        found = Checks(gates=Gates(captions_profile="netflix")).measures(store, ended, transcript).captions
        assert found
        counts.append(found.captions)
    assert counts[0] != counts[1]
