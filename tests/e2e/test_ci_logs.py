"""Complete commands in the log of a CI system: sections, no colours, variables; also on a terminal that it gives."""

import json
import re
from contextlib import AbstractContextManager
from pathlib import Path

import jsonschema
import pytest
import soundfile

from docs.schema import generate
from tests import speech
from tests.controller.cli.test_ci import FORGED, MARKER
from tests.pipeline import CUT, Workplace
from tests.terminals import Terminal, terminal

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
    kept = ("STENOFLEET_STORE", "XDG_STATE_HOME")
    given = {name: value for name, value in workplace.environment().items() if name in kept} | COLOURED

    def watched(*arguments: str) -> AbstractContextManager[Terminal]:
        return terminal("transcribe", str(talk), "-o", str(workplace.out), *arguments, columns=80, lines=30, **given)

    with watched(*CUT, "-f", "txt") as log:
        assert log.ended() == 0
    assert re.search(r"100% \| 2/2 chunks", log.raw), log.raw
    assert "\x1b" not in log.raw
    assert "\r" not in log.raw.replace("\r\n", "")
    with watched("--model", "small") as log:
        assert log.ended() == 3, log.raw
    assert "Download it now?" not in log.raw


def test_events_are_lines_of_the_published_schema(workplace: Workplace, talk: Path) -> None:
    (workplace.folder / "notes.mp3").write_text("no recording")
    ended = workplace.transcribe(talk.name, "notes.mp3", *CUT, "-f", "txt", "--events", "new/events.jsonl", "--quiet")
    assert ended.code == 4, ended.err
    lines = [json.loads(line) for line in (workplace.folder / "new" / "events.jsonl").read_bytes().splitlines()]
    schema = json.loads((generate.FOLDER / "command-event.json").read_text(encoding="utf-8"))
    for line in lines:
        jsonschema.Draft202012Validator(schema).validate(line)
        assert line.keys() == {"schema", "type", "time_ms", line["type"]}
    times = [line["time_ms"] for line in lines]
    assert times == sorted(times)
    figures = [line["progress"] for line in lines if line["type"] == "progress"]
    percents = [one["percent"] for one in figures]
    assert percents == sorted(percents)
    last = figures[-1]
    assert (last["percent"], last["ended"], last["chunks_done"], last["running"]) == (100.0, 2, 2, 0)
    assert any("BAD_INPUT" in line["message"]["text"] for line in lines if line["type"] == "message")
    ends = {line["recording"]["name"]: line["recording"] for line in lines if line["type"] == "recording"}
    assert ends["talk.wav"]["uris"] == [(workplace.out / "talk.txt").as_uri()]
    assert (ends["notes.mp3"]["verdict"], ends["notes.mp3"]["uris"]) == ("failed", [])
    assert (lines[-1]["type"], lines[-1]["end"]["exit_code"]) == ("end", 4)
