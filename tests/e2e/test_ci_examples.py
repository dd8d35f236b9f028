"""The commands of docs/ci/github.yml, docs/ci/gitlab.yml and the action run as there, with a small model."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import soundfile

from tests import ci_examples, speech
from tests.ci_examples import LOCAL, action, filled, pipeline, step, workflow
from tests.pipeline import PATIENCE_S, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]


@pytest.fixture
def recordings(workplace: Workplace) -> Path:
    """A tree with a talk of half a minute, and its other parts."""
    folder = workplace.folder / "recordings" / "2026"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a talk.wav", speech.tape(seconds=30, seed=3).pcm, speech.RATE_HZ, subtype="PCM_16")
    return folder


def run(script: str, workplace: Workplace, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script as GitHub runs one for the shell bash; GitLab's differs in nothing that ours use."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
        cwd=workplace.folder,
        env=workplace.environment() | {"PATH": path, "CI": "true"} | dict(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def pairs(text: str) -> dict[str, str]:
    return dict(line.split("=") for line in text.splitlines())


def test_the_workflow_of_github(workplace: Workplace, recordings: Path) -> None:
    used = step(workflow(), "stenofleet")
    secrets = {name: value for name, value in used["env"].items() if name.startswith("AWS_")}
    assert len(secrets) == 3
    files = {name: workplace.folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    github = {"GITHUB_ACTIONS": "true", **{name: str(path) for name, path in files.items()}}
    transcribe = step(action(), "transcribe")
    variables = filled(transcribe, used["with"]) | LOCAL | github
    done = run(transcribe["run"], workplace, variables)
    assert done.returncode == 0, done.stderr
    written = [workplace.folder / "transcripts" / "2026" / f"a talk.{one}" for one in ("txt", "vtt")]
    assert [Path(line) for line in done.stdout.splitlines()] == written
    outputs = pairs(files["GITHUB_OUTPUT"].read_text())
    assert (outputs["exit-code"], outputs["complete"], outputs["skipped"]) == ("0", "1", "0")
    assert outputs.keys() == action()["outputs"].keys()
    checked = run(step(workflow(), "Check the captions")["run"], workplace, github)
    assert checked.returncode == 0, checked.stderr
    kept = next(one["with"]["path"] for one in ci_examples.steps(workflow()) if "upload" in one.get("uses", ""))
    assert all((workplace.folder / path).is_dir() for path in kept.split())
    assert ET.parse(workplace.folder / used["with"]["junit"]).getroot().get("failures") == "0"

    # What stands in an input is no code, whoever wrote it.
    inputs = {**used["with"], "files": 'recordings/2026/a talk.wav\n\n$(touch gone)";`touch gone`.wav\n'}
    again = run(transcribe["run"], workplace, filled(transcribe, inputs) | LOCAL | github)
    assert again.returncode == 4, again.stderr
    assert not (workplace.folder / "gone").exists()
    assert pairs(files["GITHUB_OUTPUT"].read_text())["failed"] == "1"


def test_the_pipeline_of_gitlab(workplace: Workplace, recordings: Path) -> None:
    jobs = pipeline()
    gitlab = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(workplace.folder)}
    variables = {name: str(value) for name, value in jobs["variables"].items()} | gitlab | LOCAL
    (recordings / "notes.mp3").write_text("no recording")
    script = "\n".join(jobs["transcribe"]["script"])
    done = run(script, workplace, variables)
    assert done.returncode == 4, "not the captions are checked where a command has failed"
    assert "\x1b" not in (done.stdout + done.stderr).replace("\x1b[0K", "")
    reports = jobs["transcribe"]["artifacts"]["reports"]
    assert ET.parse(workplace.folder / reports["junit"]).getroot().get("tests") == "4"
    numbers = pairs((workplace.folder / reports["dotenv"]).read_text())
    announced = run("\n".join(jobs["announce"]["script"]), workplace, gitlab | numbers)
    assert announced.stdout == "1 transcribed, 0 with gaps, 1 failed, 0 had their outputs (exit code 4)\n"

    (recordings / "notes.mp3").unlink()
    good = run(script, workplace, variables)
    assert good.returncode == 0, good.stderr
    assert pairs((workplace.folder / reports["dotenv"]).read_text())["SKIPPED"] == "1"
    assert all((workplace.folder / path).is_dir() for path in jobs["transcribe"]["artifacts"]["paths"])
