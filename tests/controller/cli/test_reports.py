"""What a command says about its recordings: few at the end, many as they end, and a summary that can be read."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.cli.execute import report, reports_at_once, summary
from controller.domain.interfaces import RunOutcome
from controller.reports.gates import GateResult

NOT_MEDIA = "is not media that ffmpeg can read: Invalid data"


def outcome(number: int, **changes: Any) -> RunOutcome:
    path = f"/box/cd{number % 3}/{number:02}.wav"
    facts: dict[str, Any] = {"run": f"{number:016x}", "name": Path(path).name, "source": path, "verdict": "complete"}
    return RunOutcome(**(facts | {"summary": "transcribed", "files": (f"/out/{number:02}.txt",)} | changes))


def bad(number: int, why: str = NOT_MEDIA) -> RunOutcome:
    path = outcome(number).source
    return outcome(number, verdict="failed", summary=f"{path}: {why}", files=())


def test_many_failures_are_counted_by_reason_with_the_first_of_each() -> None:
    of_chunks = [
        outcome(number, verdict="failed", summary=f"chunk {number} failed 3 times, last DECODE: x", files=())
        for number in (40, 41)
    ]
    refused = RunOutcome(run="", name="box/x.wav", verdict="failed", summary="box/x.wav: no such file")
    lines = summary([outcome(1), *of_chunks, refused, *map(bad, range(2, 500))], 7).splitlines()
    assert lines == [
        "ended: 1 complete, 501 failed, 7 skipped (complete ones of equal content count once)",
        f"  498 failed: {NOT_MEDIA}",
        "    /box/cd2/02.wav",
        "    /box/cd0/03.wav",
        "    /box/cd1/04.wav",
        "    and 495 more",
        "  2 failed: chunk 40 failed 3 times, last DECODE: x",
        "    /box/cd1/40.wav",
        "    /box/cd2/41.wav",
        "  1 failed: no such file",
        "    box/x.wav",
        "  each is in a message of its own above; --json lists all of them in one document",
    ]


def test_more_reasons_than_can_be_read_are_counted() -> None:
    others = [bad(number, "odd " * number) for number in range(1, 9)]
    lines = summary([*map(bad, range(10, 20)), *others], 0).splitlines()
    assert lines[-2] == "  4 for 4 other reasons"
    assert len(lines) < 20


def test_few_failures_have_a_line_each_with_the_path_of_the_recording() -> None:
    lost = outcome(4, verdict="partial", summary="1 chunk without a result: marked as gaps")
    assert summary([bad(2), lost], 0).splitlines()[1:] == [
        f"  /box/cd2/02.wav: {NOT_MEDIA}",
        "  /box/cd1/04.wav: 1 chunk without a result: marked as gaps",
    ]


@pytest.mark.parametrize(
    "count,as_json,quiet,terminals,at_once",
    [
        (11, False, False, set(), True),
        (10, False, False, set(), False),
        (11, True, False, set(), False),
        (11, False, False, {"stderr"}, True),
        (11, False, False, {"stderr", "stdout"}, False),
        (11, False, True, {"stderr", "stdout"}, True),
    ],
)
def test_many_recordings_are_reported_as_they_end_unless_bars_share_the_terminal(
    monkeypatch: pytest.MonkeyPatch, count: int, as_json: bool, quiet: bool, terminals: set[str], at_once: bool
) -> None:
    for name in ("stderr", "stdout"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda name=name: name in terminals)
    assert reports_at_once(count, as_json=as_json, quiet=quiet) == at_once


def test_what_was_reported_is_not_repeated_but_summarized(capsys: pytest.CaptureFixture[str]) -> None:
    ended = [outcome(1), bad(2)]
    assert report(ended, as_json=False, quiet=False, reported=ended, summarized=True) == 4
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "ended: 1 complete, 1 failed (complete ones of equal content count once)")
    assert len(err.splitlines()) == 2


def test_a_limit_that_only_a_recording_of_equal_content_does_not_keep_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = GateResult(gate="--max-wer", limit=0.1, found=0.2, kept=False, text="20 % instead of 10 %")
    copy = replace(outcome(1), name="copy.wav")
    assert report([outcome(1)], as_json=False, quiet=True, judged={outcome(1): (), copy: (gate,)}) == 7
    assert capsys.readouterr().err == "copy.wav: --max-wer: 20 % instead of 10 %\n"
