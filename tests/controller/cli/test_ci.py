"""What CI systems are told: sections that no text can forge, harmless paths, variables; and what they are not asked."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.store.files import FileStore
from controller.cli import ci, github
from controller.cli.conclusion import Conclusion
from controller.cli.gate_options import Checks
from controller.cli.terminal import print_message, write_path
from controller.domain.interfaces import RunOutcome
from controller.errors import EnvironmentProblem, Interrupted
from controller.reports.gates import GateResult

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


def test_an_interrupted_command_writes_what_is_known(store: FileStore, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.env"

    def work() -> None:
        with Checks(dotenv=str(path)).of(store, ()) as checked:
            checked.add(outcome())
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        work()
    assert path.read_text().splitlines()[:4] == ["EXIT_CODE=143", "COMPLETE=0", "PARTIAL=0", "FAILED=1"]


@pytest.mark.parametrize("system", [GITHUB], indirect=True)
@pytest.mark.usefixtures("system")
def test_a_report_that_cannot_be_written_is_the_exit_code(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "file").touch()
    checks = Checks(dotenv=str(tmp_path / "file" / "report.env"))
    with pytest.raises(EnvironmentProblem, match="cannot be written"), checks.of(store, ()) as checked:
        checked.ended(0)
    assert (tmp_path / "output").read_text().startswith("exit-code=3\n")
