"""Complete commands in the log of a CI system: sections, no colours, variables; also on a terminal that it gives."""

import re
from pathlib import Path

import pytest
import soundfile

from tests import speech
from tests.controller.cli.test_ci import FORGED, MARKER
from tests.pipeline import CUT, Workplace
from tests.terminals import terminal

pytestmark = [pytest.mark.process, pytest.mark.e2e]

COLOURED = {"CI": "true", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
"""What a CI system, or its job, may set so that programs use colours."""


@pytest.fixture
def talk(workplace: Workplace) -> Path:
    """Half a minute of speech, in two chunks."""
    path = workplace.folder / "talk.wav"
    soundfile.write(path, speech.tape(seconds=30, seed=3).pcm, speech.RATE_HZ, subtype="PCM_16")
    return path


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=") for line in path.read_text().splitlines())


def test_gitlab_gets_sections_reports_and_variables(workplace: Workplace, talk: Path) -> None:
    hostile = workplace.folder / f"{FORGED}.mp3"
    hostile.write_text("no recording")
    reports = ("--junit", "reports/junit.xml", "--dotenv", "reports/stenofleet.env")
    command = ("transcribe", talk.name, hostile.name, *CUT, "-f", "txt", *reports)
    ended = workplace.run(*command, env={"GITLAB_CI": "true", **COLOURED})
    assert ended.code == 4, ended.err
    begin, end = (found for found in MARKER.finditer(ended.err))
    assert "100% | 2/2 files" in ended.err[begin.end() : end.start()], "progress is in the section"
    assert "check that it is complete" in ended.err[end.end() :], "what went wrong is below it"
    assert not MARKER.search(ended.out)
    assert "\x1b" not in ended.out + ended.err.replace("\x1b[0K", "")
    assert "section_start:1:x" in ended.err, "the hostile name is shown"
    assert (workplace.folder / "reports" / "junit.xml").is_file()
    found = variables(workplace.folder / "reports" / "stenofleet.env")
    assert (found["EXIT_CODE"], found["COMPLETE"], found["FAILED"], found["SKIPPED"]) == ("4", "1", "1", "0")

    # The run of the recording that was transcribed, by its id.
    (run,) = (one.parent.name for one in workplace.store.root.glob("runs/*/_SUCCESS"))
    again = workplace.run("resume", run, "--dotenv", "again.env", "--min-confidence", "1", env={"GITLAB_CI": "true"})
    assert (again.code, len(MARKER.findall(again.err))) == (7, 2), again.err
    assert variables(workplace.folder / "again.env")["EXIT_CODE"] == "7"
    assert workplace.run("resume", run, "--dotenv", ".").code == 2


def test_a_terminal_of_a_ci_system_gets_plain_lines_and_no_question(workplace: Workplace, talk: Path) -> None:
    environment = {**workplace.environment(), **COLOURED}
    command = ("transcribe", str(talk), *CUT, "-f", "txt", "-o", str(workplace.out))
    with terminal(*command, **environment) as log:
        assert log.ended() == 0
    assert re.search(r"100% \| 2/2 chunks", log.raw), log.raw
    assert "\x1b" not in log.raw
    assert "\r" not in log.raw.replace("\r\n", "")
    with terminal("transcribe", str(talk), "--model", "small", **environment) as log:
        assert log.ended() == 3, log.raw
    assert "Download it now?" not in log.raw
