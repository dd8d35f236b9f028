"""Progress on a terminal: one percentage that never decreases, and escaped names."""

import io
import json
import os
import sys
from typing import Any

import click
import pytest
from rich.console import Console

from chunk_job.text import json_line
from controller.cli import terminal
from controller.cli.terminal import (
    Bars,
    Heartbeat,
    ask,
    clock,
    overall,
    print_data,
    print_message,
    summary_line,
    write_path,
)
from controller.domain.progress import Progress, State


def run(**changes: Any) -> Progress:
    facts: dict[str, Any] = {
        "run": "a",
        "name": "talk.mp4",
        "size_bytes": 1000,
        "state": "running",
        "percent": 50.0,
        "done_ms": 60_000,
        "total_ms": 120_000,
        "spans_done": 1,
        "spans_known": 2,
        "planned": True,
        "running": 1,
        "failures": 0,
    }
    return Progress(**(facts | changes))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr(terminal, "time", ticking)
    return ticking


# ---------------------------------------------------------------- untrusted text


EVIL = "one\x1b[2J\x9b\n\u202etwo\x00 http://user:hush@host"
HARMLESS = "one\\x1b[2J\\x9b\n\\u202etwo\\x00 http://***@host\n"


def test_messages_go_to_stderr_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_message(EVIL)
    assert capsys.readouterr() == ("", HARMLESS)


def test_data_goes_to_stdout_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_data(EVIL)
    assert capsys.readouterr() == (HARMLESS, "")


