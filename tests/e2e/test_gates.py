"""What a pipeline reads: exit code 7 where a transcript does not keep a limit, and a report in JUnit XML."""

import json
import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import soundfile

from tests import speech
from tests.pipeline import CUT, Workplace, until

pytestmark = [pytest.mark.process, pytest.mark.e2e]


@pytest.fixture
def talk(workplace: Workplace) -> Path:
    """Half a minute of speech, in two chunks."""
    path = workplace.folder / "talk.wav"
    soundfile.write(path, speech.tape(seconds=30, seed=3).pcm, speech.RATE_HZ, subtype="PCM_16")
    return path


def cases(path: Path) -> dict[str, dict[str, str]]:
    """Suite → case → its result: ``passed``, or the element and its type."""
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    found: dict[str, dict[str, str]] = {}
    for suite in root:
        each = {str(case.get("name")): case for case in suite.iter("testcase")}
        assert int(str(suite.get("tests"))) == len(each)
        results = {name: [f"{one.tag} {one.get('type') or ''}".strip() for one in case] for name, case in each.items()}
        found[Path(str(suite.get("name"))).name] = {name: " ".join(some) or "passed" for name, some in results.items()}
    assert sum(map(len, found.values())) == int(str(root.get("tests")))
    return found


def test_a_pipeline_gets_a_verdict_and_a_report(workplace: Workplace, talk: Path) -> None:
    command = ("transcribe", talk.name, *CUT, "-f", "txt", "--language", "en", "--junit", "reports/junit.xml")
    ended = workplace.run(*command, "--min-coverage", "1", "--min-confidence", "0.2", "--max-rtf", "100")
    assert ended.code == 0, ended.err
    report = workplace.folder / "reports" / "junit.xml"
    chunks = {f"chunk {number:05d}" for number in range(2)}
    (suite,) = cases(report).values()
    gates = {"gate --min-coverage 1", "gate --min-confidence 0.2", "gate --max-rtf 100"}
    assert {name[:11] if name.startswith("chunk") else name for name in suite} == chunks | gates
    assert set(suite.values()) == {"passed"}

    (run,) = [one.get("value") for one in ET.parse(report).iter("property") if one.get("name") == "run"]
    planned = workplace.run("plan", talk.name, *CUT[-4:], "--max-parallel", "2", "--like", str(run), "--json")
    taking = json.loads(planned.out)["recordings"][talk.name]["estimate"]
    spans = json.loads(workplace.store.get(f"runs/{run}/report.json"))["spans"]
    assert taking["jobs"] == 2
    assert taking["job_s"] == pytest.approx(sum(span["total_s"] for span in spans), abs=0.2)
    assert max(span["total_s"] for span in spans) / 2 < taking["wall_s"] < taking["job_s"]
    given = workplace.run(
        "plan",
        talk.name,
        talk.name,
        "--speed",
        "30",
        "--job-overhead",
        "9",
        "--max-parallel",
        "1",
        "--cpu-hour-price",
        "36",
    )
    assert "  about 10 s of job time in 1 job, 10 s with 1 at once, for 0.10\n" in given.out
    for wrong in (("--speed", "3", "--like", run), ("--job-overhead", "3"), ("--like", "ffff")):
        assert workplace.run("plan", talk.name, *map(str, wrong)).code == 2

    # Limits that it does not keep, beside a file that is no recording and one that is left out.
    below = workplace.run(*command, "--min-confidence", "1", "--max-rtf", "0.001", "--json")
    assert below.code == 7, below.err
    document = json.loads(below.out)
    assert document["exit_code"] == 7
    assert [(gate["gate"], gate["kept"]) for gate in document["runs"][0]["gates"]] == [
        ("--min-confidence", False),
        ("--max-rtf", False),
    ]
    assert "talk.wav: --max-rtf: " in below.err
    (workplace.folder / "notes.mp3").write_text("no recording")
    (workplace.folder / "done.wav").write_bytes(b"whatever")
    (workplace.folder / "done.txt").write_text("there")
    mixed = workplace.run(*command, "notes.mp3", "missing.wav", "done.wav", "--skip-existing", "--min-confidence", "1")
    assert mixed.code == 5, "the transcript of talk.wav exists too: nothing was written"
    assert "talk.wav: --min-confidence: " in mixed.err
    assert "1 of the recordings was skipped, and not measured" in mixed.err
    found = cases(report)
    assert found.pop("talk.wav")["gate --min-confidence 1"].startswith("failure")
    assert found == {
        "done.wav": {"recording": "skipped"},
        "missing.wav": {"recording": "error failed"},
        "notes.mp3": {"recording": "failure BAD_INPUT"},
    }
    of_notes = next(one for one in ET.parse(report).getroot() if str(one.get("name")).endswith("notes.mp3"))
    (run,) = [one.get("value") for one in of_notes.iter("property") if one.get("name") == "run"]
    why = json.loads(workplace.run("explain", str(run), "--json").out)
    assert (why["state"], why["causes"][0]["kind"]) == ("failed", "failed")
    assert "(BAD_INPUT)" in why["causes"][0]["summary"]
    assert "1. failed: the recording could not be cut" in workplace.run("explain", str(run)).out
    refused = workplace.run(*command[:-1], str(workplace.folder))
    assert (refused.code, "is a folder" in refused.err) == (2, True)


