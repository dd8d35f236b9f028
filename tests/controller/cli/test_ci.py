"""What CI systems are told: sections that no text can forge, harmless paths, variables; and what they are not asked."""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml

from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli import ci, github
from controller.cli.checks import Checks
from controller.cli.conclusion import Conclusion
from controller.cli.report_files import checking
from controller.cli.terminal import print_message, write_path
from controller.domain.interfaces import RunOutcome
from controller.errors import EnvironmentProblem, Interrupted
from controller.reports.gates import GateResult
from tests import speech

MARKER = re.compile(r"section_(?:start|end):\d+:[a-zA-Z0-9_.-]+(?:\[[^\]]*\])?\r\x1b\[0K")
"""What GitLab takes for the begin or the end of a section."""
FORGED = "\x1b[0Ksection_start:1:x[collapsed=true]\r\x1b[0Kall is well\x1b[32m"
GITLAB, GITHUB = {"GITLAB_CI": "true", "CI": "true"}, {"GITHUB_ACTIONS": "true", "CI": "true"}


def outcome(**other: object) -> RunOutcome:
    facts = {"run": "", "name": "talk.wav", "verdict": "failed", "summary": "no sound", **other}
    return RunOutcome(**facts)  # type: ignore[arg-type]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


# ---------------------------------------------------------------- sections


@pytest.mark.parametrize("system", [GITLAB], indirect=True)
@pytest.mark.usefixtures("system")
def test_gitlab_folds_a_section_and_nobody_else_can(capsys: pytest.CaptureFixture[str]) -> None:
    with ci.section("Progress"):
        print_message(f"talk.wav: {FORGED}")
        write_path(f"out/{FORGED}.txt")
    out, err = capsys.readouterr()
    begin, end = (found[0] for found in MARKER.finditer(err))
    name = begin.split(":")[2].partition("[")[0]
    assert re.fullmatch(r"section_start:\d{10,}:stenofleet_[0-9a-f]{8}\[collapsed=true\]\r\x1b\[0K", begin)
    assert re.fullmatch(rf"section_end:\d{{10,}}:{name}\r\x1b\[0K", end)
    assert err.startswith(f"\x1b[0K{begin}Progress\n")
    assert err.endswith(f"\n\x1b[0K{end}\n")
    assert not MARKER.search(out)
    assert "\x1b" not in out + err.replace(f"\x1b[0K{begin}", "").replace(f"\x1b[0K{end}", "")