@pytest.mark.parametrize("path", ["/a\x1bb\nc?X-Amz-Date=1.txt", "s3://bucket/a@b/c?sig=1.txt"])
def test_a_path_is_one_line_in_which_nothing_is_masked(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_data(path, exact=True)
    assert capsys.readouterr().out == path.replace("\x1b", "\\x1b").replace("\n", "\\n") + "\n"


@pytest.mark.parametrize("null,end", [(False, b"\n"), (True, b"\0")])
def test_programs_get_a_path_byte_for_byte(null: bool, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    for path in (b"/a\x1b\nb \xe9.txt", "/é/日.txt".encode()):
        write_path(os.fsdecode(path), null=null)
    assert raw.getvalue() == b"/a\x1b\nb \xe9.txt" + end + "/é/日.txt".encode() + end


@pytest.mark.parametrize("null", [False, True])
def test_a_terminal_gets_a_path_escaped(null: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="utf-8")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    write_path(os.fsdecode(b"/a\x1b\nb \xe9.txt"), null=null)
    assert raw.getvalue() == b"/a\\x1b\\nb \\udce9.txt\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"a": EVIL, "b": "\x7f", "c": ["s3://bucket", "x:@y", "https://h/?sig=1", "é"]}
    print_data(json_line(document), exact=True)
    line = capsys.readouterr().out
    assert json.loads(line) == document
    assert line.removesuffix("\n").isprintable()


def test_characters_that_the_terminal_cannot_encode_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    print_data("/é/日.txt", exact=True)
    sys.stdout.flush()
    assert raw.getvalue().decode("latin-1") == "/é/\\u65e5.txt\n"


@pytest.mark.parametrize("answer,yes", [("y", True), ("n", False), ("", False)])
def test_a_question_is_escaped_too(
    answer: str, yes: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return answer

    monkeypatch.setattr("click.termui.visible_prompt_func", reply)
    assert ask("Remove \x1b[2J from http://user:hush@host?") is yes
    output = capsys.readouterr().err + "".join(asked)
    assert "Remove \\x1b[2J from http://***@host? [y/N]" in output
    assert "\x1b" not in output


def test_a_question_without_a_terminal_is_answered_with_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("click.termui.visible_prompt_func", closed)
    with pytest.raises(click.Abort):
        ask("Remove it?")


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(
    "seconds,shown", [(0, "0:00:00"), (59.6, "0:01:00"), (3599, "0:59:59"), (360_000, "100:00:00"), (-5, "0:00:00")]
)
def test_times_are_as_people_read_them(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_one_percentage_weighs_files_by_their_size() -> None:
    assert overall([run(percent=100.0, size_bytes=3000), run(percent=0.0, size_bytes=1000)]) == 75
    assert overall([run(percent=40.0, size_bytes=0)]) == 40


@pytest.mark.parametrize(
    "runs,speed,left_s,line",
    [
        ([run()], 12.34, 5, " 50% | 1/2 chunks | 1 running | 12.3 audio s/s | about 0:00:05 left"),
        ([run(planned=False)], 0, None, " 50% | 1/2+ chunks | 1 running | 0.0 audio s/s"),
        (
            [run(), run(state="complete", percent=100.0, running=0)],
            1,
            None,
            " 75% | 1/2 files | 2/4 chunks | 1 running | 1.0 audio s/s",
        ),
        (
            [
                run(running=0),
                run(run="", name="a\n.mp4", state="identifying", percent=0.0, running=0, planned=False),
            ],
            1,
            None,
            " 25% | 0/2 files | 2/4+ chunks | 0 running | 1.0 audio s/s | reading a\\n.mp4 to identify it",
        ),
        ([run(queued=3)], 1, None, " 50% | 1/2 chunks | 1 running, 3 waiting | 1.0 audio s/s"),
        ([run(running=0)], 1, None, " 50% | 1/2 chunks | 0 running | 1.0 audio s/s"),
        (
            [run(running=0, percent=90.0, spans_done=2)],
            1,
            0,
            " 90% | 2/2 chunks | merging | 1.0 audio s/s | about 0:00:00 left",
        ),
        ([run(state="complete", percent=100.0, spans_done=2)], 1, 0, "100% | 2/2 chunks | 1.0 audio s/s"),
    ],
)
def test_one_line_summarises_all_runs(runs: list[Progress], speed: float, left_s: float | None, line: str) -> None:
    assert summary_line(runs, speed, left_s) == line


def test_work_of_an_earlier_command_does_not_count_as_speed(ticking: Clock) -> None:
    speed = terminal.Speed()
    assert speed.of([run(done_ms=90_000)]) == 0
    ticking.now_s += 10
    assert speed.of([run(done_ms=90_000)]) == 0
    assert speed.of([run(done_ms=110_000)]) == 2
    assert speed.left_s([run(done_ms=110_000)]) == 5
    assert speed.of([run(done_ms=50_000)]) == 0, "a chunk that was lost does not make it negative"


def test_the_time_left_is_not_estimated_before_any_work_is_done(ticking: Clock) -> None:
    speed = terminal.Speed()
    cutting = run(planned=False, percent=5.0, done_ms=0)
    assert speed.left_s([cutting, run(run="b", percent=0.0)]) is None
    ticking.now_s += 10
    assert speed.left_s([cutting, run(run="b", percent=20.0)]) is None
    assert speed.left_s([run(percent=45.0), run(run="b", planned=False, percent=0.0)]) == pytest.approx(38.75)


@pytest.mark.parametrize("still", [{"held": True}, {"running": 0, "queued": 2}], ids=["an outage", "all jobs wait"])
def test_while_work_is_held_no_time_left_is_shown_and_no_time_counts(ticking: Clock, still: dict[str, Any]) -> None:
    speed = terminal.Speed()
    speed.of([run(done_ms=0)])
    ticking.now_s += 10
    assert speed.of([run(done_ms=60_000)]) == 6
    assert speed.left_s([run(done_ms=60_000)]) == 10
    ticking.now_s += 3600
    assert speed.of([run(done_ms=60_000, **still)]) == 6
    assert speed.left_s([run(done_ms=60_000, **still)]) is None
    ticking.now_s += 10
    assert speed.left_s([run(done_ms=60_000)]) == 20
    assert speed.left_s([run(done_ms=60_000, **still), run(run="b", done_ms=0)]) is not None, "the other run continues"


# ---------------------------------------------------------------- without a terminal


def test_a_heartbeat_comes_every_fifteen_seconds_and_with_each_chunk(
    ticking: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    heart = Heartbeat()

    def new_lines() -> int:
        heart.show([run(spans_done=done)])
        return len(capsys.readouterr().err.splitlines())

    done = 0
    assert new_lines() == 0
    ticking.now_s += 14.9
    assert new_lines() == 0
    ticking.now_s += 0.2
    assert new_lines() == 1
    assert new_lines() == 0
    done = 1
    assert new_lines() == 1


def test_the_last_line_is_the_end(ticking: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    heart = Heartbeat()
    heart.show([run(spans_done=2, percent=90.0, running=0)])
    for _ in range(2):
        heart.show([run(spans_done=2, percent=100.0, running=0, state="complete")])
    merging, end = capsys.readouterr().err.splitlines()
    assert merging.startswith(" 90% | 2/2 chunks | merging")
    assert end.startswith("100% | 2/2 chunks | ")
    Heartbeat().show([run(spans_done=0, spans_known=0, percent=100.0, state="complete")])
    assert capsys.readouterr().err == "", "nothing was done here"


def test_events_are_one_line_each_with_the_runs_name(capsys: pytest.CaptureFixture[str]) -> None:
    Heartbeat().event("a\x1b.mp4", "two\nlines of http://user:hush@host")
    assert capsys.readouterr().err == "a\\x1b.mp4: two\\nlines of http://***@host\n"


def test_quiet_prints_no_progress(ticking: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    heart = Heartbeat(quiet=True)
    heart.event("a", "b")
    ticking.now_s += 100
    heart.show([run(spans_done=2)])
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- on a terminal


def on_terminal(*shown: list[Progress], event: tuple[str, str] | None = None) -> str:
    """The final output of the bars on a terminal of 100 columns."""
    bars, screen = Bars(), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    bars._console = bars._bars.live.console = console
    with bars:
        for runs in shown:
            bars.show(runs)
        if event:
            bars.event(*event)
    return screen.getvalue()


def test_a_run_has_a_bar_with_its_percentage_and_chunks() -> None:
    output = on_terminal([run()])
    assert "talk.mp4" in output
    assert " 50%  1/2 chunks" in output
    assert "all files" not in output


@pytest.mark.parametrize("state,detail", [("complete", "complete"), ("following", "following"), ("failed", "failed")])
def test_a_bar_shows_the_outcome_of_its_run(state: State, detail: str) -> None:
    output = on_terminal([run()], [run(state=state)])
    assert f"%  {detail}" in output


def test_many_files_have_one_bar_over_all_and_those_that_wait_have_none() -> None:
    output = on_terminal([run(), run(run="b", name="later.mp4", state="waiting", percent=0.0)])
    assert "all files" in output
    assert " 25%  0/2 files" in output
    assert "later.mp4" not in output


def test_markup_and_escapes_in_names_are_only_text() -> None:
    output = on_terminal([run(name="[bold]\x1b[2J.mp4")], event=("[red]x\x1b]0;title", "[/red]"))
    assert "[bold]\\x1b[2J.mp4" in output
    assert "[red]x\\x1b]0;title: [/red]" in output
    assert "\x1b[2J" not in output


def test_bars_contain_no_secret() -> None:
    output = on_terminal([run(name="http://user:hush@host\n.mp4")], event=("a", "no http://user:hush@host\x9b\n"))
    assert "http://***@host\\n.mp4" in output
    assert "a: no http://***@host\\x9b\\n" in output
    assert "hush" not in output
