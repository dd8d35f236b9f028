"""The page of an evaluation as people open it: from a folder, without a network."""

import random
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from controller.evaluation.documents import NotMeasured
from controller.evaluation.measure import Comparison, Files, compare, evaluation
from controller.evaluation.read import of_transcript
from controller.evaluation.words import Text, of_lines
from controller.reports.evaluation_page import page as parts_of
from tests.page import looks
from tests.page.browser import Windows
from tests.shown_runs import MARKUP, HostileRun, ShownRun

pytestmark = pytest.mark.page


def with_errors(run: ShownRun, name: str) -> Comparison:
    """A run against what was said: a part of its words are other ones there."""
    transcript, draw = of_transcript(run.transcript()), random.Random(1)
    said = [word.text for word in transcript.words]
    for at in draw.sample(range(len(said)), len(said) // 20):
        said[at] = draw.choice(("", "harbour", f"{said[at]} again", MARKUP))
    lines = "\n".join(" ".join(said[at : at + 9]) for at in range(0, len(said), 9))
    return compare(Text(words=of_lines(lines)), transcript, Files(name, f"{name}.json", f"{name}.txt"), worst=5)


def opened(windows: Windows, folder: Path, *runs: Comparison) -> Page:
    path = folder / "evaluation.html"
    missing = [NotMeasured(name=MARKUP, why=f"there is no reference: {MARKUP}")]
    path.write_text("".join(parts_of(evaluation(runs, missing))), encoding="utf-8")
    page = windows.open()
    page.goto(path.as_uri())
    return page


def test_an_evaluation_in_every_look(windows: Windows, tmp_path: Path) -> None:
    japanese = compare(
        Text(words=of_lines("今日は天気がいい")),
        Text(words=of_lines("今日は電気がいい"), language="ja"),
        Files("空", "a", "b"),
        worst=3,
    )
    page = opened(windows, tmp_path, with_errors(ShownRun(words=2_000, lost=(2,)), "board meeting"), japanese)
    expect(page.get_by_role("heading", level=1)).to_have_text("Evaluation of 2 recordings")
    page.get_by_text("By chunk (5)").click()
    expect(page.get_by_role("region", name="Errors by chunk")).to_be_visible()
    looks.check_looks(page, "evaluation")


def test_hostile_text_stays_text(windows: Windows, tmp_path: Path) -> None:
    page = opened(windows, tmp_path, with_errors(HostileRun(), MARKUP))
    assert page.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 0
    expect(page.get_by_role("heading", level=2, name=MARKUP)).to_be_visible()
    expect(page.locator("#not-measured")).to_contain_text(MARKUP)
    looks.check_looks(page, "evaluation-hostile", ("narrow",))


def test_nothing_was_compared(windows: Windows, tmp_path: Path) -> None:
    page = opened(windows, tmp_path)
    expect(page.locator("header")).to_contain_text("No transcript could be compared with a reference.")
    looks.check_looks(page, "evaluation-empty", ("wide",))