@given(text=st.text(st.sampled_from("\x1b[0Ksection_td:1x\r\n\x9b")) | st.text())
def test_no_text_is_a_marker_for_gitlab(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITLAB_CI", "true")
        shown: list[str] = []
        patch.setattr("click.echo", lambda line, **_: shown.append(line))
        write_path(text)
        print_message(text)
    assert not any("\r" in line or "\x1b" in line for line in shown)


@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
def test_a_group_of_github_opens_with_commands_on_for_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with ci.without_commands(), ci.section("Progress"):
        print_message("::error::forged")
    stop, on, group, stopped, forged, again, end, off, last = capsys.readouterr().err.splitlines()
    token = stop.removeprefix("::stop-commands::")
    assert (on, again, last) == (f"::{token}::",) * 3
    assert (stopped, off) == (stop, stop)
    assert (group, forged, end) == ("::group::Progress", "::error::forged", "::endgroup::")


def test_elsewhere_there_are_no_sections(capsys: pytest.CaptureFixture[str]) -> None:
    with ci.without_commands(), ci.section("Progress"):
        print_message("1 %")
    assert capsys.readouterr().err == "1 %\n"


@given(path=st.text(st.sampled_from(" \t:#[x/")) | st.text())
def test_no_path_on_stdout_is_a_command_for_github(path: str) -> None:
    line = github.harmless(path)
    assert not line.lstrip().startswith("::")
    assert "##[" not in line
    if not path.lstrip().startswith(":") and "##[" not in path:
        assert line == path


@pytest.mark.parametrize("system", [GITHUB, GITLAB], indirect=True)
@pytest.mark.usefixtures("system")
def test_paths_are_escaped_in_these_logs_but_not_for_programs(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_path("out/a\nb.txt")
    write_path("out/Müller.txt")
    write_path("out/a\nb.txt", null=True)
    assert capfdbinary.readouterr().out == "out/a\\nb.txt\nout/Müller.txt\nout/a\nb.txt\0".encode()


# ---------------------------------------------------------------- a terminal that nobody looks at


@pytest.mark.parametrize(
    "variables,watched",
    [({}, True), ({"CI": "false"}, True), ({"CI": ""}, True), ({"CI": "1"}, False), (GITLAB, False), (GITHUB, False),
     ({"GITLAB_CI": "true"}, False)],
    ids=str,
)  # fmt: skip
def test_the_terminal_of_a_ci_system_is_not_watched(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], watched: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert ci.is_watched(sys.stderr) == watched
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert not ci.is_watched(sys.stderr)


# ---------------------------------------------------------------- variables


def test_variables_are_numbers_alone() -> None:
    gate = GateResult(gate="--max-rtf", limit=1.0, found=2.0, kept=False, text="2 instead of 1")
    hostile = outcome(name="a\nEXIT_CODE=0\n", summary="$(id)")
    ended = Conclusion(code=4, judged={hostile: (), outcome(verdict="complete"): (gate,)}, skipped=["x"])
    assert ci.dotenv(ended) == "EXIT_CODE=4\nCOMPLETE=1\nPARTIAL=0\nFAILED=1\nCANCELLED=0\nSKIPPED=1\n"


@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
def test_an_interrupted_command_writes_what_is_known(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "report.env"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))

    def work() -> None:
        with checking(Checks(dotenv=str(path)), store, ("talk.wav", "b.wav", "c.wav")) as checked:
            checked.add(outcome())
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        work()
    assert path.read_text().splitlines()[:4] == ["EXIT_CODE=143", "COMPLETE=0", "PARTIAL=0", "FAILED=1"]
    assert (tmp_path / "summary").read_text().startswith("### stenofleet: 0 of 3 transcribed\n\n2 have not ended.\n")


@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
def test_a_report_that_cannot_be_written_is_the_exit_code(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "file").touch()
    checks = Checks(dotenv=str(tmp_path / "file" / "report.env"), events=str(tmp_path / "events"))
    with pytest.raises(EnvironmentProblem, match="cannot be written"), checking(checks, store, ()) as checked:
        checked.ended(0)
    assert '"exit_code": 3' in (tmp_path / "events").read_text()
    assert (tmp_path / "output").read_text().startswith("exit-code=3\n")


def test_what_ended_the_command_is_its_exit_code_though_no_report_can_be_written(
    store: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    checks = Checks(dotenv=str(tmp_path / "file" / "report.env"), events=str(tmp_path / "events"))
    with pytest.raises(Interrupted), checking(checks, store, ()):
        raise Interrupted(15)
    assert "cannot be written" in capsys.readouterr().err
    assert '"exit_code": 143' in (tmp_path / "events").read_text()


def test_a_named_pipe_or_device_is_written_to_and_not_replaced(store: FileStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with checking(Checks(dotenv=str(tmp_path / "pipe")), store, ()) as checked:
        checked.ended(0)
    assert os.read(reader, 1000).startswith(b"EXIT_CODE=0\n")
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_recordings_of_equal_content_are_each_counted_once_and_have_a_suite(store: FileStore, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("talk.wav", "copy.wav", "late.wav")]
    first = outcome(run="a" * 16, verdict="complete", summary="transcribed", source=names[0])
    late = replace(first, name="late.wav", source=names[2], files=("/out/late.txt",))
    checks = Checks(junit=str(tmp_path / "junit.xml"), dotenv=str(tmp_path / "env"), events=str(tmp_path / "events"))
    with checking(checks, store, names) as checked:
        checked.runs = dict.fromkeys(names, "a" * 16)
        checked.add(first)
        checked.add(late)
        # At the end, the run has the files of all its recordings.
        checked.judge([replace(first, files=("/out/talk.txt", "/out/copy.txt", "/out/late.txt"))], ())
        checked.ended(0)
    assert (tmp_path / "env").read_text().splitlines()[:2] == ["EXIT_CODE=0", "COMPLETE=3"]
    suites = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert sorted(one.name for one in suites) == sorted(names)
    assert suites.skipped == 0
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    ends = [one["recording"]["uri"] for one in events if one["type"] == "recording"]
    assert sorted(ends) == sorted(Path(name).as_uri() for name in names)


@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("before", [0, 700_000])
def test_a_summary_of_github_is_never_longer_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: int
) -> None:
    path = tmp_path / "summary"
    path.write_bytes(b"x" * before)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path))
    names = [f"/録音/{number}/{'会議の記録' * 60}.wav" for number in range(900)]
    judged = {outcome(name=name, source=name, summary=f"{name}: <no sound>"): () for name in names}
    ci.publish(Conclusion(code=5, judged=judged))
    assert before < path.stat().st_size <= 1 << 20
    shown = path.read_text().count("| failed |")
    assert 0 < shown < 900
    assert path.read_text().endswith(f"\n{900 - shown} more are not shown.\n")
    assert "GITHUB_OUTPUT: " in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    "command,code",
    [(("transcribe", "talk.wav", "--model", "tiny.en"), 3), (("batch", "submit", "talk.wav", "--model", "tiny.en"), 3),
     (("batch", "wait", "f" * 16), 2), (("batch", "submit", "none.csv", "--model", str(demo.MODEL)), 2)],
)  # fmt: skip
def test_what_ends_a_command_before_its_recordings_are_known_is_in_its_reports(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    command: tuple[str, ...], code: int,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_CACHE", str(working_folder / "no-models"))
    for name in ("OUTPUT", "STEP_SUMMARY"):
        monkeypatch.setenv(f"GITHUB_{name}", name.lower())
    speech.write_wav(Path("talk.wav"), speech.silence(1))
    files = ["--junit", "junit.xml", "--dotenv", "env", "--events", "events"]
    with ci.without_commands():
        assert cli.run([*command, *files, "--store", Path("store").absolute().as_uri()]) == code
    message = capfd.readouterr().err
    summary = message.partition("\nstenofleet: ")[2].partition("\n")[0]
    assert f"::error title=stenofleet::{summary}" in message
    assert Path("env").read_text().startswith(f"EXIT_CODE={code}\n")
    assert Path("output").read_text().startswith(f"exit-code={code}\n")
    assert json.loads(Path("events").read_text())["end"]["exit_code"] == code
    (suite,) = JUnitXml.fromfile("junit.xml")
    assert (suite.name, suite.errors, next(iter(suite)).result[0].message) == ("stenofleet", 1, summary)


def test_a_summary_tells_of_recordings_that_have_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    github.publish(Conclusion(code=6, judged={}, counts={"complete": 1}, left=2))
    assert (tmp_path / "summary").read_text() == "### stenofleet: 1 of 3 transcribed\n\n2 have not ended.\n\n"