def test_a_step_of_a_pipeline_that_is_tried_again_measures_what_it_leaves_out(workplace: Workplace, talk: Path) -> None:
    command = ("transcribe", talk.name, *CUT, "-f", "txt", "--language", "en", "--junit", "junit.xml")
    failing = (*command, "--min-confidence", "1")
    assert workplace.run(*failing).code == 7
    report = cases(workplace.folder / "junit.xml")
    again = workplace.run(*failing, "--skip-existing")
    assert (again.code, again.out) == (7, ""), again.err
    assert "talk.wav: --min-confidence: " in again.err
    assert "skipped: 1 of 1, all their outputs exist" in again.err
    assert cases(workplace.folder / "junit.xml") == report
    facts = json.loads(workplace.run(*failing, "--skip-existing", "--json").out)
    assert (facts["exit_code"], facts["runs"], facts["skipped"]) == (7, [], ["talk.wav"])
    assert [gate["kept"] for gate in facts["measured"][0]["gates"]] == [False]
    assert workplace.run(*command, "--skip-existing", "--min-confidence", "0").code == 0
    without = workplace.run(*command, "--skip-existing")
    assert (without.code, "measured" in without.err) == (0, False), "without limits, nothing is read"

    # Another option is another run, and one that was removed cannot be measured.
    other = workplace.run(*failing, "--skip-existing", "--beam-size", "2")
    assert (other.code, "1 of the recordings was skipped, and not measured" in other.err) == (0, True)
    assert workplace.run("clean", facts["measured"][0]["run"], "--yes").code == 0
    removed = workplace.run(*failing, "--skip-existing")
    assert (removed.code, "1 of the recordings was skipped, and not measured" in removed.err) == (0, True)


