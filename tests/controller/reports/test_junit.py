"""Quality gates, and JUnit XML: what an independent parser reads of runs that went well and badly."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from controller.domain.interfaces import RunOutcome, RunVerdict
from controller.reports import junit
from controller.reports.build import RunDocuments, build
from controller.reports.cost import Prices
from controller.reports.gates import NO_MEASURES, Gates, Measures, judge, unmeasured
from controller.reports.run_view import CaptionFindings, RunView, SoundView
from controller.reports.stored_run import with_words
from tests import fakes
from tests.evaluating import comparison
from tests.shown_runs import ShownRun


def view_of(shown: ShownRun, verdict: RunVerdict = "complete") -> RunView:
    ended = verdict if verdict != "cancelled" else "failed"
    documents = RunDocuments(
        run=fakes.RUN,
        state=ended,
        plan=shown.plan,
        record=shown.record,
        outcome=shown.outcome(ended),
        report=shown.report(ended),
        evidence=tuple(shown.evidence()),
        winners=dict.fromkeys(shown.done, 1),
        prices=Prices(gpu_hour=3.6),
    )
    return build(with_words(documents, shown.transcript()))


def outcome(verdict: RunVerdict = "complete", **changes: object) -> RunOutcome:
    known = {"run": fakes.RUN, "name": "talk.wav", "source": "/in/talk.wav", "summary": "what happened"}
    return RunOutcome(verdict=verdict, **{**known, **changes})  # type: ignore[arg-type]


def written(tmp_path: Path, *suites: junit.Suite) -> ET.Element:
    path = tmp_path / "new" / "junit.xml"
    junit.write(str(path), suites)
    return ET.parse(path).getroot()


def test_a_run_with_lost_and_repeated_chunks(tmp_path: Path) -> None:
    view = view_of(ShownRun(chunks=4, lost=[1], failed=[2]), "partial")
    judged = judge(Gates(min_coverage=0.75, min_confidence=0.999, max_rtf=1), view)
    assert [gate.kept for gate in judged] == [True, False, True]
    root = written(tmp_path, junit.suite(outcome("partial", warnings=("a <b>",)), view, judged))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "2", "errors": "0", "skipped": "0",
    }  # fmt: skip
    (suite,) = root
    assert {(one.get("name"), one.get("value")) for one in suite.iter("property")} >= {("warning", "a <b>")}
    first, lost, again, last, *gates = suite.iter("testcase")
    assert (first.get("name"), first.get("time"), list(first)) == ("chunk 00000 0:00 - 12:00", "48.0", [])
    (failure,) = lost
    assert (failure.tag, failure.get("type"), failure.get("message")) == (
        "failure",
        "NATIVE_CRASH",
        "native code crashed (SIGSEGV)",
    )
    assert "Segmentation fault" in str(failure.text)
    assert "it is tried again" in str(failure.text)
    assert [one.tag for one in again] == ["system-out"]
    assert "attempt 1 failed (NATIVE_CRASH)" in str(again[0].text)
    assert list(last) == []
    assert [[one.get("type") for one in gate] for gate in gates] == [[], ["quality-gate"], []]


@pytest.mark.parametrize(
    "limits,kept",
    [
        ({"min_coverage": 0.5}, True),
        ({"min_coverage": 0.51}, False),
        ({"min_confidence": 0.5}, True),
        ({"min_confidence": 0.99}, False),
        ({"max_rtf": 0.05}, True),
        ({"max_rtf": 0.01}, False),
        ({"max_cost": 0.1}, True),
        ({"max_cost": 0.01}, False),
    ],
)
def test_each_gate(limits: dict[str, float], kept: bool) -> None:
    (judged,) = judge(Gates(**limits), view_of(ShownRun(chunks=2, lost=[1]), "partial"))  # type: ignore[arg-type]
    assert judged.kept is kept
    assert f"--{next(iter(limits)).replace('_', '-')}" == judged.gate


@pytest.mark.parametrize("lost", range(1, 100))
def test_exactly_the_coverage_that_is_asked_for_is_enough(lost: int) -> None:
    sound = SoundView(duration_ms=100_000, gaps=((0, 1_000 * lost),))
    view = replace(view_of(ShownRun(chunks=1)), sound=sound)
    assert judge(Gates(min_coverage=float(f"0.{100 - lost:02}")), view)[0].kept


def test_what_is_not_known_keeps_no_limit() -> None:
    view = build(RunDocuments(run=fakes.RUN, state="complete"))
    judged = judge(Gates(min_coverage=0, min_confidence=0, max_rtf=100, max_cost=9), view)
    assert [gate.kept for gate in judged] == [False] * 4
    lost = replace(view_of(ShownRun(chunks=2)), header=view.header)
    assert not judge(Gates(min_coverage=0), lost)[0].kept, "its transcript is gone, and with it what was left out"
    silent = view_of(ShownRun(chunks=2, words=0))
    assert judge(Gates(min_confidence=1), silent)[0].kept, "no word of it may be wrong"


@pytest.mark.parametrize(
    "devices,why",
    [
        (("cpu",), "not known (they ran without a GPU: it takes --cpu-hour-price), and the limit is 2.00"),
        (("cuda",), "not known (they ran on a GPU: it takes --gpu-hour-price), and the limit is 2.00"),
        (("cpu", "cuda"), "not known (some ran on a GPU and others did not: no price is that of both), and the"),
        ((), "not known, and the limit is 2.00"),
    ],
)
def test_a_cost_that_is_not_known_says_which_price_is_missing(devices: tuple[str, ...], why: str) -> None:
    view = view_of(ShownRun(chunks=1))
    unpriced = replace(view, header=replace(view.header, cost=None, devices=devices))
    (found,) = judge(Gates(max_cost=2), unpriced)
    assert (found.kept, why in found.text) == (False, True), found.text


def test_limits_of_errors_and_captions(tmp_path: Path) -> None:
    view = view_of(ShownRun(chunks=1))
    gates = Gates(max_wer=0.25, captions_profile="netflix")
    assert gates
    good = Measures(
        errors=comparison("a b c d", "a b c").errors, captions=CaptionFindings(profile="netflix", captions=7, broken=0)
    )
    bad = Measures(
        errors=comparison("今日は天気", "今日は電気 も").errors,
        captions=CaptionFindings(profile="netflix", captions=7, broken=2, rules=(("too fast", 2),)),
    )
    for measures, kept in ((good, True), (bad, False), (Measures(why="there is no reference"), False)):
        assert [one.kept for one in judge(gates, view, measures)] == [kept, kept]
    texts = [one.text for measures in (good, bad, NO_MEASURES) for one in judge(gates, view, measures)]
    assert texts == [
        "its word error rate is 25.00 %, not above 25 %",
        "0 of its 7 captions break the profile netflix",
        "its character error rate (its script has no spaces between words) is 40.00 %, above 25 %",
        "2 of its 7 captions break the profile netflix (2 too fast)",
        "its word error rate cannot be measured (it was not compared with a reference), and the limit is 25 %",
        "its captions cannot be measured, and none may break the profile netflix",
    ]
    root = written(tmp_path, junit.suite(outcome(), None, judge(gates, view, bad)))
    names = [case.get("name") for suite in root for case in suite.iter("testcase")]
    assert names == ["gate --max-wer 0.25", "gate --captions-profile netflix"]


def test_limits_of_a_run_that_is_gone_are_named_as_they_were_typed() -> None:
    judged = unmeasured(Gates(max_wer=0.1, captions_profile="netflix"), "it is gone")
    assert [one.title for one in judged] == ["--max-wer 0.1", "--captions-profile netflix"]
    assert not any(one.kept for one in judged)


def test_recordings_without_a_run_and_hostile_text(tmp_path: Path) -> None:
    hostile = "a\x00\x1b[31m\ud800\ufffe<&]]>\n::error::x"
    # Such as the name of a recording that has no reference.
    judged = judge(Gates(max_wer=0.1), view_of(ShownRun(chunks=1)), Measures(why=hostile))
    root = written(
        tmp_path,
        junit.suite(outcome("failed", run="", source="", name=hostile, summary=hostile, advice=hostile), None),
        junit.suite(outcome("cancelled", run="", environment=False), None),
        junit.suite(outcome("failed", run="", environment=True), None),
        junit.suite(outcome(), None),
        junit.left_out("s3://key:secret@host/b/talk.wav", hostile),
        junit.suite(outcome(), None, judged),
    )
    cases = [case for suite in root for case in suite.iter("testcase")]
    assert [[(one.tag, one.get("type")) for one in case] for case in cases] == [
        [("error", "failed")],
        [("error", "cancelled")],
        [("error", "environment")],
        [],
        [("skipped", None)],
        [("failure", "quality-gate")],
    ]
    assert "secret" not in ET.tostring(root, encoding="unicode")
    assert "\x1b" not in ET.tostring(root, encoding="unicode")