def test_words_are_compared_with_what_was_said(workplace: Workplace, talk: Path) -> None:
    (workplace.folder / "refs").mkdir()
    tape = speech.tape(seconds=30, seed=3)
    lines = "".join(f"{' '.join(one.words)}\n" for one in tape.utterances)
    (workplace.folder / "refs" / "talk.txt").write_text(lines, encoding="utf-8")
    command = ("transcribe", talk.name, *CUT, "-o", "out", "--language", "en", "--junit", "junit.xml")
    gates = ("--reference", "refs", "--max-wer", "0.3", "--captions-profile", "netflix")
    ended = workplace.run(*command, *gates, "--caption-profile", "netflix", "--json")
    assert ended.code == 0, ended.err
    wer, captions = json.loads(ended.out)["runs"][0]["gates"]
    assert (wer["gate"], captions["gate"], captions["found"]) == ("--max-wer", "--captions-profile", 0)

    evaluated = workplace.run("evaluate", "out", "refs", "--json", "-o", "evaluation.html")
    assert evaluated.code == 0, evaluated.err
    (one,) = json.loads(evaluated.out)["recordings"]
    assert one["words"]["rate"] == wer["found"], "the gate and the command measure the same"
    assert (one["normalizer"], one["language"], len(one["chunks"]), one["seams"]["seams"]) == ("english", "en", 2, 1)
    basic = json.loads(workplace.run("evaluate", "out", "refs", "--normalize", "basic", "--json").out)["recordings"][0]
    (transcript,) = (workplace.folder / "out").glob("*.json")
    heard = json.loads(transcript.read_bytes())["text"]
    assert basic["words"]["rate"] == pytest.approx(speech.word_errors(tape.words, heard).wer, abs=1e-6)

    # Captions without a style are segments, and a recording without a reference keeps no limit.
    (workplace.folder / "refs" / "talk.txt").rename(workplace.folder / "refs" / "walk.txt")
    below = workplace.run(*command, *gates)
    assert below.code == 7, below.err
    assert "talk.wav: --max-wer: its word error rate cannot be measured (there is no reference: " in below.err
    assert "--captions-profile: " in below.err
    suite = cases(workplace.folder / "junit.xml")["talk.wav"]
    assert suite["gate --max-wer 0.3"] == suite["gate --captions-profile netflix"] == "failure quality-gate"
    for wrong in (gates[2:4], gates[:2], ("--reference", talk.name, "--max-wer", "1")):
        assert workplace.run(*command, *wrong).code == 2


def test_a_pipeline_that_is_stopped_has_a_report_of_what_is_known(workplace: Workplace, talk: Path) -> None:
    (workplace.folder / "notes.mp3").write_text("no recording")
    arguments = ("transcribe", "notes.mp3", talk.name, *CUT, "--junit", "junit.xml")
    here = workplace.meeting()
    command = workplace.start(*arguments, crash=f"chunk.transcribed.00000.a1=hold:{here}")
    command.wait_for_output("BAD_INPUT")
    until(here.exists, "the other recording is transcribed")
    command.process.send_signal(signal.SIGTERM)
    assert command.ended().code == 143
    found = cases(workplace.folder / "junit.xml")
    assert found["talk.wav"] == {"recording": "skipped"}


def test_github_shows_what_went_wrong_and_takes_no_commands_from_recordings(workplace: Workplace, talk: Path) -> None:
    hostile = workplace.folder / "a\n::error::<b>|x.mp3"
    hostile.write_text("no recording")
    files = {name: workplace.folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    variables = {"GITHUB_ACTIONS": "true", **{name: str(path) for name, path in files.items()}}
    command = ("transcribe", talk.name, hostile.name, *CUT, "-f", "txt", "--min-confidence", "1")
    ended = workplace.run(*command, env=variables)
    assert ended.code == 4, ended.err
    lines = ended.err.splitlines()
    (stop,) = {line for line in lines if line.startswith("::stop-commands::")}
    token = stop.removeprefix("::stop-commands::")
    assert [line for line in lines if token in line] == [stop, f"::{token}::"] * 4
    parts = "\n".join(lines).split(f"::{token}::\n")
    on = [part.partition(stop)[0].splitlines() for part in parts[1:]]
    assert on[:2] == [["::group::Progress of the recordings"], ["::endgroup::"]]
    assert "100% | 2/2 files" in parts[1], "progress is in the group"
    bad, below = on[2]
    assert {line.split("::")[1].split(" ")[0] for line in on[2]} == {"error"}
    assert "check that it is complete" in bad.partition("%0A")[2]
    assert "--min-confidence: " in below
    outputs = dict(line.split("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    assert (outputs["exit-code"], outputs["complete"], outputs["failed"], outputs["skipped"]) == ("4", "1", "1", "0")
    summary = files["GITHUB_STEP_SUMMARY"].read_text()
    assert summary.startswith("### stenofleet: 1 of 2 transcribed\n")
    assert all(line.count("|") == 4 for line in summary.splitlines() if line.startswith("|"))
    assert "<b>" not in summary
    assert "| below a limit |" in summary

    wrong = workplace.run("transcribe", "--no-such-option", env={"GITHUB_ACTIONS": "true"})
    assert wrong.code == 2
    first, *_, last = wrong.err.splitlines()
    assert last == f"::{first.removeprefix('::stop-commands::')}::"
